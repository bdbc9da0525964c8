//! Whether tools work: what checks say, and what real calls say.

mod inner;
mod monitor;
mod schedule;

use std::{future::Future, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tower::BoxError;

pub(super) use self::{inner::Covers, monitor::Monitor, schedule::Schedule};
pub use self::{inner::InnerHealth, monitor::HealthReport};
use super::RegistryError;
use crate::{Outcome, panics};

/// How a tool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HealthState {
    /// Nothing has been heard of it yet, or it is on trial after a failure. Listed.
    Unknown,
    /// It works. Listed.
    Healthy,
    /// It failed lately, less often in a row than makes it unhealthy. Listed.
    Degraded,
    /// It failed as often in a row as the policy allows. Not listed, and not called.
    Unhealthy,
}

impl HealthState {
    /// The state's name in error data, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What real calls say about a tool's health, beside its checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Passive {
    /// Nothing.
    Off,
    /// A call counts as a failure if its [`Outcome`] [counts against](Outcome::counts_against) the server
    /// (an internal error, a lost connection, a timeout), if the handler panicked, or if the result did not
    /// fit the output schema. A result with `isError` is an answer.
    #[default]
    Failures,
    /// As [`Failures`](Self::Failures), and a result with `isError` too. Arguments that do not fit the schema
    /// are the caller's failure, never the tool's.
    ToolErrors,
}

/// How health is judged. The same policy holds for checks and for real calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    interval: Duration,
    timeout: Duration,
    fail_after: u32,
    recover_after: u32,
    trial_after: Duration,
    passive: Passive,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            fail_after: 3,
            recover_after: 2,
            trial_after: Duration::from_secs(30),
            passive: Passive::default(),
        }
    }
}

impl HealthPolicy {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long from the beginning of one check to the next, give or take a tenth, so that many tools are not
    /// checked at one moment. Default: 30 s.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long a check may take before it counts as failed. Less than the interval. Default: 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many failures in a row make a tool unhealthy. Default: 3, because one can be chance.
    #[must_use]
    pub fn fail_after(mut self, failures: u32) -> Self {
        self.fail_after = failures;
        self
    }

    /// How many successes in a row make a tool healthy again that was degraded or unhealthy. Default: 2.
    #[must_use]
    pub fn recover_after(mut self, successes: u32) -> Self {
        self.recover_after = successes;
        self
    }

    /// How long a tool without a check stays unhealthy. It is then `unknown`, so calls reach it again, and
    /// the first that fails makes it unhealthy once more. Default: 30 s.
    #[must_use]
    pub fn trial_after(mut self, after: Duration) -> Self {
        self.trial_after = after;
        self
    }

    /// What real calls say. Default: [`Passive::Failures`].
    #[must_use]
    pub fn passive(mut self, passive: Passive) -> Self {
        self.passive = passive;
        self
    }

    /// Whether the policy can work.
    pub(super) fn check(&self) -> Result<(), RegistryError> {
        let wrong = |reason: &str| {
            Err(RegistryError::InvalidOption {
                option: "health",
                reason: reason.to_owned(),
            })
        };
        if self.fail_after == 0 || self.recover_after == 0 {
            return wrong("a threshold is at least 1");
        }
        if self.timeout.is_zero() || self.trial_after.is_zero() {
            return wrong("a time is more than nothing");
        }
        if self.timeout >= self.interval {
            return wrong("a check has to end before the next one begins");
        }
        Ok(())
    }

    /// What an outcome says: whether the tool works, or nothing.
    pub(super) fn judge(&self, outcome: Outcome) -> Option<bool> {
        match (self.passive, outcome) {
            (Passive::Off, _) => None,
            (_, outcome) if outcome.counts_against() => Some(false),
            (Passive::ToolErrors, Outcome::ToolError) => Some(false),
            (_, Outcome::ToolError) => Some(true),
            (_, outcome) if outcome.is_success() => Some(true),
            _ => None,
        }
    }
}

/// A health check.
#[derive(Clone)]
pub(super) struct Check(Arc<CheckFn>);

type CheckFn = dyn Fn() -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync;

impl Check {
    pub(super) fn new<F, Fut, E>(check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self(Arc::new(move || {
            Box::pin(check().map(|end| end.map_err(Into::into)))
        }))
    }

    /// Runs the check to its end, whatever that is.
    async fn run(self, timeout: Duration) -> Result<(), String> {
        // The closure runs inside the future, so that its panics are caught as well.
        let checked = async move { (self.0)().await };
        let guarded = std::panic::AssertUnwindSafe(checked).catch_unwind();
        match tokio::time::timeout(timeout, guarded).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(error.to_string()),
            Ok(Err(panic)) => {
                let text = panics::message(&*panic);
                tracing::error!(panic = text, "a tool's health check panicked");
                Err("the check panicked".to_owned())
            }
            Err(_) => Err(format!("the check took longer than {timeout:?}")),
        }
    }
}
