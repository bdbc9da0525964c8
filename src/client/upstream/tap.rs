//! What stands between rmcp's client loop and a transport, so that nothing the server sends is late.
//!
//! rmcp gives a request its id and progress token as it sends it, hands each notification to a task of its
//! own (so that two can change places; likewise each message to send), and keeps serving a lost connection
//! until its handlers have finished. Here, on the transport's own path, a request is known before it leaves, notifications keep
//! their order, and the end of the stream is seen at once.

use std::{borrow::Cow, future::Future, sync::Arc};

use rmcp::{
    RoleClient,
    model::{
        ClientResult, ErrorData, GetExtensions, GetMeta, InitializeRequestParams, JsonRpcMessage,
        ServerNotification, ServerRequest,
    },
    service::{NotificationContext, RequestContext, RxJsonRpcMessage, Service, TxJsonRpcMessage},
    transport::Transport,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    kinds::method,
    routes::{Route, Routes},
};
use crate::{
    lines::begun,
    outgoing::{trim_notification, trim_request},
};

/// A transport whose traffic is sorted by call.
pub(super) struct Tap<T> {
    inner: T,
    routes: Arc<Routes>,
    lost: CancellationToken,
    _lost_on_drop: DropGuard,
}

impl<T> Tap<T> {
    pub(super) fn new(inner: T, relay: &Relay) -> Self {
        Self {
            inner,
            routes: relay.routes.clone(),
            lost: relay.lost.clone(),
            _lost_on_drop: relay.lost.clone().drop_guard(),
        }
    }

    fn lose(&self) {
        self.routes.close();
        self.lost.cancel();
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Tap<T> {
    type Error = T::Error;

    fn name() -> Cow<'static, str> {
        T::name()
    }

    fn send(
        &mut self,
        mut item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        if let JsonRpcMessage::Notification(message) = &mut item {
            trim_notification(&mut message.notification);
        }
        if let JsonRpcMessage::Request(request) = &mut item {
            trim_request(&mut request.request);
            match request.request.extensions_mut().remove::<Route>() {
                Some(route) => {
                    let token = request.request.get_meta().get_progress_token();
                    self.routes.enter(request.id.clone(), token, route);
                }
                None => self.routes.enter_handshake(request.id.clone()),
            }
        }
        begun(self.inner.send(item))
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            match self.inner.receive().await {
                Some(JsonRpcMessage::Notification(mut message)) => {
                    match self.routes.deliver(message.notification) {
                        Some(kept) => {
                            message.notification = kept;
                            return Some(JsonRpcMessage::Notification(message));
                        }
                        None => continue,
                    }
                }
                Some(message) => {
                    let answered = match &message {
                        JsonRpcMessage::Response(response) => Some(&response.id),
                        JsonRpcMessage::Error(error) => error.id.as_ref(),
                        _ => None,
                    };
                    if let Some(id) = answered {
                        self.routes.answered(id);
                    }
                    return Some(message);
                }
                None => {
                    self.lose();
                    return None;
                }
            }
        }
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.lose();
        self.inner.close()
    }
}

/// The client side of a connection: takes the server's requests to the calls they belong to.
#[derive(Clone)]
pub(super) struct Relay {
    pub(super) routes: Arc<Routes>,
    pub(super) lost: CancellationToken,
    pub(super) info: Arc<InitializeRequestParams>,
}

impl Service<RoleClient> for Relay {
    async fn handle_request(
        &self,
        mut request: ServerRequest,
        context: RequestContext<RoleClient>,
    ) -> Result<ClientResult, ErrorData> {
        if let ServerRequest::PingRequest(_) = request {
            return Ok(ClientResult::empty(()));
        }
        let route = self
            .routes
            .of_request(&request, &context)
            .inspect_err(|error| {
                tracing::warn!(method = method(&request), %error, "a server's request is refused");
            })?;
        *request.extensions_mut() = rmcp::model::Extensions::new();
        *request.get_meta_mut() = context.meta;
        tokio::select! {
            answer = route.ask(request) => answer,
            () = context.ct.cancelled() => {
                Err(ErrorData::invalid_request("the server cancelled its request", None))
            }
        }
    }

    async fn handle_notification(
        &self,
        notification: ServerNotification,
        _context: NotificationContext<RoleClient>,
    ) -> Result<(), ErrorData> {
        tracing::trace!(?notification, "left to rmcp");
        Ok(())
    }

    fn get_info(&self) -> InitializeRequestParams {
        (*self.info).clone()
    }
}
