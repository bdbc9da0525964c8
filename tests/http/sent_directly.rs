//! Calls of a session, whose messages may come on any of its streams.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::http::Method;
use futures::future::BoxFuture;
use rmcp::model::{
    ClientResult, ListPromptsRequest, ProtocolVersion, ServerNotification, ServerRequest,
};
use rmcp_layers::{Caller, CallerSink, Error, McpRequest};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::ServiceExt;

use crate::{
    common::{recorder, said, soon, token},
    server::{ERAS, Era, Seen, Server, done, json_body, raw_stream, status, stream_of},
};

fn event(message: &Value) -> String {
    format!("data: {message}\n\n")
}

#[tokio::test]
async fn a_call_may_be_answered_on_the_sessions_stream_while_its_own_response_is_open() {
    let (sender, events) = mpsc::unbounded_channel();
    let events = Mutex::new(Some(events));
    let events = Arc::new(events);
    let server = Server::serve(Era::Session, move |seen: Seen| {
        if seen.method == Method::GET {
            let events = events.lock().unwrap().take();
            return events.map_or_else(|| status(405), stream_of);
        }
        if seen.message["method"] == "tools/call" {
            let token = &seen.message["params"]["_meta"]["progressToken"];
            let progress = json!({ "progressToken": token, "progress": 1 });
            let method = "notifications/progress";
            let progress = json!({ "jsonrpc": "2.0", "method": method, "params": progress });
            sender.send(event(&progress)).unwrap();
            sender.send(event(&done(&seen.message, "here"))).unwrap();
        }
        raw_stream(200, b": working\n\n".to_vec())
    })
    .await;
    let upstream = server.upstream(Era::Session);
    for _ in 0..3 {
        let (caller, mut heard) = recorder();
        let call = McpRequest::call_tool("x").caller(caller);
        let call = call.progress_token(token("mine")).build();
        let answer = soon("an answer", upstream.clone().oneshot(call)).await;
        assert_eq!(said(answer), "here");
        assert!(heard.try_recv().is_ok(), "no progress before the answer");
    }
}

#[tokio::test]
async fn an_error_on_the_sessions_stream_is_the_answer_of_the_call_it_names() {
    let (sender, events) = mpsc::unbounded_channel();
    let events = Arc::new(Mutex::new(Some(events)));
    let server = Server::serve(Era::Session, move |seen: Seen| {
        if seen.method == Method::GET {
            let events = events.lock().unwrap().take();
            return events.map_or_else(|| status(405), stream_of);
        }
        let error = json!({ "code": -32000, "message": format!("no {}", seen.message["id"]) });
        let id = &seen.message["id"];
        let error = json!({ "jsonrpc": "2.0", "id": id, "error": error });
        sender.send(event(&error)).unwrap();
        status(202)
    })
    .await;
    let upstream = server.upstream(Era::Session);
    let calls = (0..4).map(|_| {
        let call = McpRequest::call_tool("x").build();
        tokio::spawn(upstream.clone().oneshot(call))
    });
    let mut errors = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        let error = soon("an answer", call).await.unwrap().unwrap_err();
        errors.push(error.to_string());
    }
    errors.sort();
    errors.dedup();
    assert_eq!(errors.len(), 4, "{errors:?}");
}

