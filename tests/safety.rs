//! What keeps callers apart, ends in time, and stays unsaid, whatever a server or another caller does.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

mod common;
#[path = "safety/errors.rs"]
mod errors;
#[path = "safety/fairness.rs"]
mod fairness;
#[path = "safety/hops.rs"]
mod hops;
#[path = "safety/panics.rs"]
mod panics;
#[path = "safety/raw.rs"]
mod raw;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{body::Body, http::Response};
use common::{
    Client, demo::Demo, pipe_to, piped, progress, recorder, said, soon, text, token, tool,
};
use futures::future::BoxFuture;
use rmcp::{
    ClientHandler, ErrorData, RoleClient, RoleServer, ServerHandler, Service, ServiceError,
    ServiceExt as _,
    model::*,
    service::{
        ClientLifecycleMode, PeerRequestOptions, RequestContext, RequestHandle,
        serve_client_with_lifecycle,
    },
};
use rmcp_layers::{
    Caller, CallerSink, Error, ErrorKind, Handler, Lifecycle, McpRequest, McpServer, Outcome,
    Repeat, Upstream,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::AbortHandle, time::Instant};
use tower::ServiceExt;

/// What has happened, for tests and servers to wait on. Clones are the same.
#[derive(Clone, Default)]
struct Events(watch::Sender<Vec<String>>);

impl Events {
    fn note(&self, event: impl Into<String>) {
        self.0.send_modify(|events| events.push(event.into()));
    }

    fn count(&self, event: &str) -> usize {
        let events = self.0.borrow();
        events.iter().filter(|noted| *noted == event).count()
    }

    async fn until(&self, event: &str) {
        self.until_times(event, 1).await;
    }

    async fn until_times(&self, event: &str, times: usize) {
        let mut events = self.0.subscribe();
        let enough = |events: &Vec<String>| {
            let noted = events.iter().filter(|noted| *noted == event);
            noted.count() >= times
        };
        soon(event, events.wait_for(enough)).await.unwrap();
    }
}

/// An upstream over a pipe to a server of an older revision.
fn older<S: Service<RoleServer> + Clone>(server: S) -> Upstream {
    let builder = Upstream::builder().lifecycle(Lifecycle::Initialize);
    builder.transport(move || {
        let near = pipe_to(server.clone());
        async move { Ok::<_, io::Error>(near) }
    })
}

fn finished(text: &str) -> Result<CallToolResponse, ErrorData> {
    Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
}

fn question() -> CreateMessageRequestParams {
    CreateMessageRequestParams::new(vec![SamplingMessage::user_text("Who are you?")], 10)
}

/// Begins a call that can be cancelled.
async fn begin(client: &Client, name: &'static str) -> RequestHandle<RoleClient> {
    let call = CallToolRequest::new(tool(name, json!({}))).into();
    let options = PeerRequestOptions::no_options();
    let sent = client.peer.send_cancellable_request(call, options);
    soon("sending a call", sent).await.unwrap()
}

/// Hears of a cancellation and works on, which the protocol allows.
#[derive(Clone, Default)]
struct Heedless(Events);

impl ServerHandler for Heedless {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_logging()
            .enable_tools()
            .build();
        ServerConfig::new(capabilities)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Self(events) = self;
        events.note(&*request.name);
        match &*request.name {
            "asks" | "logs" => {
                context.ct.cancelled().await;
                events.note("cancelled");
                events.until("go on").await;
            }
            "lasts" => events.until("end").await,
            _ => {}
        }
        if request.name == "asks" {
            let answer = context.peer.create_message(question()).await;
            let refused = matches!(answer, Err(ServiceError::McpError(_)));
            events.note(if refused { "refused" } else { "answered" });
        }
        if request.name == "logs" {
            let line = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!("a secret"));
            let _ = context.peer.notify_logging_message(line).await;
            events.note("logged");
        }
        finished("done")
    }
}

