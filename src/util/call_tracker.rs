//! The requests that an end of a stack has in flight.

use std::time::Duration;

use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// Counts the requests in flight, and refuses others once it is closed. Clones count together.
///
/// Listens are counted apart: they do not end by themselves, so that a drain does not wait for
/// them.
#[derive(Clone, Default)]
pub(crate) struct CallTracker {
    calls: TaskTracker,
    listens: TaskTracker,
}

impl CallTracker {
    /// Counts a request until the token is dropped. Returns `None` if no more requests are taken.
    pub(crate) fn enter(&self, is_listen: bool) -> Option<TaskTrackerToken> {
        let tracker = match is_listen {
            true => &self.listens,
            false => &self.calls,
        };
        // The token comes first, so that a drain that begins now waits for this call.
        let token = tracker.token();
        (!self.calls.is_closed()).then_some(token)
    }

    /// Takes no more requests.
    pub(crate) fn close(&self) {
        self.calls.close();
    }

    /// Takes no more requests, and waits for the calls in flight, at most until `limit`. Returns
    /// the number of calls that are left.
    pub(crate) async fn drain(&self, limit: Duration) -> usize {
        self.close();
        let _ = tokio::time::timeout(limit, self.calls.wait()).await;
        self.calls.len()
    }

    /// Returns the number of calls in flight: requests other than listens.
    pub(crate) fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Returns the number of listens in flight.
    pub(crate) fn listens(&self) -> usize {
        self.listens.len()
    }
}