/// A caller that answers no question, and notes when it need not any more.
struct Silent(mpsc::UnboundedSender<&'static str>);

struct Question(mpsc::UnboundedSender<&'static str>);

impl Drop for Question {
    fn drop(&mut self) {
        let _ = self.0.send("taken back");
    }
}

impl CallerSink for Silent {
    fn notify(&self, _notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn request(&self, _request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        let _ = self.0.send("asked");
        let question = Question(self.0.clone());
        Box::pin(async move {
            let _question = question;
            std::future::pending().await
        })
    }
}

#[tokio::test]
async fn a_question_that_its_server_takes_back_on_the_same_stream_is_answered_by_no_caller() {
    let streams = Arc::<Mutex<Vec<(Value, mpsc::UnboundedSender<String>)>>>::default();
    let opened = streams.clone();
    let server = Server::serve(Era::Session, move |seen: Seen| {
        if seen.message["method"] != "tools/call" {
            return status(if seen.method == Method::GET { 405 } else { 202 });
        }
        let (sender, events) = mpsc::unbounded_channel();
        let question = json!({
            "jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage",
            "params": { "messages": [], "maxTokens": 1 },
        });
        sender.send(event(&question)).unwrap();
        opened.lock().unwrap().push((seen.message, sender));
        stream_of(events)
    })
    .await;
    let (sender, mut noted) = mpsc::unbounded_channel();
    let call = McpRequest::call_tool("x").caller(Caller::new(Silent(sender)));
    let mut call = call.build();
    let older = ProtocolVersion::V_2025_11_25;
    call.context.meta.set_protocol_version(older);
    let call = tokio::spawn(server.upstream(Era::Session).oneshot(call));
    assert_eq!(soon("a question", noted.recv()).await, Some("asked"));
    let (request, stream) = streams.lock().unwrap().pop().unwrap();
    let method = "notifications/cancelled";
    let params = json!({ "requestId": "q" });
    let taken_back = json!({ "jsonrpc": "2.0", "method": method, "params": params });
    stream.send(event(&taken_back)).unwrap();
    assert_eq!(
        soon("the end of it", noted.recv()).await,
        Some("taken back")
    );
    stream.send(event(&done(&request, "done"))).unwrap();
    assert_eq!(said(soon("an answer", call).await.unwrap()), "done");
    let posted = server.posted.lock().unwrap().clone();
    assert!(posted.iter().all(|it| it["id"] != "q"), "{posted:?}");
}

#[tokio::test]
async fn a_dropped_request_of_a_newer_revision_closes_its_connection_at_once() {
    /// Set once the server's work for a request is dropped.
    struct Work(Arc<AtomicBool>);
    impl Drop for Work {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    for request in [
        McpRequest::call_tool("x").build(),
        McpRequest::new(ListPromptsRequest::default()),
    ] {
        let closed = Arc::new(AtomicBool::new(false));
        let work = closed.clone();
        let begun = Arc::new(tokio::sync::Notify::new());
        let begin = begun.clone();
        let handle = move |body: String| {
            let (work, begin) = (work.clone(), begin.clone());
            async move {
                let message: Value = serde_json::from_str(&body).unwrap();
                if message["method"] != "server/discover" {
                    let _work = Work(work);
                    begin.notify_one();
                    std::future::pending::<()>().await;
                }
                let result = json!({
                    "resultType": "complete", "supportedVersions": ["2026-07-28"],
                    "capabilities": { "tools": {}, "prompts": {} }, "ttlMs": 0,
                    "cacheScope": "private",
                });
                let id = &message["id"];
                let answer = json!({ "jsonrpc": "2.0", "id": id, "result": result });
                crate::server::json_body(200, &answer)
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(handle);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let builder = rmcp_layers::Upstream::builder();
        let builder = builder.lifecycle(rmcp_layers::Lifecycle::Discover);
        let upstream = builder.http(url.as_str()).unwrap();
        let call = tokio::spawn(upstream.clone().oneshot(request));
        soon("the request", begun.notified()).await;
        call.abort();
        let began = std::time::Instant::now();
        while !closed.load(Ordering::SeqCst) {
            assert!(began.elapsed() < Duration::from_secs(3), "it goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_batch_of_more_messages_than_wait_for_a_call_reaches_a_caller_that_takes_them() {
    const LINES: usize = 6_000;
    for era in ERAS {
        let server = Server::serve(era, |seen: Seen| {
            if seen.message["method"] != "tools/call" {
                return status(405);
            }
            let method = "notifications/message";
            let lines = (0..LINES).map(|number| {
                let params = json!({ "level": "info", "data": number });
                json!({ "jsonrpc": "2.0", "method": method, "params": params })
            });
            let batch: Vec<_> = lines.chain([done(&seen.message, "done")]).collect();
            json_body(200, &batch.into())
        })
        .await;
        let (caller, mut heard) = recorder();
        let call = McpRequest::call_tool("x").caller(caller).build();
        let answer = soon("an answer", server.upstream(era).oneshot(call)).await;
        assert_eq!(said(answer), "done");
        for number in 0..LINES {
            let line = heard.try_recv();
            let Ok(ServerNotification::LoggingMessageNotification(line)) = line else {
                panic!("{era:?} {number}: {line:?}");
            };
            assert_eq!(line.params.data, json!(number), "{era:?}");
        }
    }
}
