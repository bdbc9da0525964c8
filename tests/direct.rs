//! What calls of tools over HTTP promise since revision 2026-07-28, where each is an exchange of its own.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

mod common;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{body::Body, http, http::HeaderMap};
use common::{Http, demo::Demo, progress, recorder, soon};
use futures::StreamExt;
use rmcp::model::{NumberOrString, ProgressToken, ServerResult};
use rmcp_layers::{Error, Lifecycle, McpRequest, McpResponse, Upstream};
use serde_json::{Value, json};
use tower::ServiceExt;

type Response = http::Response<Body>;

/// What a server was asked: the HTTP method, the headers and the message.
type Seen = Arc<Mutex<Vec<(String, HeaderMap, Value)>>>;

fn status(status: u16) -> Response {
    let response = http::Response::builder().status(status);
    response.body(Body::empty()).unwrap()
}

fn result(id: &Value, result: Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string()
}

fn done(id: &Value) -> String {
    result(id, json!({ "content": [], "resultType": "complete" }))
}

fn json_body(body: String) -> Response {
    let response = http::Response::builder().header("content-type", "application/json");
    response.body(Body::from(body)).unwrap()
}

/// Each piece comes a while after the one before it.
fn events(pieces: Vec<String>) -> Response {
    let pieces = futures::stream::iter(pieces).then(|piece| async move {
        tokio::time::sleep(Duration::from_millis(30)).await;
        Ok::<_, io::Error>(piece)
    });
    http::Response::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from_stream(pieces))
        .unwrap()
}

fn progress_of(request: &Value, step: u32) -> String {
    let token = &request["params"]["_meta"]["progressToken"];
    json!({
        "jsonrpc": "2.0", "method": "notifications/progress",
        "params": { "progressToken": token, "progress": step },
    })
    .to_string()
}

