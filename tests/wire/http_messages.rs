//! Messages of callers over streamable HTTP, in both directions.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use axum::body::{Body, Bytes};
use rmcp::{
    model::{CallToolResult, ContentBlock, ServerResult},
    transport::{
        StreamableHttpServerConfig, streamable_http_server::session::local::LocalSessionManager,
    },
};
use rmcp_layers::{LenientHttpLayer, McpRequest, McpResponse, McpServer, Upstream};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpStream, sync::Notify};
use tower::{Layer, ServiceExt};

use crate::{
    common::soon,
    http_callers::Door,
    peers::{Caller, LEGACY, MODERN, Road, Server},
};

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"raw","version":"0"},"io.modelcontextprotocol/clientCapabilities":{}}"#;

/// A result with what no type of rmcp has a place for.
const RESULT: &str = r#"{"z":1,"content":[{"type":"text","text":"a","n":1.50},{"type":"hologram","depth":12345678901234567890123}],"_meta":{"b":1,"a":[1e3]},"a":null}"#;

/// The status and the body of a response.
fn parts(response: &str) -> (u16, &str) {
    let status = response[9..12].parse().unwrap();
    (status, response.split_once("\r\n\r\n").unwrap().1)
}

/// Reads a response until it has `needle`.
async fn until(tcp: &mut TcpStream, needle: &str) -> String {
    let mut heard = String::new();
    while !heard.contains(needle) {
        let mut piece = vec![0; 4096];
        let read = soon(needle, tcp.read(&mut piece)).await.unwrap();
        assert!(read > 0, "the end before {needle}: {heard}");
        heard.push_str(std::str::from_utf8(&piece[..read]).unwrap());
    }
    heard
}

fn call(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"t"}}}}"#)
}

fn modern_call(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{{META},"name":"t"}}}}"#)
}

#[tokio::test]
async fn what_cannot_be_read_is_answered_alike_over_lines_and_over_http() {
    let (server, mut seen) = Server::answering(LEGACY, RESULT);
    let stack = server.by(Road::Lines).await;
    let mut line = Caller::legacy(stack.clone()).await;
    let door = Door::to(stack).await;
    let session = door.session().await;
    for (body, code) in [
        ("{", -32700),
        (r#"{"jsonrpc":"2.0","id":3,"method":"ping""#, -32700),
        (
            r#"{"jsonrpc":"2.0","id":3,"method":"x","params":{"a":01}}"#,
            -32700,
        ),
        ("7", -32600),
        ("[]", -32600),
        (r#"[{"jsonrpc":"2.0","id":3,"method":"ping"}]"#, -32600),
        ("{}", -32600),
        (r#"{"id":3,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"1.0","id":3,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":3}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":3,"method":null}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":3,"result":{},"error":{}}"#, -32600),
        (
            r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"t"},"result":{}}"#,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":3,"method":"ping","error":{"code":1,"message":"m"}}"#,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":3,"method":"initialize","params":{"protocolVersion":5}}"#,
            -32602,
        ),
        (r#"{"jsonrpc":"2.0","id":3,"method":"initialize"}"#, -32602),
        (
            r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"t","arguments":5}}"#,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"t","requestState":5}}"#,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":3.5,"method":"tools/call","params":["t"]}"#,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":3,"method":"resources/subscribe","params":{"uri":"a:b","_meta":1}}"#,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":3,"method":"logging/setLevel","params":{"level":"loud"}}"#,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":3,"method":"tools/list","params":{"cursor":1}}"#,
            -32602,
        ),
    ] {
        line.write(body).await;
        let over_lines: Value = serde_json::from_str(&line.line().await).unwrap();
        assert_eq!(over_lines["error"]["code"], code, "{body}: {over_lines}");
        let response = door.post(body.as_bytes(), Some(&session)).await;
        let (status, answer) = parts(&response);
        let is_in_band = code == -32602 && !body.contains("initialize");
        assert_eq!(
            status,
            if is_in_band { 200 } else { 400 },
            "{body}: {response}"
        );
        let message = match is_in_band {
            true => answer
                .rsplit_once("data: ")
                .unwrap()
                .1
                .lines()
                .next()
                .unwrap(),
            false => answer,
        };
        let over_http: Value = serde_json::from_str(message).unwrap();
        assert_eq!(over_http, over_lines, "{body}");
    }
    // Both go on.
    let response = door.post(call("4").as_bytes(), Some(&session)).await;
    assert!(response.contains(RESULT), "{response}");
    assert!(
        line.ask("tools/call", r#""name":"t""#)
            .await
            .contains(RESULT)
    );
    seen.next("tools/call").await;
}

