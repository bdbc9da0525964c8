//! The caller's end of a call.

use futures::{future::BoxFuture, stream::FuturesUnordered};
use rmcp::model::{
    ErrorData, GetExtensions, NotificationMetaObject, ProgressToken, RequestId, ServerNotification,
    ServerRequest,
};

use super::route::{CallMessage, Reply};
use crate::{Caller, caller::Era, protocol::server_requests::server_request_method};

/// The caller's end of a call: where the server's notifications and requests for it go, and the ids
/// that the caller knows.
pub(super) struct CallerEnd {
    pub(super) caller: Caller,
    pub(super) id: RequestId,
    pub(super) token: Option<ProgressToken>,
    pub(super) era: Era,
}

/// A request of the server on its way to the caller, and its answer on the way back.
pub(super) type Forwarding<'a> = BoxFuture<'a, ()>;

impl CallerEnd {
    pub(super) fn new(caller: Caller, id: RequestId, era: Era) -> Self {
        Self {
            caller,
            id,
            token: None,
            era,
        }
    }

    /// Begins to deliver a message to the caller.
    pub(super) fn deliver<'a>(
        &'a self,
        message: CallMessage,
        delivering: &mut Option<BoxFuture<'a, ()>>,
        requests: &mut FuturesUnordered<BoxFuture<'a, ()>>,
    ) {
        match message {
            CallMessage::Notification(mut notification) => {
                if self.set_caller_ids(&mut notification) {
                    *delivering = Some(Box::pin(async move {
                        if let Err(error) = self.caller.notify(*notification).await {
                            tracing::debug!(%error, "a notification did not reach its caller");
                        }
                    }));
                }
            }
            CallMessage::Request(request, reply) => requests.extend(self.forward(request, reply)),
            CallMessage::ReplyLost(why) => {
                tracing::warn!(reason = why, "an answer to a server was lost");
            }
        }
    }

    /// Forwards a request to the caller, if the caller can be asked.
    pub(super) fn forward(
        &self,
        request: Box<ServerRequest>,
        mut reply: Reply,
    ) -> Option<Forwarding<'_>> {
        if self.era == Era::Modern && !self.caller.answers_requests() {
            let _ = reply.send(Err(self.unanswerable(&request)));
            return None;
        }
        Some(Box::pin(async move {
            tokio::select! {
                answer = self.caller.request(*request) => {
                    let _ = reply.send(answer.map_err(ErrorData::from));
                }
                // The server no longer waits for the answer.
                () = reply.closed() => {}
            }
        }))
    }

    /// Returns the error for a caller that cannot be asked over a wire: revision 2026-07-28 has no
    /// requests from the server.
    fn unanswerable(&self, request: &ServerRequest) -> ErrorData {
        let message = format!(
            "`{}` cannot be passed on: the caller speaks a revision without requests from the \
             server",
            server_request_method(request)
        );
        ErrorData::invalid_request(message, None)
    }

    /// Puts the caller's own ids into a notification. Returns `false` if the caller did not ask for
    /// it.
    fn set_caller_ids(&self, notification: &mut ServerNotification) -> bool {
        if let ServerNotification::ProgressNotification(progress) = notification {
            return match &self.token {
                Some(token) => {
                    progress.params.progress_token = token.clone();
                    true
                }
                None => false,
            };
        }
        let meta = notification
            .extensions_mut()
            .get_mut::<NotificationMetaObject>();
        if let Some(meta) = meta.filter(|meta| meta.subscription_id().is_some()) {
            meta.set_subscription_id(self.id.clone());
        }
        true
    }
}
