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

use super::{McpClient, way_back::Onward};
use crate::{
    CallContext, Caller, CallerSink, Error, McpRequest, McpResponse, panics, request::next_id,
};

/// How many changes may wait to be read.
const CHANGE_BUFFER: usize = 64;

impl<S> McpClient<S>
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    /// Listens for changes: `subscriptions/listen` (MCP 2026-07-28, SEP-2575). Ends as soon as the server
    /// has said which of them it will tell.
    ///
    /// The client's idle timeout holds for that; the subscription itself has none.
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error ("method not found" from one that has no changes to tell), a timeout,
    /// and whatever else the stack fails with.
    pub async fn listen(&self, filter: SubscriptionFilter) -> Result<Subscription, Error> {
        let (changes_in, changes) = mpsc::channel(CHANGE_BUFFER);
        let (sender, mut acknowledged) = oneshot::channel();
        let sink = ListenSink {
            onward: Onward::Handler(self.shared.handler.clone()),
            acknowledged: Mutex::new(Some(sender)),
            changes: changes_in,
        };
        let mut context = CallContext::new(next_id());
        context.meta = self.introduction();
        let answers = self.shared.handler.is_some();
        context.caller = self.known(Caller::new(sink)).answering_requests(answers);
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
        let patience = self.options().idle_timeout;
        let accepted = tokio::select! {
            biased;
            Ok(accepted) = &mut acknowledged => accepted,
            ended = &mut call => match acknowledged.try_recv() {
                // It was acknowledged and ended in one go: that is for the stream to tell.
                Ok(accepted) => {
                    call = Box::pin(std::future::ready(ended));
                    accepted
                }
                Err(_) => {
                    ended?;
                    return Err(Error::cancelled("the listen ended before it was acknowledged"));
                }
            },
            () = super::timeouts::reached(super::timeouts::end_of(patience)) => {
                return Err(Error::timeout(patience.unwrap_or_default()));
            }
        };
        Ok(Subscription {
            accepted,
            call: Some(call),
            changes,
        })
    }
}

/// The changes that a server tells of; see [`McpClient::listen`].
///
/// It is a [`Stream`] that ends when the server ends the subscription, and whose last item is an error if
/// the subscription failed (a lost connection, say): then changes may have been missed, and it is for the
/// caller to listen again and look. Dropping it ends the subscription at the server.
///
/// Read slowly, it holds up to 64 notifications, and the server's further ones wait.
#[must_use = "dropping a subscription ends it"]
pub struct Subscription {
    accepted: SubscriptionFilter,
    /// `None` once it has ended.
    call: Option<BoxFuture<'static, Result<(), Error>>>,
    changes: mpsc::Receiver<ServerNotification>,
}

impl Subscription {
    /// What the server will tell of, out of what was asked.
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
            // The end is told after all that came before it.
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
    onward: Onward,
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
            // Nobody reads a subscription that was let go.
            let _ = self.changes.send(notification).await;
            Ok(())
        })
    }

    /// The server asks while no call of the client is in flight.
    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(self.onward.request(request))
    }
}
