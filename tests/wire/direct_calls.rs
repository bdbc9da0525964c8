//! Short calls that the transport serves itself, and those that rmcp goes on with.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rmcp::{
    ServiceExt,
    model::{
        LoggingLevel, LoggingMessageNotificationParam, NumberOrString, ProgressNotification,
        ProgressNotificationParam, ProgressToken, ServerNotification,
    },
    transport::{
        StreamableHttpServerConfig,
        streamable_http_server::session::local::{LocalSessionManager, SessionConfig},
    },
};
use rmcp_layers::{CallContext, LenientHttpLayer, Lines, McpServer, from_fn};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;

use crate::{
    common::{Stack, soon},
    http_callers::Door,
    peers::{Caller, LEGACY, MODERN, Road, Server},
};

const RESULT: &str =
    r#"{"content":[{"type":"text","text":"a","n":1.50}],"z":12345678901234567890123}"#;

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"raw","version":"0"},"io.modelcontextprotocol/clientCapabilities":{}}"#;

/// What the tools of the stack wait for, and what has become of them.
#[derive(Clone, Default)]
struct Gate {
    /// Lets a call of `wait` end.
    open: Arc<Notify>,
    /// A call of `wait` has begun.
    begun: Arc<Notify>,
    /// A call of `wait` was dropped.
    dropped: Arc<AtomicBool>,
    /// The number of calls of `wait` that are there.
    waiting: Arc<AtomicUsize>,
}

struct Waiting {
    gate: Gate,
    is_over: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.gate.waiting.fetch_sub(1, Ordering::SeqCst);
        if !self.is_over {
            self.gate.dropped.store(true, Ordering::SeqCst);
        }
    }
}

impl Gate {
    /// A stack over a server whose every result is [`RESULT`]. Some tools do more before it:
    /// `progress` says so twice, `log` logs, `ask` asks for the roots, `wait` waits.
    async fn stack(&self) -> impl Stack + Sync + use<> {
        let (server, _) = Server::answering(LEGACY, RESULT);
        let gate = self.clone();
        ServiceBuilder::new()
            .layer(from_fn(move |request, next| {
                let gate = gate.clone();
                async move {
                    let tool = request.target().unwrap_or_default().to_owned();
                    let context: &CallContext = &request.context;
                    match tool.as_str() {
                        "progress" => {
                            for step in [1.0, 2.0] {
                                context.caller.notify(progress(context, step)).await?;
                            }
                        }
                        "log" => {
                            let line = LoggingMessageNotificationParam::new(
                                LoggingLevel::Info,
                                json!("here"),
                            );
                            let line = rmcp::model::LoggingMessageNotification::new(line);
                            context.caller.notify(line.into()).await?;
                        }
                        "ask" => {
                            let roots = rmcp::model::ListRootsRequest::default();
                            context.caller.request(roots.into()).await?;
                        }
                        "wait" => {
                            gate.waiting.fetch_add(1, Ordering::SeqCst);
                            let mut waiting = Waiting {
                                gate: gate.clone(),
                                is_over: false,
                            };
                            gate.begun.notify_one();
                            gate.open.notified().await;
                            waiting.is_over = true;
                        }
                        _ => {}
                    }
                    next.run(request).await
                }
            }))
            .service(server.by(Road::Lines).await)
    }

    async fn door(&self) -> Door {
        Door::to(self.stack().await).await
    }

    /// Waits until no call of `wait` is there.
    async fn empty(&self) {
        let empty = async {
            while self.waiting.load(Ordering::SeqCst) > 0 {
                tokio::task::yield_now().await;
            }
        };
        soon("the end of the calls", empty).await;
    }
}

fn progress(context: &CallContext, step: f64) -> ServerNotification {
    let token = context.progress_token();
    let token = token.unwrap_or(ProgressToken(NumberOrString::Number(0)));
    ProgressNotification::new(ProgressNotificationParam::new(token, step)).into()
}

fn call(id: u64, tool: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","_meta":{{"progressToken":"p{id}"}}}}}}"#
    )
}

fn cancel(id: impl std::fmt::Display) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
    )
}

fn modern_call(id: u64, tool: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{{META},"name":"{tool}"}}}}"#
    )
}

/// The messages on a response.
fn messages(response: &str) -> Vec<Value> {
    let data = response
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|text| serde_json::from_str(text).ok())
        .collect()
}

fn status(response: &str) -> &str {
    &response[9..12]
}

