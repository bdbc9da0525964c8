//! The server ends of a stack: [`McpServer`], the top, and [`Handler`], a bottom.

mod handler;
mod service;
mod subscriptions;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

pub use handler::Handler;
use rmcp::{
    RoleServer,
    model::{
        ClientRequest, DiscoverRequest, DiscoverRequestParams, DiscoverResult, ErrorData,
        ProtocolVersion, ServerConfig, ServerResult, Tool,
    },
    service::RequestContext,
};
use tower::{Service, ServiceExt};

use self::subscriptions::Subscriptions;
use crate::{CallContext, Caller, Error, McpRequest, McpResponse, caller::Session, results};

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
///   [`McpRequest::notification`]s.
/// - **Older callers** (revisions before 2026-07-28, which have `initialize`). Their
///   `resources/subscribe` becomes part of one `subscriptions/listen` that the top keeps open for the
///   session, so layers see one mechanism; change notifications reach them as that listen yields them.
///   Their `logging/setLevel` goes down the stack and is remembered, so that a newer upstream hears of it
///   with each request.
/// - **Errors.** A typed [`Error`] becomes a wire error here and nowhere else.
///
/// ```
/// use rmcp::{ServerHandler, ServiceExt, model::ServerConfig};
/// use rmcp_layers::{Handler, McpServer};
/// use tower::ServiceBuilder;
///
/// #[derive(Clone)]
/// struct Empty;
/// impl ServerHandler for Empty {}
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let stack = ServiceBuilder::new().concurrency_limit(64).service(Handler::new(Empty));
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
    subscriptions: Subscriptions,
}

/// What all connections of one server know of the stack.
#[derive(Default)]
struct Shared {
    knowledge: Mutex<Knowledge>,
    /// How many requests have gone down the stack, listens aside.
    dispatched: AtomicU64,
}

#[derive(Default)]
struct Knowledge {
    config: Option<ServerConfig>,
    /// The revisions the stack speaks, where they are not all that rmcp knows.
    versions: Option<Vec<ProtocolVersion>>,
    /// The stack once answered `subscriptions/listen` with "method not found".
    listen_unsupported: bool,
    /// Tools whose arguments are mirrored in HTTP headers (SEP-2243): rmcp wants to check them.
    header_tools: std::collections::HashMap<String, Tool>,
}

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

    fn over(stack: S, shared: Arc<Shared>) -> Self {
        Self {
            stack: Mutex::new(stack),
            shared,
            session: Arc::new(Session::new()),
            subscriptions: Subscriptions::default(),
        }
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
        request: McpRequest,
    ) -> impl Future<Output = Result<ServerResult, ErrorData>> + Send + use<S> {
        let cancellation = request.context.cancellation.clone();
        let answer = self.stack().oneshot(request);
        async move {
            tokio::select! {
                biased;
                result = answer => match result {
                    Ok(response) => Ok(response.into_result()),
                    Err(error) => Err(ErrorData::from(error.into())),
                },
                () = cancellation.cancelled() => {
                    Err(Error::cancelled("the caller cancelled the request").into())
                }
            }
        }
    }

    fn stack(&self) -> S {
        self.stack
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
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
        let mut knowledge = self.knowledge();
        knowledge.versions =
            (versions.as_slice() != ProtocolVersion::KNOWN_VERSIONS).then(|| versions.clone());
        knowledge.config = Some(config);
        drop(knowledge);
        Ok(discovered)
    }

    fn knowledge(&self) -> std::sync::MutexGuard<'_, Knowledge> {
        self.shared
            .knowledge
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Clone> Clone for McpServer<S> {
    /// Another connection's server over the same stack.
    fn clone(&self) -> Self {
        let stack = self.stack.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            stack: Mutex::new(stack.clone()),
            shared: self.shared.clone(),
            session: Arc::new(Session::new()),
            subscriptions: Subscriptions::default(),
        }
    }
}

impl<S> std::fmt::Debug for McpServer<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpServer")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
