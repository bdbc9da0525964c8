use std::time::Duration;

use tokio::time::Instant;

use super::{
    CircuitBreakerPolicy, CircuitBreakerState,
    policy::Verdict,
    window::{Ended, Sum, Window},
};

/// `retryAfterMs` while all probes are in flight: one of them may end soon.
const WHILE_PROBED: Duration = Duration::from_millis(100);

/// The state machine of one key, independent of clocks, locks and names.
#[derive(Debug)]
pub(super) struct Machine {
    phase: Phase,
    /// The number of the layer's change that began the phase. Calls admitted before it do not
    /// count.
    since: u64,
    failures_in_a_row: u32,
    window: Option<Window>,
    /// The number of times it has opened since it last closed.
    opened: u32,
    /// The number of probes so far.
    probed: u64,
}

#[derive(Clone, Debug)]
enum Phase {
    Closed,
    Open {
        until: Instant,
    },
    HalfOpen {
        /// Probes in flight that count towards the limit.
        probes: Vec<Probe>,
        successes: u32,
        /// Time at which a probe last began or ended.
        at: Instant,
    },
    ForcedOpen,
    ForcedClosed,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    number: u64,
    /// Time at which it stops counting towards the limit.
    until: Instant,
}

/// The decision about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Admitted as a normal call.
    Passed,
    /// Admitted as the probe of this number.
    Probe(u64),
    /// Refused, with the time after which a retry is useful, if it is known.
    Refused(Option<Duration>),
}

/// The end of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) verdict: Verdict,
    pub(super) took: Duration,
    /// The number of the probe, if the call was one.
    pub(super) probe: Option<u64>,
}

impl Machine {
    pub(super) fn new(policy: &CircuitBreakerPolicy, now: Instant) -> Self {
        let window = policy.has_rates().then(|| Window::new(policy.window, now));
        Self {
            phase: Phase::Closed,
            since: 0,
            failures_in_a_row: 0,
            window,
            opened: 0,
            probed: 0,
        }
    }

    /// Returns the state. An open breaker counts as half open once its open time is over.
    pub(super) fn state(&self, now: Instant) -> CircuitBreakerState {
        match &self.phase {
            Phase::Open { until } if now >= *until => CircuitBreakerState::HalfOpen,
            phase => phase.state(),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    pub(super) fn is_forced(&self) -> bool {
        matches!(self.phase, Phase::ForcedOpen | Phase::ForcedClosed)
    }

    /// Returns `true` if it equals a new one. One that has been open does not, because calls from
    /// before may still be in flight.
    pub(super) fn is_blank(&self) -> bool {
        self.is_closed() && self.since == 0 && self.failures_in_a_row == 0 && self.window.is_none()
    }

    /// Returns the time from which a probe is possible and none is in flight. Returns `None` if the
    /// breaker is closed or forced.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Open { until } => Some(*until),
            // A probe past its timeout does not count.
            Phase::HalfOpen { probes, at, .. } => {
                let last = probes.iter().map(|probe| probe.until).max();
                Some(last.unwrap_or(*at))
            }
            _ => None,
        }
    }

    /// Starts again as closed.
    pub(super) fn reset(&mut self, policy: &CircuitBreakerPolicy, now: Instant, change: u64) {
        *self = Self::new(policy, now);
        self.since = change;
    }

