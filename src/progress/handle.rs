use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use super::layer::Shared;

/// Reads the counters of a [`ProgressLayer`](super::ProgressLayer). Cloning is cheap.
#[derive(Clone)]
pub struct ProgressHandle {
    pub(super) shared: Arc<Shared>,
}

/// Counters of notifications; see [`ProgressHandle::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgressStats {
    /// The number that went to callers, heartbeats included.
    pub sent: u64,
    /// The number that a later one or the result has replaced.
    pub coalesced: u64,
    /// The number that was dropped because their token is not that of their call.
    pub foreign: u64,
    /// The number that was dropped because their progress did not increase.
    pub not_increasing: u64,
    /// The number of heartbeats.
    pub heartbeats: u64,
    /// The number of calls that a timeout has ended.
    pub timeouts: u64,
}

impl ProgressHandle {
    /// Returns the counters.
    pub fn stats(&self) -> ProgressStats {
        let counters = &self.shared.counters;
        ProgressStats {
            sent: counters.sent.load(Ordering::Relaxed),
            coalesced: counters.coalesced.load(Ordering::Relaxed),
            foreign: counters.foreign.load(Ordering::Relaxed),
            not_increasing: counters.not_increasing.load(Ordering::Relaxed),
            heartbeats: counters.heartbeats.load(Ordering::Relaxed),
            timeouts: counters.timeouts.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for ProgressHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressHandle")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
