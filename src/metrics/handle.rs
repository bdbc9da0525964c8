use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use super::{
    Summary,
    finished::{FinishedCall, FinishedCalls},
    shared::Shared,
};

/// Reads what a [`MetricsLayer`](super::MetricsLayer) has recorded. Cloning is cheap.
#[derive(Clone)]
pub struct MetricsHandle {
    pub(super) shared: Arc<Shared>,
}

/// Counters of a layer; see [`MetricsHandle::stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricsStats {
    /// The number of requests that have ended, listens included.
    pub calls: u64,
    /// The number of them that failed.
    pub failed: u64,
    /// The number of requests in flight, without listens.
    pub in_flight: u64,
    /// The number of label sets that are recorded.
    pub series: usize,
    /// The number of requests that were recorded as `_OTHER`, because there was no room for their
    /// labels.
    pub folded: u64,
}

impl MetricsHandle {
    /// Returns the counters.
    pub fn stats(&self) -> MetricsStats {
        let shared = &self.shared;
        MetricsStats {
            calls: shared.calls.load(Ordering::Relaxed),
            failed: shared.failed.load(Ordering::Relaxed),
            in_flight: shared.in_flight.load(Ordering::Relaxed),
            series: shared.series.count(),
            folded: shared.folded.load(Ordering::Relaxed),
        }
    }

    /// Returns a summary of all requests so far.
    ///
    /// It adds up the histograms of all label sets: about 10 µs for each.
    pub fn summary(&self) -> Summary {
        let shared = &self.shared;
        Summary::of(
            &shared.series,
            shared.since.elapsed(),
            shared.in_flight.load(Ordering::Relaxed),
            self.recent_failures(usize::MAX),
        )
    }

    /// Returns the latest failures, newest first, at most `limit`.
    pub fn recent_failures(&self, limit: usize) -> Vec<Arc<FinishedCall>> {
        self.shared.recent.failures(limit)
    }

    /// Returns a stream of the requests that end from now on, for dashboards.
    pub fn calls(&self) -> FinishedCalls {
        self.shared.recent.read()
    }
}

impl fmt::Debug for MetricsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsHandle")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
