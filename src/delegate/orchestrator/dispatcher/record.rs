use std::time::Duration;

/// The weight of the last attempt in the averages.
const WEIGHT: f64 = 0.2;

/// The outcomes of the recent attempts on an agent, as moving averages.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::delegate) struct Record {
    /// The part of the recent attempts that has failed, from 0 to 1.
    pub(in crate::delegate) failures: f64,
    /// The time of the recent attempts that have succeeded, in seconds.
    pub(in crate::delegate) latency: f64,
    is_known: bool,
}

impl Record {
    pub(super) fn add(&mut self, succeeded: bool, took: Duration) {
        let failed = if succeeded { 0.0 } else { 1.0 };
        self.failures += WEIGHT * (failed - self.failures);
        if succeeded {
            let took = took.as_secs_f64();
            let weight = if self.is_known { WEIGHT } else { 1.0 };
            self.latency += weight * (took - self.latency);
            self.is_known = true;
        }
    }

    /// Returns the failures in tenths: smaller differences are chance.
    pub(super) fn failed_tenths(&self) -> u8 {
        (self.failures * 10.0).round() as u8
    }
}
