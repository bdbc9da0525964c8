use std::{fmt, sync::Arc, time::Duration};

use rmcp::model::CallToolResult;

use super::{InvalidOption, is_rate_limited};
use crate::Repeat;

/// More retries than this help nobody.
pub(super) const MOST_RETRIES: u32 = 100;
/// Nobody waits longer for one call.
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a call is repeated, after which waits, and what is safe to repeat.
///
/// The layer has [one for all calls](super::RetryLayerBuilder::policy) and may have
/// [others for some tools](super::RetryLayerBuilder::tool). Code in this process says one for a single request by
/// putting it into the request's extensions, where it takes the place of both. No builder checks that one: what is over
/// a bound counts as the bound.
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

/// How waits grow from one retry to the next, before [`Jitter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// They double: once the base delay, twice, four times.
    #[default]
    Exponential,
    /// They grow by the base delay: once, twice, three times.
    Linear,
    /// There are none, but for what a server asks for (`Retry-After`).
    Immediate,
}

/// How waits are drawn, so that many who failed at one moment do not come back at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Jitter {
    /// Not at all: the same wait for everybody.
    None,
    /// Between half of the wait and one and a half of it.
    #[default]
    Half,
    /// Between nothing and the wait.
    Full,
    /// Between the base delay and three times the last wait, whatever the strategy.
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
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing is repeated.
    pub fn never() -> Self {
        Self::new().max_retries(0)
    }

    /// How often a call is repeated, beside its first attempt; at most 100. Default: 3, as the fourth attempt comes
    /// seven seconds after the first, and few callers wait for a fifth.
    #[must_use]
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.max_retries = retries;
        self
    }

    /// How waits grow. Default: [`Strategy::Exponential`].
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// The first wait. Default: 1 s, in which a server that is started again is often back.
    #[must_use]
    pub fn base_delay(mut self, delay: Duration) -> Self {
        self.base_delay = delay;
        self
    }

    /// The longest wait, jitter included; at most a day. A server that asks for a longer one (`Retry-After`) is not
    /// asked again: its answer goes to the caller, who may. Default: 30 s.
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// How waits are drawn. Default: [`Jitter::Half`].
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Says whether a call does no harm if it runs twice. It is then repeated after failures that leave open
    /// whether it has run (a lost connection, a timeout, an internal error), or not, whatever the tool says of
    /// itself. It goes for custom methods too, and `false` for methods that only read. Default: neither, so that
    /// methods that only read are safe, tools whose annotations say so if those are
    /// [trusted](super::RetryLayerBuilder::trust_annotations), and nothing else.
    #[must_use]
    pub fn safe_to_repeat(mut self, safe: bool) -> Self {
        self.safe = Some(safe);
        self
    }

    /// Says which results with `isError` are repeated, and on which condition: [`Repeat::IfSafe`] as after a lost
    /// connection, [`Repeat::Always`] where the result shows that nothing was done. What
    /// `retryAfterMs` or `retryAfter` in the result's `_meta` says is waited for. Default: none is, because a tool
    /// that fails has run.
    #[must_use]
    pub fn retry_tool_errors(
        mut self,
        classify: impl Fn(&CallToolResult) -> Repeat + Send + Sync + 'static,
    ) -> Self {
        self.tool_errors = Some(Arc::new(classify));
        self
    }

    /// Repeats calls that are safe to repeat where the tool's result [reads](is_rate_limited) like that of a rate
    /// limit. A tool may have done half of its work when it met the limit, so others are not. Default: off.
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

    /// Whether the policy can work.
    pub(super) fn check(&self) -> Result<(), InvalidOption> {
        let wrong = |option, reason: &str| Err(InvalidOption::new(option, reason));
        if self.max_retries > MOST_RETRIES {
            return wrong("max_retries", "at most 100");
        }
        if self.max_delay > LONGEST_DELAY {
            return wrong("max_delay", "at most a day");
        }
        if self.strategy != Strategy::Immediate && self.max_retries > 0 {
            if self.base_delay.is_zero() {
                return wrong(
                    "base_delay",
                    "a wait of nothing does not grow; for no waits, use the immediate strategy",
                );
            }
            if self.base_delay > self.max_delay {
                return wrong("base_delay", "longer than max_delay");
            }
        }
        Ok(())
    }

    /// How a result with `isError` is to be read.
    pub(super) fn classify(&self, result: Option<&CallToolResult>) -> Repeat {
        match (&self.tool_errors, result) {
            (Some(classify), Some(result)) => classify(result),
            _ => Repeat::Never,
        }
    }

    /// The wait before the `retry`th retry, from 1 on. `last` is the wait before this one.
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
            // Drawn within the bound, not cut to it: else those who wait longest come back together.
            Jitter::Half => between(delay / 2, delay.saturating_mul(3) / 2, most),
            Jitter::Full => between(Duration::ZERO, delay, most),
            Jitter::Decorrelated => between(base, last.unwrap_or(base).saturating_mul(3), most),
        }
    }

    /// The wait where the server asks for one of at least `floor`. `None` if that is too long.
    pub(super) fn at_least(&self, floor: Duration, delay: Duration) -> Option<Duration> {
        if floor > self.longest() {
            return None;
        }
        if delay >= floor || self.jitter == Jitter::None {
            return Some(delay.max(floor));
        }
        // Everybody was told the same time, so some come a little later.
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
