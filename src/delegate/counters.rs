use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the layer was made.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) calls: AtomicU64,
    pub(super) plans: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) handed_back: AtomicU64,
    pub(super) passed_up: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
