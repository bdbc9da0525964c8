use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    sync::{Arc, Mutex, Once, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use ::metrics::{Counter, Histogram, Key, Label, Level, Metadata};

use super::{
    Side,
    convention::{self, TARGET, names},
    labels::Labels,
    tally::{Sample, Tally, Window},
};
use crate::util::lock;

/// The metrics of all label sets, with the handles that the recorder of the `metrics` facade gave
/// for them.
#[derive(Debug)]
pub(super) struct AllSeries {
    side: Side,
    limit: usize,
    /// The lengths of the windows.
    windows: Vec<Duration>,
    described: Once,
    hasher: RandomState,
    found: RwLock<Found>,
}

#[derive(Debug, Default)]
struct Found {
    /// By the hash of the labels, so that a lookup needs no copy of them.
    by_hash: HashMap<u64, Vec<Arc<Series>>, BuildHasherDefault<Hashed>>,
    count: usize,
}

/// Takes a key that is a keyed hash as it is.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The metrics of one label set.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) labels: Labels,
    duration: Handle<Histogram>,
    /// It is made for the first result with tokens.
    tokens: OnceLock<Handle<Counter>>,
    totals: Mutex<Totals>,
}

/// A handle of the recorder.
struct Handle<T>(T);

impl<T> std::fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handle")
    }
}

#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) all: Tally,
    pub(super) windows: Vec<Window>,
}

impl AllSeries {
    pub(super) fn new(side: Side, limit: usize, windows: Vec<Duration>) -> Self {
        Self {
            side,
            limit,
            windows,
            described: Once::new(),
            hasher: RandomState::new(),
            found: RwLock::default(),
        }
    }

    /// Records a finished request, `at` after the start. Returns `false` if there was no room for
    /// its labels.
    pub(super) fn record(&self, labels: &Labels, at: Duration, sample: &Sample) -> bool {
        let hash = self.hasher.hash_one(labels);
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = found.get(hash, labels) {
            series.record(self, at, sample);
            return true;
        }
        drop(found);
        let (series, had_room) = self.add(hash, labels);
        series.record(self, at, sample);
        had_room
    }

    fn add(&self, hash: u64, labels: &Labels) -> (Arc<Series>, bool) {
        self.described.call_once(convention::describe);
        let mut found = self.found.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = found.get(hash, labels) {
            return (series.clone(), true);
        }
        // Two are kept for all others: those that succeeded and those that failed.
        if found.count + 2 < self.limit {
            return (found.insert(hash, self.make(labels.clone())), true);
        }
        let folded = labels.folded();
        let hash = self.hasher.hash_one(&folded);
        let series = match found.get(hash, &folded) {
            Some(series) => series.clone(),
            None => found.insert(hash, self.make(folded)),
        };
        (series, false)
    }

    fn make(&self, labels: Labels) -> Series {
        let metadata = metadata();
        let duration = Key::from_parts(self.side.duration(), labels.for_facade());
        ::metrics::with_recorder(|recorder| Series {
            duration: Handle(recorder.register_histogram(&duration, &metadata)),
            tokens: OnceLock::new(),
            totals: Mutex::new(Totals {
                all: Tally::default(),
                windows: vec![Window::default(); self.windows.len()],
            }),
            labels,
        })
    }

    pub(super) fn windows(&self) -> &[Duration] {
        &self.windows
    }

    /// Returns all series.
    pub(super) fn all(&self) -> Vec<Arc<Series>> {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        found.by_hash.values().flatten().cloned().collect()
    }

    pub(super) fn count(&self) -> usize {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        found.count
    }
}

fn metadata() -> Metadata<'static> {
    Metadata::new(TARGET, Level::INFO, Some(module_path!()))
}

impl Found {
    fn get(&self, hash: u64, labels: &Labels) -> Option<&Arc<Series>> {
        let with_hash = self.by_hash.get(&hash)?;
        with_hash.iter().find(|series| series.labels == *labels)
    }

    fn insert(&mut self, hash: u64, series: Series) -> Arc<Series> {
        let series = Arc::new(series);
        self.count += 1;
        self.by_hash.entry(hash).or_default().push(series.clone());
        series
    }
}

impl Series {
    fn record(&self, all: &AllSeries, at: Duration, sample: &Sample) {
        self.duration.0.record(sample.duration.as_secs_f64());
        if sample.tokens > 0 {
            let tokens = self.tokens.get_or_init(|| self.token_counter(all.side));
            tokens.0.increment(sample.tokens);
        }
        let mut totals = lock(&self.totals);
        totals.all.record(sample);
        for (window, length) in totals.windows.iter_mut().zip(&all.windows) {
            window.record(*length, at, sample);
        }
    }

    fn token_counter(&self, side: Side) -> Handle<Counter> {
        let mut labels = self.labels.for_facade();
        labels.push(Label::from_static_parts("side", side.as_str()));
        let key = Key::from_parts(names::RESULT_TOKENS, labels);
        ::metrics::with_recorder(|recorder| Handle(recorder.register_counter(&key, &metadata())))
    }

    /// Reads the totals.
    pub(super) fn with_totals<T>(&self, read: impl FnOnce(&Totals) -> T) -> T {
        read(&lock(&self.totals))
    }
}
