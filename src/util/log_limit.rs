//! A bound on log lines that a peer can cause at will.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

use crate::util::lock;

/// Allows one log line in an interval, with a count of the events since the last one.
#[derive(Debug)]
pub(crate) struct LogLimit {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last: Option<Instant>,
    events: u64,
}

impl LogLimit {
    /// Creates a limit of one line in this interval.
    pub(crate) const fn every(interval: Duration) -> Self {
        let state = State {
            last: None,
            events: 0,
        };
        Self {
            interval,
            state: Mutex::new(state),
        }
    }

    /// Counts `events`. Returns the number of events since the last line, if another line is due.
    pub(crate) fn count(&self, events: u64) -> Option<u64> {
        let mut state = lock(&self.state);
        state.events = state.events.saturating_add(events);
        if state
            .last
            .is_some_and(|last| last.elapsed() < self.interval)
        {
            return None;
        }
        state.last = Some(Instant::now());
        Some(std::mem::take(&mut state.events))
    }
}

impl Default for LogLimit {
    /// One line a second.
    fn default() -> Self {
        Self::every(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_is_due_once_a_second_and_counts_what_came_since() {
        let limit = LogLimit::default();
        assert_eq!(limit.count(1), Some(1));
        for _ in 0..1_000 {
            assert_eq!(limit.count(1), None);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(limit.count(2), Some(1_002));
        assert_eq!(limit.count(1), None);
    }
}