/// A server on 2026-07-28 that answers calls, and takes streams up, as `answer` says.
async fn server(
    answer: impl Fn(&str, &Value) -> Response + Clone + Send + Sync + 'static,
) -> (Upstream, Seen) {
    let seen = Seen::default();
    let note = seen.clone();
    let router = axum::Router::new().fallback(
        move |method: http::Method, headers: HeaderMap, body: String| async move {
            let message: Value = serde_json::from_str(&body).unwrap_or_default();
            let seen = (method.to_string(), headers, message.clone());
            note.lock().unwrap().push(seen);
            let id = &message["id"];
            match message["method"].as_str() {
                Some("server/discover") => json_body(result(
                    id,
                    json!({
                        "resultType": "complete",
                        "supportedVersions": ["2026-07-28"],
                        "capabilities": { "tools": {} },
                        "ttlMs": 0,
                        "cacheScope": "private",
                    }),
                )),
                Some("tools/list") => json_body(result(
                    id,
                    json!({
                        "resultType": "complete",
                        "tools": [{ "name": "region", "inputSchema": {
                            "type": "object",
                            "properties": { "where": { "type": "string", "x-mcp-header": "Region" } },
                        }}],
                        "ttlMs": 0,
                        "cacheScope": "private",
                    }),
                )),
                _ => answer(method.as_str(), &message),
            }
        },
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    let builder = Upstream::builder()
        .name("direct")
        .lifecycle(Lifecycle::Discover);
    (builder.http(url).unwrap(), seen)
}

async fn call(upstream: &Upstream, request: McpRequest) -> Result<McpResponse, Error> {
    soon("a call", upstream.clone().oneshot(request)).await
}

fn tool(name: &'static str) -> McpRequest {
    McpRequest::call_tool(name).build()
}

fn last_headers(seen: &Seen) -> HeaderMap {
    seen.lock().unwrap().last().unwrap().1.clone()
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_taken_up_where_it_was() {
    let asked = Arc::new(Mutex::new(Value::Null));
    let (upstream, seen) = server(move |method, message| {
        let mut asked = asked.lock().unwrap();
        if method == "POST" {
            *asked = message.clone();
            let first = progress_of(message, 1);
            return events(vec![format!("id: a1\nretry: 10\ndata: {first}\n\n")]);
        }
        let (second, answer) = (progress_of(&asked, 2), done(&asked["id"]));
        events(vec![
            format!("id: a2\ndata: {second}\n\n"),
            format!("event: message\ndata: {answer}\n\n"),
        ])
    })
    .await;
    let (caller, mut received) = recorder();
    let token = ProgressToken(NumberOrString::Number(7));
    let mut request = tool("long");
    request.context.caller = caller;
    request.context.meta.set_progress_token(token.clone());
    call(&upstream, request).await.unwrap();
    let steps = progress(&mut received);
    assert_eq!(steps, [(token.clone(), 1.0), (token, 2.0)]);
    let headers = last_headers(&seen);
    assert_eq!(headers["last-event-id"], "a1");
    assert_eq!(headers["mcp-protocol-version"], "2026-07-28");
    assert_eq!(upstream.in_flight(), 0);
}

#[tokio::test]
async fn an_exchange_that_ends_without_an_answer_fails_its_call_at_once() {
    let (upstream, _) = server(|_, message| match message["params"]["name"].as_str() {
        Some("accepted") => status(202),
        Some("nothing") => events(vec![": a comment\n\n".to_owned()]),
        Some("gone") => status(500),
        Some("garbage") => json_body("{".to_owned()),
        _ => json_body(done(&message["id"])),
    })
    .await;
    for name in ["accepted", "nothing", "gone", "garbage"] {
        let error = call(&upstream, tool(name)).await.unwrap_err();
        assert!(
            error.is_transport() && !error.is_not_delivered(),
            "{name}: {error}"
        );
        assert!(error.to_string().contains("direct"), "{name}: {error}");
        call(&upstream, tool("fine")).await.unwrap();
    }
    assert_eq!(upstream.in_flight(), 0);
}

/// Of whichever kind: what is in a tool's result beside it says nothing of another method.
#[tokio::test]
async fn an_answer_on_a_stream_is_read_as_one_to_a_call() {
    let (upstream, _) = server(|_, message| {
        let answer = match message["params"]["name"].as_str() {
            Some("odd") => json!({ "resultType": "complete", "content": [], "messages": [] }),
            Some("rounds") => json!({ "resultType": "input_required", "requestState": "one" }),
            Some("task") => json!({
                "resultType": "task", "taskId": "1", "status": "working", "ttlMs": null,
                "createdAt": "2026-07-28T00:00:00Z", "lastUpdatedAt": "2026-07-28T00:00:00Z",
            }),
            Some("custom") => json!({ "resultType": "complete", "else": 1 }),
            _ => {
                let error = json!({ "code": -32602, "message": "no such tool" });
                let refused = json!({ "jsonrpc": "2.0", "id": message["id"], "error": error });
                return events(vec![format!("data: {refused}\n\n")]);
            }
        };
        let answer = result(&message["id"], answer);
        events(vec![format!("event: message\ndata: {answer}\n\n")])
    })
    .await;
    let answer = async |name| {
        call(&upstream, tool(name))
            .await
            .map(McpResponse::into_result)
    };
    let odd = answer("odd").await.unwrap();
    assert!(matches!(odd, ServerResult::CallToolResult(_)), "{odd:?}");
    let rounds = answer("rounds").await.unwrap();
    assert!(
        matches!(rounds, ServerResult::InputRequiredResult(_)),
        "{rounds:?}"
    );
    let task = answer("task").await.unwrap();
    assert!(
        matches!(task, ServerResult::CreateTaskResult(_)),
        "{task:?}"
    );
    let custom = serde_json::to_value(answer("custom").await.unwrap()).unwrap();
    assert_eq!(custom["else"], 1);
    let refused = answer("none").await.unwrap_err();
    assert!(
        refused.is_protocol() && refused.to_string().contains("no such tool"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_message_on_a_calls_stream_reaches_that_call_among_several() {
    let (upstream, _) = server(|_, message| {
        let name = &message["params"]["name"];
        let log = json!({
            "jsonrpc": "2.0", "method": "notifications/message",
            "params": { "level": "info", "data": name },
        });
        events(vec![
            format!("data: {log}\n\n"),
            format!("data: {}\n\n", done(&message["id"])),
        ])
    })
    .await;
    let calls = ["ann", "bob"].map(|name| {
        let (caller, received) = recorder();
        let mut request = tool(name);
        request.context.caller = caller;
        let upstream = upstream.clone();
        async move {
            call(&upstream, request).await.unwrap();
            (name, received)
        }
    });
    for (name, mut received) in futures::future::join_all(calls).await {
        let heard = received.try_recv().expect("a log message");
        assert!(format!("{heard:?}").contains(name), "{heard:?}");
        assert!(received.try_recv().is_err(), "{name} heard another's");
    }
}

#[tokio::test]
async fn headers_say_what_is_called() {
    let (upstream, seen) = server(|_, message| json_body(done(&message["id"]))).await;
    call(&upstream, tool("plain")).await.unwrap();
    let headers = last_headers(&seen);
    assert_eq!(headers["mcp-method"], "tools/call");
    assert_eq!(headers["mcp-name"], "plain");
    assert_eq!(headers["mcp-protocol-version"], "2026-07-28");
    // What cannot stand in a header as it is.
    call(&upstream, tool("größe")).await.unwrap();
    let name = last_headers(&seen)["mcp-name"].clone();
    assert!(name.as_bytes().starts_with(b"=?base64?"), "{name:?}");
    // What a tool wants to be in a header.
    let list = McpRequest::new(rmcp::model::ClientRequest::ListToolsRequest(
        Default::default(),
    ));
    call(&upstream, list).await.unwrap();
    let there = McpRequest::call_tool("region").argument("where", "west");
    call(&upstream, there.build()).await.unwrap();
    assert_eq!(last_headers(&seen)["mcp-param-region"], "west");
}

#[tokio::test]
async fn closing_the_upstream_fails_its_calls_at_once() {
    let demo = Demo::default();
    let http = Http::serve(demo.clone()).await;
    let builder = Upstream::builder().lifecycle(Lifecycle::Discover);
    let upstream = builder.http(http.url.as_str()).unwrap();
    let held = tokio::spawn({
        let upstream = upstream.clone();
        async move { call(&upstream, tool("wait")).await }
    });
    demo.until("the call", |seen| seen.waiting == 1).await;
    assert_eq!(upstream.in_flight(), 1);
    soon("the end", upstream.close()).await;
    let error = soon("the call's end", held).await.unwrap().unwrap_err();
    assert!(error.is_transport() && !error.is_not_delivered(), "{error}");
    // And the server is told.
    demo.until("the cancellation", |seen| seen.waiting == 0)
        .await;
    assert_eq!(upstream.in_flight(), 0);
}

#[tokio::test]
async fn a_server_that_asks_its_client_is_told_that_it_cannot() {
    let (upstream, seen) = server(|_, message| {
        if message["error"].is_object() {
            return status(202);
        }
        let asks = json!({ "jsonrpc": "2.0", "id": 1, "method": "roots/list" });
        events(vec![
            format!("data: {asks}\n\n"),
            format!("data: {}\n\n", done(&message["id"])),
        ])
    })
    .await;
    call(&upstream, tool("asks")).await.unwrap();
    let seen = seen.lock().unwrap();
    let told = &seen.last().unwrap().2;
    assert_eq!(
        (&told["id"], &told["error"]["code"]),
        (&json!(1), &json!(-32600))
    );
}