#[tokio::test]
async fn an_id_of_any_legal_kind_comes_back_as_it_was() {
    let (server, _) = Server::new(MODERN, |request| match request["params"]["name"].as_str() {
        Some("t") => vec![format!(
            r#"{{"jsonrpc":"2.0","id":$request_id,"result":{RESULT}}}"#
        )],
        _ => vec![
            r#"{"jsonrpc":"2.0","id":$request_id,"error":{"code":-5,"message":"no"}}"#.to_owned(),
        ],
    });
    let stack = server.by(Road::Lines).await;
    let doors = [Door::to(stack.clone()).await, Door::json(stack).await];
    let session = doors[0].session().await;
    for id in [
        "1.5",
        "-0.0",
        "1e3",
        "1180591620717411303424",
        "7",
        "-7",
        r#""""#,
        r#""7""#,
        r#""é\n""#,
        r#""\u0001rmcp-layers/id:7""#,
    ] {
        let expected = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"#);
        let failed = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"#);
        for door in &doors {
            let response = door.post_modern(&modern_call(id), "tools/call", "t").await;
            assert!(response.contains(&expected), "{id}: {response}");
            let failing = modern_call(id).replace(r#""name":"t""#, r#""name":"u""#);
            let response = door.post_modern(&failing, "tools/call", "u").await;
            assert!(response.contains(&failed), "{id}: {response}");
        }
        let response = doors[0].post(call(id).as_bytes(), Some(&session)).await;
        assert!(response.contains(&expected), "{id}: {response}");
        let ping = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
        let response = doors[0].post(ping.as_bytes(), Some(&session)).await;
        assert!(response.contains(&expected), "{id}: {response}");
    }
}

#[tokio::test]
async fn a_result_leaves_as_its_text_over_http() {
    let pretty = RESULT.replace("{\"type\"", "\r  {\r\"type\"");
    for (revision, result) in [(MODERN, RESULT), (LEGACY, RESULT), (MODERN, &pretty)] {
        let (server, _) = Server::answering(revision, result);
        let stack = server.by(Road::Lines).await;
        for door in [
            Door::to(stack.clone()).await,
            Door::json(stack.clone()).await,
        ] {
            let session = door.session().await;
            let modern = door.post_modern(&modern_call("1"), "tools/call", "t").await;
            let legacy = door.post(call("1").as_bytes(), Some(&session)).await;
            for response in [modern, legacy] {
                let (status, body) = parts(&response);
                assert_eq!(status, 200);
                let body = match response.contains("application/json") {
                    true => {
                        let length = format!("content-length: {}\r\n", body.len());
                        assert!(response.contains(&length), "{response}");
                        body.to_owned()
                    }
                    false => {
                        let data = body.split("data: ").find(|it| it.contains("hologram"));
                        data.unwrap().lines().next().unwrap().to_owned()
                    }
                };
                let kept = RESULT
                    .strip_suffix('}')
                    .unwrap()
                    .replace([' ', '\n', '\r'], "");
                assert!(
                    body.replace([' ', '\n', '\r'], "").contains(&kept),
                    "{body}"
                );
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_comes_on_another_stream_leaves_as_its_text() {
    let (server, mut seen) = Server::answering(LEGACY, RESULT);
    let gate = Arc::new(Notify::new());
    let stack = server.by(Road::Lines).await;
    let opened = gate.clone();
    let stack = stack.then(move |answer| {
        let opened = opened.clone();
        async move {
            opened.notified().await;
            answer
        }
    });
    // A listen waits at the gate too.
    let door = Door::to(stack).await;
    let initializing = tokio::spawn({
        let gate = gate.clone();
        async move {
            loop {
                gate.notify_one();
                tokio::task::yield_now().await;
            }
        }
    });
    let session = door.session().await;
    initializing.abort();
    let _ = initializing.await;
    let headers = format!("mcp-session-id: {session}\r\n");
    let mut post = door.begin(call("1.5").as_bytes(), &headers).await;
    let begun = until(&mut post, "id: 0/").await;
    let event = begun.split("id: ").nth(1).unwrap().lines().next().unwrap();
    seen.next("tools/call").await;
    drop(post);
    let resumed = format!("last-event-id: {event}\r\n");
    let mut stream = door.listen_from(&session, &resumed).await;
    until(&mut stream, "200 OK").await;
    let answer = format!(r#"data: {{"jsonrpc":"2.0","id":1.5,"result":{RESULT}}}"#);
    let heard = soon("an answer", async {
        let mut heard = String::new();
        while !heard.contains("hologram") {
            gate.notify_one();
            let mut piece = vec![0; 4096];
            tokio::select! {
                read = stream.read(&mut piece) => {
                    let read = read.unwrap();
                    assert!(read > 0, "{heard}");
                    heard.push_str(std::str::from_utf8(&piece[..read]).unwrap());
                }
                () = tokio::task::yield_now() => {}
            }
        }
        heard
    })
    .await;
    assert!(heard.contains(&answer), "{heard}");
}

/// A server that asks its client before it answers a call.
fn asking(method: &'static str, params: &'static str) -> (Server, crate::peers::Seen) {
    let asked = Arc::new(Mutex::new(Value::Null));
    Server::new(LEGACY, move |message| {
        let mut asked = asked.lock().unwrap();
        match message["method"].as_str() {
            Some("tools/call") => {
                *asked = message["id"].clone();
                let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1,"x":1.50}}"#;
                let question = format!(
                    r#"{{"jsonrpc":"2.0","id":"q","method":"{method}","params":{params}}}"#
                );
                vec![log.to_owned(), question]
            }
            Some(_) => Vec::new(),
            None => vec![format!(
                r#"{{"jsonrpc":"2.0","id":{asked},"result":{RESULT}}}"#
            )],
        }
    })
}

const QUESTIONS: [(&str, &str, &str); 3] = [
    (
        "sampling/createMessage",
        r#"{"messages":[],"maxTokens":1,"x":{"b":1,"a":2}}"#,
        r#"{"model":"m","role":"assistant","content":{"type":"text","text":"a","n":1},"x":[{"b":1,"a":2}],"_meta":{"k":1}}"#,
    ),
    (
        "elicitation/create",
        r#"{"message":"m","requestedSchema":{"type":"object","properties":{}},"x":1}"#,
        r#"{"action":"accept","content":{"b":1,"a":2},"x":1}"#,
    ),
    (
        "roots/list",
        r#"{"x":1}"#,
        r#"{"roots":[{"uri":"file:///a","name":"a","x":1}]}"#,
    ),
];

#[tokio::test]
async fn a_question_to_a_caller_and_its_answer_lose_nothing_over_http() {
    for (method, params, answer) in QUESTIONS {
        let (server, mut seen) = asking(method, params);
        let door = Door::to(server.by(Road::Lines).await).await;
        let session = door
            .session_with(r#"{"sampling":{},"elicitation":{},"roots":{}}"#)
            .await;
        let headers = format!("mcp-session-id: {session}\r\n");
        let mut stream = door.listen(&session).await;
        let mut post = door.begin(call("1").as_bytes(), &headers).await;
        let log = r#"{"level":"info","data":1,"x":1.50}"#;
        let log = format!(
            r#""params":{}"#,
            serde_json::from_str::<Value>(log).unwrap()
        );
        until(&mut stream, &log).await;
        let question = until(&mut post, method).await;
        let question = question
            .rsplit_once("data: ")
            .unwrap()
            .1
            .lines()
            .next()
            .unwrap();
        let question: Value = serde_json::from_str(question).unwrap();
        let sent: Value = serde_json::from_str(params).unwrap();
        let mut got = question["params"].clone();
        if let Some(members) = got.as_object_mut() {
            members.shift_remove("_meta");
        }
        assert_eq!(got, sent, "{question}");
        let id = &question["id"];
        let reply = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{answer}}}"#);
        let accepted = door.post(reply.as_bytes(), Some(&session)).await;
        assert_eq!(parts(&accepted).0, 202, "{accepted}");
        let result = loop {
            let message: Value = serde_json::from_str(&seen.any().await).unwrap();
            if message["id"] == "q" {
                break message["result"].to_string();
            }
        };
        assert_eq!(result, answer, "{method}");
        until(&mut post, RESULT).await;
    }
}

#[tokio::test]
async fn progress_loses_nothing_and_stays_on_the_stream_of_its_request() {
    let (server, _) = Server::new(LEGACY, |request| {
        let token = &request["params"]["_meta"]["progressToken"];
        let progress = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1,"x":{{"b":1,"a":2}}}}}}"#
        );
        let answer = format!(r#"{{"jsonrpc":"2.0","id":$request_id,"result":{RESULT}}}"#);
        vec![progress, answer]
    });
    let stack = server.by(Road::Lines).await;
    let door = Door::to(stack).await;
    let session = door.session().await;
    let token = r#""_meta":{"progressToken":"p"},"name""#;
    let asked = call("1").replace(r#""name""#, token);
    let legacy = door.post(asked.as_bytes(), Some(&session)).await;
    let meta = META.strip_suffix('}').unwrap();
    let meta = format!(r#"{meta},"progressToken":"p"}},"name""#);
    let asked = call("1").replace(r#""name""#, &meta);
    let modern = door.post_modern(&asked, "tools/call", "t").await;
    for response in [legacy, modern] {
        let kept = RESULT.trim_matches(['{', '}']);
        let (progress, rest) = response.split_once(kept).expect("a result");
        assert!(!rest.contains("notifications/progress"), "{response}");
        assert!(progress.contains(r#""progressToken":"p""#), "{response}");
        assert!(progress.contains(r#""x":{"b":1,"a":2}"#), "{response}");
        assert!(!response.contains("rmcp-layers"), "{response}");
    }
}

#[tokio::test]
async fn a_callers_answer_that_cannot_be_read_fails_the_question() {
    let (server, mut seen) = asking("roots/list", "{}");
    let door = Door::to(server.by(Road::Lines).await).await;
    let session = door.session_with(r#"{"roots":{}}"#).await;
    let headers = format!("mcp-session-id: {session}\r\n");
    let mut post = door.begin(call("1").as_bytes(), &headers).await;
    let question = until(&mut post, "roots/list").await;
    let question = question
        .rsplit_once("data: ")
        .unwrap()
        .1
        .lines()
        .next()
        .unwrap();
    let id = serde_json::from_str::<Value>(question).unwrap()["id"].clone();
    let reply = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"roots":01}}}}"#);
    let refused = door.post(reply.as_bytes(), Some(&session)).await;
    assert_eq!(parts(&refused).0, 400, "{refused}");
    loop {
        let message: Value = serde_json::from_str(&seen.any().await).unwrap();
        if message["id"] == "q" {
            assert!(message["error"]["code"].is_i64(), "{message}");
            break;
        }
    }
    until(&mut post, RESULT).await;
}

#[tokio::test]
async fn a_callers_notification_loses_nothing() {
    let params = r#"{"x":{"b":1,"a":2},"_meta":{"k":[1]}}"#;
    for method in ["notifications/roots/list_changed", "acme/told"] {
        let notification = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#);
        let (server, mut seen) = Server::answering(LEGACY, RESULT);
        let stack = server.by(Road::Lines).await;
        let door = Door::to(stack.clone()).await;
        let session = door.session().await;
        door.post(notification.as_bytes(), Some(&session)).await;
        let told: Value = serde_json::from_str(&seen.next(method).await).unwrap();
        let expected: Value = serde_json::from_str(params).unwrap();
        assert_eq!(told["params"], expected, "{told}");

        let mut line = Caller::legacy(stack).await;
        line.write(&notification).await;
        let told: Value = serde_json::from_str(&seen.next(method).await).unwrap();
        assert_eq!(told["params"], expected, "{told}");
    }
}

#[tokio::test]
async fn a_cancellation_finds_its_request_by_an_id_of_any_kind() {
    let (server, mut seen) = Server::new(LEGACY, |_| Vec::new());
    let door = Door::to(server.by(Road::Lines).await).await;
    let session = door.session().await;
    let headers = format!("mcp-session-id: {session}\r\n");
    for id in ["1.5", "1180591620717411303424", r#""a""#] {
        let post = door.begin(call(id).as_bytes(), &headers).await;
        seen.next("tools/call").await;
        let cancel = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"r"}}}}"#
        );
        let accepted = door.post(cancel.as_bytes(), Some(&session)).await;
        assert_eq!(parts(&accepted).0, 202, "{accepted}");
        seen.next("notifications/cancelled").await;
        drop(post);
    }
}

