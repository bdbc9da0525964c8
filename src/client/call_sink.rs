//! Destinations for the notifications and requests that a server sends for a call.

use std::sync::Arc;

use futures::future::BoxFuture;
use rmcp::model::{
    ClientResult, ErrorCode, ErrorData, ProgressNotificationParam, ServerNotification,
    ServerRequest,
};
use tokio::sync::mpsc;

use super::{handler::ErasedHandler, timeouts::Activity};
use crate::{Caller, CallerSink, Error, context::next_id};

/// The destination of the server's messages for one call, in all of its rounds.
pub(super) struct CallSink {
    pub(super) activity: Activity,
    /// The call's progress stream, if it has one.
    progress: Option<mpsc::Sender<ProgressNotificationParam>>,
    recipient: Recipient,
}

/// The destination of messages that the call itself does not use.
pub(super) enum Recipient {
    /// The client's handler, if it has one.
    Handler(Option<Arc<dyn ErasedHandler>>),
    /// The caller of a hand-made request.
    Caller(Caller),
}

impl CallSink {
    pub(super) fn new(
        progress: Option<mpsc::Sender<ProgressNotificationParam>>,
        recipient: Recipient,
    ) -> Arc<Self> {
        Arc::new(Self {
            activity: Activity::new(),
            progress,
            recipient,
        })
    }

    async fn notify(&self, notification: ServerNotification) -> Result<(), Error> {
        let _guard = self.activity.handling();
        let notification = match (notification, &self.progress) {
            (ServerNotification::ProgressNotification(progress), Some(stream)) => {
                // The stream may have been dropped.
                let _ = stream.send(progress.params).await;
                return Ok(());
            }
            (other, _) => other,
        };
        match &self.recipient {
            Recipient::Handler(Some(handler)) => handler.clone().notify(notification).await,
            Recipient::Handler(None) => {
                tracing::debug!(
                    ?notification,
                    "a client without a handler hears no notifications"
                );
            }
            Recipient::Caller(caller) => return caller.notify(notification).await,
        }
        Ok(())
    }

    async fn request(&self, request: ServerRequest) -> Result<ClientResult, Error> {
        let _guard = self.activity.handling();
        self.recipient.request(request).await
    }
}

impl Recipient {
    pub(super) async fn request(&self, request: ServerRequest) -> Result<ClientResult, Error> {
        match self {
            Self::Handler(Some(handler)) => Ok(handler.clone().request(request, next_id()).await?),
            Self::Handler(None) => match request {
                ServerRequest::PingRequest(_) => Ok(ClientResult::empty(())),
                _ => Err(unanswered().into()),
            },
            Self::Caller(caller) => caller.request(request).await,
        }
    }
}

fn unanswered() -> ErrorData {
    ErrorData::new(
        ErrorCode::METHOD_NOT_FOUND,
        "this client has no handler for requests of a server",
        None,
    )
}

impl CallerSink for Arc<CallSink> {
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(CallSink::notify(self, notification))
    }

    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(CallSink::request(self, request))
    }
}
