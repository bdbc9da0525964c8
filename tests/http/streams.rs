//! Response streams: each is the response to one call, also when it is taken up again.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{body::Body, http::Method};
use rmcp::model::{ServerNotification, ServerResult};
use rmcp_layers::{ErrorKind, McpRequest};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    common::{recorder, said, soon, token},
    server::{Era, Response, Seen, Server, body, done, json_body, status},
};

fn event(id: &str, data: &str) -> String {
    format!("id: {id}\nretry: 1\ndata: {data}\n\n")
}

/// Breaks off each response before anything is said, and says `rest` of request `id` when the stream
/// is taken up.
fn broken(seen: &Seen, rest: fn(i64) -> Vec<Value>) -> Response {
    let stream = |events: String| body(200, "text/event-stream", events);
    if seen.method != Method::GET {
        let id = &seen.message["id"];
        return match id.is_null() {
            true => status(202),
            false => stream(event(&format!("of-{id}"), "")),
        };
    }
    let Some(last) = seen.headers.get("last-event-id") else {
        return status(405);
    };
    let id = last.to_str().unwrap().trim_start_matches("of-");
    let rest = rest(id.parse().unwrap());
    let events = rest.iter().enumerate();
    stream(
        events
            .map(|(n, message)| event(&format!("{id}-{n}"), &message.to_string()))
            .collect(),
    )
}

fn answer(id: i64, text: &str) -> Value {
    done(&json!({ "id": id, "method": "tools/call" }), text)
}

fn log(text: &str) -> Value {
    let params = json!({ "level": "info", "data": text });
    json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": params })
}

#[tokio::test]
async fn a_log_line_on_a_stream_taken_up_again_reaches_its_own_caller_among_several() {
    for era in [Era::Session, Era::Modern] {
        let server = Server::serve(era, |seen| {
            broken(&seen, |id| {
                vec![log(&format!("for {id}")), answer(id, &format!("{id}"))]
            })
        });
        let upstream = server.await.upstream(era);
        let mut calls = Vec::new();
        for _ in 0..4 {
            let (caller, heard) = recorder();
            let call = McpRequest::call_tool("x").caller(caller).build();
            calls.push((tokio::spawn(upstream.clone().oneshot(call)), heard));
        }
        for (call, mut heard) in calls {
            let id = said(soon("an answer", call).await.unwrap());
            let Ok(ServerNotification::LoggingMessageNotification(line)) = heard.try_recv() else {
                panic!("{era:?}: no line");
            };
            assert_eq!(line.params.data, json!(format!("for {id}")), "{era:?}");
        }
        assert_eq!(upstream.stats().unattributed_notifications, 0, "{era:?}");
    }
}

#[tokio::test]
async fn an_update_on_a_calls_stream_reaches_its_caller_where_there_are_no_subscriptions() {
    let server = Server::serve(Era::Session, |seen| {
        broken(&seen, |id| {
            let method = "notifications/resources/updated";
            let params = json!({ "uri": format!("memo://{id}") });
            let update = json!({ "jsonrpc": "2.0", "method": method, "params": params });
            vec![update, answer(id, &format!("{id}"))]
        })
    });
    let upstream = server.await.upstream(Era::Session);
    let begun: Vec<_> = (0..2)
        .map(|_| {
            let (caller, heard) = recorder();
            let call = McpRequest::call_tool("x").caller(caller).build();
            (tokio::spawn(upstream.clone().oneshot(call)), heard)
        })
        .collect();
    for (call, mut heard) in begun {
        let id = said(soon("an answer", call).await.unwrap());
        let Ok(ServerNotification::ResourceUpdatedNotification(update)) = heard.try_recv() else {
            panic!("no update");
        };
        assert_eq!(update.params.uri, format!("memo://{id}"));
        assert!(heard.try_recv().is_err());
    }
}

