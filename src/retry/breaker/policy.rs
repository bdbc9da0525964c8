use std::{fmt, sync::Arc, time::Duration};

use rmcp::model::{CallToolResult, ErrorCode};

use crate::{ConfigError, McpResponse, Outcome};

/// JSON-RPC error code of an internal error.
const INTERNAL_ERROR: i32 = ErrorCode::INTERNAL_ERROR.0;
/// Maximum time that a breaker stays open by itself.
const LONGEST_OPEN: Duration = Duration::from_secs(24 * 60 * 60);
/// Maximum number of calls in a window.
const MOST_CALLS: u32 = 10_000;

/// The rules by which a breaker opens and closes, and the time that it stays open.
#[derive(Clone)]
pub struct CircuitBreakerPolicy {
    pub(super) failures: Option<u32>,
    pub(super) failure_rate: Option<f64>,
    pub(super) slow: Option<Slow>,
    pub(super) window: RateWindow,
    pub(super) min_calls: u32,
    pub(super) open_for: Duration,
    pub(super) growth: f64,
    pub(super) max_open_for: Duration,
    pub(super) probes: u32,
    pub(super) probe_timeout: Duration,
    pub(super) successes: u32,
    tool_errors: Option<Classifier>,
    /// `None` stands for `true`, unless one key covers a whole server.
    internal_errors: Option<bool>,
}

type Classifier = Arc<dyn Fn(&CallToolResult) -> bool + Send + Sync>;

/// The time from which a call is slow, and the rate of slow calls that is too high.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slow {
    pub(super) after: Duration,
    pub(super) rate: f64,
}

/// The calls over which a rate is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateWindow {
    /// The calls of this last time, with a resolution of a tenth of it. Limit: 1 s to one day.
    Time(Duration),
    /// This number of last calls. Limit: 10,000. Each takes one byte per key.
    Calls(u32),
}

impl Default for CircuitBreakerPolicy {
    fn default() -> Self {
        Self {
            failures: Some(5),
            failure_rate: None,
            slow: None,
            window: RateWindow::Time(Duration::from_secs(60)),
            min_calls: 10,
            open_for: Duration::from_secs(60),
            growth: 1.0,
            max_open_for: Duration::from_secs(10 * 60),
            probes: 1,
            probe_timeout: Duration::from_secs(30),
            successes: 1,
            tool_errors: None,
            internal_errors: None,
        }
    }
}

impl CircuitBreakerPolicy {
    /// Creates the default policy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of consecutive failures that opens the breaker. Default: 5, because two or
    /// three can be chance.
    ///
    /// With `None`, the breaker opens by rates alone.
    #[must_use]
    pub fn consecutive_failures(mut self, failures: impl Into<Option<u32>>) -> Self {
        self.failures = failures.into();
        self
    }

    /// Sets the rate of failed calls in the [window](Self::rate_window) that opens the breaker,
    /// such as 0.5 for every second call. Default: none.
    #[must_use]
    pub fn failure_rate(mut self, rate: f64) -> Self {
        self.failure_rate = Some(rate);
        self
    }

    /// Sets the rate of slow calls in the [window](Self::rate_window) that opens the breaker.
    /// Default: none.
    ///
    /// A call is slow if it took at least `after`, whether it failed or not. A slow probe is a
    /// failure.
    #[must_use]
    pub fn slow_calls(mut self, after: Duration, rate: f64) -> Self {
        self.slow = Some(Slow { after, rate });
        self
    }

    /// Sets the calls over which rates are counted. Default: those of the last 60 s.
    #[must_use]
    pub fn rate_window(mut self, window: RateWindow) -> Self {
        self.window = window;
        self
    }

    /// Sets the number of calls in the window below which rates are ignored. Default: 10.
    #[must_use]
    pub fn min_calls(mut self, calls: u32) -> Self {
        self.min_calls = calls;
        self
    }

