use std::{
    fmt,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::{Stream, future::BoxFuture};
use rmcp::model::{
    ClientResult, ServerNotification, ServerRequest, SubscriptionFilter,
    SubscriptionsListenRequest, SubscriptionsListenRequestParams,
};
use tokio::sync::{mpsc, oneshot};
use tower::{Service, ServiceExt};

use super::{McpClient, call_sink::Recipient};
use crate::{
    CallContext, Caller, CallerSink, Error, McpRequest, McpResponse, request::next_id, util::panics,
};

/// The number of change notifications that are buffered for the reader.
const CHANGE_BUFFER: usize = 64;

impl<S> McpClient<S>
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
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
        let (sender, mut acknowledged) = oneshot::channel();
        let sink = ListenSink {
            recipient: Recipient::Handler(self.shared.handler.clone()),
            acknowledged: Mutex::new(Some(sender)),
            changes: changes_in,
        };
        let mut context = CallContext::new(next_id());
        context.meta = self.introduction();
        let answers = self.shared.handler.is_some();
        context.caller = self
            .in_session(Caller::new(sink))
            .answering_requests(answers);
        let cancel = context.cancellation.clone().drop_guard();
        let message =
            SubscriptionsListenRequest::new(SubscriptionsListenRequestParams::new(filter));
        let request = McpRequest::from_parts(message.into(), context);
        let stack = self.stack();
        let mut call: BoxFuture<'static, Result<(), Error>> = Box::pin(async move {
            let _cancel = cancel;
            panics::caught_call(stack.oneshot(request))
                .await
                .map(|_| ())
        });
        let timeout = self.options().request_timeout;
        let accepted = tokio::select! {
            biased;
            Ok(accepted) = &mut acknowledged => accepted,
            ended = &mut call => match acknowledged.try_recv() {
                // It was acknowledged and has already ended: the stream reports the end.
                Ok(accepted) => {
                    call = Box::pin(std::future::ready(ended));
                    accepted
                }
                Err(_) => {
                    ended?;
                    return Err(Error::cancelled("the listen ended before it was acknowledged"));
                }
            },
            () = super::timeouts::reached(super::timeouts::end_of(timeout)) => {
                return Err(Error::timeout(timeout.unwrap_or_default()));
            }
        };
        Ok(Subscription {
            accepted,
            call: Some(call),
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
    call: Option<BoxFuture<'static, Result<(), Error>>>,
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

struct ListenSink {
    recipient: Recipient,
    acknowledged: Mutex<Option<oneshot::Sender<SubscriptionFilter>>>,
    changes: mpsc::Sender<ServerNotification>,
}

impl CallerSink for ListenSink {
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            if let ServerNotification::SubscriptionsAcknowledgedNotification(notice) = notification
            {
                let waiting = self
                    .acknowledged
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                if let Some(waiting) = waiting {
                    let _ = waiting.send(notice.params.notifications);
                }
                return Ok(());
            }
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
