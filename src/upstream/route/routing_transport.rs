//! A wrapper of the transport below rmcp's client loop, so that messages of the server are not
//! late.
//!
//! - rmcp gives a request its id and progress token only as it sends it. Here a request is known
//!   before it leaves.
//! - rmcp hands each notification, and each message to send, to a task of its own, so that two can
//!   change places. Here notifications keep their order.
//! - rmcp keeps serving a lost connection until its handlers have finished. Here the end of the
//!   stream is seen at once.

use std::{
    borrow::Cow,
    future::Future,
    sync::{Arc, Mutex},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rmcp::{
    RoleClient,
    model::{
        ClientResult, CustomRequest, ErrorData, GetExtensions, GetMeta, InitializeRequestParams,
        JsonRpcMessage, RequestId, ServerNotification, ServerRequest,
    },
    service::{NotificationContext, RequestContext, RxJsonRpcMessage, Service, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{RouteMark, Routes, server_requests::Admission};
use crate::{
    lines::begun,
    protocol::{
        outgoing::{trim_notification, trim_request},
        server_requests::server_request_method,
    },
    upstream::errors,
    util::lock,
    wire::{
        answers::Expected,
        as_sent::{self, AsSent},
    },
};

/// Limit of replies of this side that are on their way to a server. A server that reads none of
/// them gets no more.
const MAX_REPLIES: usize = 1_024;

/// A transport that sorts messages by call.
pub(in crate::upstream) struct RoutingTransport<T> {
    inner: T,
    routes: Arc<Routes>,
    /// The refusals and the answers to pings that are on their way. rmcp's own answers have no
    /// limit.
    replies: FuturesUnordered<BoxFuture<'static, ()>>,
    /// The messages that came on the responses of requests that rmcp does not know.
    for_loop: Option<mpsc::Receiver<RxJsonRpcMessage<RoleClient>>>,
    lost: CancellationToken,
    _lost_on_drop: DropGuard,
}

impl<T> RoutingTransport<T> {
    pub(in crate::upstream) fn new(inner: T, handler: &ConnectionHandler) -> Self {
        Self {
            inner,
            routes: handler.routes.clone(),
            replies: FuturesUnordered::new(),
            for_loop: handler.routes.for_loop.take_receiver(),
            lost: handler.lost.clone(),
            _lost_on_drop: handler.lost.clone().drop_guard(),
        }
    }

    fn lose(&self) {
        self.routes.close();
        self.lost.cancel();
    }
}

impl<T: Transport<RoleClient>> RoutingTransport<T> {
    /// Finds the caller that a request is for. Returns `false` if there is none; the request has
    /// then been answered here.
    fn admit(&mut self, id: &RequestId, request: &mut ServerRequest) -> bool {
        if let ServerRequest::PingRequest(_) = request {
            let pong = ClientResult::empty(());
            self.reply(JsonRpcMessage::response(pong, id.clone()));
            return false;
        }
        as_sent::restore(request);
        match self.routes.admit(request) {
            Ok(admission) => {
                self.routes.record_asked(id, &admission);
                let request_in_flight = self.routes.has_requests();
                let admitted = Admitted::new(admission, request, request_in_flight);
                request.extensions_mut().insert(admitted);
                true
            }
            Err(error) => {
                self.routes
                    .counters()
                    .refused(server_request_method(request), &error);
                self.reply(JsonRpcMessage::error(error, Some(id.clone())));
                false
            }
        }
    }

    fn reply(&mut self, reply: TxJsonRpcMessage<RoleClient>) {
        if self.replies.len() >= MAX_REPLIES {
            self.routes.counters().unanswered();
            return;
        }
        let sent = begun(self.inner.send(reply));
        self.replies.push(Box::pin(sent.map(drop)));
    }
}

/// Returns the next message of a channel that is there.
async fn next_of<M>(channel: &mut Option<mpsc::Receiver<M>>) -> Option<M> {
    channel.as_mut()?.recv().await
}

/// A request that was admitted, on its way through rmcp.
#[derive(Clone)]
struct Admitted(Arc<Mutex<Option<AdmittedRequest>>>);

struct AdmittedRequest {
    admission: Admission,
    /// The request, if rmcp has a stand-in for it.
    request: Option<ServerRequest>,
}

impl Admitted {
    /// Creates the mark of a request. If a request of this side is in flight, a stand-in takes the
    /// place of the server's: rmcp refuses some requests while it knows of none (MCP 2026-07-28,
    /// SEP-2260), and it does not know of those that are sent directly.
    fn new(admission: Admission, request: &mut ServerRequest, request_in_flight: bool) -> Self {
        let request = request_in_flight.then(|| {
            let method = server_request_method(request).to_owned();
            std::mem::replace(request, CustomRequest::new(method, None).into())
        });
        let admitted = AdmittedRequest { admission, request };
        Self(Arc::new(Mutex::new(Some(admitted))))
    }

    fn take(&self) -> Option<AdmittedRequest> {
        let mut admitted = lock(&self.0);
        admitted.take()
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for RoutingTransport<T> {
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
            let expected = Expected::of(&request.request);
            let mark = request.request.extensions_mut().remove::<RouteMark>();
            match mark.and_then(|mark| mark.take()) {
                Some(route) => {
                    let token = request.request.get_meta().get_progress_token();
                    let route = route.expects(expected);
                    self.routes.enter(request.id.clone(), token, route);
                }
                None => self.routes.enter_handshake(request.id.clone(), expected),
            }
        }
        let asked = match &item {
            JsonRpcMessage::Response(reply) => self.routes.take_asked(&reply.id),
            JsonRpcMessage::Error(reply) => {
                let id = reply.id.as_ref();
                id.and_then(|id| self.routes.take_asked(id))
            }
            _ => None,
        };
        let routes = self.routes.clone();
        let sending = begun(self.inner.send(item));
        async move {
            let sent = sending.await;
            if let (Err(error), Some(call)) = (&sent, asked) {
                routes.lose_reply(&call, errors::summary(error));
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let received = tokio::select! {
                biased;
                Some(()) = self.replies.next(), if !self.replies.is_empty() => continue,
                Some(message) = next_of(&mut self.for_loop), if self.for_loop.is_some() => {
                    Some(message)
                }
                received = self.inner.receive() => received,
            };
            match received {
                Some(JsonRpcMessage::Request(mut message)) => {
                    if self.admit(&message.id, &mut message.request) {
                        return Some(JsonRpcMessage::Request(message));
                    }
                }
                Some(JsonRpcMessage::Notification(mut message)) => {
                    match self.routes.deliver(message.notification) {
                        Some(kept) => {
                            message.notification = kept;
                            return Some(JsonRpcMessage::Notification(message));
                        }
                        None => continue,
                    }
                }
                Some(message) => match self.routes.answered(message) {
                    Some(message) => return Some(message),
                    None => continue,
                },
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
pub(in crate::upstream) struct ConnectionHandler {
    pub(in crate::upstream) routes: Arc<Routes>,
    pub(in crate::upstream) lost: CancellationToken,
    pub(in crate::upstream) info: Arc<InitializeRequestParams>,
}

impl Service<RoleClient> for ConnectionHandler {
    async fn handle_request(
        &self,
        mut request: ServerRequest,
        mut context: RequestContext<RoleClient>,
    ) -> Result<ClientResult, ErrorData> {
        let admitted = context.extensions.remove::<Admitted>();
        let Some(admitted) = admitted.and_then(|admitted| admitted.take()) else {
            return Err(ErrorData::internal_error("the request has no caller", None));
        };
        let admission = admitted.admission;
        if let Some(own) = admitted.request {
            request = own;
            context.meta = std::mem::take(request.get_meta_mut());
            context.extensions = std::mem::take(request.extensions_mut());
        }
        let kept = AsSent::of(&context.extensions);
        *request.extensions_mut() = rmcp::model::Extensions::new();
        if let Some(kept) = kept {
            request.extensions_mut().insert(kept);
        }
        *request.get_meta_mut() = context.meta;
        let asked = server_request_method(&request).to_owned();
        tokio::select! {
            answer = admission.forward(&self.routes, request) => answer.inspect_err(|error| {
                tracing::debug!(method = asked, %error, "a server's request has failed");
            }),
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