#[tokio::test]
async fn an_answer_of_another_request_on_a_stream_taken_up_again_is_used_for_none() {
    for (era, list) in [
        (Era::Session, false),
        (Era::Session, true),
        (Era::Modern, false),
        (Era::Modern, true),
    ] {
        let server = Server::serve(era, |seen| {
            broken(&seen, |id| vec![answer(id ^ 1, "another's")])
        });
        let upstream = server.await.upstream(era);
        let calls = (0..4).map(|_| {
            let request = match list {
                true => McpRequest::call_tool("x").build(),
                false => McpRequest::new(rmcp::model::ListPromptsRequest::default()),
            };
            tokio::spawn(upstream.clone().oneshot(request))
        });
        for call in calls.collect::<Vec<_>>() {
            let error = soon("an answer", call).await.unwrap().unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::Transport,
                "{era:?} {list}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn an_error_without_an_id_on_a_stream_taken_up_again_is_its_calls_answer() {
    for era in [Era::Session, Era::Modern] {
        let server = Server::serve(era, |seen| {
            broken(&seen, |_| {
                let error = json!({ "code": -32000, "message": "overloaded" });
                vec![json!({ "jsonrpc": "2.0", "id": null, "error": error })]
            })
        });
        let upstream = server.await.upstream(era);
        for request in [
            McpRequest::call_tool("x").build(),
            McpRequest::new(rmcp::model::ListToolsRequest::default()),
        ] {
            let error = soon("an answer", upstream.clone().oneshot(request)).await;
            let error = error.unwrap_err();
            assert!(error.to_string().contains("overloaded"), "{era:?}: {error}");
        }
    }
}

/// Says something on the response stream of each call that names the other call.
fn crossed(seen: &Seen, calls: &Arc<Mutex<Vec<Value>>>) -> Response {
    if seen.method == Method::GET {
        return status(405);
    }
    let request = seen.message.clone();
    if request["id"].is_null() {
        return status(202);
    }
    let calls = calls.clone();
    calls.lock().unwrap().push(request.clone());
    let said = async move {
        let others: Vec<Value> = loop {
            let calls = calls.lock().unwrap().clone();
            if calls.len() == 2 {
                break calls;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        // Both calls are known by then.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut events = String::new();
        for other in others.iter().filter(|other| other["id"] != request["id"]) {
            let token = &other["params"]["_meta"]["progressToken"];
            let progress = json!({ "progressToken": token, "progress": 1 });
            let meta = json!({ "io.modelcontextprotocol/subscriptionId": other["id"] });
            let line = json!({ "level": "info", "data": "whose?", "_meta": meta });
            for (method, params) in [("progress", progress), ("message", line)] {
                let method = format!("notifications/{method}");
                let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
                events += &format!("data: {message}\n\n");
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        events += &format!("data: {}\n\n", done(&request, "done"));
        Ok::<_, std::convert::Infallible>(events)
    };
    let said = Body::from_stream(futures::stream::once(said));
    body(200, "text/event-stream", said)
}

#[tokio::test]
async fn a_message_that_names_another_call_than_its_stream_reaches_neither_caller() {
    let calls = Arc::<Mutex<Vec<Value>>>::default();
    let server = Server::serve(Era::Session, move |seen| crossed(&seen, &calls));
    let upstream = server.await.upstream(Era::Session);
    let begun = ["ann", "bob"].map(|name| {
        let (caller, heard) = recorder();
        let call = McpRequest::call_tool(name).caller(caller);
        let call = call.progress_token(token(name)).build();
        (tokio::spawn(upstream.clone().oneshot(call)), heard)
    });
    for (call, mut heard) in begun {
        assert_eq!(said(soon("an answer", call).await.unwrap()), "done");
        assert!(heard.try_recv().is_err(), "a caller heard the other's");
    }
}

#[tokio::test]
async fn a_request_that_was_only_accepted_fails_when_the_sessions_stream_ends_for_good() {
    let opened = Arc::<Mutex<usize>>::default();
    let server = Server::serve(Era::Session, move |seen| {
        if seen.method != Method::GET {
            return status(202);
        }
        let mut opened = opened.lock().unwrap();
        *opened += 1;
        if *opened > 1 {
            return status(405);
        }
        let end = futures::stream::once(async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok::<_, std::convert::Infallible>(": the end\n\n")
        });
        body(200, "text/event-stream", Body::from_stream(end))
    });
    let upstream = server.await.upstream(Era::Session);
    for _ in 0..2 {
        let begun = std::time::Instant::now();
        let call = McpRequest::call_tool("x").build();
        let error = soon("an answer", upstream.clone().oneshot(call)).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transport, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{error}");
    }
}

#[tokio::test]
async fn arguments_go_in_headers_however_the_list_of_tools_came() {
    let region = json!({ "type": "string", "x-mcp-header": "Region" });
    let schema = json!({ "type": "object", "properties": { "region": region } });
    for unreadable in [false, true] {
        for before in [None, Some(""), Some("id: 1\ndata:\n\n"), Some("a log line")] {
            let mut tools = vec![json!({ "name": "act", "inputSchema": schema })];
            if unreadable {
                tools.push(json!({ "name": "odd", "inputSchema": null }));
            }
            let server = Server::serve(Era::Modern, move |seen: Seen| {
                if seen.message["method"] != "tools/list" {
                    let region = seen.headers.get("mcp-param-region");
                    return json_body(200, &done(&seen.message, &format!("{region:?}")));
                }
                let mut list = done(&seen.message, "");
                list["result"]["tools"] = tools.clone().into();
                let before = match before {
                    None => return json_body(200, &list),
                    Some("a log line") => format!("data: {}\n\n", log("first")),
                    Some(events) => events.to_owned(),
                };
                let events = format!("{before}data: {list}\n\n");
                body(200, "text/event-stream", events)
            });
            let upstream = server.await.upstream(Era::Modern);
            let list = soon("a list", upstream.clone().oneshot(McpRequest::list_tools()));
            let list = list.await.unwrap();
            assert!(
                matches!(&*list.result, ServerResult::ListToolsResult(list) if list.tools.len() == 1)
            );
            assert_eq!(upstream.unreadable().len(), usize::from(unreadable));
            let call = McpRequest::call_tool("act")
                .argument("region", "eu")
                .build();
            let sent = said(soon("a call", upstream.clone().oneshot(call)).await);
            assert_eq!(sent, "Some(\"eu\")", "{unreadable} {before:?}");
        }
    }
}
