//! The requests in flight, and the end of a gateway.

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Error, McpResponse, Refusal};

/// The requests in flight, and whether the gateway takes further ones.
#[derive(Default)]
pub(super) struct Lifecycle {
    calls: TaskTracker,
    listens: TaskTracker,
    /// Cancelled when new requests are refused.
    closing: CancellationToken,
    /// Cancelled when the gateway has ended. The members' tokens are its children.
    ended: CancellationToken,
}

impl Lifecycle {
    /// Counts a request while it is answered. A listen ends when the closing begins, a call when it
    /// ends.
    pub(super) async fn run(
        &self,
        is_listen: bool,
        answer: impl Future<Output = Result<McpResponse, Error>>,
    ) -> Result<McpResponse, Error> {
        let (tracker, end) = match is_listen {
            true => (&self.listens, &self.closing),
            false => (&self.calls, &self.ended),
        };
        // Before the check: `close` waits for each call that passes it.
        let _counted = tracker.token();
        if self.is_closing() {
            return Err(Refusal::new("gateway", "the gateway is closing").into());
        }
        tokio::select! {
            biased;
            answer = answer => answer,
            () = end.cancelled() => Err(Error::cancelled("the gateway is closing")),
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Refuses new requests, waits for the calls in flight, and ends those that are left after the
    /// timeout. Returns `true` if there were none.
    pub(super) async fn close(&self, timeout: Duration) -> bool {
        self.closing.cancel();
        self.calls.close();
        let in_time = tokio::time::timeout(timeout, self.calls.wait()).await;
        self.ended.cancel();
        in_time.is_ok()
    }

    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// Returns a token that is cancelled when the gateway ends.
    pub(super) fn child_token(&self) -> CancellationToken {
        self.ended.child_token()
    }

    /// Returns the numbers of calls in flight and of open listens.
    pub(super) fn in_flight(&self) -> (usize, usize) {
        (self.calls.len(), self.listens.len())
    }
}
