use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use crate::{ConfigError, util::lock};

/// Limits retries in proportion to the calls that succeed. This prevents a wave of retries from
/// bringing down a server that has just recovered.
///
/// Each successful call adds a fraction of a retry to the budget, and each retry takes one. A
/// number of retries per second is available in any case. Unused retries expire after some time.
/// Without a retry in the budget, a call fails with the error of its last attempt. All callers
/// share one budget, as they share the server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    ratio: f32,
    min_per_second: u32,
    keep: Duration,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            ratio: 0.2,
            min_per_second: 10,
            keep: Duration::from_secs(10),
        }
    }
}

impl RetryBudget {
    /// Creates the default budget.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of retries that a successful call adds. Default: 0.2, one retry for five
    /// calls. Limit: 0 to 1,000.
    #[must_use]
    pub fn ratio(mut self, ratio: f32) -> Self {
        self.ratio = ratio;
        self
    }

    /// Sets the number of retries per second that are available without any successful call.
    /// Default: 10, so that a program with few calls can repeat them. Limit: 1,000,000.
    #[must_use]
    pub fn min_per_second(mut self, retries: u32) -> Self {
        self.min_per_second = retries;
        self
    }

    /// Sets the time for which successes and unused retries count. Default: 10 s. Limit: 1 to 60 s.
    #[must_use]
    pub fn keep(mut self, keep: Duration) -> Self {
        self.keep = keep;
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |reason| Err(ConfigError::new("retry", "budget", reason));
        if !(0.0..=1000.0).contains(&self.ratio) {
            return wrong("the ratio is out of range; give 0 to 1,000");
        }
        if self.min_per_second > 1_000_000 {
            return wrong("min_per_second is out of range; give at most 1,000,000");
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(60)).contains(&self.keep) {
            return wrong("keep is out of range; give 1 to 60 s");
        }
        if self.ratio == 0.0 && self.min_per_second == 0 {
            return wrong("it never contains a retry; to repeat no calls, leave the layer out");
        }
        Ok(())
    }
}

/// Parts of a retry, so that a success can add a fraction of one.
const RETRY: i64 = 1_000_000;
/// Number of complete parts of the time for which successes count, and the current one.
const PARTS: usize = 10 + 1;

/// The retries that are available now: a sum over parts of the last time, and a reserve.
pub(super) struct Balance {
    per_success: i64,
    reserve: i64,
    part: Duration,
    parts: Mutex<Parts>,
}

struct Parts {
    sums: [i64; PARTS],
    current: usize,
    begun: Instant,
}

impl Balance {
    pub(super) fn new(budget: &RetryBudget) -> Self {
        let reserve = f64::from(budget.min_per_second) * budget.keep.as_secs_f64();
        Self {
            per_success: (f64::from(budget.ratio) * RETRY as f64).round() as i64,
            reserve: (reserve * RETRY as f64).round() as i64,
            part: budget.keep / 10,
            parts: Mutex::new(Parts {
                sums: [0; PARTS],
                current: 0,
                begun: Instant::now(),
            }),
        }
    }

    /// Adds the fraction of a retry for a success.
    pub(super) fn deposit(&self) {
        let mut parts = self.parts();
        let current = parts.current;
        parts.sums[current] = parts.sums[current].saturating_add(self.per_success);
    }

    /// Takes a retry. Returns `false` if there is none.
    pub(super) fn withdraw(&self) -> bool {
        let mut parts = self.parts();
        let has_one = self.sum(&parts) >= RETRY;
        if has_one {
            let current = parts.current;
            parts.sums[current] -= RETRY;
        }
        has_one
    }

    /// Returns the number of whole retries.
    pub(super) fn remaining(&self) -> u64 {
        u64::try_from(self.sum(&self.parts()) / RETRY).unwrap_or(0)
    }

    fn sum(&self, parts: &Parts) -> i64 {
        let sums = parts.sums.iter();
        sums.fold(self.reserve, |all, sum| all.saturating_add(*sum))
    }

    /// Locks the parts, after dropping those whose time is over.
    fn parts(&self) -> MutexGuard<'_, Parts> {
        let mut parts = lock(&self.parts);
        let now = Instant::now();
        for _ in 0..PARTS {
            if now.saturating_duration_since(parts.begun) < self.part {
                return parts;
            }
            parts.current = (parts.current + 1) % PARTS;
            let current = parts.current;
            parts.sums[current] = 0;
            parts.begun += self.part;
        }
        // All of them are over.
        parts.begun = now;
        parts
    }
}
