use std::time::Duration;

/// Delays that double from `first` to `most`. Each is random between one half and the whole, so
/// that peers that failed together do not retry together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
}

/// Maximum delay, so that the end of a delay is always within the clock's range.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Backoff {
    pub(crate) const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most }
    }

    /// Returns a delay of `first`, doubled for each earlier consecutive failure.
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
