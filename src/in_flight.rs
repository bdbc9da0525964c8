//! Requests in flight.

use std::time::Duration;

use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use crate::McpRequest;

/// The requests in flight of a server, a gateway or an upstream, which can be drained. Clones count
/// together.
///
/// Listens are counted apart: they do not end by themselves, so that a drain does not wait for them.
#[derive(Clone, Default)]
pub(crate) struct InFlight {
    /// It is closed once no more requests are taken.
    calls: TaskTracker,
    listens: TaskTracker,
    ended: CancellationToken,
}

impl InFlight {
    /// Counts a request until the token is dropped. Returns `None` if no more requests are taken.
    pub(crate) fn enter(&self, request: &McpRequest) -> Option<TaskTrackerToken> {
        match request.is_listen() {
            true => self.admit(self.listens.token()),
            false => self.enter_call(),
        }
    }

    /// Counts a call, as [`enter`](Self::enter) does.
    pub(crate) fn enter_call(&self) -> Option<TaskTrackerToken> {
        self.admit(self.calls.token())
    }

    /// The token comes first, so that a drain that begins now waits for the call.
    fn admit(&self, token: TaskTrackerToken) -> Option<TaskTrackerToken> {
        (!self.is_draining()).then_some(token)
    }

    /// Returns `true` if no more requests are taken.
    pub(crate) fn is_draining(&self) -> bool {
        self.calls.is_closed()
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.len()
    }

    pub(crate) fn listens(&self) -> usize {
        self.listens.len()
    }

    /// Refuses further requests.
    pub(crate) fn close(&self) {
        self.calls.close();
    }

    /// Refuses further requests, waits for the calls in flight up to `limit`, and ends all
    /// requests. Returns the number of calls that were cut off.
    pub(crate) async fn drain(&self, limit: Duration) -> usize {
        self.close();
        let _ = tokio::time::timeout(limit, self.calls.wait()).await;
        let cut_off = self.calls.len();
        self.ended.cancel();
        cut_off
    }

    /// Returns the token that is cancelled when all requests end.
    pub(crate) fn ended(&self) -> &CancellationToken {
        &self.ended
    }
}
