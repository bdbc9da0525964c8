use std::{fmt, sync::Arc, time::Duration};

use rmcp::model::{CallToolResult, ErrorCode};

use crate::{McpResponse, Outcome, retry::InvalidOption};

/// The code by which a server says that it failed at the one request.
const INTERNAL_ERROR: i32 = ErrorCode::INTERNAL_ERROR.0;
/// No breaker stays open for longer by itself.
const LONGEST_OPEN: Duration = Duration::from_secs(24 * 60 * 60);
/// What is remembered of calls, at most.
const MOST_CALLS: u32 = 10_000;

/// When a breaker opens, for how long, and when it closes again.
#[derive(Clone)]
pub struct BreakerPolicy {
    pub(super) failures: Option<u32>,
    pub(super) failure_rate: Option<f64>,
    pub(super) slow: Option<Slow>,
    pub(super) span: Span,
    pub(super) min_calls: u32,
    pub(super) open_for: Duration,
    pub(super) growth: f64,
    pub(super) max_open_for: Duration,
    pub(super) probes: u32,
    pub(super) probe_timeout: Duration,
    pub(super) successes: u32,
    tool_errors: Option<Classifier>,
    /// `None`: where a key is less than a whole server.
    internal_errors: Option<bool>,
}

type Classifier = Arc<dyn Fn(&CallToolResult) -> bool + Send + Sync>;

/// Which calls are slow, and how many of them are too many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slow {
    pub(super) after: Duration,
    pub(super) rate: f64,
}

/// Over which calls a rate is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Span {
    /// Those of the last time, to a tenth of it. 1 s to a day.
    Time(Duration),
    /// The last ones, at most 10,000. Each takes a byte for each key.
    Calls(u32),
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failures: Some(5),
            failure_rate: None,
            slow: None,
            span: Span::Time(Duration::from_secs(60)),
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

impl BreakerPolicy {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens after so many failures in a row. Default: 5, because two or three can be chance.
    #[must_use]
    pub fn consecutive_failures(mut self, failures: u32) -> Self {
        self.failures = Some(failures);
        self
    }

    /// Opens by rates alone, however many failures come in a row.
    #[must_use]
    pub fn any_consecutive_failures(mut self) -> Self {
        self.failures = None;
        self
    }

    /// Opens when so many of the calls in the [span](Self::span) have failed: 0.5 is every second one. Default: not
    /// by rate.
    #[must_use]
    pub fn failure_rate(mut self, rate: f64) -> Self {
        self.failure_rate = Some(rate);
        self
    }

    /// Opens when so many of the calls in the [span](Self::span) took at least `after`, failed or not. A probe that
    /// does is a failure. Default: not for slowness.
    #[must_use]
    pub fn slow_calls(mut self, after: Duration, rate: f64) -> Self {
        self.slow = Some(Slow { after, rate });
        self
    }

    /// Over which calls rates are counted. Default: those of the last 60 s.
    #[must_use]
    pub fn span(mut self, span: Span) -> Self {
        self.span = span;
        self
    }

    /// How many calls the span must have before a rate means anything. Default: 10.
    #[must_use]
    pub fn min_calls(mut self, calls: u32) -> Self {
        self.min_calls = calls;
        self
    }

    /// How long a breaker stays open; at most a day. Default: 60 s.
    #[must_use]
    pub fn open_for(mut self, time: Duration) -> Self {
        self.open_for = time;
        self
    }

    /// Stays open `factor` times as long after each probe that fails, up to `most`. Default: the same time always.
    #[must_use]
    pub fn growing(mut self, factor: f64, most: Duration) -> Self {
        (self.growth, self.max_open_for) = (factor, most);
        self
    }

    /// How many probes may keep others out at once when the open time is over. Default: 1, which is all that a server
    /// has to fail that is still down.
    #[must_use]
    pub fn probes(mut self, probes: u32) -> Self {
        self.probes = probes;
        self
    }

    /// How long a probe keeps others out; at most a day. One that has no answer after that gives its place to the
    /// next caller, so that a server that took a call and hangs does not hold up a breaker for as long as that call
    /// waits. It is not cut off, and what comes of it counts as long as the breaker is half open: tools that always
    /// take longer close it too. Default: 30 s, half of the time that a breaker stays open: a server that hangs gets
    /// two calls a minute.
    #[must_use]
    pub fn probe_timeout(mut self, time: Duration) -> Self {
        self.probe_timeout = time;
        self
    }

    /// How many probes must succeed before the breaker closes. Default: 1.
    #[must_use]
    pub fn successes(mut self, successes: u32) -> Self {
        self.successes = successes;
        self
    }

