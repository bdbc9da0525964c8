//! Plans: tasks, their dependencies and their state.

mod error;
mod graph;
mod limits;
mod retries;
mod snapshot;
mod status;
mod task;
#[cfg(test)]
mod tests;
mod tree;

pub use self::{
    error::PlanError,
    limits::PlanLimits,
    retries::Retries,
    snapshot::{PlanSnapshot, PlanState, TaskProgress, TaskSnapshot},
    status::Status,
    task::{OnFailure, Task},
};
pub(in crate::delegate) use self::{
    graph::{Graph, PlanBounds},
    task::MAX_ID_BYTES,
};

use serde::{Deserialize, Serialize};

/// Tasks that depend on each other, and the limits of them all.
///
/// ```
/// use std::time::Duration;
///
/// use rmcp_layers::delegate::{Plan, Task};
///
/// let plan = Plan::new([
///     Task::new("fetch", "Fetch the release notes of rmcp").capability("research"),
///     Task::new("write", "Write a summary of them").capability("prose").after(["fetch"]),
/// ])
/// .max_time(Duration::from_secs(600));
/// # let _ = plan;
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    pub(in crate::delegate) tasks: Vec<Task>,
    pub(in crate::delegate) limits: PlanLimits,
}

impl Plan {
    /// Creates a plan of these tasks, without limits of its own.
    pub fn new(tasks: impl IntoIterator<Item = Task>) -> Self {
        Self {
            tasks: tasks.into_iter().collect(),
            limits: PlanLimits::default(),
        }
    }

    /// Sets the limits of the plan, in place of earlier ones.
    #[must_use]
    pub fn limits(mut self, limits: PlanLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the time after which the plan stops; see [`PlanLimits::max_time`].
    #[must_use]
    pub fn max_time(mut self, time: std::time::Duration) -> Self {
        self.limits.max_time = Some(time);
        self
    }

    /// Sets the tokens that the plan may use; see [`PlanLimits::max_tokens`].
    #[must_use]
    pub fn max_tokens(mut self, tokens: u64) -> Self {
        self.limits.max_tokens = Some(tokens);
        self
    }

    /// Sets the cost that the plan may have; see [`PlanLimits::max_cost`].
    #[must_use]
    pub fn max_cost(mut self, cost: f64) -> Self {
        self.limits.max_cost = Some(cost);
        self
    }

    /// Returns the tasks, in the order in which they were given.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }
}
