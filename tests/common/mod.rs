//! What the tests over real transports share.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod demo;
pub mod log;
pub mod script;
pub mod specification;

use std::{
    fmt::Debug,
    future::IntoFuture,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::serve::ListenerExt;
use futures::future::BoxFuture;
use rmcp::{
    ClientHandler, ErrorData, RoleClient, RoleServer, Service, ServiceExt,
    model::*,
    service::{
        ClientLifecycleMode, NotificationContext, RequestContext, RunningService,
        serve_client_with_lifecycle,
    },
    transport::{
        StreamableHttpServerConfig, StreamableHttpService,
        streamable_http_server::session::local::LocalSessionManager,
    },
};
use rmcp_layers::{
    Caller, CallerSink, Error, Lifecycle, McpRequest, McpResponse, McpServer, Upstream,
    UpstreamBuilder,
};
use serde_json::Value;
use tokio::{
    io::DuplexStream,
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

/// How long anything here may take before it counts as lost.
const SOON: Duration = Duration::from_secs(30);

/// Waits for something that must happen.
pub async fn soon<F: IntoFuture>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(SOON, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what} did not happen within {SOON:?}"),
    }
}

/// A pipe with a line transport's server at its other end.
pub fn pipe_to<S: Service<RoleServer>>(server: S) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        if let Ok(running) = server.serve(far).await {
            let _ = running.waiting().await;
        }
    });
    near
}

/// An upstream over pipes to a server.
pub fn piped<S: Service<RoleServer> + Clone>(builder: UpstreamBuilder, server: &S) -> Upstream {
    let server = server.clone();
    builder.transport(move || {
        let near = pipe_to(server.clone());
        async move { Ok::<_, io::Error>(near) }
    })
}

/// An upstream over pipes that shakes hands as revisions before 2026-07-28 do.
pub fn piped_legacy<S: Service<RoleServer> + Clone>(server: &S) -> Upstream {
    piped(Upstream::builder().lifecycle(Lifecycle::Initialize), server)
}

/// What has happened, for tests and servers to wait on. Clones are the same.
#[derive(Clone, Default)]
pub struct Events(pub watch::Sender<Vec<String>>);

impl Events {
    pub fn note(&self, event: impl Into<String>) {
        self.0.send_modify(|events| events.push(event.into()));
    }

    pub fn count(&self, event: &str) -> usize {
        let events = self.0.borrow();
        events.iter().filter(|noted| *noted == event).count()
    }

    pub async fn until(&self, event: &str) {
        self.until_times(event, 1).await;
    }

    pub async fn until_times(&self, event: &str, times: usize) {
        let mut events = self.0.subscribe();
        let enough = |events: &Vec<String>| {
            let noted = events.iter().filter(|noted| *noted == event);
            noted.count() >= times
        };
        soon(event, events.wait_for(enough)).await.unwrap();
    }
}

/// The description of a server with tools and log lines.
pub fn logs_and_tools() -> ServerConfig {
    let capabilities = ServerCapabilities::builder()
        .enable_logging()
        .enable_tools()
        .build();
    ServerConfig::new(capabilities)
}

pub fn finished(text: &str) -> Result<CallToolResponse, ErrorData> {
    Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
}

pub fn question() -> CreateMessageRequestParams {
    CreateMessageRequestParams::new(vec![SamplingMessage::user_text("Who are you?")], 10)
}

/// A stack, for helpers that take any.
pub trait Stack:
    tower::Service<McpRequest, Response = McpResponse, Error: Into<Error>, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> Stack for S where
    S: tower::Service<McpRequest, Response = McpResponse, Error: Into<Error>, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// What reaches a client beside answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    Progress(ProgressToken, f64),
    Tools,
    Updated(String),
    Log(Value),
    Asked(&'static str),
}

/// A client that can do everything, and notes what it hears.
pub struct User {
    name: &'static str,
    heard: mpsc::UnboundedSender<Heard>,
}

impl User {
    fn hear(&self, heard: Heard) {
        let _ = self.heard.send(heard);
    }
}

impl ClientHandler for User {
    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder()
            .enable_elicitation()
            .enable_roots()
            .enable_roots_list_changed()
            .enable_sampling()
            .build();
        ClientConfig::new(capabilities, Implementation::new(self.name, "0"))
    }

    async fn create_message(
        &self,
        _params: CreateMessageRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        self.hear(Heard::Asked("sampling"));
        let text = SamplingMessage::assistant_text(format!("I am {}", self.name));
        Ok(CreateMessageResult::new(text, "none".to_owned()))
    }

    async fn create_elicitation(
        &self,
        _request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        self.hear(Heard::Asked("elicitation"));
        let filled = serde_json::json!({ "name": self.name });
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(filled))
    }

    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        self.hear(Heard::Progress(params.progress_token, params.progress));
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.hear(Heard::Tools);
    }

    async fn on_resource_updated(
        &self,
        params: ResourceUpdatedNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        self.hear(Heard::Updated(params.uri));
    }

    async fn on_logging_message(
        &self,
        params: LoggingMessageNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        self.hear(Heard::Log(params.data));
    }
}

/// A connected client.
pub struct Client {
    pub peer: RunningService<RoleClient, User>,
    pub heard: mpsc::UnboundedReceiver<Heard>,
}

impl Client {
    /// Serves `stack` over a pipe, and connects to it by `initialize`.
    pub async fn legacy(name: &'static str, stack: impl Stack) -> Self {
        Self::of(
            &McpServer::new(stack),
            name,
            ClientLifecycleMode::Initialize,
        )
        .await
    }

