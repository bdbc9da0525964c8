//! Answers that cannot be read fail their calls at once, and what is on its way to a server arrives.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::http::Method;
use rmcp_layers::{Delivered, Error, HttpEndpoint, Lifecycle, McpRequest, Outcome, Upstream};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::ServiceExt;

use crate::{
    common::{Client, said, soon, text, tool},
    server::{ERAS, Era, Seen, Server, body, done, raw_stream, status, stream_of},
};

/// Asserts that a call failed soon, and why.
fn assert_unreadable(error: &Error, begun: Instant, parts: &[&str], at: &str) {
    let at = format!("{at}: {error:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{at}");
    for part in parts {
        assert!(error.to_string().contains(part), "{part}: {at}");
    }
    let Error::Transport(transport) = error else {
        panic!("{at}");
    };
    assert_eq!(transport.delivered(), Delivered::Yes, "{at}");
    let outcome = Outcome::of_error(error);
    assert_eq!(outcome, Outcome::Unreadable, "{at}");
    assert!(outcome.is_answer() && !outcome.counts_against(), "{at}");
}

#[tokio::test]
async fn an_event_that_is_not_json_fails_its_call() {
    for era in ERAS {
        for data in [
            "not JSON",
            r#"{"jsonrpc":"2.0","id":"#,
            r#"<html>"#,
            r#"[{"jsonrpc":"2.0","#,
        ] {
            for before in ["", ": comment\n\n", "data: ping\n\n", "retry: 5s\nodd\n\n"] {
                let server = Server::serve(era, move |seen: Seen| match seen.method {
                    Method::GET => status(405),
                    _ => raw_stream(200, format!("{before}data: {data}\n\n").into_bytes()),
                })
                .await;
                let begun = Instant::now();
                let call = McpRequest::call_tool("act").build();
                let answer = soon("an answer", server.upstream(era).oneshot(call)).await;
                let at = format!("{era:?} {before:?} {data}");
                let parts = ["scripted", "`tools/call`", "not JSON", "column"];
                assert_unreadable(&answer.unwrap_err(), begun, &parts, &at);
            }
        }
    }
}

#[tokio::test]
async fn a_word_that_keeps_a_stream_open_fails_no_call() {
    for era in ERAS {
        let server = Server::serve(era, move |seen: Seen| match seen.method {
            Method::GET => status(405),
            _ => {
                let answer = done(&seen.message, "here");
                let events = format!("data: ping\n\ndata: keep-alive\n\ndata: {answer}\n\n");
                raw_stream(200, events.into_bytes())
            }
        })
        .await;
        let call = McpRequest::call_tool("act").build();
        let answer = soon("an answer", server.upstream(era).oneshot(call)).await;
        assert_eq!(said(answer), "here", "{era:?}");
    }
}

/// A stream of the events that are sent.
/// A server that only accepts requests, and then sends this on the stream of the session.
async fn accepting(event: fn(&Value) -> String) -> Server {
    let stream = Arc::<Mutex<Option<mpsc::UnboundedSender<String>>>>::default();
    Server::serve(Era::Session, move |seen: Seen| {
        if seen.method == Method::GET {
            let (sender, events) = mpsc::unbounded_channel();
            *stream.lock().unwrap() = Some(sender);
            return stream_of(events);
        }
        let (stream, event) = (stream.clone(), event(&seen.message));
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if let Some(stream) = &*stream.lock().unwrap() {
                let _ = stream.send(event);
            }
        });
        status(202)
    })
    .await
}

