//! A bound on log lines that a peer can cause at will.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

use crate::util::lock;

/// The shortest time between two lines.
const EVERY: Duration = Duration::from_secs(1);

/// Allows one log line a second, with a count of the events since the last one.
#[derive(Debug)]
pub(crate) struct LogLimit(Mutex<State>);

#[derive(Debug)]
struct State {
    last: Option<Instant>,
    events: u64,
}

impl LogLimit {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(State {
            last: None,
            events: 0,
        }))
    }

    /// Counts `events`. Returns the number of events since the last line, if another line is due.
    pub(crate) fn count(&self, events: u64) -> Option<u64> {
        let mut state = lock(&self.0);
        state.events = state.events.saturating_add(events);
        if state.last.is_some_and(|last| last.elapsed() < EVERY) {
            return None;
        }
        state.last = Some(Instant::now());
        Some(std::mem::take(&mut state.events))
    }
}

impl Default for LogLimit {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_is_due_once_a_second_and_counts_what_came_since() {
        let limit = LogLimit::new();
        assert_eq!(limit.count(1), Some(1));
        for _ in 0..1_000 {
            assert_eq!(limit.count(1), None);
        }
        tokio::time::advance(EVERY).await;
        assert_eq!(limit.count(2), Some(1_002));
        assert_eq!(limit.count(1), None);
    }
}
