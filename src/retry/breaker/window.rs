use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::RateWindow;

/// Number of parts of a time span. Old calls are dropped one part at a time.
const PARTS: u64 = 10;

/// The outcomes of recent calls.
#[derive(Debug)]
pub(super) enum Window {
    Calls {
        calls: VecDeque<Ended>,
        most: usize,
        sum: Sum,
    },
    Time {
        parts: VecDeque<(u64, Sum)>,
        begun: Instant,
        part: Duration,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

/// Numbers of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) calls: u32,
    pub(super) failed: u32,
    pub(super) slow: u32,
}

impl Sum {
    fn add(&mut self, ended: Ended) {
        self.calls = self.calls.saturating_add(1);
        self.failed = self.failed.saturating_add(ended.failed.into());
        self.slow = self.slow.saturating_add(ended.slow.into());
    }

    fn remove(&mut self, ended: Ended) {
        self.calls -= 1;
        self.failed -= u32::from(ended.failed);
        self.slow -= u32::from(ended.slow);
    }
}

impl Window {
    pub(super) fn new(window: RateWindow, now: Instant) -> Self {
        match window {
            RateWindow::Calls(most) => Self::Calls {
                calls: VecDeque::new(),
                most: usize::try_from(most).unwrap_or(usize::MAX),
                sum: Sum::default(),
            },
            RateWindow::Time(time) => Self::Time {
                parts: VecDeque::new(),
                begun: now,
                part: time / 10,
            },
        }
    }

    pub(super) fn add(&mut self, ended: Ended, now: Instant) {
        match self {
            Self::Calls { calls, most, sum } => {
                if calls.len() >= *most
                    && let Some(oldest) = calls.pop_front()
                {
                    sum.remove(oldest);
                }
                calls.push_back(ended);
                sum.add(ended);
            }
            Self::Time { parts, begun, part } => {
                let current = part_at(*begun, *part, now);
                parts.retain(|(part, _)| part + PARTS > current);
                match parts.back_mut() {
                    Some((part, sum)) if *part == current => sum.add(ended),
                    _ => {
                        let mut sum = Sum::default();
                        sum.add(ended);
                        parts.push_back((current, sum));
                    }
                }
            }
        }
    }

    pub(super) fn sum(&self, now: Instant) -> Sum {
        match self {
            Self::Calls { sum, .. } => *sum,
            Self::Time { parts, begun, part } => {
                let current = part_at(*begun, *part, now);
                let mut all = Sum::default();
                for (part, sum) in parts {
                    if part + PARTS > current {
                        all.calls = all.calls.saturating_add(sum.calls);
                        all.failed = all.failed.saturating_add(sum.failed);
                        all.slow = all.slow.saturating_add(sum.slow);
                    }
                }
                all
            }
        }
    }
}

fn part_at(begun: Instant, part: Duration, now: Instant) -> u64 {
    let parts = now.saturating_duration_since(begun).as_nanos() / part.as_nanos().max(1);
    u64::try_from(parts).unwrap_or(u64::MAX - PARTS)
}
