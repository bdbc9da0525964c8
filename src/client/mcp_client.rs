use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rmcp::{
    ClientHandler,
    model::{
        ClientCapabilities, ClientConfig, ClientRequest, DEFAULT_MRTR_MAX_ROUNDS, Extensions,
        Implementation, InitializeRequestParams, ProgressNotificationParam, ProgressToken,
        ProtocolVersion, RequestMetaObject, ServerResult,
    },
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::{Service, ServiceExt};

use super::{
    handler::{Answers, Linked},
    timeouts::{end_of, reached},
    way_back::{Onward, Sink, WayBack},
};
use crate::{
    CallContext, Caller, Error, McpRequest, McpResponse,
    caller::{Era, Session},
    request::next_id,
};

/// How long a server may be silent about a request by default: see
/// [`McpClientBuilder::idle_timeout`].
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The top of a stack on the client side: typed calls into it.
///
/// Every call takes `&self`, so one client serves many tasks at once; cloning it is cheap and gives
/// another handle on the same session. What it does for its caller:
///
/// - **Types.** A method for every request of the protocol, with rmcp's own params and results. Failures
///   are [`Error`]s.
/// - **Pages.** `list_all_*` follows `nextCursor` to the end.
/// - **Progress.** [`call_tool`](Self::call_tool) can yield it as a stream beside the result.
/// - **Time.** An idle timeout that any word of the server resets, and a total one that nothing does.
/// - **Cancellation.** Dropping a call's future, or its timeout, cancels it all the way down.
/// - **Input.** With a [handler](McpClientBuilder::handler), a server's requests for input are answered:
///   as rounds of the call (MRTR, MCP 2026-07-28, SEP-2322) or, by an older server, as requests of its own.
/// - **Tasks.** A tool call that the server makes a task (SEP-2663) is polled to its end.
///
/// It speaks as a 2026-07-28 caller: each request's `_meta` says the revision, who the client is and what
/// it can do. There is no handshake; [`discover`](Self::discover) asks the stack what it is.
///
/// It runs on tokio, with the time driver enabled.
///
/// ```
/// use rmcp::model::{CallToolResult, ContentBlock};
/// use rmcp_layers::{Error, McpClient, McpRequest, McpResponse};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// // Any stack will do; this one adds two numbers.
/// let stack = tower::service_fn(|request: McpRequest| async move {
///     let arguments = request.as_tool_call().and_then(|call| call.arguments.as_ref());
///     let sum: i64 = arguments.into_iter().flat_map(|all| all.values()).filter_map(|n| n.as_i64()).sum();
///     let text = ContentBlock::text(sum.to_string());
///     Ok::<_, Error>(McpResponse::new(CallToolResult::success(vec![text])))
/// });
///
/// let client = McpClient::new(stack);
/// let result = client.call_tool("add").argument("a", 1).argument("b", 2).await?;
/// assert_eq!(result.content[0].as_text().unwrap().text, "3");
/// # Ok(())
/// # }
/// ```
pub struct McpClient<S> {
    stack: Mutex<S>,
    pub(super) shared: Arc<Shared>,
}

/// What all clones of a client have in common.
pub(super) struct Shared {
    /// What each request says of the client.
    introduction: RequestMetaObject,
    /// The same as a handshake, where the client speaks an older revision.
    handshake: Option<Arc<InitializeRequestParams>>,
    pub(super) supports_tasks: bool,
    pub(super) mrtr_max_rounds: usize,
    idle_timeout: Option<Duration>,
    total_timeout: Option<Duration>,
    pub(super) session: Arc<Session>,
    pub(super) handler: Option<Arc<dyn Answers>>,
}

impl<S> McpClient<S>
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    /// A client of `stack` with the builder's defaults and no handler.
    #[must_use]
    pub fn new(stack: S) -> Self {
        Self::builder(stack).build()
    }

    /// Starts a client of `stack`.
    pub fn builder(stack: S) -> McpClientBuilder<S> {
        McpClientBuilder {
            stack,
            handler: None,
            config: ClientConfig::default().with_protocol_version(ProtocolVersion::LATEST),
            idle_timeout: Some(DEFAULT_IDLE_TIMEOUT),
            total_timeout: None,
            mrtr_max_rounds: DEFAULT_MRTR_MAX_ROUNDS,
        }
    }

    /// Sends one request as it is, and brings the one answer to it as it is: no rounds, no polling.
    ///
    /// What the request does not say is added: the client's description in its `_meta`, and a way back to
    /// the client's handler if it is [detached](Caller::detached). The client's timeouts hold for it, and
    /// so does the request's own [deadline](CallContext::deadline), if that is earlier.
    ///
    /// # Errors
    ///
    /// Whatever the stack fails with, and a timeout.
    pub async fn send(&self, request: McpRequest) -> Result<McpResponse, Error> {
        let mut request = request;
        let context = &mut request.context;
        let detached = context.caller.is_detached();
        let onward = if detached {
            Onward::Handler(self.shared.handler.clone())
        } else {
            Onward::Caller(context.caller.clone())
        };
        let way_back = WayBack::new(None, onward);
        context.caller = if detached {
            self.caller(&way_back)
        } else {
            context.caller.wrap(|_| Sink(way_back.clone()))
        };
        let mut meta = self.introduction();
        meta.extend(std::mem::take(&mut context.meta));
        if detached && meta.get_progress_token().is_none() {
            meta.set_progress_token(ProgressToken(context.id.clone()));
        }
        context.meta = meta;
        let total = self.shared.total_timeout;
        let started = Instant::now();
        let deadline = [context.deadline, end_of(total)]
            .into_iter()
            .flatten()
            .min();
        context.deadline = deadline;
        let cancellation = context.cancellation.clone();
        tokio::select! {
            biased;
            result = self.dispatch(request, &way_back, self.shared.idle_timeout) => result,
            () = reached(deadline) => {
                let end = deadline.unwrap_or(started);
                Err(Error::timeout(end.saturating_duration_since(started)))
            }
            () = cancellation.cancelled() => Err(Error::cancelled("the caller cancelled the request")),
        }
    }

    /// Takes one request down a clone of the stack, until the server has been silent for too long.
    pub(super) async fn dispatch(
        &self,
        request: McpRequest,
        way_back: &WayBack,
        idle_timeout: Option<Duration>,
    ) -> Result<McpResponse, Error> {
        let stack = self.stack();
        way_back.activity.heard();
        tokio::select! {
            biased;
            result = stack.oneshot(request) => result.map_err(Into::into),
            () = way_back.activity.silent_for(idle_timeout) => {
                Err(Error::timeout(idle_timeout.unwrap_or_default()))
            }
        }
    }

    pub(super) fn stack(&self) -> S {
        self.stack
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The caller of a request whose way back this is.
    pub(super) fn caller(&self, way_back: &Arc<WayBack>) -> Caller {
        self.known(Caller::new(Sink(way_back.clone())))
            .answering_requests(self.shared.handler.is_some())
    }

    /// Puts a caller in the client's session.
    pub(super) fn known(&self, caller: Caller) -> Caller {
        caller
            .in_session(self.shared.session.clone())
            .with_handshake(self.shared.handshake.clone())
    }

    /// What a request says of the client.
    pub(super) fn introduction(&self) -> RequestMetaObject {
        let mut meta = self.shared.introduction.clone();
        if let Some(level) = self.shared.session.log_level() {
            meta.set_log_level(level);
        }
        meta
    }

    /// A call with the client's own options.
    pub(super) fn call(&self) -> Call<'_, S> {
        Call::new(self, self.options())
    }

    pub(super) fn options(&self) -> Options {
        Options {
            meta: RequestMetaObject::new(),
            extensions: Extensions::new(),
            idle_timeout: self.shared.idle_timeout,
            total_timeout: self.shared.total_timeout,
            cancellation: CancellationToken::new(),
            progress: None,
        }
    }
}

