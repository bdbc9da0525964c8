use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use ::metrics::Gauge;
use tokio::time::Instant;

use super::{
    Side, convention::names, finished::Recent, known_names::KnownNames, labels::Labels,
    series::AllSeries, sessions::Sessions, span::SpanSettings, tally::Sample,
};

/// The state that all services and handles of one layer share.
pub(super) struct Shared {
    pub(super) side: Side,
    pub(super) spans: SpanSettings,
    pub(super) names: KnownNames,
    pub(super) series: AllSeries,
    pub(super) recent: Recent,
    pub(super) sessions: Sessions,
    pub(super) logs_calls: bool,
    pub(super) since: Instant,
    pub(super) in_flight: AtomicU64,
    pub(super) gauge: OnceLock<Gauge>,
    pub(super) calls: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) folded: AtomicU64,
}

impl Shared {
    /// Counts a request as in flight.
    pub(super) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.gauge().increment(1.0);
    }

    /// Ends a request that was in flight.
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.gauge().decrement(1.0);
    }

    fn gauge(&self) -> &Gauge {
        let side = self.side.as_str();
        self.gauge
            .get_or_init(|| ::metrics::gauge!(names::IN_FLIGHT, "side" => side))
    }

    /// Records a finished request.
    pub(super) fn record(&self, labels: &Labels, now: Instant, sample: &Sample) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if labels.end.is_error() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        let at = now.saturating_duration_since(self.since);
        if !self.series.record(labels, at, sample) {
            self.folded.fetch_add(1, Ordering::Relaxed);
        }
    }
}