    /// Counts results with `isError` as failures where `is_failure` says so. Default: none is one, because the tool
    /// ran, and often it is the caller's input that it complains of.
    #[must_use]
    pub fn count_tool_errors(
        mut self,
        is_failure: impl Fn(&CallToolResult) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.tool_errors = Some(Arc::new(is_failure));
        self
    }

    /// Whether an internal error (-32603) that the server answers with is a failure. Default:
    /// `true` for breakers by tool and by
    /// [`key_by`](super::CircuitBreakerLayerBuilder::key_by), `false` for a breaker of a whole
    /// server ([`one_key`](super::CircuitBreakerLayerBuilder::one_key)): there the answer shows
    /// that the server is reachable, and one broken tool would close all others.
    #[must_use]
    pub fn count_internal_errors(mut self, count: bool) -> Self {
        self.internal_errors = Some(count);
        self
    }

    /// Whether the policy can work.
    pub(super) fn check(&self) -> Result<(), InvalidOption> {
        let wrong = |option, reason: &str| Err(InvalidOption::new(option, reason));
        let is_rate = |rate: f64| rate > 0.0 && rate <= 1.0;
        if self.failures.is_none() && !self.has_rates() {
            return wrong(
                "any_consecutive_failures",
                "nothing would open it: give a rate",
            );
        }
        if self.failures == Some(0) {
            return wrong("consecutive_failures", "at least 1");
        }
        if self.failure_rate.is_some_and(|rate| !is_rate(rate)) {
            return wrong("failure_rate", "more than 0 and at most 1");
        }
        if self.slow.is_some_and(|slow| !is_rate(slow.rate)) {
            return wrong("slow_calls", "a rate is more than 0 and at most 1");
        }
        let second = Duration::from_secs(1);
        match self.span {
            Span::Time(time) if !(second..=LONGEST_OPEN).contains(&time) => {
                return wrong("span", "1 s to a day");
            }
            Span::Calls(calls) if !(1..=MOST_CALLS).contains(&calls) => {
                return wrong("span", "1 to 10,000 calls");
            }
            Span::Calls(calls) if self.has_rates() && calls < self.min_calls => {
                return wrong("min_calls", "more than the span ever has");
            }
            _ => {}
        }
        if self.min_calls == 0 {
            return wrong("min_calls", "at least 1");
        }
        if self.open_for.is_zero() || self.open_for > LONGEST_OPEN {
            return wrong("open_for", "more than nothing and at most a day");
        }
        if !(1.0..=100.0).contains(&self.growth) || self.max_open_for > LONGEST_OPEN {
            return wrong("growing", "by 1 to 100, to at most a day");
        }
        if self.growth > 1.0 && self.max_open_for < self.open_for {
            return wrong("growing", "the most is less than open_for");
        }
        if self.probes == 0 {
            return wrong("probes", "it would never close: at least 1");
        }
        if self.probe_timeout.is_zero() || self.probe_timeout > LONGEST_OPEN {
            return wrong("probe_timeout", "more than nothing and at most a day");
        }
        if self.successes == 0 {
            return wrong("successes", "at least 1");
        }
        Ok(())
    }

    pub(super) fn has_rates(&self) -> bool {
        self.failure_rate.is_some() || self.slow.is_some()
    }

    /// How long the breaker stays open when it has opened `before` times without closing.
    pub(super) fn open_time(&self, before: u32) -> Duration {
        let grown = self.growth.powi(i32::try_from(before).unwrap_or(i32::MAX));
        let most = self.max_open_for.max(self.open_for).as_secs_f64();
        let grown = (self.open_for.as_secs_f64() * grown).min(most);
        Duration::try_from_secs_f64(grown).unwrap_or(self.max_open_for)
    }

    /// What the end of a call says of the server. `whole_server`: the key is for all of its tools.
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

/// What the end of a call says of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It works.
    Success,
    /// It is there, and did not like the request: so a probe has found it, and nothing else is known.
    Answer,
    /// It does not work.
    Failure,
    /// Nothing: the call did not come to it, or was called off.
    Nothing,
}

impl fmt::Debug for BreakerPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerPolicy")
            .field("consecutive_failures", &self.failures)
            .field("failure_rate", &self.failure_rate)
            .field("slow_calls", &self.slow)
            .field("span", &self.span)
            .field("min_calls", &self.min_calls)
            .field("open_for", &self.open_for)
            .field("growing", &(self.growth, self.max_open_for))
            .field("probes", &self.probes)
            .field("probe_timeout", &self.probe_timeout)
            .field("successes", &self.successes)
            .field("tool_errors", &self.tool_errors.is_some())
            .field("internal_errors", &self.internal_errors)
            .finish()
    }
}