/// What may be said of one call.
pub(super) struct Options {
    pub(super) meta: RequestMetaObject,
    pub(super) extensions: Extensions,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) total_timeout: Option<Duration>,
    pub(super) cancellation: CancellationToken,
    pub(super) progress: Option<mpsc::Sender<ProgressNotificationParam>>,
}

/// One call, with all the requests it takes: rounds, and polls of its task.
pub(super) struct Call<'a, S> {
    pub(super) client: &'a McpClient<S>,
    way_back: Arc<WayBack>,
    meta: RequestMetaObject,
    extensions: Extensions,
    idle_timeout: Option<Duration>,
    total_timeout: Option<Duration>,
    deadline: Option<Instant>,
    /// Cancelled with the call, also when its future is dropped: inner layers may have spawned work.
    cancellation: CancellationToken,
    _cancel: DropGuard,
}

impl<'a, S> Call<'a, S>
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    pub(super) fn new(client: &'a McpClient<S>, options: Options) -> Self {
        let Options {
            meta: own,
            extensions,
            idle_timeout,
            total_timeout,
            ..
        } = options;
        let mut meta = client.introduction();
        meta.extend(own);
        if meta.get_progress_token().is_none() {
            meta.set_progress_token(ProgressToken(next_id()));
        }
        let onward = Onward::Handler(client.shared.handler.clone());
        let cancellation = options.cancellation.child_token();
        Self {
            client,
            way_back: WayBack::new(options.progress, onward),
            meta,
            extensions,
            idle_timeout,
            total_timeout,
            deadline: end_of(total_timeout),
            _cancel: cancellation.clone().drop_guard(),
            cancellation,
        }
    }

    /// Does the call's work, as long as it may take.
    pub(super) async fn run<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            result = work => result,
            () = reached(self.deadline) => {
                Err(Error::timeout(self.total_timeout.unwrap_or_default()))
            }
            () = self.cancellation.cancelled() => {
                Err(Error::cancelled("the caller cancelled the request"))
            }
        }
    }

    /// Sends one request of the call.
    pub(super) async fn request(
        &self,
        message: impl Into<ClientRequest>,
    ) -> Result<ServerResult, Error> {
        let mut context = CallContext::new(next_id());
        context.meta = self.meta.clone();
        context.extensions = self.extensions.clone();
        context.cancellation = self.cancellation.clone();
        context.caller = self.client.caller(&self.way_back);
        context.deadline = self.deadline;
        let request = McpRequest::from_parts(message.into(), context);
        let response = self
            .client
            .dispatch(request, &self.way_back, self.idle_timeout)
            .await?;
        Ok(response.into_result())
    }
}

