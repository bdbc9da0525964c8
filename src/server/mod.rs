//! The server ends of a stack: [`McpServer`], the top, and [`Handler`], a bottom.

mod connection;
mod handle;
mod handler;
#[cfg(feature = "http-server")]
pub(crate) mod http_service;
#[cfg(feature = "http-server")]
pub(crate) mod lenient_http;
mod service;
mod subscriptions;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures::future::Either;
pub use handle::{ServerHandle, ServerStats};
pub use handler::Handler;
use rmcp::{
    RoleServer,
    model::{
        ClientRequest, CustomRequest, DiscoverRequest, DiscoverRequestParams, DiscoverResult,
        ErrorData, Implementation, ProtocolVersion, ServerConfig, Tool,
    },
    service::RequestContext,
};
use tokio::sync::Semaphore;
use tokio_util::{
    bytes::Bytes,
    sync::{CancellationToken, DropGuard},
};

use self::{connection::Connection, subscriptions::Subscriptions};
use crate::{
    CallContext, McpRequest, Stack,
    direct::{HandedOver, TimeLimits},
    in_flight::InFlight,
    protocol::{
        methods::Method,
        results::{self, MethodResult},
    },
    util::lock,
    wire::{self, description, received::Received},
};

/// The top of a stack on the server side: it serves the stack over any rmcp server transport.
///
/// It is an rmcp [`ServerHandler`](rmcp::ServerHandler), so it can be used wherever rmcp accepts
/// one: with `serve` over stdio or an in-process channel, or in a `StreamableHttpService` with
/// sessions and without. A clone is another connection's server over the same stack, as the factory
/// of a `StreamableHttpService` requires. With the feature `http-server`,
#[cfg_attr(feature = "http-server", doc = " [`http_service`](Self::http_service)")]
#[cfg_attr(not(feature = "http-server"), doc = " `http_service`")]
/// makes such a service, with a shorter way for short calls.
///
/// It adds to the stack:
///
/// - **Description.** `initialize` and `server/discover` are both answered from the stack's answer
///   to `server/discover`.
/// - **Caller.** Each request carries a [`Caller`](crate::Caller) that reaches its own caller.
/// - **Cancellation.** When the caller cancels (`notifications/cancelled`) or goes away, the
///   stack's future is dropped.
/// - **Notifications.** The client's notifications go down the stack as
///   [`McpRequest::notification`]s. Limit: 64 of one session at a time. None outlives its session.
/// - **Older callers** (revisions before 2026-07-28, which have `initialize`). Their
///   `resources/subscribe` becomes part of one `subscriptions/listen` that the top keeps open for
///   the session, so layers see one mechanism. Change notifications reach these callers from that
///   listen. Their `logging/setLevel` goes down the stack and is remembered, so that a newer
///   upstream receives it with each request.
/// - **Timeouts.** The listen of an older caller stays open as long as the session. Put tower's
///   `timeout` around the parts of a stack that listens do not pass (or filter them out of it), not
///   around the whole. Each listen that it ends is opened again, with growing delays, and the
///   caller is told that everything may have changed meanwhile.
/// - **Invalid params.** A request of a known method with params that do not fit the method is
///   answered with -32602 and the path of the first invalid member. It goes down the stack without
///   its params, as a custom request, so that an audit layer records it. No layer and no server
///   acts on it.
/// - **Shutdown.** Its [`handle`](Self::handle) counts the calls in flight, waits for them and
///   closes the server.
/// - **Panics.** A panic of the handler or of a layer is answered with -32603. Its text is only
///   logged.
/// - **Errors.** A typed [`Error`](crate::Error) becomes a wire error here and nowhere else. A message that is
///   not JSON-RPC does not reach this type. Over stdio, [`Lines`](crate::Lines) answers it, and
///   rmcp's own transport does not.
///
/// Change two settings of rmcp's `StreamableHttpServerConfig`:
///
/// - Servers must validate `Origin`, which `with_allowed_origins` and `enforce_origin_validation`
///   switch on.
/// - `with_json_response(true)` answers callers on 2026-07-28 with JSON where nothing came before
///   the result. Some clients refuse a server-sent event of more than 1 MiB.
///
/// ```
/// use rmcp::{ServerHandler, ServiceExt, model::ServerConfig};
/// use rmcp_layers::{ExceptListensLayer, Handler, McpServer};
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
///     .layer(ExceptListensLayer::new(calls))
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
    connection: Arc<Connection<S>>,
    /// Ends the tasks of the session. It is not the session's own end, because a caller's request
    /// may keep the session alive.
    _closes: DropGuard,
    description: Mutex<Description>,
    /// The stack has answered a `subscriptions/listen` of this session with "method not found".
    listen_unsupported: AtomicBool,
    subscriptions: Subscriptions,
    /// The limit on notifications of this session that are on their way down.
    notifications: Arc<Semaphore>,
}

/// The server's description as this session was told it. It decides nothing for other sessions,
/// which a layer may have told something else. Where no description was told, as over HTTP without
/// sessions, every request goes to the stack.
#[derive(Default)]
struct Description {
    config: Option<ServerConfig>,
    /// The revisions that the stack speaks, if it does not speak all that rmcp knows.
    versions: Option<Vec<ProtocolVersion>>,
}

/// State that all connections of one server share. Nothing in it lets one caller's answers decide
/// what another caller may do.
#[derive(Default)]
struct Shared {
    /// The server's name as the last caller was told it, for callers that never asked.
    server_info: Mutex<Option<Implementation>>,
    header_tools: Mutex<HeaderTools>,
    /// The number of requests that have gone down the stack, without listens.
    dispatched: AtomicU64,
    in_flight: InFlight,
    /// The limits of the calls that transports serve.
    time_limits: TimeLimits,
    /// Cancelled when the transports end.
    closed: CancellationToken,
}

