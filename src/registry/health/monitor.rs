//! The health of one tool, or of one group.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use super::{Check, HealthPolicy, HealthState};

use crate::util::lock;

/// Maximum length of a failure reason, in bytes.
const MAX_REASON_BYTES: usize = 400;
/// A snapshot of the health of a tool or a group of tools.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HealthReport {
    /// The state.
    pub state: HealthState,
    /// The reason of the last failure, until the tool is healthy again. Callers see the text of a
    /// failed check, but only the [`Outcome`](crate::Outcome) of a failed call.
    pub reason: Option<Arc<str>>,
    /// The number of consecutive failures.
    pub failures: u32,
    /// The time of the last state change.
    pub since: Instant,
    /// The time at which the last check ended.
    pub last_check: Option<Instant>,
}
/// Tracks the health of one tool, or of one group.
pub(in crate::registry) struct Monitor {
    name: String,
    pub(super) policy: HealthPolicy,
    pub(super) check: Option<Check>,
    standing: Mutex<Standing>,
}

struct Standing {
    report: HealthReport,
    successes: u32,
    /// The reason for callers. The text of a failed call is not for other callers.
    told: Arc<str>,
}

/// The reason of a failure, for the operator and for callers.
#[derive(Clone, Copy)]
pub(super) struct Failure<'a> {
    pub(super) reason: &'a str,
    pub(super) told: &'a str,
}

impl Monitor {
    pub(in crate::registry) fn new(
        name: String,
        policy: HealthPolicy,
        check: Option<Check>,
    ) -> Self {
        let report = HealthReport {
            state: HealthState::Unknown,
            reason: None,
            failures: 0,
            since: Instant::now(),
            last_check: None,
        };
        Self {
            name,
            policy,
            check,
            standing: Mutex::new(Standing {
                report,
                successes: 0,
                told: "it failed".into(),
            }),
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        lock(&self.standing)
    }

    pub(in crate::registry) fn has_check(&self) -> bool {
        self.check.is_some()
    }

    pub(in crate::registry) fn report(&self) -> HealthReport {
        self.standing().report.clone()
    }

    /// Returns the reason why the tool must not be called, or `None` if it may be.
    pub(in crate::registry) fn down(&self) -> Option<Arc<str>> {
        let standing = self.standing();
        (standing.report.state == HealthState::Unhealthy).then(|| standing.told.clone())
    }

    /// Records a success or a failure. Returns `true` if the tool has to appear in the list or
    /// disappear from it.
    pub(super) fn record(&self, result: Result<(), Failure<'_>>, checked: bool) -> bool {
        let mut standing = self.standing();
        let now = Instant::now();
        if checked {
            standing.report.last_check = Some(now);
        }
        let before = standing.report.state;
        match result {
            Ok(()) => {
                standing.report.failures = 0;
                standing.successes = standing.successes.saturating_add(1);
                let recovered = standing.successes >= self.policy.recover_after;
                if before == HealthState::Unknown || recovered {
                    standing.report.state = HealthState::Healthy;
                    standing.report.reason = None;
                }
            }
            Err(failure) => {
                standing.told = shortened(failure.told).into();
                standing.successes = 0;
                standing.report.failures = standing.report.failures.saturating_add(1);
                standing.report.reason = Some(shortened(failure.reason).into());
                standing.report.state = if standing.report.failures >= self.policy.fail_after {
                    HealthState::Unhealthy
                } else if before == HealthState::Unhealthy {
                    before
                } else {
                    HealthState::Degraded
                };
            }
        }
        self.changed(&mut standing, before, now)
    }

    /// Ends the unhealthy state of a tool without a check, so that calls can test it.
    pub(super) fn begin_trial(&self) -> bool {
        let mut standing = self.standing();
        let before = standing.report.state;
        if before == HealthState::Unhealthy {
            standing.report.state = HealthState::Unknown;
            standing.report.failures = self.policy.fail_after.saturating_sub(1);
        }
        self.changed(&mut standing, before, Instant::now())
    }

    fn changed(&self, standing: &mut Standing, before: HealthState, now: Instant) -> bool {
        let state = standing.report.state;
        if state == before {
            return false;
        }
        standing.report.since = now;
        let reason = standing.report.reason.as_deref();
        tracing::info!(
            tool = self.name,
            from = before.as_str(),
            to = state.as_str(),
            reason,
            "a tool's health changed"
        );
        (state == HealthState::Unhealthy) != (before == HealthState::Unhealthy)
    }

    /// Returns the time until the next check.
    pub(super) fn pause(&self) -> Duration {
        let interval = self.policy.interval.mul_f64(rand::random_range(0.9..=1.1));
        interval.max(self.policy.timeout)
    }
}

fn shortened(reason: &str) -> String {
    if reason.len() <= MAX_REASON_BYTES {
        return reason.to_owned();
    }
    let end = (0..=MAX_REASON_BYTES)
        .rev()
        .find(|&at| reason.is_char_boundary(at));
    format!("{} …", &reason[..end.unwrap_or(0)])
}
