//! Delegation: agents that hand tasks to agents.
//!
//! Requires the feature `delegate`.
//!
//! An [`Agent`] is any stack, usually an [`Upstream`](crate::Upstream), with a [`Mapping`] from a
//! task to a call of one of its tools.

mod agent;
mod calls;
mod counters;
mod handle;
mod hops;
mod layer;
mod lists;
mod orchestrator;
mod plan;
mod questions;
mod schedule;
mod service;
mod task_store;
mod tasks_extension;
mod tools;
mod waiting;

pub use self::{
    agent::{Agent, AgentBuilder, Mapping, StatusTool, TaskOutput},
    handle::{DelegateHandle, DelegateStats},
    hops::DELEGATION_META_KEY,
    layer::{DelegateLayer, DelegateLayerBuilder},
    orchestrator::{
        AgentStatus, AnswerError, DependencyResult, Orchestrator, OrchestratorBuilder, PlanHandle,
        RegisterError, TaskContext,
    },
    plan::{
        OnFailure, Plan, PlanError, PlanLimits, PlanSnapshot, PlanState, Retries, Status, Task,
        TaskProgress, TaskSnapshot,
    },
    service::Delegate,
};
