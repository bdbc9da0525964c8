use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::layer::Shared;

/// Counters since the layer was made, and its current budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryStats {
    /// Requests that were sent to the inner stack: first attempts and retries.
    pub attempts: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Calls that ended with a failure that is repeated in other circumstances. Reasons are a call
    /// that is not safe to repeat, no retries left, a delay that is too long, a deadline, a
    /// cancellation, or an empty budget.
    pub given_up: u64,
    /// The calls of [`given_up`](Self::given_up) that ended because the budget was empty.
    pub out_of_budget: u64,
    /// Retries in the budget now, or `None` without a budget.
    pub budget_remaining: Option<u64>,
}

/// Reads the statistics of a [`RetryLayer`](super::RetryLayer). Clones are the same handle.
#[derive(Clone)]
pub struct RetryHandle {
    pub(super) shared: Arc<Shared>,
}

impl RetryHandle {
    /// Returns the counters so far and the current budget.
    pub fn stats(&self) -> RetryStats {
        let Totals {
            attempts,
            retries,
            given_up,
            out_of_budget,
        } = &self.shared.totals;
        let of = |total: &AtomicU64| total.load(Ordering::Relaxed);
        RetryStats {
            attempts: of(attempts),
            retries: of(retries),
            given_up: of(given_up),
            out_of_budget: of(out_of_budget),
            budget_remaining: self.shared.budget.as_ref().map(|budget| budget.remaining()),
        }
    }
}

impl fmt::Debug for RetryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryHandle")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
pub(super) struct Totals {
    pub(super) attempts: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) given_up: AtomicU64,
    pub(super) out_of_budget: AtomicU64,
}
