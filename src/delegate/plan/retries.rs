use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::util::backoff::Backoff;

/// Maximum number of retries of a task.
pub(super) const MOST: u32 = 100;

/// The retries of a task after failed attempts.
///
/// A failed attempt is repeated only if the agent has certainly not done the task, or has reported
/// its failure, unless the task is [idempotent](super::Task::idempotent). Another agent is
/// preferred if there is one. The delay doubles with each retry, and is random between one half of
/// it and the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Retries {
    /// Number of retries after the first attempt. Default: 2. Limit: 100.
    pub max: u32,
    /// Delay before the first retry. Default: 1 s.
    pub base_delay: Duration,
    /// Maximum delay. An agent that asks for a longer one is not asked again. Default: 30 s.
    pub max_delay: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            max: 2,
            base_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(30),
        }
    }
}

impl Retries {
    /// Returns the default retries, with this number of them.
    pub fn at_most(max: u32) -> Self {
        Self {
            max,
            ..Self::default()
        }
    }

    /// Returns no retries.
    pub fn never() -> Self {
        Self::at_most(0)
    }

    /// Sets the delay before the first retry.
    #[must_use]
    pub fn base_delay(mut self, delay: Duration) -> Self {
        self.base_delay = delay;
        self
    }

    /// Sets the maximum delay.
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// Returns the delay before the next attempt after this number of failed ones, or `None` if
    /// there is to be no other.
    pub(in crate::delegate) fn delay(
        &self,
        failed: u32,
        asked_for: Option<Duration>,
    ) -> Option<Duration> {
        if failed > self.max || asked_for.is_some_and(|delay| delay > self.max_delay) {
            return None;
        }
        let backoff = Backoff::new(self.base_delay, self.max_delay);
        let delay = backoff.delay(failed.saturating_sub(1));
        Some(delay.max(asked_for.unwrap_or_default()))
    }
}
