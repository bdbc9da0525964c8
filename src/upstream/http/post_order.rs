//! The order of a request and its cancellation, where each is a POST of its own.
//!
//! Before 2026-07-28, a client cancels a request by a notification, and a closed connection is no
//! cancellation (MCP 2025-11-25, basic/transports). rmcp drops the POST of a request that is
//! cancelled, and posts the cancellation at once. The server may then read the cancellation first,
//! and goes on with the request.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use rmcp::model::{ClientJsonRpcMessage, ClientNotification, JsonRpcMessage, RequestId};
use tokio_util::sync::CancellationToken;

use crate::util::{lock, run_to_end::RunToEnd};

/// Limit of the time that a cancellation waits for its request to arrive. A server that answers
/// with JSON sends nothing before the answer.
const ARRIVAL_LIMIT: Duration = Duration::from_millis(250);

/// Limit of the time that a cancelled request may still be on its way.
const ABANDONED_LIMIT: Duration = Duration::from_secs(10);

/// The requests whose responses have not begun.
#[derive(Clone, Default)]
pub(super) struct Unanswered(Arc<Mutex<HashMap<RequestId, CancellationToken>>>);

/// A request whose response has not begun.
struct Entered {
    requests: Unanswered,
    id: RequestId,
    begun: CancellationToken,
}

impl Drop for Entered {
    fn drop(&mut self) {
        lock(&self.requests.0).remove(&self.id);
        self.begun.cancel();
    }
}

impl Unanswered {
    /// Sends a request. If the future is dropped before the response begins, the request goes on
    /// its way nevertheless.
    pub(super) fn send<T: Send + 'static>(
        &self,
        id: RequestId,
        sending: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send {
        let entered = Entered {
            requests: self.clone(),
            id: id.clone(),
            begun: CancellationToken::new(),
        };
        lock(&self.0).insert(id, entered.begun.clone());
        let sending = async move {
            let response = sending.await;
            drop(entered);
            response
        };
        RunToEnd::new(sending).within(ABANDONED_LIMIT)
    }

    /// Waits until the request that a message cancels has arrived.
    pub(super) async fn arrived(&self, message: &ClientJsonRpcMessage) {
        let JsonRpcMessage::Notification(message) = message else {
            return;
        };
        let ClientNotification::CancelledNotification(cancelled) = &message.notification else {
            return;
        };
        let id = cancelled.params.request_id.as_ref();
        let begun = id.and_then(|id| lock(&self.0).get(id).cloned());
        if let Some(begun) = begun {
            let _ = tokio::time::timeout(ARRIVAL_LIMIT, begun.cancelled()).await;
        }
    }
}
