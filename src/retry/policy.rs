use std::{fmt, sync::Arc, time::Duration};

use rmcp::model::CallToolResult;

use super::is_rate_limited;
use crate::{ConfigError, Repeat};

/// Maximum number of retries of a call.
pub(super) const MOST_RETRIES: u32 = 100;
/// Maximum delay before a retry.
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The number of retries, their delays, and the calls that are safe to repeat.
///
/// The layer has [one policy for all calls](super::RetryLayerBuilder::policy) and may have
/// [others for some tools](super::RetryLayerBuilder::tool). Code in this process sets the policy of
/// a single request in the request's extensions; it replaces both. Such a policy is not checked: a
/// value over a limit counts as the limit.
///
/// ```
/// use rmcp_layers::{McpRequest, retry::RetryPolicy};
///
/// let mut request = McpRequest::call_tool("charge").argument("cents", 100).build();
/// request.context.extensions.insert(RetryPolicy::never());
/// ```
#[derive(Clone)]
pub struct RetryPolicy {
    pub(super) max_retries: u32,
    strategy: Strategy,
    base_delay: Duration,
    max_delay: Duration,
    jitter: Jitter,
    pub(super) safe: Option<bool>,
    tool_errors: Option<Classifier>,
}

type Classifier = Arc<dyn Fn(&CallToolResult) -> Repeat + Send + Sync>;

/// Growth of the delays from one retry to the next, before [`Jitter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// The delay doubles: the base delay once, twice, four times.
    #[default]
    Exponential,
    /// The delay grows by the base delay: once, twice, three times.
    Linear,
    /// No delay, except the one that a server asks for (`Retry-After`).
    Immediate,
}

/// Random variation of delays, so that calls that failed together do not retry together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Jitter {
    /// No variation: the same delay for all calls.
    None,
    /// Between 0.5 and 1.5 times the delay.
    #[default]
    Half,
    /// Between 0 and the delay.
    Full,
    /// Between the base delay and three times the last delay, for any strategy.
    Decorrelated,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_retries: 3,
            strategy: Strategy::default(),
            base_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(30),
            jitter: Jitter::default(),
            safe: None,
            tool_errors: None,
        }
    }
}

impl RetryPolicy {
    /// Creates the default policy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a policy without retries.
    pub fn never() -> Self {
        Self::new().max_retries(0)
    }