/// Reads a response up to the end of its head.
async fn head(response: &mut TcpStream) -> String {
    let mut heard = String::new();
    while !heard.contains("\r\n\r\n") {
        let mut piece = [0; 4096];
        let read = soon("a head", response.read(&mut piece)).await.unwrap();
        assert!(read > 0, "{heard}");
        heard.push_str(std::str::from_utf8(&piece[..read]).unwrap());
    }
    heard
}

/// Returns `true` if rmcp has written a response: it does not know the length of its streams.
fn is_from_rmcp(response: &str) -> bool {
    !response.contains("content-length")
}

#[tokio::test]
async fn a_short_call_is_answered_with_one_event_that_is_the_servers_text() {
    let door = Gate::default().door().await;
    let session = door.session().await;
    for id in 1..4 {
        let response = door.post(call(id, "t").as_bytes(), Some(&session)).await;
        assert_eq!(status(&response), "200", "{response}");
        let expected = format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{RESULT}}}\n\n");
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, expected);
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        assert!(!is_from_rmcp(head), "{head}");
    }
}

#[tokio::test]
async fn a_short_call_without_a_session_is_answered_as_configured() {
    let (server, _) = Server::answering(MODERN, RESULT);
    let stack = server.by(Road::Lines).await;
    let (events, json) = (Door::to(stack.clone()).await, Door::json(stack).await);
    for id in 1..4 {
        let text = modern_call(id, "t");
        let event = events.post_modern(&text, "tools/call", "t").await;
        let json = json.post_modern(&text, "tools/call", "t").await;
        let is_direct = id > 1;
        assert_eq!(!is_from_rmcp(&event), is_direct, "{event}");
        let event = messages(&event).pop().unwrap();
        let json: Value = serde_json::from_str(json.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(event, json);
        assert_eq!(event["id"], id);
        assert_eq!(event["result"]["content"][0]["text"], "a");
        assert_eq!(event["result"]["resultType"], "complete");
    }
}

#[tokio::test]
async fn messages_of_a_call_precede_its_answer_on_its_response() {
    let door = Gate::default().door().await;
    let session = door.session().await;
    for id in 1..4 {
        let response = door
            .post(call(id, "progress").as_bytes(), Some(&session))
            .await;
        let messages = messages(&response);
        let steps: Vec<_> = messages[..messages.len() - 1]
            .iter()
            .map(|message| {
                assert_eq!(message["params"]["progressToken"], format!("p{id}"));
                message["params"]["progress"].as_f64().unwrap()
            })
            .collect();
        assert_eq!(steps, [1.0, 2.0], "{response}");
        assert_eq!(
            messages.last().unwrap()["result"]["content"][0]["text"],
            "a"
        );
    }
    let mut caller = Caller::legacy(Gate::default().stack().await).await;
    for _ in 0..3 {
        let members = r#""name":"progress","_meta":{"progressToken":7}"#;
        let answer = caller.ask("tools/call", members).await;
        assert!(answer.contains(RESULT), "{answer}");
        let heard = caller.heard.split_off(caller.heard.len() - 3);
        assert!(heard[0].contains(r#""progress":1"#), "{heard:?}");
        assert!(heard[1].contains(r#""progress":2"#), "{heard:?}");
    }
}

#[tokio::test]
async fn a_call_may_ask_its_caller_over_http_and_over_lines() {
    let door = Gate::default().door().await;
    let session = door.session_with(r#"{"roots":{}}"#).await;
    for id in 1..3 {
        let headers = format!("mcp-session-id: {session}\r\n");
        let mut response = door.begin(call(id, "ask").as_bytes(), &headers).await;
        let mut heard = String::new();
        let question = loop {
            let mut piece = [0; 4096];
            let read = soon("a question", response.read(&mut piece)).await.unwrap();
            assert!(read > 0, "{heard}");
            heard.push_str(std::str::from_utf8(&piece[..read]).unwrap());
            let found = messages(&heard)
                .into_iter()
                .find(|it| it["method"] == "roots/list");
            if let Some(question) = found {
                break question;
            }
        };
        let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}});
        let taken = door
            .post(answer.to_string().as_bytes(), Some(&session))
            .await;
        assert_eq!(status(&taken), "202", "{taken}");
        soon("the answer", response.read_to_string(&mut heard))
            .await
            .unwrap();
        assert!(heard.contains(RESULT), "{heard}");
    }

    let stack = Gate::default().stack().await;
    let mut caller = Caller::legacy_with(stack, r#"{"roots":{}}"#).await;
    for _ in 0..2 {
        caller.send("tools/call", r#""name":"ask""#).await;
        let question: Value = serde_json::from_str(&caller.hear("roots/list").await).unwrap();
        let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}});
        caller.write(&answer.to_string()).await;
        let answer = caller.line().await;
        assert!(answer.contains(RESULT), "{answer}");
    }
}

#[tokio::test]
async fn an_error_of_a_short_call_is_the_stacks() {
    let (server, _) = Server::new(LEGACY, |_| {
        vec![
            r#"{"jsonrpc":"2.0","id":$request_id,"error":{"code":-7,"message":"no","data":[1]}}"#
                .into(),
        ]
    });
    let stack = server.by(Road::Lines).await;
    let door = Door::to(stack.clone()).await;
    let session = door.session().await;
    let mut caller = Caller::legacy(stack).await;
    for id in 1..3 {
        let response = door.post(call(id, "t").as_bytes(), Some(&session)).await;
        let over_http = messages(&response).pop().unwrap();
        let over_lines = caller.ask("tools/call", r#""name":"t""#).await;
        let over_lines: Value = serde_json::from_str(&over_lines).unwrap();
        for answer in [over_http, over_lines] {
            assert_eq!(answer["error"]["code"], -7, "{answer}");
            assert_eq!(answer["error"]["data"], json!([1]), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_call_is_cancelled_by_its_caller_before_rmcp_knows_it() {
    let gate = Gate::default();
    let door = gate.door().await;
    let session = door.session().await;
    let headers = format!("mcp-session-id: {session}\r\n");
    let mut response = door.begin(call(5, "wait").as_bytes(), &headers).await;
    soon("the call", gate.begun.notified()).await;
    let cancelled = cancel(5);
    door.post(cancelled.as_bytes(), Some(&session)).await;
    let mut heard = String::new();
    soon("the end", response.read_to_string(&mut heard))
        .await
        .unwrap();
    assert!(gate.dropped.load(Ordering::SeqCst));
    assert!(messages(&heard).is_empty(), "{heard}");

    let gate = Gate::default();
    let mut caller = Caller::legacy(gate.stack().await).await;
    let id = caller.send("tools/call", r#""name":"wait""#).await;
    soon("the call", gate.begun.notified()).await;
    caller.write(&cancel(id)).await;
    let answer = caller.ask("tools/call", r#""name":"t""#).await;
    assert!(answer.contains(RESULT), "{answer}");
    assert!(gate.dropped.load(Ordering::SeqCst));
    let first = format!(r#""id":{id},"#);
    assert!(caller.heard.iter().all(|line| !line.contains(&first)));
}

#[tokio::test]
async fn a_lost_connection_cancels_a_call_without_a_session_and_no_other() {
    let gate = Gate::default();
    let door = gate.door().await;
    let session = door.session().await;
    let headers = format!("mcp-session-id: {session}\r\n");
    let response = door.begin(call(1, "wait").as_bytes(), &headers).await;
    soon("the call", gate.begun.notified()).await;
    drop(response);
    // The server has seen the end once it has answered on another connection.
    door.post(call(2, "t").as_bytes(), Some(&session)).await;
    assert!(!gate.dropped.load(Ordering::SeqCst));
    gate.open.notify_one();

    let gate = Gate::default();
    let door = gate.door().await;
    door.post_modern(&modern_call(1, "t"), "tools/call", "t")
        .await;
    let headers =
        "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: wait\r\n";
    let response = door.begin(modern_call(2, "wait").as_bytes(), headers).await;
    soon("the call", gate.begun.notified()).await;
    drop(response);
    let dropped = async {
        while !gate.dropped.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    };
    soon("the cancellation", dropped).await;
}

#[tokio::test]
async fn a_call_that_takes_long_has_a_response_before_its_answer() {
    let gate = Gate::default();
    let door = gate.door().await;
    let session = door.session().await;
    let headers = format!("mcp-session-id: {session}\r\n");
    let mut response = door.begin(call(1, "wait").as_bytes(), &headers).await;
    let mut heard = head(&mut response).await;
    assert_eq!(status(&heard), "200", "{heard}");
    gate.open.notify_one();
    soon("the answer", response.read_to_string(&mut heard))
        .await
        .unwrap();
    assert!(heard.contains(RESULT), "{heard}");
}

#[tokio::test]
async fn what_rmcp_refuses_is_not_served_directly() {
    let door = Gate::default().door().await;
    let session = door.session().await;
    let body = call(1, "t");
    let served = door.post(body.as_bytes(), Some(&session)).await;
    assert!(!is_from_rmcp(&served), "{served}");
    let post = async |head: &str| {
        let head = format!("{head}mcp-session-id: {session}\r\n");
        let mut response = door.begin_with(body.as_bytes(), &head).await;
        let mut heard = String::new();
        soon("a response", response.read_to_string(&mut heard))
            .await
            .unwrap();
        heard
    };
    const ACCEPT: &str = "accept: application/json, text/event-stream\r\n";
    const TYPE: &str = "content-type: application/json\r\n";
    for (head, refused) in [
        (format!("host: localhost\r\n{ACCEPT}{TYPE}"), "200"),
        (format!("host: evil.example\r\n{ACCEPT}{TYPE}"), "403"),
        (
            format!("host: localhost\r\naccept: application/json\r\n{TYPE}"),
            "406",
        ),
        (
            format!("host: localhost\r\n{ACCEPT}{TYPE}mcp-protocol-version: 2020-01-01\r\n"),
            "400",
        ),
    ] {
        let response = post(&head).await;
        assert_eq!(status(&response), refused, "{head}: {response}");
    }
    let other = door.post(body.as_bytes(), Some("another")).await;
    assert_eq!(status(&other), "404", "{other}");
    let client = reqwest::Client::new();
    let deleted = client
        .delete(door.url())
        .header("mcp-session-id", &session)
        .send()
        .await
        .unwrap();
    assert!(deleted.status().is_success());
    let over =
        async { while status(&door.post(body.as_bytes(), Some(&session)).await) != "404" {} };
    soon("the end of the session", over).await;
}

#[tokio::test]
async fn headers_that_contradict_a_call_without_a_session_are_refused() {
    let (server, _) = Server::answering(MODERN, RESULT);
    let door = Door::to(server.by(Road::Lines).await).await;
    let text = modern_call(1, "t");
    for (method, name, expected) in [
        ("tools/call", "t", "200"),
        ("tools/call", "t", "200"),
        ("tools/call", "other", "400"),
        ("prompts/get", "t", "400"),
        ("tools/call", "=?base64?dA==?=", "200"),
    ] {
        let response = door.post_modern(&text, method, name).await;
        assert_eq!(status(&response), expected, "{method} {name}: {response}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_with_short_calls_does_not_count_as_idle() {
    let stack = Gate::default().stack().await;
    let mut sessions = LocalSessionManager::default();
    let mut config = SessionConfig::default();
    config.keep_alive = Some(Duration::from_secs(5));
    sessions.session_config = config;
    let server = McpServer::new(stack);
    let service = server.http_service(Arc::new(sessions), StreamableHttpServerConfig::default());
    let door = Door::over(service, LenientHttpLayer::new()).await;
    let session = door.session().await;
    for id in 1..60 {
        tokio::time::advance(Duration::from_millis(500)).await;
        let response = door.post(call(id, "t").as_bytes(), Some(&session)).await;
        assert_eq!(status(&response), "200", "{id}: {response}");
    }
}

#[tokio::test]
async fn calls_in_flight_over_lines_are_answered_when_the_caller_has_ended() {
    let gate = Gate::default();
    let mut caller = Caller::legacy(gate.stack().await).await;
    caller.send("tools/call", r#""name":"wait""#).await;
    soon("the call", gate.begun.notified()).await;
    caller.shut().await;
    gate.open.notify_one();
    let answer = caller.line().await;
    assert!(answer.contains(RESULT), "{answer}");
}

#[tokio::test]
async fn the_session_header_of_a_request_without_a_session_names_none() {
    let gate = Gate::default();
    let door = gate.door().await;
    let session = door.session().await;
    let headers = format!("mcp-session-id: {session}\r\n");
    let response = door.begin(call(5, "wait").as_bytes(), &headers).await;
    soon("the call", gate.begun.notified()).await;
    let cancelled = cancel(5);
    let headers = format!(
        "mcp-protocol-version: 2026-07-28\r\nmcp-method: notifications/cancelled\r\n{headers}"
    );
    let mut taken = door.begin(cancelled.as_bytes(), &headers).await;
    assert_eq!(status(&head(&mut taken).await), "202");
    door.post(call(6, "t").as_bytes(), Some(&session)).await;
    assert!(!gate.dropped.load(Ordering::SeqCst));
    drop(response);

    let modern = "2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: wait";
    for (revision, header) in [(MODERN, modern), (LEGACY, LEGACY)] {
        let headers = format!("mcp-protocol-version: {header}\r\nmcp-session-id: other\r\n");
        let text = modern_call(1, "wait").replace(MODERN, revision);
        let _response = door.begin(text.as_bytes(), &headers).await;
        soon("the call", gate.begun.notified()).await;
        for (text, refused) in [(modern_call(2, "t"), "400"), (call(3, "t"), "404")] {
            let response = door.post(text.as_bytes(), Some("other")).await;
            assert_eq!(status(&response), refused, "{revision}: {response}");
        }
    }
}

#[tokio::test]
async fn a_deleted_session_serves_no_call_and_keeps_none() {
    let gate = Gate::default();
    let door = gate.door().await;
    let session = door.session().await;
    let headers = format!("mcp-session-id: {session}\r\n");
    let mut first = door.begin(call(1, "wait").as_bytes(), &headers).await;
    soon("the call", gate.begun.notified()).await;
    // rmcp serves the call from here on, and keeps the session's server for it.
    head(&mut first).await;
    let mut second = door.begin(call(2, "wait").as_bytes(), &headers).await;
    soon("the call", gate.begun.notified()).await;
    let deleted = reqwest::Client::new()
        .delete(door.url())
        .header("mcp-session-id", &session)
        .send()
        .await
        .unwrap();
    assert!(deleted.status().is_success());
    let response = door.post(call(3, "t").as_bytes(), Some(&session)).await;
    assert_eq!(status(&response), "404", "{response}");
    let second = head(&mut second).await;
    assert_eq!(status(&second), "404", "{second}");
    gate.empty().await;
}

#[tokio::test]
async fn a_service_that_was_cancelled_serves_no_call() {
    let (server, _) = Server::answering(MODERN, RESULT);
    let token = CancellationToken::new();
    let config = StreamableHttpServerConfig::default().with_cancellation_token(token.clone());
    let server = McpServer::new(server.by(Road::Lines).await);
    let service = server.http_service(Arc::new(LocalSessionManager::default()), config);
    let door = Door::over(service, LenientHttpLayer::new()).await;
    let mut statuses = Vec::new();
    for id in 1..4 {
        if id == 3 {
            token.cancel();
        }
        let text = modern_call(id, "t");
        let response = door.post_modern(&text, "tools/call", "t").await;
        statuses.push(status(&response).to_owned());
    }
    assert_eq!(statuses, ["200", "200", "500"]);
}

#[tokio::test]
async fn a_control_character_in_a_method_is_not_json() {
    let door = Gate::default().door().await;
    let session = door.session().await;
    let mut caller = Caller::legacy(Gate::default().stack().await).await;
    for text in [
        "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"x\ty\",\"params\":{}}",
        "{\"method\":\"tools/call\u{1}\",\"params\":{},\"jsonrpc\":\"2.0\",\"id\":7}",
    ] {
        let response = door.post(text.as_bytes(), Some(&session)).await;
        assert_eq!(status(&response), "400", "{response}");
        assert!(response.contains("-32700"), "{response}");
        caller.write(text).await;
        let answer = caller.line().await;
        assert!(answer.contains("-32700"), "{answer}");
    }
}

/// Two workers, so that a call may be handed over while the caller's next line is read. Their time
/// cannot be paused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_cancelled_while_it_is_handed_over_ends() {
    let gate = Gate::default();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = McpServer::new(gate.stack().await);
    tokio::spawn(async move {
        let lines = Lines::from(tokio::io::split(far));
        server.serve(lines).await.unwrap().waiting().await
    });
    let (mut read, mut write) = tokio::io::split(near);
    tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
    let initialize = format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{LEGACY}","capabilities":{{}},"clientInfo":{{"name":"raw","version":"0"}}}}}}"#
    );
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let first = format!("{initialize}\n{initialized}\n");
    write.write_all(first.as_bytes()).await.unwrap();
    for round in 0..6 {
        let ids = (1..=400).map(|id| 1000 * round + id);
        let calls: String = ids.clone().map(|id| call(id, "wait") + "\n").collect();
        let cancels: String = ids.map(|id| cancel(id) + "\n").collect();
        let handover = Instant::now() + Duration::from_millis(100);
        write.write_all(calls.as_bytes()).await.unwrap();
        tokio::time::sleep_until(handover).await;
        write.write_all(cancels.as_bytes()).await.unwrap();
        gate.empty().await;
    }
}