impl<S: Clone> Clone for McpClient<S> {
    fn clone(&self) -> Self {
        let stack = self
            .stack
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Self {
            stack: Mutex::new(stack),
            shared: self.shared.clone(),
        }
    }
}

impl<S> std::fmt::Debug for McpClient<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpClient")
            .field("session", &self.shared.session)
            .field("idle_timeout", &self.shared.idle_timeout)
            .field("total_timeout", &self.shared.total_timeout)
            .finish_non_exhaustive()
    }
}

/// Builds an [`McpClient`]; see [`McpClient::builder`].
#[must_use = "call `build` to make the client"]
pub struct McpClientBuilder<S> {
    stack: S,
    handler: Option<Arc<dyn Answers>>,
    config: ClientConfig,
    idle_timeout: Option<Duration>,
    total_timeout: Option<Duration>,
    mrtr_max_rounds: usize,
}

impl<S> McpClientBuilder<S>
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    /// Who answers the server's requests for input (sampling, elicitation, roots) and hears its
    /// notifications. Default: nobody; such requests are then errors, and notifications are dropped.
    ///
    /// The handler's [`get_info`](ClientHandler::get_info) becomes the client's name and capabilities, so
    /// call [`client_info`](Self::client_info) and [`capabilities`](Self::capabilities) after this, if at
    /// all. Its `protocol_version` is not taken over: rmcp's default is an older revision.
    ///
    /// The handler's methods run inside the call they belong to, one after another. While one runs, the
    /// call's idle timeout stands still and the server's further messages wait; when the call ends early
    /// (dropped, timed out), it is dropped too. Progress of a call that yields it as a stream goes there
    /// and not to the handler. Requests through the peer in the handler's context go down the same stack.
    pub fn handler(mut self, handler: impl ClientHandler) -> Self {
        let info = handler.get_info();
        self.config.client_info = info.client_info;
        self.config.capabilities = info.capabilities;
        self.handler = Some(Arc::new(Linked::new(handler, self.stack.clone())));
        self
    }

    /// How long the server may be silent about a request. Default: 60 s, as the official TypeScript SDK
    /// has it, so servers are used to be heard of within it. `None`: as long as it likes.
    ///
    /// Progress, logging, any other notification and any request of the server for the call start it
    /// anew; while the client's handler is at work it stands still. Each round of a call and each poll of
    /// a task is a request with its own. A call that exceeds it fails with a timeout
    /// ([`Error::is_timeout`]) and is cancelled.
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = limit.into();
        self
    }

    /// How long a call may take at all, with all its rounds, the handler's answers and its task. Default:
    /// `None`, without a limit: a server that goes on reporting progress is alive, and only the caller
    /// knows what it is worth waiting for. Inner layers see it as the request's
    /// [deadline](CallContext::deadline).
    ///
    /// For `list_all_*` it holds for each page, and for [`listen`](McpClient::listen) not at all.
    pub fn total_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.total_timeout = limit.into();
        self
    }

    /// How many times one call answers a server that wants input (MRTR rounds, SEP-2322, and requests
    /// for input within a task, SEP-2663) before it fails. Default: rmcp's
    /// [`DEFAULT_MRTR_MAX_ROUNDS`], 10.
    pub fn mrtr_max_rounds(mut self, rounds: usize) -> Self {
        self.mrtr_max_rounds = rounds;
        self
    }

    /// The revision the client speaks. Default: [`ProtocolVersion::LATEST`].
    ///
    /// With a revision before 2026-07-28, servers may send requests of their own, and do not use MRTR.
    pub fn protocol_version(mut self, version: ProtocolVersion) -> Self {
        self.config.protocol_version = version;
        self
    }

    /// Which implementation the client says it is. Default: the handler's, else rmcp's own.
    pub fn client_info(mut self, info: Implementation) -> Self {
        self.config.client_info = info;
        self
    }

    /// What the client says it can do. Default: the handler's capabilities, else none.
    ///
    /// Servers make tasks of slow calls only for a client that declares the Tasks extension here
    /// ([`enable_tasks`](rmcp::model::ClientCapabilitiesBuilder::enable_tasks)).
    pub fn capabilities(mut self, capabilities: ClientCapabilities) -> Self {
        self.config.capabilities = capabilities;
        self
    }

    /// Makes the client.
    #[must_use]
    pub fn build(self) -> McpClient<S> {
        let config = self.config;
        let legacy = Era::of(&config.protocol_version) == Era::Legacy;
        let shared = Shared {
            introduction: RequestMetaObject::with_client_context(
                config.protocol_version.clone(),
                config.client_info.clone(),
                config.capabilities.clone(),
            ),
            supports_tasks: config.capabilities.supports_tasks(),
            handshake: legacy.then(|| Arc::new(config)),
            mrtr_max_rounds: self.mrtr_max_rounds,
            idle_timeout: self.idle_timeout,
            total_timeout: self.total_timeout,
            session: Arc::new(Session::new()),
            handler: self.handler,
        };
        McpClient {
            stack: Mutex::new(self.stack),
            shared: Arc::new(shared),
        }
    }
}

impl<S> std::fmt::Debug for McpClientBuilder<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpClientBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
