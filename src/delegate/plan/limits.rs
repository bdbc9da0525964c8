use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits of a plan. A plan that reaches one stops, and keeps the results that it has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlanLimits {
    /// The time from the submission of the plan. After it, all unfinished tasks are cancelled, also
    /// those that run. Default: none.
    pub max_time: Option<Duration>,
    /// The tokens of all tasks together: those that the agents report, or else a quarter of the
    /// bytes of the answer. When they are used, no further task starts, and those that run go on to
    /// their end. Default: none.
    pub max_tokens: Option<u64>,
    /// The cost of all attempts together: the cost that the agent reports, or else
    /// [`AgentBuilder::cost`](crate::delegate::AgentBuilder::cost). An attempt that would exceed it
    /// does not start, no further task starts either, and those that run go on to their end.
    /// Default: none.
    pub max_cost: Option<f64>,
}
