//! The server ends of a stack: [`McpServer`], the top, and [`Handler`], a bottom.

mod handler;
mod service;
mod subscriptions;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

pub use handler::Handler;
use rmcp::{
    RoleServer,
    model::{
        ClientRequest, DiscoverRequest, DiscoverRequestParams, DiscoverResult, ErrorData,
        Implementation, ProtocolVersion, ServerConfig, ServerResult, Tool,
    },
    service::RequestContext,
};
use tokio::sync::Semaphore;
use tokio_util::sync::DropGuard;
use tower::{Service, ServiceExt};

use self::subscriptions::Subscriptions;
use crate::{
    CallContext, Caller, Error, McpRequest, McpResponse, caller::Session, panics, protocol, results,
};

/// The top of a stack on the server side: serves it over any rmcp server transport.
///
/// It is an rmcp [`ServerHandler`](rmcp::ServerHandler), so it goes wherever one goes: `serve` over
/// stdio or an in-process channel, or `StreamableHttpService` with sessions and without. Cloning it makes
/// another connection's server over the same stack, which is what `StreamableHttpService` wants of its
/// factory.
///
/// What it does for the stack:
///
/// - **Description.** It answers `initialize` and `server/discover` from what the stack answers to
///   `server/discover`, whichever of the two the caller uses.
/// - **The way back.** Each request carries a [`Caller`] that reaches the caller it came from.
/// - **Cancellation.** When the caller cancels (`notifications/cancelled`) or goes away, the stack's
///   future is dropped.
/// - **Notifications.** The client's notifications go down the stack as
///   [`McpRequest::notification`]s: at most 64 of one session at a time, and none outlives its session.
/// - **Older callers** (revisions before 2026-07-28, which have `initialize`). Their
///   `resources/subscribe` becomes part of one `subscriptions/listen` that the top keeps open for the
///   session, so layers see one mechanism; change notifications reach them as that listen yields them.
///   Their `logging/setLevel` goes down the stack and is remembered, so that a newer upstream hears of it
///   with each request.
///   That listen stays open as long as the session: put tower's `timeout` around the parts of a stack that
///   listens do not pass (or filter them out of it), not around the whole. Each listen that it ends is
///   opened again, more and more seldom, and the caller told that everything may have changed meanwhile.
/// - **Misfits.** A request of a method of the protocol whose params do not fit the method is answered with
///   -32602 and the path of the misfit. It goes down the stack without its params, as a custom request, so
///   that an audit layer has it on record; no layer and no server acts on it.
/// - **Panics.** A panic of the handler or of a layer is answered with -32603. Its text is in the log only.
/// - **Errors.** A typed [`Error`] becomes a wire error here and nowhere else. A message that is not JSON-RPC
///   does not come so far: over stdio, [`Lines`](crate::Lines) answers it, and rmcp's own transport does not.
///
/// Two settings of rmcp's `StreamableHttpServerConfig` are worth changing. Servers must validate `Origin`, which
/// `with_allowed_origins` and `enforce_origin_validation` switch on. `with_json_response(true)` answers callers on
/// 2026-07-28 with JSON where nothing came before the result: some clients refuse a server-sent event of more than
/// 1 MiB.
///
/// ```
/// use rmcp::{ServerHandler, ServiceExt, model::ServerConfig};
/// use rmcp_layers::{ExceptListens, Handler, McpServer};
/// use tower::ServiceBuilder;
///
/// #[derive(Clone)]
/// struct Empty;
/// impl ServerHandler for Empty {}
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let calls = ServiceBuilder::new().concurrency_limit(64);
/// let stack = ServiceBuilder::new()
///     .layer(ExceptListens::new(calls))
///     .service(Handler::new(Empty));
/// let (client_io, server_io) = tokio::io::duplex(4096);
/// let server = tokio::spawn(McpServer::new(stack).serve(server_io));
///
/// let client = ().serve(client_io).await?;
/// assert!(client.peer_info().is_some());
/// # client.cancel().await?;
/// # server.await??;
/// # Ok(())
/// # }
/// ```
pub struct McpServer<S> {
    stack: Mutex<S>,
    shared: Arc<Shared>,
    session: Arc<Session>,
    /// Ends what runs for the session. Not the session's own end: a caller's request may hold that one.
    _closes: DropGuard,
    told: Mutex<Told>,
    /// The stack once answered this session's `subscriptions/listen` with "method not found".
    listen_unsupported: AtomicBool,
    subscriptions: Subscriptions,
    /// The room for notifications of this session on their way down.
    notices: Arc<Semaphore>,
}

/// What this session was told that the server is. It decides nothing for another session, which a layer
/// may have told something else. Where nothing was told, as over HTTP without sessions, everything goes
/// to the stack, which knows.
#[derive(Default)]
struct Told {
    config: Option<ServerConfig>,
    /// The revisions the stack speaks, where they are not all that rmcp knows.
    versions: Option<Vec<ProtocolVersion>>,
}