/// Ann cancels a call of `name`, and the server goes on with it while Bob's is the only one in flight,
/// until it has come to `end`. Bob is to hear nothing.
async fn crossing(name: &'static str, end: &str) {
    let server = Heedless::default();
    let events = server.0.clone();
    let upstream = older(server);
    let ann = Client::legacy("ann", upstream.clone()).await;
    let mut bob = Client::legacy("bob", upstream).await;

    let call = begin(&ann, name).await;
    events.until(name).await;
    soon("cancelling", call.cancel(None)).await.unwrap();
    events.until("cancelled").await;
    let lasting = begin(&bob, "lasts").await;
    events.until("lasts").await;
    events.note("go on");
    events.until(end).await;
    events.note("end");
    soon("bob's answer", lasting.await_response())
        .await
        .unwrap();
    bob.hears_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_else_is_asked_what_a_cancelled_call_asks() {
    crossing("asks", "refused").await;
}

#[tokio::test(start_paused = true)]
async fn nobody_else_hears_the_log_of_a_cancelled_call() {
    crossing("logs", "logged").await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_beyond_the_clock_is_none() {
    let builder = Upstream::builder().request_timeout(Duration::MAX);
    let upstream = piped(builder, &Demo::default());
    let (caller, mut received) = recorder();
    let call = McpRequest::call_tool("progress")
        .argument("count", 3)
        .progress_token(token("mine"))
        .caller(caller)
        .build();
    let answer = soon("an answer", upstream.oneshot(call)).await;
    assert_eq!(said(answer), "reported");
    assert_eq!(progress(&mut received).len(), 3);
}

#[tokio::test]
async fn an_error_names_no_url() {
    let url = "http://user:hunter2@127.0.0.1:1/mcp?api_key=sesame";
    let upstream = Upstream::builder().name("private").http(url).unwrap();
    let error = soon("an error", upstream.oneshot(McpRequest::list_tools()))
        .await
        .unwrap_err();
    let logged = error.to_string();
    let sent = serde_json::to_string(&ErrorData::from(error)).unwrap();
    for secret in ["hunter2", "sesame", "127.0.0.1"] {
        assert!(!logged.contains(secret), "{logged}");
        assert!(!sent.contains(secret), "{sent}");
    }
    assert!(sent.contains("private"), "{sent}");
}

/// Does not answer a subscription, or refuses it after a while.
#[derive(Clone, Default)]
struct Library {
    refuses_after: Option<Duration>,
    events: Events,
}

impl ServerHandler for Library {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_resources()
            .enable_resources_subscribe()
            .build();
        ServerConfig::new(capabilities)
    }

    async fn subscribe(
        &self,
        _request: SubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.events.note("subscribe");
        match self.refuses_after {
            Some(delay) => tokio::time::sleep(delay).await,
            None => std::future::pending().await,
        }
        Err(ErrorData::invalid_params("no such resource", None))
    }
}

async fn subscribe(client: &Client) -> Result<(), ServiceError> {
    let subscribing = client.peer.subscribe(SubscribeRequestParams::new("a:b"));
    soon("a subscription's end", subscribing).await
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_never_answered_ends_in_time() {
    let limit = Duration::from_secs(5);
    let upstream = Upstream::builder()
        .lifecycle(Lifecycle::Initialize)
        .request_timeout(limit)
        .in_process(Library::default());
    let client = Client::legacy("ann", upstream).await;
    let started = Instant::now();
    let ended = subscribe(&client).await;
    assert!(ended.is_err(), "{ended:?}");
    let took = started.elapsed();
    assert!(took >= limit && took < 2 * limit, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_for_a_subscription_hear_of_its_refusal() {
    let library = Library {
        refuses_after: Some(Duration::from_secs(1)),
        ..Library::default()
    };
    let events = library.events.clone();
    let upstream = Upstream::builder()
        .lifecycle(Lifecycle::Initialize)
        .in_process(library);
    let ann = Client::legacy("ann", upstream.clone()).await;
    let bob = Client::legacy("bob", upstream).await;
    // The clock stands still until both wait.
    let (anns, bobs) = tokio::join!(subscribe(&ann), subscribe(&bob));
    for outcome in [anns, bobs] {
        let refused = format!("{:?}", outcome.unwrap_err());
        assert!(refused.contains("no such resource"), "{refused}");
    }
    assert_eq!(events.count("subscribe"), 1, "they waited for the same");
}

/// Asks its caller, withdraws the question, and waits for the caller's user to be rid of it.
#[derive(Clone, Default)]
struct Withdraws(Events);

impl ServerHandler for Withdraws {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        _request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let request = CreateMessageRequest::new(question()).into();
        let options = PeerRequestOptions::no_options();
        let asked = context.peer.send_cancellable_request(request, options);
        let asked = asked.await.unwrap();
        self.0.until("asked").await;
        asked.cancel(Some("never mind".into())).await.unwrap();
        self.0.until("withdrawn").await;
        finished("done")
    }
}

/// A user who does not answer, until there is no question any more.
struct Ponders(Events);

impl ClientHandler for Ponders {
    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder().enable_sampling().build();
        ClientConfig::new(capabilities, Implementation::new("ponders", "0"))
    }

    async fn create_message(
        &self,
        _params: CreateMessageRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        self.0.note("asked");
        context.ct.cancelled().await;
        self.0.note("withdrawn");
        Err(ErrorData::internal_error("withdrawn", None))
    }
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_question_is_withdrawn_from_the_user() {
    let events = Events::default();
    let stack = McpServer::new(older(Withdraws(events.clone())));
    let user = Ponders(events.clone());
    let mode = ClientLifecycleMode::Initialize;
    let connecting = serve_client_with_lifecycle(user, pipe_to(stack), mode);
    let client = soon("connecting", connecting).await.unwrap();
    let call = client.call_tool_once(tool("any", json!({})));
    soon("an answer", call).await.unwrap();
    assert_eq!(events.count("withdrawn"), 1);
}

/// A server behind a proxy that loses it after it has taken a call, and says 503.
async fn behind_a_proxy(events: Events) -> String {
    let app = axum::Router::new().fallback(move |body: String| {
        let events = events.clone();
        async move {
            let message: Value = serde_json::from_str(&body).unwrap_or_default();
            match message["method"].as_str() {
                Some("tools/call") => {
                    events.note("ran");
                    Response::builder()
                        .status(503)
                        .body(Body::from("disconnect before headers"))
                }
                Some("initialize") => {
                    let result = json!({
                        "protocolVersion": "2025-11-25",
                        "capabilities": { "tools": {} },
                        "serverInfo": { "name": "proxied", "version": "1" },
                    });
                    let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
                    Response::builder()
                        .header("content-type", "application/json")
                        .body(Body::from(answer.to_string()))
                }
                _ => Response::builder().status(202).body(Body::empty()),
            }
            .unwrap()
        }
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test]
async fn a_503_proves_nothing() {
    let events = Events::default();
    let url = behind_a_proxy(events.clone()).await;
    let builder = Upstream::builder().lifecycle(Lifecycle::Initialize);
    let upstream = builder.http(url).unwrap();
    let call = McpRequest::call_tool("transfer").build();
    let answer = soon("an answer", upstream.oneshot(call)).await;
    assert!(answer.is_err());
    assert_ne!(Outcome::of(&answer).repeat(), Repeat::Always);
    assert_eq!(events.count("ran"), 1);
}

/// Keeps the log level that it is told.
#[derive(Clone, Default)]
struct Levels(Events);

impl ServerHandler for Levels {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_logging()
            .enable_tools()
            .build();
        ServerConfig::new(capabilities)
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.0.note(format!("{:?}", request.level));
        Ok(())
    }

    async fn call_tool(
        &self,
        _request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        finished("done")
    }
}

/// An upstream whose connection ends with the server's task.
fn mortal(server: Levels) -> (Upstream, Arc<Mutex<Option<AbortHandle>>>) {
    let alive = Arc::new(Mutex::new(None));
    let task = alive.clone();
    let builder = Upstream::builder().lifecycle(Lifecycle::Initialize);
    let upstream = builder.transport(move || {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let server = server.clone();
        server.0.note("connection");
        let serving = tokio::spawn(async move {
            if let Ok(running) = server.serve(far).await {
                let _ = running.waiting().await;
            }
        });
        *task.lock().unwrap() = Some(serving.abort_handle());
        async move { Ok::<_, io::Error>(near) }
    });
    (upstream, alive)
}

#[tokio::test(start_paused = true)]
async fn the_log_level_is_set_again_on_the_next_connection() {
    let server = Levels::default();
    let events = server.0.clone();
    let (upstream, alive) = mortal(server);
    let client = Client::legacy("ann", upstream).await;
    let level = SetLevelRequestParams::new(LoggingLevel::Debug);
    soon("setting the level", client.peer.set_level(level))
        .await
        .unwrap();
    assert_eq!(events.count("Debug"), 1);

    let task = alive.lock().unwrap().take();
    task.unwrap().abort();
    events.until_times("connection", 2).await;
    let result = client.call(tool("any", json!({}))).await;
    assert_eq!(text(&result), "done");
    events.until_times("Debug", 2).await;
}

/// Wants nothing but to be asked again.
#[derive(Clone, Default)]
struct Busy(Events);

impl ServerHandler for Busy {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        _request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.0.note("round");
        Ok(InputRequiredResult::new(None, Some("later".into())).into())
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_callers_empty_rounds_are_paced() {
    let server = Busy::default();
    let events = server.0.clone();
    let builder = Upstream::builder().lifecycle(Lifecycle::Discover);
    let client = Client::legacy("ann", builder.in_process(server)).await;
    let started = Instant::now();
    let call = client.peer.call_tool_once(tool("any", json!({})));
    let Err(ServiceError::McpError(error)) = soon("an answer", call).await else {
        panic!("a call without end");
    };
    let reserved = -32768..=-32000;
    assert!(!reserved.contains(&error.code.0), "{error:?}");
    assert_eq!(events.count("round"), DEFAULT_MRTR_MAX_ROUNDS + 1);
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
}

/// A caller that never takes what it is sent.
struct Stuck(Events);

impl CallerSink for Stuck {
    fn notify(&self, _notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        self.0.note("told");
        Box::pin(std::future::pending())
    }

    fn request(&self, _request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_takes_nothing_does_not_hold_its_call_past_the_limit() {
    let limit = Duration::from_secs(5);
    let builder = Upstream::builder().request_timeout(limit);
    let upstream = piped(builder, &Demo::default());
    let events = Events::default();
    let call = McpRequest::call_tool("progress")
        .argument("count", 3)
        .progress_token(token("mine"))
        .caller(Caller::new(Stuck(events.clone())))
        .build();
    let started = Instant::now();
    let answer = soon("an answer", upstream.oneshot(call)).await;
    assert_eq!(said(answer), "reported");
    assert_eq!(events.count("told"), 1);
    let took = started.elapsed();
    assert!(took < 2 * limit, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_takes_nothing_does_not_hold_its_call_past_the_connection() {
    // No limit ends this call.
    let builder = Upstream::builder().request_timeout(Duration::MAX);
    let upstream = piped(builder, &Demo::default());
    let events = Events::default();
    let call = McpRequest::call_tool("slow")
        .argument("count", 1)
        .argument("rest", 3_600_000)
        .progress_token(token("mine"))
        .caller(Caller::new(Stuck(events.clone())))
        .build();
    let call = tokio::spawn(upstream.clone().oneshot(call));
    events.until("told").await;
    soon("closing", upstream.close()).await;
    let ended = soon("the call's end", call).await.unwrap();
    let kind = ended.unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::Transport), "{kind:?}");
}

/// A server that announces no changes.
struct Plain;
impl ServerHandler for Plain {}

#[tokio::test(start_paused = true)]
async fn a_handshake_waits_for_no_listen_where_there_is_none() {
    let begun = tokio::time::Instant::now();
    let client = Client::legacy("Ann", Handler::new(Plain)).await;
    assert!(client.peer.peer_info().is_some());
    assert!(begun.elapsed() < Duration::from_millis(100));
}