#[tokio::test]
async fn capabilities_that_rmcp_does_not_know_do_not_end_a_session() {
    let capabilities = r#"{"experimental":{"x":true},"sampling":7,"tasks":{"list":{}}}"#;
    let (server, _) = Server::answering(LEGACY, RESULT);
    let stack = server.by(Road::Lines).await;
    let door = Door::to(stack.clone()).await;
    let session = door.session_with(capabilities).await;
    let response = door.post(call("1").as_bytes(), Some(&session)).await;
    assert!(response.contains(RESULT), "{response}");
    let mut line = Caller::legacy_with(stack, capabilities).await;
    assert!(
        line.ask("tools/call", r#""name":"t""#)
            .await
            .contains(RESULT)
    );
}

#[tokio::test]
async fn a_body_has_a_limit_and_any_size_below() {
    let (server, mut seen) = Server::answering(MODERN, RESULT);
    let stack = server.by(Road::Lines).await;
    let door = Door::to(stack.clone()).await;
    let session = door.session().await;
    let text = "x".repeat(5 * 1024 * 1024);
    let arguments = json!({ "text": text, "list": [1.5, { "b": 1, "a": 2 }] });
    let large = |meta: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{meta}"name":"t","arguments":{arguments}}}}}"#
        )
    };
    let response = door.post(large("").as_bytes(), Some(&session)).await;
    assert!(
        response.contains(RESULT.trim_matches(['{', '}'])),
        "{response}"
    );
    let call: Value = serde_json::from_str(&seen.next("tools/call").await).unwrap();
    assert_eq!(call["params"]["arguments"], arguments);
    let modern = large(&format!("{META},"));
    let response = door.post_modern(&modern, "tools/call", "t").await;
    assert!(
        response.contains(RESULT.trim_matches(['{', '}'])),
        "{response}"
    );
    let call: Value = serde_json::from_str(&seen.next("tools/call").await).unwrap();
    assert_eq!(call["params"]["arguments"], arguments);
    let response = door.post_modern(&modern, "tools/call", "other").await;
    assert!(response.contains("-32020"), "{response}");

    let config = StreamableHttpServerConfig::default();
    let layer = LenientHttpLayer::new().max_message_bytes(1024);
    let door = Door::with(stack, config, layer).await;
    let long = format!(
        r#"{{"jsonrpc":"2.0","id":1.5,"method":"x","params":{{"a":"{}"}}}}"#,
        "x".repeat(1024)
    );
    for chunked in [false, true] {
        let response = match chunked {
            false => door.post(long.as_bytes(), None).await,
            true => door.post_chunked(long.as_bytes()).await,
        };
        let (status, body) = parts(&response);
        assert_eq!(status, 413, "{response}");
        let error: Value = serde_json::from_str(body).unwrap();
        assert_eq!(error["error"]["code"], -32600, "{error}");
        let why = error["error"]["message"].as_str().unwrap();
        assert!(why.contains("`max_message_bytes`, 1024 bytes"), "{why}");
    }
}

