use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, future::BoxFuture};
use rmcp::model::{ClientResult, ServerNotification, ServerRequest, SubscriptionFilter};
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::{McpClient, call_sink::Recipient};
use crate::{
    CallContext, Caller, CallerSink, Error, Stack,
    listen::{self, ListenCall},
};

/// The number of change notifications that are buffered for the reader.
const CHANGE_BUFFER: usize = 64;

impl<S: Stack> McpClient<S> {
    /// Listens for changes: `subscriptions/listen` (MCP 2026-07-28, SEP-2575). It returns once the
    /// server has acknowledged the kinds of changes that it will announce.
    ///
    /// The client's request timeout applies to the acknowledgement. The subscription itself has no
    /// timeout.
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error ("method not found" from a server that announces no changes), a
    /// timeout, or any other error of the stack.
    pub async fn listen(&self, filter: SubscriptionFilter) -> Result<Subscription, Error> {
        let (changes_in, changes) = mpsc::channel(CHANGE_BUFFER);
        let sink = ChangeSink {
            recipient: Recipient::Handler(self.shared.handler.clone()),
            changes: changes_in,
        };
        let answers = self.shared.handler.is_some();
        let caller = self.in_session(Caller::new(sink));
        let context = CallContext {
            meta: self.introduction(),
            caller: caller.answering_requests(answers),
            ..CallContext::default()
        };
        let stack = self.stack();
        let within = self.options().request_timeout;
        let call = |request| stack.oneshot(request);
        let open = listen::open(filter, context, within, call).await?;
        Ok(Subscription {
            accepted: open.accepted,
            call: Some(open.call),
            changes,
        })
    }
}

/// The change notifications of a server; see [`McpClient::listen`].
///
/// It is a [`Stream`] that ends when the server ends the subscription. Its last item is an error if
/// the subscription failed, for example by a lost connection. Changes may then have been missed,
/// and the caller has to listen again and read the current state. Dropping the subscription ends it
/// at the server.
///
/// With a slow reader, up to 64 notifications are buffered, and the server's further ones wait.
#[must_use = "dropping a subscription ends it"]
pub struct Subscription {
    accepted: SubscriptionFilter,
    /// `None` after the end.
    call: Option<ListenCall>,
    changes: mpsc::Receiver<ServerNotification>,
}

impl Subscription {
    /// Returns the part of the requested filter that the server has accepted.
    pub fn accepted(&self) -> &SubscriptionFilter {
        &self.accepted
    }
}

impl Stream for Subscription {
    type Item = Result<ServerNotification, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Ok(change) = self.changes.try_recv() {
            return Poll::Ready(Some(Ok(change)));
        }
        let Some(call) = &mut self.call else {
            return Poll::Ready(None);
        };
        let Poll::Ready(ended) = call.as_mut().poll(cx) else {
            return match self.changes.poll_recv(cx) {
                Poll::Ready(Some(change)) => Poll::Ready(Some(Ok(change))),
                _ => Poll::Pending,
            };
        };
        if let Ok(change) = self.changes.try_recv() {
            // The end is reported after all earlier changes.
            self.call = Some(Box::pin(std::future::ready(ended)));
            return Poll::Ready(Some(Ok(change)));
        }
        self.call = None;
        Poll::Ready(ended.err().map(Err))
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("accepted", &self.accepted)
            .finish_non_exhaustive()
    }
}

/// Buffers the changes of a listen for the reader.
struct ChangeSink {
    recipient: Recipient,
    changes: mpsc::Sender<ServerNotification>,
}

impl CallerSink for ChangeSink {
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            // The subscription may have been dropped.
            let _ = self.changes.send(notification).await;
            Ok(())
        })
    }

    /// The server sends a request while no call of the client is in flight.
    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(self.recipient.request(request))
    }
}
