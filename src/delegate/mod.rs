//! Delegation: agents that hand tasks to agents.
//!
//! Requires the feature `delegate`.
//!
//! An [`Agent`] is any stack, usually an [`Upstream`](crate::Upstream), with a [`Mapping`] from a
//! task to a call of one of its tools.

#![allow(dead_code, reason = "the orchestrator is to come")]

mod agent;
mod hops;

pub use self::{
    agent::{Agent, AgentBuilder, Mapping, StatusTool, TaskOutput},
    hops::DELEGATION_META_KEY,
};