#[tokio::test]
async fn a_server_behind_another_one_in_this_process_has_texts_of_its_own() {
    let result = r#"{"resultType":"complete","content":[{"type":"text","text":"secret"}]}"#;
    let (server, mut seen) = Server::answering(MODERN, result);
    let inner = McpServer::new(server.by(Road::Lines).await);
    let stack = Upstream::builder()
        .in_process(inner)
        .map_request(|mut request: McpRequest| {
            if let Some(call) = request.as_tool_call_mut() {
                call.name = "inner".into();
            }
            request
        })
        .map_response(|mut response: McpResponse| {
            if let ServerResult::CallToolResult(result) = &mut *response.result {
                *result = CallToolResult::success(vec![ContentBlock::text("redacted")]);
            }
            response
        });
    for door in [
        Door::to(stack.clone()).await,
        Door::json(stack.clone()).await,
    ] {
        let session = door.session().await;
        let legacy = door.post(call("1").as_bytes(), Some(&session)).await;
        let modern = door.post_modern(&modern_call("1"), "tools/call", "t").await;
        for response in [legacy, modern] {
            assert!(response.contains("redacted"), "{response}");
            assert!(!response.contains("secret"), "{response}");
            let called = seen.next("tools/call").await;
            assert!(called.contains(r#""name":"inner""#), "{called}");
        }
    }
}

/// Bytes that note when they are freed.
struct Noted(Vec<u8>, Arc<AtomicBool>);

impl AsRef<[u8]> for Noted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.1.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_request_is_freed_once_it_is_served_although_its_answer_may_be_replayed() {
    let (server, mut seen) = Server::new(LEGACY, |_| Vec::new());
    let server = McpServer::new(server.by(Road::Lines).await);
    let service = server.http_service(
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    let service = LenientHttpLayer::new().layer(service);
    let post = |body: Bytes, session: Option<&str>| {
        let mut request = axum::http::Request::post("/mcp")
            .header("host", "localhost")
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json");
        if let Some(session) = session {
            request = request.header("mcp-session-id", session);
        }
        let request = request.body(Body::from(body)).unwrap();
        let service = service.clone();
        async move { service.oneshot(request).await.unwrap() }
    };
    let initialize = format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{LEGACY}","capabilities":{{}},"clientInfo":{{"name":"raw","version":"0"}}}}}}"#
    );
    let response = post(initialize.into(), None).await;
    let session = response.headers()["mcp-session-id"]
        .to_str()
        .unwrap()
        .to_owned();
    axum::body::to_bytes(Body::new(response.into_body()), usize::MAX)
        .await
        .unwrap();
    let session = Some(&*session);
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    post(initialized.into(), session).await;

    let freed = Arc::new(AtomicBool::new(false));
    let argument = "a".repeat(100_000);
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t","arguments":{{"a":"{argument}"}}}}}}"#
    );
    let body = Bytes::from_owner(Noted(body.into_bytes(), freed.clone()));
    let response = post(body, session).await;
    seen.next("tools/call").await;
    // The stream breaks off, and the client cancels the call.
    drop(response);
    let cancelled =
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    post(cancelled.into(), session).await;
    seen.next("notifications/cancelled").await;
    soon("the end of the body", async {
        while !freed.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn no_member_hides_behind_one_that_cannot_be_read() {
    let (server, _) = Server::answering(LEGACY, RESULT);
    let stack = server.by(Road::Lines).await;
    let mut line = Caller::legacy(stack.clone()).await;
    let door = Door::to(stack).await;
    let session = door.session().await;
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let pad = format!(r#""{}""#, "p".repeat(70_000));
    for odd in ["1e400", &deep] {
        for rest in [
            r#""name":"t","arguments":{"a":1,"a":2}"#,
            r#""name":"t","Name":"u""#,
        ] {
            for pad in ["1", &pad] {
                let params = format!(r#"{{"x":{odd},"pad":{pad},{rest}}}"#);
                let body = format!(
                    r#"{{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{params}}}"#
                );
                line.write(&body).await;
                let over_lines = line.line().await;
                let over_http = door.post(body.as_bytes(), Some(&session)).await;
                for answer in [over_lines, over_http] {
                    assert!(answer.contains("-32602"), "{rest}: {answer}");
                }
            }
        }
    }
    // A number by itself is no reason.
    let ping = r#"{"jsonrpc":"2.0","id":9,"method":"ping","params":{"x":1e400}}"#;
    line.write(ping).await;
    let over_lines = line.line().await;
    let over_http = door.post(ping.as_bytes(), Some(&session)).await;
    for answer in [over_lines, over_http] {
        assert!(answer.contains(r#""id":9,"result":{}"#), "{answer}");
    }
}

#[tokio::test]
async fn the_metadata_of_a_callers_revision_does_not_reach_a_server_of_another() {
    for road in [Road::Lines, Road::Json] {
        let (server, mut seen) = Server::answering(LEGACY, r#"{"content":[]}"#);
        let door = Door::to(server.by(road).await).await;
        let response = door.post_modern(&modern_call("1"), "tools/call", "t").await;
        assert_eq!(parts(&response).0, 200, "{response}");
        let call = seen.next("tools/call").await;
        assert!(!call.contains("io.modelcontextprotocol"), "{road:?} {call}");
    }
}
