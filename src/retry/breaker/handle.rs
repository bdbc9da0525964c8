use std::{fmt, sync::Arc, sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use super::{machine::Machine, state::Shared};

/// How a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BreakerState {
    /// Calls pass, and how they end is counted.
    Closed,
    /// Calls are refused.
    Open,
    /// The open time is over: a few calls pass as probes, and others are refused while those are in flight.
    HalfOpen,
    /// Calls are refused until somebody [resets](BreakerHandle::reset) it.
    ForcedOpen,
    /// Calls pass, however they end, until somebody [resets](BreakerHandle::reset) it.
    ForcedClosed,
}

impl BreakerState {
    /// The state's name in error data, logs and metrics.
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

/// A breaker that has changed; see
/// [`CircuitBreakerLayerBuilder::on_state_change`](super::CircuitBreakerLayerBuilder::on_state_change).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StateChange<'a> {
    /// Whose breaker.
    pub key: &'a str,
    /// How it was.
    pub from: BreakerState,
    /// How it is.
    pub to: BreakerState,
}

/// One key's breaker, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerStatus {
    /// Whose breaker.
    pub key: Arc<str>,
    /// How it is.
    pub state: BreakerState,
    /// How long until the next probe, if it is open.
    pub retry_after: Option<Duration>,
    /// How many calls have failed in a row.
    pub failures_in_a_row: u32,
    /// How many calls the span has, if a rate is counted.
    pub calls: u32,
    /// How many of them failed.
    pub failed: u32,
    /// How many of them were slow.
    pub slow: u32,
}

/// What a layer's breakers have done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerCounts {
    /// How many keys are kept now: those of which something bad is known, or anything where rates are counted.
    pub keys: usize,
    /// How often a breaker has opened by itself.
    pub opened: u64,
    /// How often one has closed.
    pub closed: u64,
    /// How many calls were refused.
    pub refused: u64,
    /// How many failures were not counted, because there were too many keys.
    pub untracked: u64,
}

/// Reads the breakers of a layer, and sets them. Clones are the same handle.
#[derive(Clone)]
pub struct BreakerHandle {
    pub(super) shared: Arc<Shared>,
}

impl BreakerHandle {
    /// How a key's breaker is. One of which nothing is known is closed.
    pub fn state(&self, key: &str) -> BreakerState {
        let now = Instant::now();
        let state = self.shared.look(key, |machine| machine.state(now));
        state.unwrap_or(BreakerState::Closed)
    }

    /// All breakers of which something is known, in no order.
    pub fn statuses(&self) -> Vec<BreakerStatus> {
        let now = Instant::now();
        let status = |key: &Arc<str>, machine: &Machine| {
            let sum = machine.sum(now);
            BreakerStatus {
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

    /// What they have done so far.
    pub fn counts(&self) -> BreakerCounts {
        let totals = &self.shared.totals;
        BreakerCounts {
            keys: self.shared.tracked(),
            opened: totals.opened.load(Ordering::Relaxed),
            closed: totals.closed.load(Ordering::Relaxed),
            refused: totals.refused.load(Ordering::Relaxed),
            untracked: totals.untracked.load(Ordering::Relaxed),
        }
    }

    /// Refuses a key's calls from now on. Those in flight go on.
    ///
    /// `false`, and nothing is done, if as many keys as the layer may keep are set by hand already.
    pub fn force_open(&self, key: &str) -> bool {
        self.shared.force(key, true)
    }

    /// Lets a key's calls pass from now on, however they end.
    ///
    /// `false` as for [`force_open`](Self::force_open).
    pub fn force_close(&self, key: &str) -> bool {
        self.shared.force(key, false)
    }

    /// Closes a key's breaker, and counts anew.
    pub fn reset(&self, key: &str) {
        self.shared.reset(Some(key));
    }

    /// Closes all breakers, and counts anew.
    pub fn reset_all(&self) {
        self.shared.reset(None);
    }
}

impl fmt::Debug for BreakerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerHandle")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
