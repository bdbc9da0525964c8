use std::sync::Arc;

use super::{Agent, Mapping, Shared};
use crate::{BoxStack, ConfigError, caller::Session, delegate::hops::MAX_NAME_BYTES};

/// The default of [`AgentBuilder::max_concurrent`].
const DEFAULT_MAX_CONCURRENT: usize = 3;
/// Maximum number of capabilities of an agent.
const MAX_CAPABILITIES: usize = 100;

/// Builds an [`Agent`]; see [`Agent::builder`].
#[must_use = "call `build` to make the agent"]
pub struct AgentBuilder {
    name: String,
    capabilities: Vec<Arc<str>>,
    max_concurrent: usize,
    cost: f64,
    priority: i32,
    mapping: Mapping,
    stack: BoxStack,
}

impl AgentBuilder {
    pub(super) fn new(name: String, stack: BoxStack) -> Self {
        Self {
            name,
            capabilities: Vec::new(),
            max_concurrent: DEFAULT_MAX_CONCURRENT,
            cost: 1.0,
            priority: 0,
            mapping: Mapping::default(),
            stack,
        }
    }

    /// Adds a capability. A task that requires a capability goes to the agents that have it.
    /// Limit: 100.
    pub fn capability(mut self, capability: impl Into<String>) -> Self {
        self.capabilities.push(capability.into().into());
        self
    }

    /// Adds capabilities.
    pub fn capabilities(mut self, all: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let all = all.into_iter().map(|capability| capability.into().into());
        self.capabilities.extend(all);
        self
    }

    /// Sets the maximum number of tasks at the same time. Default: 3.
    pub fn max_concurrent(mut self, tasks: usize) -> Self {
        self.max_concurrent = tasks;
        self
    }

    /// Sets the cost of a task, in a unit of the operator's choice. Default: 1.
    ///
    /// The cheaper one of several agents is chosen if they are equal in load, recent failures and
    /// priority. Limits on the cost of a plan count it.
    pub fn cost(mut self, cost: f64) -> Self {
        self.cost = cost;
        self
    }

    /// Sets the priority. Of equally loaded agents, the one with the higher priority is chosen.
    /// Default: 0.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the mapping from a task to a call. Default: [`Mapping::execute_task`].
    pub fn mapping(mut self, mapping: Mapping) -> Self {
        self.mapping = mapping;
        self
    }

    /// Returns the agent.
    ///
    /// # Errors
    ///
    /// Fails if the name or a capability is empty or has more than 128 bytes, if there are too many
    /// capabilities, if `max_concurrent` is zero, if the cost is negative or not a number, or if the
    /// mapping cannot work.
    pub fn build(self) -> Result<Agent, ConfigError> {
        let error =
            |option, reason: &str| Err(ConfigError::new("delegate", option, reason.to_owned()));
        if !is_name(&self.name) {
            return error("name", "it is empty or too long; give 1 to 128 bytes");
        }
        if self.capabilities.len() > MAX_CAPABILITIES {
            return error("capabilities", "there are too many; give at most 100");
        }
        if !self.capabilities.iter().all(|name| is_name(name)) {
            return error("capability", "it is empty or too long; give 1 to 128 bytes");
        }
        if self.max_concurrent == 0 {
            return error("max_concurrent", "it is zero; give at least 1");
        }
        if !(self.cost.is_finite() && self.cost >= 0.0) {
            return error("cost", "it is not a number from 0 on");
        }
        if let Some(reason) = self.mapping.misfit() {
            return error("mapping", &reason);
        }
        Ok(Agent {
            shared: Arc::new(Shared {
                name: self.name.into(),
                capabilities: self.capabilities,
                max_concurrent: self.max_concurrent,
                cost: self.cost,
                priority: self.priority,
                mapping: self.mapping,
                stack: self.stack,
                session: Arc::new(Session::new()),
            }),
        })
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
}

impl std::fmt::Debug for AgentBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentBuilder")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