    pub(super) fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row
    }

    pub(super) fn sum(&self, now: Instant) -> Sum {
        self.window
            .as_ref()
            .map_or_else(Sum::default, |window| window.sum(now))
    }

    pub(super) fn opens_in(&self, now: Instant) -> Option<Duration> {
        match self.phase {
            Phase::Open { until } => Some(until.saturating_duration_since(now)),
            _ => None,
        }
    }

    /// Decides about a call. `change` is the number of the state change, should this cause one.
    pub(super) fn admit(
        &mut self,
        policy: &CircuitBreakerPolicy,
        now: Instant,
        change: u64,
    ) -> (Admission, Option<Change>) {
        let probe = Probe {
            number: self.probed + 1,
            until: now + policy.probe_timeout,
        };
        let change = match &mut self.phase {
            Phase::Closed | Phase::ForcedClosed => return (Admission::Passed, None),
            Phase::ForcedOpen => return (Admission::Refused(None), None),
            Phase::Open { until } if now < *until => {
                return (Admission::Refused(Some(*until - now)), None);
            }
            Phase::Open { .. } => {
                let half_open = Phase::HalfOpen {
                    probes: vec![probe],
                    successes: 0,
                    at: now,
                };
                Some(self.begin(half_open, change))
            }
            Phase::HalfOpen { probes, at, .. } => {
                probes.retain(|probe| now < probe.until);
                if probes.len() >= policy.probes as usize {
                    return (Admission::Refused(Some(WHILE_PROBED)), None);
                }
                probes.push(probe);
                *at = now;
                None
            }
        };
        self.probed = probe.number;
        (Admission::Probe(probe.number), change)
    }

    /// Records the end of a call that was admitted after the change `let_in`.
    pub(super) fn record(
        &mut self,
        policy: &CircuitBreakerPolicy,
        end: End,
        let_in: u64,
        now: Instant,
        change: u64,
    ) -> Option<Change> {
        if let_in < self.since {
            return None;
        }
        let slow = policy.slow.is_some_and(|slow| end.took >= slow.after);
        match &mut self.phase {
            Phase::Closed => {
                self.note(end.verdict, slow, now);
                self.is_too_much(policy, now)
                    .then(|| self.open(policy, now, change))
            }
            Phase::HalfOpen {
                probes,
                successes,
                at,
            } => {
                // The outcome of a probe past its timeout counts as well.
                probes.retain(|probe| Some(probe.number) != end.probe);
                *at = now;
                match end.verdict {
                    Verdict::Nothing => None,
                    Verdict::Success | Verdict::Answer if !slow => {
                        *successes += 1;
                        (*successes >= policy.successes).then(|| self.close(policy, now, change))
                    }
                    _ => Some(self.open(policy, now, change)),
                }
            }
            Phase::Open { .. } | Phase::ForcedOpen | Phase::ForcedClosed => None,
        }
    }

    fn note(&mut self, verdict: Verdict, slow: bool, now: Instant) {
        let failed = match verdict {
            Verdict::Failure => true,
            Verdict::Success => false,
            Verdict::Answer | Verdict::Nothing => return,
        };
        self.failures_in_a_row = if failed {
            self.failures_in_a_row.saturating_add(1)
        } else {
            0
        };
        if let Some(window) = &mut self.window {
            window.add(Ended { failed, slow }, now);
        }
    }

    fn is_too_much(&self, policy: &CircuitBreakerPolicy, now: Instant) -> bool {
        if policy
            .failures
            .is_some_and(|most| self.failures_in_a_row >= most)
        {
            return true;
        }
        let sum = self.sum(now);
        let reaches = |count: u32, rate: f64| f64::from(count) >= rate * f64::from(sum.calls);
        sum.calls >= policy.min_calls
            && (policy
                .failure_rate
                .is_some_and(|rate| reaches(sum.failed, rate))
                || policy.slow.is_some_and(|slow| reaches(sum.slow, slow.rate)))
    }

    fn open(&mut self, policy: &CircuitBreakerPolicy, now: Instant, change: u64) -> Change {
        let until = now + policy.open_time(self.opened);
        self.opened = self.opened.saturating_add(1);
        self.begin(Phase::Open { until }, change)
    }

    fn close(&mut self, policy: &CircuitBreakerPolicy, now: Instant, change: u64) -> Change {
        let from = self.phase.state();
        self.reset(policy, now, change);
        Change {
            from,
            to: CircuitBreakerState::Closed,
        }
    }

    pub(super) fn force(&mut self, open: bool, change: u64) -> Change {
        let phase = if open {
            Phase::ForcedOpen
        } else {
            Phase::ForcedClosed
        };
        self.begin(phase, change)
    }

    fn begin(&mut self, phase: Phase, change: u64) -> Change {
        let (from, to) = (self.phase.state(), phase.state());
        (self.phase, self.since) = (phase, change);
        Change { from, to }
    }
}

impl Phase {
    fn state(&self) -> CircuitBreakerState {
        match self {
            Self::Closed => CircuitBreakerState::Closed,
            Self::Open { .. } => CircuitBreakerState::Open,
            Self::HalfOpen { .. } => CircuitBreakerState::HalfOpen,
            Self::ForcedOpen => CircuitBreakerState::ForcedOpen,
            Self::ForcedClosed => CircuitBreakerState::ForcedClosed,
        }
    }
}

/// A state change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) from: CircuitBreakerState,
    pub(super) to: CircuitBreakerState,
}