    /// Serves `stack` over a pipe, and connects to it by `server/discover`.
    pub async fn modern(name: &'static str, stack: impl Stack) -> Self {
        let preferred_versions = vec![ProtocolVersion::LATEST];
        let lifecycle = ClientLifecycleMode::Discover { preferred_versions };
        Self::of(&McpServer::new(stack), name, lifecycle).await
    }

    /// One more client of `server`.
    pub async fn of(
        server: &McpServer<impl Stack>,
        name: &'static str,
        lifecycle: ClientLifecycleMode,
    ) -> Self {
        let (sender, heard) = mpsc::unbounded_channel();
        let user = User {
            name,
            heard: sender,
        };
        let pipe = pipe_to(server.clone());
        let connected = serve_client_with_lifecycle(user, pipe, lifecycle);
        let peer = soon("connecting", connected).await.unwrap();
        Self { peer, heard }
    }

    pub async fn call(&self, tool: CallToolRequestParams) -> CallToolResult {
        match soon("a call", self.peer.call_tool_once(tool))
            .await
            .unwrap()
        {
            CallToolResponse::Complete(result) => result,
            other => panic!("not a finished call: {other:?}"),
        }
    }

    pub async fn hear(&mut self, what: &str) -> Heard {
        soon(what, self.heard.recv()).await.unwrap()
    }

    /// Nothing has come, and nothing is on its way: an answered request is a barrier.
    pub async fn hears_nothing(&mut self) {
        self.call(tool("add", serde_json::json!({}))).await;
        tokio::task::yield_now().await;
        assert!(
            self.heard.try_recv().is_err(),
            "heard something uncalled for"
        );
    }
}

pub fn tool(name: &'static str, arguments: Value) -> CallToolRequestParams {
    let arguments = serde_json::from_value(arguments).unwrap();
    CallToolRequestParams::new(name).with_arguments(arguments)
}

/// The text of a finished tool call.
pub fn text(result: &CallToolResult) -> &str {
    let text = result.content.first().and_then(|block| block.as_text());
    &text.expect("a result with text").text
}

/// The text of a response to a tool call.
pub fn said<E: Debug>(response: Result<McpResponse, E>) -> String {
    let response = response.expect("an answer");
    text(response.as_tool_result().expect("a tool's result")).to_owned()
}

/// A caller that notes what it is sent, in order.
pub fn recorder() -> (Caller, mpsc::UnboundedReceiver<ServerNotification>) {
    let (sender, received) = mpsc::unbounded_channel();
    (Caller::new(Recorder(sender)), received)
}

struct Recorder(mpsc::UnboundedSender<ServerNotification>);

impl CallerSink for Recorder {
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        let _ = self.0.send(notification);
        Box::pin(std::future::ready(Ok(())))
    }

    fn request(&self, _request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(std::future::ready(Err(Error::cancelled("asks nobody"))))
    }
}

/// What was recorded, as tokens and numbers of progress.
pub fn progress(
    received: &mut mpsc::UnboundedReceiver<ServerNotification>,
) -> Vec<(ProgressToken, f64)> {
    let mut steps = Vec::new();
    while let Ok(notification) = received.try_recv() {
        if let ServerNotification::ProgressNotification(progress) = notification {
            steps.push((progress.params.progress_token, progress.params.progress));
        }
    }
    steps
}

pub fn token(name: &str) -> ProgressToken {
    ProgressToken(NumberOrString::String(name.into()))
}

/// A server over streamable HTTP on loopback.
pub struct Http {
    pub url: String,
    /// How many TCP connections have been accepted.
    pub accepted: Arc<AtomicUsize>,
    port: u16,
    stop: CancellationToken,
    sessions: Arc<LocalSessionManager>,
    served: Mutex<Option<tokio::task::JoinHandle<io::Result<()>>>>,
}

impl Http {
    pub async fn serve<S: rmcp::ServerHandler + Clone>(server: S) -> Self {
        Self::serve_with(server, 0, StreamableHttpServerConfig::default()).await
    }

    pub async fn serve_with<S: rmcp::ServerHandler + Clone>(
        server: S,
        port: u16,
        config: StreamableHttpServerConfig,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let listener = listener.tap_io(move |tcp| {
            let _ = tcp.set_nodelay(true);
            count.fetch_add(1, Ordering::Relaxed);
        });
        let stop = config.cancellation_token.clone();
        let sessions = Arc::new(LocalSessionManager::default());
        let service =
            StreamableHttpService::new(move || Ok(server.clone()), sessions.clone(), config);
        let router = axum::Router::new().route_service("/mcp", service);
        let stopped = stop.clone().cancelled_owned();
        let serving = axum::serve(listener, router).with_graceful_shutdown(stopped);
        Self {
            url: format!("http://127.0.0.1:{port}/mcp"),
            accepted,
            port,
            stop,
            sessions,
            served: Mutex::new(Some(tokio::spawn(serving.into_future()))),
        }
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends the server, and lets go of its port.
    pub async fn stop(&self) {
        self.stop.cancel();
        let served = self.served.lock().unwrap().take();
        if let Some(served) = served {
            soon("the HTTP server's end", served)
                .await
                .unwrap()
                .unwrap();
        }
    }

    /// Forgets every session, as a server does that was started anew.
    pub async fn forget(&self) {
        self.sessions.sessions.write().await.clear();
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
