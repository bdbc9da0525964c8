//! The health of tools, from health checks and from real calls.

mod inner;
mod monitor;
mod schedule;

use std::{future::Future, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tower::BoxError;

pub(super) use self::{inner::Covers, monitor::Monitor, schedule::Schedule};
pub use self::{inner::InnerHealth, monitor::HealthReport};
use crate::{ConfigError, Outcome, util::panics};

/// The health of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HealthState {
    /// Not known yet, or on trial after a failure. Listed.
    Unknown,
    /// The tool works. Listed.
    Healthy,
    /// Failed recently, but fewer times in a row than [`fail_after`](HealthPolicy::fail_after).
    /// Listed.
    Degraded,
    /// Failed [`fail_after`](HealthPolicy::fail_after) times in a row. Not listed, and calls are
    /// refused.
    Unhealthy,
}

impl HealthState {
    /// Returns the state's name in error data, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// The outcomes of real calls that count for a tool's health, in addition to its checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Passive {
    /// None.
    Off,
    /// Calls whose [`Outcome`] [counts against](Outcome::counts_against) the server (an internal
    /// error, a lost connection, a timeout). A panic of the handler and a result that does not fit
    /// the output schema count as well. A result with `isError` is not a failure.
    #[default]
    Failures,
    /// As [`Failures`](Self::Failures), and results with `isError`. Arguments that do not fit the
    /// schema are the caller's fault and never count.
    ToolErrors,
}

/// The rules that judge health, for checks and for real calls.
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
    /// Creates the default policy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the time from the start of one check to the next. Default: 30 s.
    ///
    /// It varies by up to a tenth, so that many tools are not checked at the same moment.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets the time after which a check counts as failed. Default: 5 s. It must be less than the
    /// interval.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the number of consecutive failures that makes a tool unhealthy. Default: 3, because one
    /// can be chance.
    #[must_use]
    pub fn fail_after(mut self, failures: u32) -> Self {
        self.fail_after = failures;
        self
    }

    /// Sets the number of consecutive successes after which a degraded or unhealthy tool is healthy
    /// again. Default: 2.
    #[must_use]
    pub fn recover_after(mut self, successes: u32) -> Self {
        self.recover_after = successes;
        self
    }

    /// Sets the time that a tool without a check stays unhealthy. Default: 30 s.
    ///
    /// Its state is then `unknown`, so calls reach it again. The first failure makes it unhealthy
    /// once more.
    #[must_use]
    pub fn trial_after(mut self, after: Duration) -> Self {
        self.trial_after = after;
        self
    }

    /// Sets the outcomes of real calls that count. Default: [`Passive::Failures`].
    #[must_use]
    pub fn passive(mut self, passive: Passive) -> Self {
        self.passive = passive;
        self
    }

    /// Returns an error if the policy cannot work.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |reason| Err(ConfigError::new("registry", "health", reason));
        if self.fail_after == 0 || self.recover_after == 0 {
            return wrong("fail_after or recover_after is 0; give at least 1");
        }
        if self.timeout.is_zero() || self.trial_after.is_zero() {
            return wrong("timeout or trial_after is 0; give at least 1 ms");
        }
        if self.timeout >= self.interval {
            return wrong(
                "timeout is not less than interval; give a shorter timeout, or a longer interval",
            );
        }
        Ok(())
    }

    /// Returns `true` for a success, `false` for a failure, and `None` if the outcome does not
    /// count.
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

    /// Runs the check, limited by the timeout.
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
