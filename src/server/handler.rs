use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, Weak},
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use rmcp::{
    RoleServer, ServerHandler,
    model::{
        ClientRequest, DiscoverResult, EmptyResult, ErrorData, ServerResult,
        SubscriptionsListenRequestMethod,
    },
    service::{NotificationContext, RequestContext},
};
use tower::Service;

use crate::{
    CallContext, Error, Lifecycle, McpRequest, McpResponse, Refusal, Upstream,
    caller::{Era, Session},
    code, protocol,
    util::lock,
};

/// The bottom of a stack that serves an rmcp [`ServerHandler`] in this process.
///
/// Requests go to the handler directly, with the caller's own rmcp peer in their context: no
/// channel, no task and no copy.
///
/// If a layer has wrapped the caller, or rmcp serves no caller, the handler is reached over an
/// in-process connection instead, so that its messages pass the layers. Each session has an
/// in-process connection of its own. The handler then still sees the caller's identity and
/// capabilities if the caller sends them with each request (2026-07-28). In place of a caller that
/// began with a handshake, it sees this crate.
/// Dropping a call's future cancels the token in the handler's
/// [`RequestContext`](rmcp::service::RequestContext) and drops the handler's future.
///
/// One handler serves all callers of the stack.
///
/// A handler may keep the peer of a request or a handshake, and later notify it of a change or send
/// it a request. Such messages bypass every layer: the peer is the caller's own, and rmcp takes its
/// messages from the handler directly to the transport. (rmcp has no public constructor for a
/// peer.) Messages that answer a request or a `subscriptions/listen` do pass the layers.
///
/// Some layers have to see all messages of the handler: a cache that evicts changed entries, or a
/// filter of what callers may see. With such layers, serve the handler by
/// [`Upstream::in_process`](crate::Upstream::in_process): the peer that it keeps is then the
/// crate's.
///
/// ```
/// use rmcp::{ServerHandler, model::ServerConfig};
/// use rmcp_layers::{Handler, McpRequest};
/// use tower::ServiceExt;
///
/// struct Empty;
/// impl ServerHandler for Empty {}
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let error = Handler::new(Empty).oneshot(McpRequest::call_tool("add").build()).await.unwrap_err();
/// assert!(error.is_protocol()); // this handler has no tools
/// # }
/// ```
pub struct Handler<H> {
    inner: Arc<Inner<H>>,
}

struct Inner<H> {
    handler: Arc<H>,
    /// The in-process connections of callers without a session, by the generation of the protocol.
    legacy: OnceLock<Upstream>,
    modern: OnceLock<Upstream>,
    sessions: Mutex<Sessions>,
}

/// The in-process connections of sessions, as long as the sessions last. A handler's messages that
/// belong to no request go to its connection's only caller.
#[derive(Default)]
struct Sessions {
    connections: HashMap<(Era, u64), (Weak<Session>, Upstream)>,
    /// The size at which the connections of ended sessions are dropped.
    sweep_at: usize,
}

impl Sessions {
    fn get(
        &mut self,
        era: Era,
        session: &Arc<Session>,
        connect: impl FnOnce() -> Upstream,
    ) -> Upstream {
        let key = (era, session.id());
        if let Some((_, upstream)) = self.connections.get(&key) {
            return upstream.clone();
        }
        if self.connections.len() >= self.sweep_at {
            self.connections
                .retain(|_, (session, _)| session.strong_count() > 0);
            self.sweep_at = (2 * self.connections.len()).max(SWEEP_AT);
        }
        let upstream = connect();
        self.connections
            .insert(key, (Arc::downgrade(session), upstream.clone()));
        upstream
    }
}

/// The minimum number of connections at which those of ended sessions are looked for.
const SWEEP_AT: usize = 16;

impl<H: ServerHandler> Handler<H> {
    /// Creates a stack bottom that serves `handler`.
    pub fn new(handler: H) -> Self {
        Self {
            inner: Arc::new(Inner {
                handler: Arc::new(handler),
                legacy: OnceLock::new(),
                modern: OnceLock::new(),
                sessions: Mutex::default(),
            }),
        }
    }

    /// Returns the handler.
    pub fn get_ref(&self) -> &H {
        &self.inner.handler
    }
}

impl<H> Clone for Handler<H> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<H> std::fmt::Debug for Handler<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handler").finish_non_exhaustive()
    }
}