#[tokio::test]
async fn an_event_of_the_session_that_cannot_be_read_fails_the_call_that_waits_for_it() {
    type Event = fn(&Value) -> String;
    let events: [(&str, Event, &str); 4] = [
        ("no JSON", |_| "data: not JSON\n\n".to_owned(), "not JSON"),
        (
            "a broken answer",
            |request| format!("data: {{\"id\":{},\"result\":{{x\n\n", request["id"]),
            "not JSON",
        ),
        (
            "no version",
            |request| format!("data: {{\"id\":{},\"result\":{{}}}}\n\n", request["id"]),
            "not an MCP message",
        ),
        (
            "too long",
            |_| format!("data: {}\n\n", "x".repeat(5_000)),
            "2000 bytes",
        ),
    ];
    for (what, event, why) in events {
        let server = accepting(event).await;
        let endpoint = HttpEndpoint::new(server.url.as_str()).max_response_bytes(2_000);
        let builder = Upstream::builder().lifecycle(Lifecycle::Initialize);
        let upstream = builder.name("scripted").http(endpoint).unwrap();
        let begun = Instant::now();
        let call = McpRequest::call_tool("act").build();
        let answer = soon("an answer", upstream.oneshot(call)).await;
        let error = answer.unwrap_err();
        assert_unreadable(&error, begun, &["scripted", "`tools/call`", why], what);
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_fails_its_call_with_the_reason() {
    for era in ERAS {
        let server = Server::serve(era, move |seen: Seen| match seen.method {
            Method::GET => status(405),
            _ => {
                let long = done(&seen.message, &"x".repeat(5_000));
                body(200, "application/json", long.to_string())
            }
        })
        .await;
        let lifecycle = match era {
            Era::Modern => Lifecycle::Discover,
            _ => Lifecycle::Initialize,
        };
        let endpoint = HttpEndpoint::new(server.url.as_str()).max_response_bytes(2_000);
        let upstream = Upstream::builder().lifecycle(lifecycle).http(endpoint);
        let begun = Instant::now();
        let call = McpRequest::call_tool("act").build();
        let answer = soon("an answer", upstream.unwrap().oneshot(call)).await;
        let at = format!("{era:?}");
        assert_unreadable(&answer.unwrap_err(), begun, &["2000 bytes"], &at);
    }
}

/// A server that asks its client a question during a call, and loses the first answers.
async fn asking(lost: usize) -> (Server, Arc<AtomicUsize>) {
    let answers = Arc::new(AtomicUsize::new(0));
    let count = answers.clone();
    let call = Arc::<Mutex<Option<(Value, mpsc::UnboundedSender<String>)>>>::default();
    let server = Server::serve(Era::Session, move |seen: Seen| {
        if seen.method == Method::GET {
            return status(405);
        }
        let mut call = call.lock().unwrap();
        match seen.message["method"].as_str() {
            Some("tools/call") => {
                let (sender, events) = mpsc::unbounded_channel();
                let question = json!({
                    "jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage",
                    "params": { "messages": [], "maxTokens": 1 },
                });
                sender.send(format!("data: {question}\n\n")).unwrap();
                *call = Some((seen.message.clone(), sender));
                stream_of(events)
            }
            Some(_) => status(202),
            None if count.fetch_add(1, Ordering::SeqCst) < lost => status(502),
            None => {
                if let Some((request, sender)) = call.take() {
                    let _ = sender.send(format!("data: {}\n\n", done(&request, "told")));
                }
                status(202)
            }
        }
    })
    .await;
    (server, answers)
}

#[tokio::test]
async fn an_answer_to_a_server_that_was_lost_is_posted_once_more() {
    let (server, answers) = asking(1).await;
    let client = Client::legacy("Ann", server.upstream(Era::Session)).await;
    let told = soon("an answer", client.call(tool("act", json!({})))).await;
    assert_eq!(text(&told), "told");
    assert_eq!(answers.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_call_fails_if_the_answer_that_its_server_waits_for_is_lost_again() {
    let (server, answers) = asking(usize::MAX).await;
    let client = Client::legacy("Ann", server.upstream(Era::Session)).await;
    let begun = Instant::now();
    let calling = client.peer.peer().call_tool_once(tool("act", json!({})));
    let error = soon("an answer", calling).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(2), "{error}");
    let why = "answer to a request of the server has not reached it";
    assert!(error.to_string().contains(why), "{error}");
    assert_eq!(answers.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_cancellation_follows_its_request() {
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let note = seen.clone();
    // The requests take their time, and a cancellation takes none.
    let handle = move |request: axum::extract::Request| {
        let note = note.clone();
        async move {
            if request.method() != Method::POST {
                return status(405);
            }
            let body = axum::body::to_bytes(request.into_body(), 1 << 20).await;
            let message: Value = serde_json::from_slice(&body.unwrap()).unwrap();
            let method = message["method"].as_str().unwrap_or_default().to_owned();
            let capabilities = json!({ "tools": {} });
            match method.as_str() {
                "initialize" => {
                    let result = json!({ "protocolVersion": "2025-11-25", "capabilities": capabilities,
                        "serverInfo": { "name": "slow", "version": "0" } });
                    let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
                    crate::server::json_body(200, &answer)
                }
                "tools/call" => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    note.lock().unwrap().push(method);
                    raw_stream(200, b": working\n\n".to_vec())
                }
                "notifications/cancelled" => {
                    note.lock().unwrap().push(method);
                    status(202)
                }
                _ => status(202),
            }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(handle);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let builder = Upstream::builder().lifecycle(Lifecycle::Initialize);
    let upstream = builder.http(url.as_str()).unwrap();
    soon("connecting", upstream.connect()).await.unwrap();
    let call = upstream.oneshot(McpRequest::call_tool("act").build());
    let dropped = tokio::time::timeout(Duration::from_millis(30), call).await;
    assert!(dropped.is_err());
    let cancelled = async {
        while seen.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("a cancellation", cancelled).await;
    let order = seen.lock().unwrap().clone();
    assert_eq!(order, ["tools/call", "notifications/cancelled"]);
}
