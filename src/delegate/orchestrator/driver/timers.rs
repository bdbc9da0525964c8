use std::{cmp::Reverse, collections::BinaryHeap};

use tokio::time::Instant;

/// An event of a plan that is due at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The time of the plan is over.
    Plan,
    /// The deadline of a task has passed.
    Deadline(u32),
    /// Another attempt of a task may begin.
    Retry(u32),
}

/// The times at which a plan has something to do.
#[derive(Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Instant, Due)>>);

impl Timers {
    pub(super) fn add(&mut self, at: Instant, due: Due) {
        self.0.push(Reverse((at, due)));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Option<Due> {
        let is_due = self.next().is_some_and(|at| at <= now);
        let Reverse((_, due)) = is_due.then(|| self.0.pop()).flatten()?;
        Some(due)
    }
}
