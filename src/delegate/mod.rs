//! Delegation: agents that hand tasks to agents.
//!
//! Requires the feature `delegate`.
//!
//! An [`Agent`] is any stack, usually an [`Upstream`](crate::Upstream), with a [`Mapping`] from a
//! task to a call of one of its tools.

#![allow(dead_code, reason = "the orchestrator is to come")]

mod agent;
mod hops;
mod orchestrator;
mod plan;
mod schedule;
mod task_store;

pub use self::{
    agent::{Agent, AgentBuilder, Mapping, StatusTool, TaskOutput},
    hops::DELEGATION_META_KEY,
    orchestrator::{
        AgentStatus, AnswerError, DependencyResult, Orchestrator, OrchestratorBuilder, PlanHandle,
        RegisterError, TaskContext,
    },
    plan::{
        OnFailure, Plan, PlanError, PlanLimits, PlanSnapshot, PlanState, Retries, Status, Task,
        TaskProgress, TaskSnapshot,
    },
};
