use std::{fmt, sync::Arc, sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use super::{machine::Machine, state::Shared};

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CircuitBreakerState {
    /// Calls pass, and their outcomes are counted.
    Closed,
    /// Calls are refused.
    Open,
    /// The open time is over. A few calls pass as probes; others are refused while those are in
    /// flight.
    HalfOpen,
    /// Calls are refused until the operator [resets](CircuitBreakerHandle::reset) the breaker.
    ForcedOpen,
    /// Calls pass regardless of their outcomes, until the operator
    /// [resets](CircuitBreakerHandle::reset) the breaker.
    ForcedClosed,
}

impl CircuitBreakerState {
    /// Returns the state's name in error data, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
        }
    }
}

/// A state change of a breaker; see
/// [`CircuitBreakerLayerBuilder::on_state_change`](super::CircuitBreakerLayerBuilder::on_state_change).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StateChange<'a> {
    /// The breaker's key.
    pub key: &'a str,
    /// The state before.
    pub from: CircuitBreakerState,
    /// The new state.
    pub to: CircuitBreakerState,
}

/// The current status of one key's breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitBreakerStatus {
    /// The breaker's key.
    pub key: Arc<str>,
    /// The state.
    pub state: CircuitBreakerState,
    /// The time until the next probe, if the breaker is open.
    pub retry_after: Option<Duration>,
    /// The number of consecutive failures.
    pub failures_in_a_row: u32,
    /// The number of calls in the window, if a rate is counted.
    pub calls: u32,
    /// The number of failed calls in the window.
    pub failed: u32,
    /// The number of slow calls in the window.
    pub slow: u32,
}

/// Counters of a layer's breakers since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitBreakerStats {
    /// Keys that are tracked now: those with failures or a state change, and all called ones if
    /// rates are counted.
    pub keys: usize,
    /// Times that a breaker has opened by itself.
    pub opened: u64,
    /// Times that a breaker has closed.
    pub closed: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Failures that were not counted, because there were too many keys.
    pub untracked: u64,
}

/// Reads and controls the breakers of a layer. Clones are the same handle.
#[derive(Clone)]
pub struct CircuitBreakerHandle {
    pub(super) shared: Arc<Shared>,
}

impl CircuitBreakerHandle {
    /// Returns the state of a key's breaker. An unknown key is closed.
    pub fn state(&self, key: &str) -> CircuitBreakerState {
        let now = Instant::now();
        let state = self.shared.look(key, |machine| machine.state(now));
        state.unwrap_or(CircuitBreakerState::Closed)
    }

    /// Returns the status of all tracked breakers, in no particular order.
    pub fn statuses(&self) -> Vec<CircuitBreakerStatus> {
        let now = Instant::now();
        let status = |key: &Arc<str>, machine: &Machine| {
            let sum = machine.sum(now);
            CircuitBreakerStatus {
                key: key.clone(),
                state: machine.state(now),
                retry_after: machine.opens_in(now),
                failures_in_a_row: machine.failures_in_a_row(),
                calls: sum.calls,
                failed: sum.failed,
                slow: sum.slow,
            }
        };
        self.shared.look_at_all(status)
    }

    /// Returns the counters so far.
    pub fn stats(&self) -> CircuitBreakerStats {
        let totals = &self.shared.totals;
        CircuitBreakerStats {
            keys: self.shared.tracked(),
            opened: totals.opened.load(Ordering::Relaxed),
            closed: totals.closed.load(Ordering::Relaxed),
            refused: totals.refused.load(Ordering::Relaxed),
            untracked: totals.untracked.load(Ordering::Relaxed),
        }
    }

    /// Opens a key's breaker, so that its calls are refused from now on. Calls in flight continue.
    ///
    /// Returns `false` and does nothing if all keys that the layer may track are forced already.
    pub fn force_open(&self, key: &str) -> bool {
        self.shared.force(key, true)
    }

    /// Closes a key's breaker, so that its calls pass regardless of their outcomes.
    ///
    /// Returns `false` as [`force_open`](Self::force_open) does.
    pub fn force_close(&self, key: &str) -> bool {
        self.shared.force(key, false)
    }

    /// Closes a key's breaker and restarts its counters.
    pub fn reset(&self, key: &str) {
        self.shared.reset(Some(key));
    }

    /// Closes all breakers and restarts their counters.
    pub fn reset_all(&self) {
        self.shared.reset(None);
    }
}

impl fmt::Debug for CircuitBreakerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerHandle")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
