use std::{sync::Arc, time::Duration};

use super::dispatcher::AgentState;
use crate::Error;

/// The state of a registered agent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AgentStatus {
    /// The name.
    pub name: Arc<str>,
    /// The capabilities.
    pub capabilities: Vec<Arc<str>>,
    /// Number of tasks that it works on.
    pub in_flight: usize,
    /// Maximum number of tasks at the same time.
    pub max_concurrent: usize,
    /// The cost of a task.
    pub cost: f64,
    /// The priority.
    pub priority: i32,
    /// The part of its recent attempts that has failed, from 0 to 1.
    pub recent_failures: f64,
    /// The mean time of its recent attempts that have succeeded: 0 if there were none.
    pub recent_latency: Duration,
}

impl From<AgentState> for AgentStatus {
    fn from(state: AgentState) -> Self {
        let AgentState {
            agent,
            in_flight,
            record,
        } = state;
        let latency = Duration::try_from_secs_f64(record.latency);
        Self {
            name: agent.name().clone(),
            capabilities: agent.capabilities().to_vec(),
            in_flight,
            max_concurrent: agent.max_concurrent(),
            cost: agent.cost(),
            priority: agent.priority(),
            recent_failures: record.failures,
            recent_latency: latency.unwrap_or_default(),
        }
    }
}

/// The reason why an agent is not registered.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The name is in use.
    #[error("an agent `{name}` is registered already; unregister it first, or use another name")]
    NameTaken {
        /// The name.
        name: Arc<str>,
    },
    /// There are too many agents.
    #[error("{max} agents are registered already; unregister one first")]
    TooMany {
        /// Maximum number of agents.
        max: usize,
    },
    /// The agent cannot be reached, or does not have the tools of its mapping.
    #[error("{error}")]
    Probe {
        /// The name.
        name: Arc<str>,
        /// The reason.
        #[source]
        error: Error,
    },
}