/// What all connections of one server have in common. Nothing in it lets one caller's answers decide
/// what another caller may do.
#[derive(Default)]
struct Shared {
    /// The server's name, as somebody was told it last: for callers that never asked.
    server_info: Mutex<Option<Implementation>>,
    header_tools: Mutex<HeaderTools>,
    /// How many requests have gone down the stack, listens aside.
    dispatched: AtomicU64,
}

/// Tools whose arguments are mirrored in HTTP headers (SEP-2243), which rmcp checks before it serves a
/// request. It asks a server that is made for the request, so they are shared, and that check must not
/// apply one caller's schema to another's call: `None` stands for a tool that has been listed with more
/// than one schema. Its calls are left to the stack.
type HeaderTools = HashMap<String, Option<Tool>>;

/// How many notifications of one session may be on their way down the stack.
const MAX_NOTICES: usize = 64;

/// How many tools with mirrored arguments are remembered. Past it, the header check is left to the stack.
const MAX_HEADER_TOOLS: usize = 10_000;

impl<S> McpServer<S>
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    /// Serves `stack`.
    pub fn new(stack: S) -> Self {
        Self::over(stack, Arc::default())
    }

    /// Sends one request of this connection through the stack, until it ends or the caller cancels.
    ///
    /// The message and its context are put in their box before there is a future: one that held them would
    /// be a kilobyte larger, and rmcp moves it several times until it runs.
    fn call<M: Into<ClientRequest>>(
        &self,
        message: M,
        context: RequestContext<RoleServer>,
    ) -> impl Future<Output = Result<ServerResult, ErrorData>> + Send + use<S, M> {
        self.shared.dispatched.fetch_add(1, Ordering::Relaxed);
        self.dispatch(McpRequest::from_parts(
            message.into(),
            self.context(context),
        ))
    }

    /// Sends a request through a clone of the stack. Dropped when `cancellation` fires.
    fn dispatch(
        &self,
        mut request: McpRequest,
    ) -> impl Future<Output = Result<ServerResult, ErrorData>> + Send + use<S> {
        let unreadable = protocol::set_aside(&mut request);
        let cancellation = request.context.cancellation.clone();
        let answer = panics::caught_call(self.stack().oneshot(request));
        async move {
            tokio::select! {
                biased;
                result = answer => match (result, unreadable) {
                    (Ok(response), None) => Ok(response.into_result()),
                    (Err(error), None) => Err(ErrorData::from(error)),
                    (result, Some(unreadable)) => Err(unreadable.answer(result).into()),
                },
                () = cancellation.cancelled() => {
                    Err(Error::cancelled("the caller cancelled the request").into())
                }
            }
        }
    }

    fn stack(&self) -> S {
        lock(&self.stack).clone()
    }

    /// The context of a request that rmcp serves.
    fn context(&self, context: RequestContext<RoleServer>) -> CallContext {
        let RequestContext {
            ct,
            id,
            meta,
            extensions,
            peer,
            ..
        } = context;
        CallContext {
            id,
            meta,
            extensions,
            cancellation: ct,
            caller: Caller::from_peer(peer).in_session(self.session.clone()),
            deadline: None,
            notification: None,
            unreadable: None,
        }
    }

    /// Asks the stack what it is, and remembers the answer.
    async fn discover_stack(&self, context: CallContext) -> Result<DiscoverResult, ErrorData> {
        let message = DiscoverRequest::new(DiscoverRequestParams {});
        let result = self
            .dispatch(McpRequest::from_parts(message.into(), context))
            .await?;
        let discovered: DiscoverResult = results::expect(result)?;
        let mut config = ServerConfig::new(discovered.capabilities.clone());
        if let Some(info) = discovered.server_info() {
            config = config.with_server_info(info);
        }
        config.instructions = discovered.instructions.clone();
        let versions = &discovered.supported_versions;
        let versions =
            (versions.as_slice() != ProtocolVersion::KNOWN_VERSIONS).then(|| versions.clone());
        *lock(&self.shared.server_info) = Some(config.server_info.clone());
        *lock(&self.told) = Told {
            config: Some(config),
            versions,
        };
        Ok(discovered)
    }
}

impl<S> McpServer<S> {
    /// A connection's server.
    fn over(stack: S, shared: Arc<Shared>) -> Self {
        let session = Arc::new(Session::new());
        Self {
            stack: Mutex::new(stack),
            shared,
            _closes: session.closed().clone().drop_guard(),
            session,
            told: Mutex::default(),
            listen_unsupported: AtomicBool::new(false),
            subscriptions: Subscriptions::default(),
            notices: Arc::new(Semaphore::new(MAX_NOTICES)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Clone> Clone for McpServer<S> {
    /// Another connection's server over the same stack.
    fn clone(&self) -> Self {
        Self::over(lock(&self.stack).clone(), self.shared.clone())
    }
}

impl<S> std::fmt::Debug for McpServer<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpServer")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
