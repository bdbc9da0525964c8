use std::time::Duration;

use hdrhistogram::Histogram;

/// The significant digits of a latency: it is off by at most 1 %.
const DIGITS: u8 = 2;
/// The unit of recorded latencies.
const TICK_NANOS: u64 = 100;
/// The longest latency that is told apart: 1 h.
const MAX_TICKS: u64 = 36_000_000_000;
/// The parts of a window that are dropped one after the other.
const SLOTS: u32 = 6;

/// The facts of a finished request that are counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) duration: Duration,
    /// `true` for an answer that was not fetched for this request, `None` if no cache applied.
    pub(super) hit: Option<bool>,
    pub(super) tokens: u64,
    pub(super) repeats: u32,
}

/// Totals of requests.
///
/// A histogram is made for the first request and grows with the longest latency. Limit: 15 KiB.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) calls: u64,
    pub(super) hits: u64,
    pub(super) lookups: u64,
    pub(super) tokens: u64,
    pub(super) repeats: u64,
    pub(super) time: Duration,
    latencies: Option<Histogram<u32>>,
}

impl Tally {
    pub(super) fn record(&mut self, sample: &Sample) {
        self.calls += 1;
        if let Some(hit) = sample.hit {
            self.lookups += 1;
            self.hits += u64::from(hit);
        }
        self.tokens = self.tokens.saturating_add(sample.tokens);
        self.repeats += u64::from(sample.repeats);
        self.time = self.time.saturating_add(sample.duration);
        if self.latencies.is_none() {
            self.latencies = Histogram::new(DIGITS).ok();
        }
        if let Some(latencies) = &mut self.latencies {
            // It resizes itself up to any value within `MAX_TICKS`.
            let _ = latencies.record(ticks(sample.duration));
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.hits += other.hits;
        self.lookups += other.lookups;
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.repeats += other.repeats;
        self.time = self.time.saturating_add(other.time);
        match (&mut self.latencies, &other.latencies) {
            (Some(own), Some(other)) => {
                // Both resize themselves.
                let _ = own.add(other);
            }
            (own @ None, Some(other)) => *own = Some(other.clone()),
            (_, None) => {}
        }
    }

    /// Returns the mean latency.
    pub(super) fn mean(&self) -> Duration {
        let calls = u128::from(self.calls.max(1));
        let nanos = self.time.as_nanos() / calls;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Returns the latency that this part of the requests does not exceed.
    pub(super) fn quantile(&self, quantile: f64) -> Duration {
        let latencies = self.latencies.as_ref();
        let ticks = latencies.map_or(0, |latencies| {
            let highest = latencies.value_at_quantile(quantile);
            // The middle of the values that the histogram counts as one.
            latencies.median_equivalent(highest)
        });
        Duration::from_nanos(ticks.saturating_mul(TICK_NANOS))
    }

    fn clear(&mut self) {
        let latencies = self.latencies.take();
        *self = Self {
            latencies: latencies.map(|mut latencies| {
                latencies.reset();
                latencies
            }),
            ..Self::default()
        };
    }
}

fn ticks(duration: Duration) -> u64 {
    (nanos(duration) / TICK_NANOS).clamp(1, MAX_TICKS)
}

/// Returns the duration in nanoseconds. A division of more than 64 bits would cost as much as the
/// rest of a record.
fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(duration.subsec_nanos().into())
}

/// Totals of the requests of the last while. It covers the length of the window, and at most a
/// sixth more.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    slots: Vec<Slot>,
}

#[derive(Clone, Debug)]
struct Slot {
    /// The number of the slot's time span since the start.
    number: u64,
    tally: Tally,
}

impl Window {
    /// Records a request that ended `at` after the start.
    pub(super) fn record(&mut self, length: Duration, at: Duration, sample: &Sample) {
        let number = slot_number(length, at);
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == number) {
            return slot.tally.record(sample);
        }
        let oldest = number.saturating_sub(u64::from(SLOTS));
        let expired = self.slots.iter_mut().find(|slot| slot.number < oldest);
        let slot = match expired {
            Some(slot) => {
                slot.number = number;
                slot.tally.clear();
                Some(slot)
            }
            None => {
                let tally = Tally::default();
                self.slots.push(Slot { number, tally });
                self.slots.last_mut()
            }
        };
        if let Some(slot) = slot {
            slot.tally.record(sample);
        }
    }

    /// Adds the requests of the window up to `now` after the start.
    pub(super) fn add_to(&self, total: &mut Tally, length: Duration, now: Duration) {
        let oldest = slot_number(length, now).saturating_sub(u64::from(SLOTS));
        for slot in self.slots.iter().filter(|slot| slot.number >= oldest) {
            total.add(&slot.tally);
        }
    }
}

fn slot_number(length: Duration, at: Duration) -> u64 {
    let slot = (nanos(length) / u64::from(SLOTS)).max(1);
    nanos(at) / slot
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(millis: u64) -> Sample {
        Sample {
            duration: Duration::from_millis(millis),
            hit: None,
            tokens: 0,
            repeats: 0,
        }
    }

    #[test]
    fn a_quantile_is_within_a_hundredth_of_the_exact_one() {
        let mut tally = Tally::default();
        let mut exact: Vec<u64> = (0..10_000).map(|n| n * n % 9_973 + 1).collect();
        for millis in &exact {
            tally.record(&sample(*millis));
        }
        exact.sort_unstable();
        for (quantile, index) in [(0.5, 4_999), (0.95, 9_499), (0.99, 9_899)] {
            let found = tally.quantile(quantile).as_secs_f64();
            let exact = Duration::from_millis(exact[index]).as_secs_f64();
            assert!((found / exact - 1.0).abs() < 0.01, "{found} {exact}");
        }
    }

    #[test]
    fn latencies_beyond_an_hour_and_of_nothing_are_counted() {
        let mut tally = Tally::default();
        tally.record(&sample(0));
        tally.record(&sample(u64::MAX));
        assert_eq!(tally.calls, 2);
        assert!(tally.quantile(1.0) >= Duration::from_secs(3_500));
    }

    #[test]
    fn a_window_forgets_and_keeps_seven_slots_at_most() {
        let length = Duration::from_secs(60);
        let mut window = Window::default();
        for second in 0..600 {
            window.record(length, Duration::from_secs(second), &sample(1));
        }
        assert!(window.slots.len() <= 7);
        let mut total = Tally::default();
        window.add_to(&mut total, length, Duration::from_secs(599));
        assert!((60..=70).contains(&total.calls), "{}", total.calls);
        let mut later = Tally::default();
        window.add_to(&mut later, length, Duration::from_secs(700));
        assert_eq!(later.calls, 0);
    }
}
