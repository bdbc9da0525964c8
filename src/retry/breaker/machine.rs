use std::time::Duration;

use tokio::time::Instant;

use super::{
    BreakerPolicy, BreakerState,
    policy::Verdict,
    window::{Ended, Sum, Window},
};

/// How soon it is worth asking again while all probes are in flight: one of them is about to end.
const WHILE_PROBED: Duration = Duration::from_millis(100);

/// One key's breaker. It knows nothing of clocks, locks or names.
#[derive(Debug)]
pub(super) struct Machine {
    phase: Phase,
    /// Which of the layer's changes began the phase. What was let in before it says nothing of it.
    since: u64,
    failures_in_a_row: u32,
    window: Option<Window>,
    /// How often it has opened since it was last closed.
    opened: u32,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed,
    Open {
        until: Instant,
    },
    HalfOpen {
        probes: u32,
        successes: u32,
        /// When a probe last began or ended.
        at: Instant,
    },
    ForcedOpen,
    ForcedClosed,
}

/// Whether a call is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// As any.
    Passed,
    /// To find out how the server is.
    Probe,
    /// No; worth asking again after this time, if it is known.
    Refused(Option<Duration>),
}

/// How a call has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) verdict: Verdict,
    pub(super) took: Duration,
}

impl Machine {
    pub(super) fn new(policy: &BreakerPolicy, now: Instant) -> Self {
        let window = policy.has_rates().then(|| Window::new(policy.span, now));
        Self {
            phase: Phase::Closed,
            since: 0,
            failures_in_a_row: 0,
            window,
            opened: 0,
        }
    }

    /// An open breaker whose time is over waits for a probe, so it counts as half open.
    pub(super) fn state(&self, now: Instant) -> BreakerState {
        match self.phase {
            Phase::Open { until } if now >= until => BreakerState::HalfOpen,
            phase => phase.state(),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    pub(super) fn is_forced(&self) -> bool {
        matches!(self.phase, Phase::ForcedOpen | Phase::ForcedClosed)
    }

    /// Whether it is like a new one. One that has been open is not: calls from before may still be in flight.
    pub(super) fn is_blank(&self) -> bool {
        self.is_closed() && self.since == 0 && self.failures_in_a_row == 0 && self.window.is_none()
    }

    /// Since when a probe could have been made and none was. `None` if it is closed, forced or probed.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open { until } => Some(until),
            Phase::HalfOpen { probes: 0, at, .. } => Some(at),
            _ => None,
        }
    }

    /// Begins anew, as closed.
    pub(super) fn reset(&mut self, policy: &BreakerPolicy, now: Instant, change: u64) {
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

    /// Lets a call in, or not. `change` is the number of the change, should this be one.
    pub(super) fn admit(
        &mut self,
        policy: &BreakerPolicy,
        now: Instant,
        change: u64,
    ) -> (Admission, Option<Change>) {
        match &mut self.phase {
            Phase::Closed | Phase::ForcedClosed => (Admission::Passed, None),
            Phase::Open { until } if now < *until => (Admission::Refused(Some(*until - now)), None),
            Phase::Open { .. } => {
                let begun = self.begin(
                    Phase::HalfOpen {
                        probes: 1,
                        successes: 0,
                        at: now,
                    },
                    change,
                );
                (Admission::Probe, Some(begun))
            }
            Phase::HalfOpen { probes, at, .. } if *probes < policy.probes => {
                *probes += 1;
                *at = now;
                (Admission::Probe, None)
            }
            Phase::HalfOpen { .. } => (Admission::Refused(Some(WHILE_PROBED)), None),
            Phase::ForcedOpen => (Admission::Refused(None), None),
        }
    }

    /// Takes note of how a call has ended that was let in after the change `let_in`.
    pub(super) fn record(
        &mut self,
        policy: &BreakerPolicy,
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
                *probes = probes.saturating_sub(1);
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

    fn is_too_much(&self, policy: &BreakerPolicy, now: Instant) -> bool {
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

    fn open(&mut self, policy: &BreakerPolicy, now: Instant, change: u64) -> Change {
        let until = now + policy.open_time(self.opened);
        self.opened = self.opened.saturating_add(1);
        self.begin(Phase::Open { until }, change)
    }

    fn close(&mut self, policy: &BreakerPolicy, now: Instant, change: u64) -> Change {
        let from = self.phase.state();
        self.reset(policy, now, change);
        Change {
            from,
            to: BreakerState::Closed,
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
        let from = self.phase.state();
        (self.phase, self.since) = (phase, change);
        Change {
            from,
            to: phase.state(),
        }
    }
}

impl Phase {
    fn state(self) -> BreakerState {
        match self {
            Self::Closed => BreakerState::Closed,
            Self::Open { .. } => BreakerState::Open,
            Self::HalfOpen { .. } => BreakerState::HalfOpen,
            Self::ForcedOpen => BreakerState::ForcedOpen,
            Self::ForcedClosed => BreakerState::ForcedClosed,
        }
    }
}

/// A breaker has changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) from: BreakerState,
    pub(super) to: BreakerState,
}
