use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the layer was made.
#[derive(Default)]
pub(super) struct Counters {
    pub charged: AtomicU64,
    pub saved: AtomicU64,
    pub cuts: AtomicU64,
    pub refused: AtomicU64,
    pub reads: AtomicU64,
    pub store_failures: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

pub(super) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
