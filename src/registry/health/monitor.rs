//! The health of one tool, or of one group.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use super::{Check, HealthPolicy, HealthState};

use crate::util::{lock, text::start_of};

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
    state: Mutex<State>,
}

struct State {
    report: HealthReport,
    successes: u32,
    /// The reason for callers. The text of a failed call is not for other callers.
    public_reason: Arc<str>,
}

/// The reason of a failure, for the operator and for callers.
#[derive(Clone, Copy)]
pub(super) struct Failure<'a> {
    pub(super) reason: &'a str,
    pub(super) public_reason: &'a str,
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
            state: Mutex::new(State {
                report,
                successes: 0,
                public_reason: "it failed".into(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(in crate::registry) fn has_check(&self) -> bool {
        self.check.is_some()
    }

    pub(in crate::registry) fn report(&self) -> HealthReport {
        self.state().report.clone()
    }

    /// Returns the reason why the tool must not be called, or `None` if it may be.
    pub(in crate::registry) fn down(&self) -> Option<Arc<str>> {
        let state = self.state();
        (state.report.state == HealthState::Unhealthy).then(|| state.public_reason.clone())
    }

    /// Records a success or a failure. Returns `true` if the tool has to appear in the list or
    /// disappear from it.
    pub(super) fn record(&self, result: Result<(), Failure<'_>>, checked: bool) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        if checked {
            state.report.last_check = Some(now);
        }
        let before = state.report.state;
        match result {
            Ok(()) => {
                state.report.failures = 0;
                state.successes = state.successes.saturating_add(1);
                let recovered = state.successes >= self.policy.recover_after;
                if before == HealthState::Unknown || recovered {
                    state.report.state = HealthState::Healthy;
                    state.report.reason = None;
                }
            }
            Err(failure) => {
                state.public_reason = shortened(failure.public_reason).into();
                state.successes = 0;
                state.report.failures = state.report.failures.saturating_add(1);
                state.report.reason = Some(shortened(failure.reason).into());
                state.report.state = if state.report.failures >= self.policy.fail_after {
                    HealthState::Unhealthy
                } else if before == HealthState::Unhealthy {
                    before
                } else {
                    HealthState::Degraded
                };
            }
        }
        self.note_change(&mut state, before, now)
    }

    /// Ends the unhealthy state of a tool without a check, so that calls can test it.
    pub(super) fn begin_trial(&self) -> bool {
        let mut state = self.state();
        let before = state.report.state;
        if before == HealthState::Unhealthy {
            state.report.state = HealthState::Unknown;
            state.report.failures = self.policy.fail_after.saturating_sub(1);
        }
        self.note_change(&mut state, before, Instant::now())
    }

    /// Notes and reports a change of the state. Returns `true` if the tool has to appear in the list
    /// or disappear from it.
    fn note_change(&self, state: &mut State, before: HealthState, now: Instant) -> bool {
        let after = state.report.state;
        if after == before {
            return false;
        }
        state.report.since = now;
        let reason = state.report.reason.as_deref();
        tracing::info!(
            tool = self.name,
            from = before.as_str(),
            to = after.as_str(),
            reason,
            "a tool's health changed"
        );
        (after == HealthState::Unhealthy) != (before == HealthState::Unhealthy)
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
    format!("{} …", start_of(reason, MAX_REASON_BYTES))
}
