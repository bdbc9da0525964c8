use std::time::Duration;

/// Waiting times that double from `first` to `most`, each drawn between half of itself and the whole, so
/// that many who lost the same thing do not come back at the same moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
}

/// No longer than this is ever waited, so that a time that far from now can be told.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Backoff {
    pub(crate) const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most }
    }

    /// How long to wait after `failures` failures in a row, at least one.
    pub(crate) fn delay(self, failures: u32) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1u32.checked_shl(failures.min(31)).unwrap_or(u32::MAX));
        doubled
            .min(self.most)
            .min(LONGEST)
            .mul_f64(rand::random_range(0.5..=1.0))
    }
}