    /// Sets the time that a breaker stays open. Default: 60 s. Limit: one day.
    #[must_use]
    pub fn open_for(mut self, time: Duration) -> Self {
        self.open_for = time;
        self
    }

    /// Multiplies the open time by `factor` after each failed probe, up to `most`. Default: no
    /// growth. Limit: a factor of 1 to 100, and one day.
    #[must_use]
    pub fn grow_open_time(mut self, factor: f64, most: Duration) -> Self {
        (self.growth, self.max_open_for) = (factor, most);
        self
    }

    /// Sets the maximum number of concurrent probes. Default: 1, so that a server that is still
    /// down fails one call only.
    #[must_use]
    pub fn probes(mut self, probes: u32) -> Self {
        self.probes = probes;
        self
    }

    /// Sets the time after which a probe no longer blocks other calls. Default: 30 s. Limit: one
    /// day.
    ///
    /// A probe without a response after this time gives its place to the next caller. A server that
    /// accepts a call and hangs then does not block the breaker for as long as that call waits. The
    /// probe is not cancelled. Its outcome counts as long as the breaker is half open, so tools
    /// that always take longer also close it. With the default, a hanging server gets two calls a
    /// minute.
    #[must_use]
    pub fn probe_timeout(mut self, time: Duration) -> Self {
        self.probe_timeout = time;
        self
    }

    /// Sets the number of probes that must succeed before the breaker closes. Default: 1.
    #[must_use]
    pub fn successes(mut self, successes: u32) -> Self {
        self.successes = successes;
        self
    }

    /// Counts results with `isError` as failures if `is_failure` returns `true`. Default: none,
    /// because the tool ran, and often the error is about the caller's input.
    #[must_use]
    pub fn count_tool_errors(
        mut self,
        is_failure: impl Fn(&CallToolResult) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.tool_errors = Some(Arc::new(is_failure));
        self
    }

    /// Sets whether an internal error (-32603) from the server is a failure. Default: `true` for
    /// breakers by tool and by [`key_by`](super::CircuitBreakerLayerBuilder::key_by), `false` for a
    /// breaker of a whole server ([`one_key`](super::CircuitBreakerLayerBuilder::one_key)).
    ///
    /// With one breaker for a whole server, an internal error shows that the server is reachable.
    /// If it counted, one broken tool would block all others.
    #[must_use]
    pub fn count_internal_errors(mut self, count: bool) -> Self {
        self.internal_errors = Some(count);
        self
    }