    /// Sets the number of retries after the first attempt. Default: 3. Limit: 100.
    ///
    /// With the defaults, the fourth attempt comes seven seconds after the first, and few callers
    /// wait for a fifth.
    #[must_use]
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.max_retries = retries;
        self
    }

    /// Sets the growth of delays. Default: [`Strategy::Exponential`].
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Sets the first delay. Default: 1 s, within which a restarted server is often back.
    #[must_use]
    pub fn base_delay(mut self, delay: Duration) -> Self {
        self.base_delay = delay;
        self
    }

    /// Sets the maximum delay, including jitter. Default: 30 s. Limit: one day.
    ///
    /// If a server asks for a longer delay (`Retry-After`), the call is not repeated. Its response
    /// goes to the caller, who may repeat it later.
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// Sets the variation of delays. Default: [`Jitter::Half`].
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Sets whether calls may run twice.
    ///
    /// If `true`, they are repeated after failures that leave open whether the call has run (a lost
    /// connection, a timeout, an internal error). If `false`, they are not. The setting overrides
    /// tool annotations, and covers custom methods and methods that only read.
    ///
    /// Default: not set. Methods that only read are then safe, and tools with matching annotations
    /// if those are [trusted](super::RetryLayerBuilder::trust_annotations).
    #[must_use]
    pub fn safe_to_repeat(mut self, safe: bool) -> Self {
        self.safe = Some(safe);
        self
    }

    /// Sets which results with `isError` are repeated. [`Repeat::IfSafe`] repeats as after a lost
    /// connection. [`Repeat::Always`] is for results that show that nothing was done. The retry
    /// waits for a `retryAfterMs` or `retryAfter` in the result's `_meta`.
    ///
    /// Default: none is repeated, because a tool that fails has run.
    #[must_use]
    pub fn retry_tool_errors(
        mut self,
        classify: impl Fn(&CallToolResult) -> Repeat + Send + Sync + 'static,
    ) -> Self {
        self.tool_errors = Some(Arc::new(classify));
        self
    }

    /// Repeats calls whose tool result [looks](is_rate_limited) like a rate limit, if they are safe
    /// to repeat. Default: off.
    ///
    /// Other calls are not repeated, because a tool may have done half of its work when it met the
    /// limit.
    #[must_use]
    pub fn retry_rate_limits(self) -> Self {
        self.retry_tool_errors(|result| {
            if is_rate_limited(result) {
                Repeat::IfSafe
            } else {
                Repeat::Never
            }
        })
    }

    /// Returns an error if the policy cannot work.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |option, reason| Err(ConfigError::new("retry", option, reason));
        if self.max_retries > MOST_RETRIES {
            return wrong("max_retries", "it is more than 100; give at most 100");
        }
        if self.max_delay > LONGEST_DELAY {
            return wrong("max_delay", "it is more than one day; give at most one day");
        }
        if self.strategy != Strategy::Immediate && self.max_retries > 0 {
            if self.base_delay.is_zero() {
                return wrong(
                    "base_delay",
                    "it is 0, which cannot grow; for retries without delays, use Strategy::Immediate",
                );
            }
            if self.base_delay > self.max_delay {
                return wrong("base_delay", "it is more than max_delay; raise max_delay");
            }
        }
        Ok(())
    }

    /// Returns whether a result with `isError` is repeated.
    pub(super) fn classify(&self, result: Option<&CallToolResult>) -> Repeat {
        match (&self.tool_errors, result) {
            (Some(classify), Some(result)) => classify(result),
            _ => Repeat::Never,
        }
    }

    /// Returns the delay before retry number `retry`, counted from 1. `last` is the delay before
    /// it.
    pub(super) fn delay(&self, retry: u32, last: Option<Duration>) -> Duration {
        let (base, most) = (self.base_delay, self.longest());
        let times = match self.strategy {
            Strategy::Immediate => return Duration::ZERO,
            Strategy::Linear => retry,
            Strategy::Exponential => 1u32
                .checked_shl(retry.saturating_sub(1))
                .unwrap_or(u32::MAX),
        };
        let delay = base.saturating_mul(times).min(most);
        match self.jitter {
            Jitter::None => delay,
            // Drawn within the limit, not cut to it: otherwise the calls with the longest delays
            // would retry together.
            Jitter::Half => between(delay / 2, delay.saturating_mul(3) / 2, most),
            Jitter::Full => between(Duration::ZERO, delay, most),
            Jitter::Decorrelated => between(base, last.unwrap_or(base).saturating_mul(3), most),
        }
    }

    /// Returns the delay if the server asks for at least `floor`. Returns `None` if that is too
    /// long.
    pub(super) fn at_least(&self, floor: Duration, delay: Duration) -> Option<Duration> {
        if floor > self.longest() {
            return None;
        }
        if delay >= floor || self.jitter == Jitter::None {
            return Some(delay.max(floor));
        }
        // All callers may have been told the same time, so the delay gets a random part.
        let late = floor.saturating_add(self.base_delay / 2);
        Some(between(floor, late, self.longest()))
    }

    fn longest(&self) -> Duration {
        self.max_delay.min(LONGEST_DELAY)
    }
}

fn between(least: Duration, most: Duration, bound: Duration) -> Duration {
    let (least, most) = (least.min(bound), most.min(bound));
    least
        + most
            .saturating_sub(least)
            .mul_f64(rand::random_range(0.0..=1.0))
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("max_retries", &self.max_retries)
            .field("strategy", &self.strategy)
            .field("base_delay", &self.base_delay)
            .field("max_delay", &self.max_delay)
            .field("jitter", &self.jitter)
            .field("safe_to_repeat", &self.safe)
            .field("tool_errors", &self.tool_errors.is_some())
            .finish()
    }
}