impl<H: ServerHandler> Service<McpRequest> for Handler<H> {
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, Result<McpResponse, Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        if let Some(refused) = protocol::refuse(&request) {
            return Box::pin(std::future::ready(Err(refused)));
        }
        let caller = &request.context.caller;
        if caller.is_direct() {
            // The handler gets the caller's peer and may use it at any time.
            let mut this = self.clone();
            return Box::pin(async move {
                request.context.caller.hand_over().await;
                match request.context.caller.is_direct() {
                    true => Err(unserved()),
                    false => this.call(request).await,
                }
            });
        }
        if caller.peer().is_none() {
            return self.inner.call_indirectly(request);
        }
        let handler = self.inner.handler.clone();
        if request.as_notification().is_some() {
            return Box::pin(notify(handler, request));
        }
        match &*request.message {
            ClientRequest::DiscoverRequest(_) => Box::pin(describe(handler, request)),
            _ => Box::pin(answer(handler, request)),
        }
    }
}

impl<H: ServerHandler> Inner<H> {
    /// Calls the handler over an in-process connection, because no rmcp peer leads to the caller.
    fn call_indirectly(
        &self,
        request: McpRequest,
    ) -> BoxFuture<'static, Result<McpResponse, Error>> {
        let caller = &request.context.caller;
        let legacy = request.context.era() == Era::Legacy;
        if legacy && request.is_listen() && !caller.is_layered() {
            // The handler notifies such a caller of changes through the caller's own peer.
            let error = ErrorData::method_not_found::<SubscriptionsListenRequestMethod>();
            return Box::pin(std::future::ready(Err(error.into())));
        }
        let (era, connection, lifecycle) = if legacy {
            (Era::Legacy, &self.legacy, Lifecycle::Initialize)
        } else {
            (Era::Modern, &self.modern, Lifecycle::Discover)
        };
        let connect = || {
            Upstream::builder()
                .name("handler")
                .lifecycle(lifecycle)
                .request_timeout(None)
                .in_process(self.handler.clone())
        };
        let mut upstream = match caller.session() {
            Some(session) => {
                let mut sessions = lock(&self.sessions);
                sessions.get(era, session, connect)
            }
            None => connection.get_or_init(connect).clone(),
        };
        upstream.call(request)
    }
}

/// Converts a request's context into the one that rmcp gives to handlers.
fn served(context: CallContext) -> Result<RequestContext<RoleServer>, Error> {
    let peer = context.caller.into_peer().ok_or_else(unserved)?;
    let mut served = RequestContext::new(context.id, peer);
    served.meta = context.meta;
    served.extensions = context.extensions;
    Ok(served)
}

/// The error for a missing rmcp connection where one is needed.
fn unserved() -> Error {
    let message = "this reaches a handler only from a served connection";
    Refusal::new("server", message)
        .with_code(code::FORBIDDEN)
        .into()
}

async fn answer<H: ServerHandler>(
    handler: Arc<H>,
    request: McpRequest,
) -> Result<McpResponse, Error> {
    let (message, context) = request.into_parts();
    let context = served(context)?;
    // Also when this future is dropped: the handler may have spawned work that waits on the token.
    let _cancel = context.ct.clone().drop_guard();
    let result = rmcp::Service::handle_request(&*handler, message.into_inner(), context).await?;
    Ok(McpResponse::new(result))
}

/// Returns the handler's description. The handshake of a caller that began with one is passed to
/// the handler.
async fn describe<H: ServerHandler>(
    handler: Arc<H>,
    request: McpRequest,
) -> Result<McpResponse, Error> {
    let (_, context) = request.into_parts();
    let handshake = context.caller.handshake();
    let legacy = context
        .protocol_version()
        .is_some_and(|v| Era::of(&v) == Era::Legacy);
    let context = served(context)?;
    let result = match handshake {
        Some(handshake) if legacy => {
            let config = handler.initialize((*handshake).clone(), context).await?;
            DiscoverResult::from_server_info(
                handler.supported_protocol_versions().into_owned(),
                config,
            )
        }
        _ => handler.discover(context).await?,
    };
    Ok(McpResponse::new(ServerResult::DiscoverResult(result)))
}

async fn notify<H: ServerHandler>(
    handler: Arc<H>,
    request: McpRequest,
) -> Result<McpResponse, Error> {
    let mut parts = request.into_all_parts();
    let notification = parts.take_notification();
    let served = parts
        .context
        .extensions
        .remove::<NotificationContext<RoleServer>>();
    let (Some(notification), Some(served)) = (notification, served) else {
        return Err(unserved());
    };
    let Some(notification) = protocol::from_client(notification) else {
        return Ok(McpResponse::new(EmptyResult {}));
    };
    rmcp::Service::handle_notification(&*handler, notification, served).await?;
    Ok(McpResponse::new(EmptyResult {}))
}