    /// Returns an error if the policy cannot work.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |option, reason| Err(ConfigError::new("breaker", option, reason));
        let is_rate = |rate: f64| rate > 0.0 && rate <= 1.0;
        if self.failures.is_none() && !self.has_rates() {
            let reason =
                "without it and without a rate, the breaker never opens; give failure_rate";
            return wrong("consecutive_failures", reason);
        }
        if self.failures == Some(0) {
            return wrong("consecutive_failures", "it is 0; give at least 1");
        }
        if self.failure_rate.is_some_and(|rate| !is_rate(rate)) {
            return wrong(
                "failure_rate",
                "it is out of range; give more than 0 and at most 1",
            );
        }
        if self.slow.is_some_and(|slow| !is_rate(slow.rate)) {
            return wrong(
                "slow_calls",
                "the rate is out of range; give more than 0 and at most 1",
            );
        }
        let second = Duration::from_secs(1);
        match self.window {
            RateWindow::Time(time) if !(second..=LONGEST_OPEN).contains(&time) => {
                return wrong(
                    "rate_window",
                    "the time is out of range; give 1 s to one day",
                );
            }
            RateWindow::Calls(calls) if !(1..=MOST_CALLS).contains(&calls) => {
                return wrong(
                    "rate_window",
                    "the number is out of range; give 1 to 10,000 calls",
                );
            }
            RateWindow::Calls(calls) if self.has_rates() && calls < self.min_calls => {
                return wrong(
                    "min_calls",
                    "it is more than the calls in rate_window; lower it",
                );
            }
            _ => {}
        }
        if self.min_calls == 0 {
            return wrong("min_calls", "it is 0; give at least 1");
        }
        if self.open_for.is_zero() || self.open_for > LONGEST_OPEN {
            return wrong(
                "open_for",
                "it is out of range; give more than 0 s and at most one day",
            );
        }
        if !(1.0..=100.0).contains(&self.growth) || self.max_open_for > LONGEST_OPEN {
            return wrong(
                "grow_open_time",
                "it is out of range; give a factor of 1 to 100 and at most one day",
            );
        }
        if self.growth > 1.0 && self.max_open_for < self.open_for {
            return wrong(
                "grow_open_time",
                "the maximum is less than open_for; raise the maximum",
            );
        }
        if self.probes == 0 {
            return wrong(
                "probes",
                "it is 0, so an open breaker never closes; give at least 1",
            );
        }
        if self.probe_timeout.is_zero() || self.probe_timeout > LONGEST_OPEN {
            return wrong(
                "probe_timeout",
                "it is out of range; give more than 0 s and at most one day",
            );
        }
        if self.successes == 0 {
            return wrong("successes", "it is 0; give at least 1");
        }
        Ok(())
    }

    pub(super) fn has_rates(&self) -> bool {
        self.failure_rate.is_some() || self.slow.is_some()
    }

    /// Returns the open time of a breaker that has opened `before` times without closing.
    pub(super) fn open_time(&self, before: u32) -> Duration {
        let grown = self.growth.powi(i32::try_from(before).unwrap_or(i32::MAX));
        let most = self.max_open_for.max(self.open_for).as_secs_f64();
        let grown = (self.open_for.as_secs_f64() * grown).min(most);
        Duration::try_from_secs_f64(grown).unwrap_or(self.max_open_for)
    }

    /// Judges the end of a call. `whole_server`: the key covers all tools of the server.
    pub(super) fn read(
        &self,
        outcome: Outcome,
        response: Option<&McpResponse>,
        whole_server: bool,
    ) -> Verdict {
        let counts_internal_error = self.internal_errors.unwrap_or(!whole_server);
        let counts_tool_error = || {
            let result = response.and_then(McpResponse::as_tool_result);
            let is_failure = self.tool_errors.as_ref();
            result.is_some_and(|result| is_failure.is_some_and(|counts| counts(result)))
        };
        match outcome {
            Outcome::ToolError if counts_tool_error() => Verdict::Failure,
            Outcome::ToolError => Verdict::Success,
            Outcome::Protocol {
                code: INTERNAL_ERROR,
            } if !counts_internal_error => Verdict::Answer,
            outcome if outcome.counts_against() => Verdict::Failure,
            outcome if outcome.is_success() => Verdict::Success,
            outcome if outcome.is_answer() => Verdict::Answer,
            _ => Verdict::Nothing,
        }
    }
}

/// The judgement of a server by the end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server works.
    Success,
    /// The server is reachable but rejected the request. This counts for a probe only.
    Answer,
    /// The server fails.
    Failure,
    /// Unknown: the call did not reach the server, or was cancelled.
    Nothing,
}

impl fmt::Debug for CircuitBreakerPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerPolicy")
            .field("consecutive_failures", &self.failures)
            .field("failure_rate", &self.failure_rate)
            .field("slow_calls", &self.slow)
            .field("rate_window", &self.window)
            .field("min_calls", &self.min_calls)
            .field("open_for", &self.open_for)
            .field("grow_open_time", &(self.growth, self.max_open_for))
            .field("probes", &self.probes)
            .field("probe_timeout", &self.probe_timeout)
            .field("successes", &self.successes)
            .field("tool_errors", &self.tool_errors.is_some())
            .field("internal_errors", &self.internal_errors)
            .finish()
    }
}