/// Tools whose arguments are mirrored in HTTP headers (SEP-2243), which rmcp checks before it
/// serves a request. rmcp asks a server that is made for the request, so the tools are shared. That
/// check must not apply one caller's schema to another's call: `None` stands for a tool that was
/// listed with more than one schema. Its calls are left to the stack.
type HeaderTools = HashMap<String, Option<Tool>>;

/// The maximum number of notifications of one session that are on their way down the stack.
const MAX_NOTIFICATIONS: usize = 64;

/// The maximum number of remembered tools with mirrored arguments. Past it, the header check is
/// left to the stack.
const MAX_HEADER_TOOLS: usize = 10_000;

impl<S: Stack> McpServer<S> {
    /// Creates a server of `stack`.
    pub fn new(stack: S) -> Self {
        Self::over(stack, Arc::default())
    }

    /// Returns the handle of the server in all of its connections, for statistics and a shutdown.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(
            self.connection.shared.in_flight.clone(),
            self.connection.shared.closed.clone(),
        )
    }

    /// Sends one request of this connection through the stack, until it ends or the caller cancels.
    /// Returns the result as the type `R` for rmcp. The transport has the text of the result, if
    /// the result came from one.
    ///
    /// The message and its context are boxed before the future exists. A future that held them
    /// would be a kilobyte larger, and rmcp moves it several times until it runs.
    fn call<M: Into<ClientRequest>, R: MethodResult>(
        &self,
        message: M,
        mut context: RequestContext<RoleServer>,
    ) -> impl Future<Output = Result<R, ErrorData>> + Send + use<S, M, R> {
        let connection = &self.connection;
        connection.open_to_transport(&context.extensions, &context.peer);
        let (answer, received, era) = match HandedOver::take(&context.extensions) {
            Some(ongoing) => {
                let received = Received::of(&context.extensions);
                let era = ongoing.era();
                let answer = ongoing.hand_over(context.peer, context.ct);
                (Either::Left(answer), received, era)
            }
            None => {
                connection.shared.dispatched.fetch_add(1, Ordering::Relaxed);
                let received = Received::take(&mut context.extensions);
                let message = message.into();
                let message = match &received {
                    Some(received) => received.in_place_of(message),
                    None => message.into(),
                };
                let context = connection.context(context);
                let era = context.era();
                let mut request = McpRequest::from_parts(message, context);
                request.context.unreadable =
                    received.as_ref().and_then(|it| it.unreadable().cloned());
                (Either::Right(connection.dispatch(request)), received, era)
            }
        };
        async move {
            let mut result = answer.await?;
            let text = received
                .as_ref()
                .and_then(|_| wire::text_for(&mut result, era));
            let (Some(received), Some(text)) = (received, text) else {
                return Ok(results::expect(result.into_inner())?);
            };
            received.set_answer(text);
            match R::take(result.into_inner()) {
                Ok(result) => Ok(result),
                Err(result) => match R::stand_in() {
                    Some(stand_in) => Ok(stand_in),
                    None => Ok(results::expect(*result)?),
                },
            }
        }
    }

    /// Asks the stack for its description, and remembers the answer. Returns it with its text, if
    /// it came from one.
    async fn discover_stack(
        &self,
        context: CallContext,
    ) -> Result<(DiscoverResult, Option<Bytes>), ErrorData> {
        let era = context.era();
        let message = match context.unreadable {
            Some(_) => CustomRequest::new(Method::Discover.name(), None).into(),
            None => ClientRequest::from(DiscoverRequest::new(DiscoverRequestParams {})),
        };
        let request = McpRequest::from_parts(message, context);
        let mut result = self.connection.dispatch(request).await?;
        let text = wire::text_for(&mut result, era);
        let discovered: DiscoverResult = results::expect(result.into_inner())?;
        let mut config = ServerConfig::new(discovered.capabilities.clone());
        if let Some(info) = discovered.server_info() {
            config = config.with_server_info(info);
        }
        config.instructions = discovered.instructions.clone();
        config.meta = description::meta_without_info(discovered.meta.as_ref());
        let versions = &discovered.supported_versions;
        let versions =
            (versions.as_slice() != ProtocolVersion::KNOWN_VERSIONS).then(|| versions.clone());
        *lock(&self.connection.shared.server_info) = Some(config.server_info.clone());
        *lock(&self.description) = Description {
            config: Some(config),
            versions,
        };
        Ok((discovered, text))
    }
}

impl<S> McpServer<S> {
    /// Creates the server of one connection.
    fn over(stack: S, shared: Arc<Shared>) -> Self {
        Self::of(Connection::new(stack, shared))
    }

    fn of(connection: Connection<S>) -> Self {
        Self {
            _closes: connection.session.closed().clone().drop_guard(),
            connection: Arc::new(connection),
            description: Mutex::default(),
            listen_unsupported: AtomicBool::new(false),
            subscriptions: Subscriptions::default(),
            notifications: Arc::new(Semaphore::new(MAX_NOTIFICATIONS)),
        }
    }
}

impl<S: Clone> Clone for McpServer<S> {
    /// Returns another connection's server over the same stack.
    fn clone(&self) -> Self {
        Self::of(self.connection.another())
    }
}

impl<S> std::fmt::Debug for McpServer<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpServer")
            .field("session", &self.connection.session)
            .finish_non_exhaustive()
    }
}
