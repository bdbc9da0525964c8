//! What comes back on the POST of one request is that request's answer, and no other's.

use axum::http::Method;
use rmcp::model::{ErrorCode, RequestId, ServerResult};
use rmcp_layers::{CallContext, Error, McpRequest, McpResponse, Outcome, Upstream};
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt;

use crate::{
    common::{said, soon},
    server::{
        ERAS, Era, Respond, Response, Seen, Server, body, done, json_body, open_stream, status,
    },
};

fn requests() -> [(&'static str, McpRequest); 2] {
    [
        ("tools/call", McpRequest::call_tool("act").build()),
        ("tools/list", McpRequest::list_tools()),
    ]
}

async fn send(upstream: &Upstream, request: McpRequest) -> Result<McpResponse, Error> {
    soon("an answer", upstream.clone().oneshot(request)).await
}

/// The server's error as an answer to this request, with an `id` of this kind.
fn refusal(request: &Value, id: &str) -> Value {
    let mut message = json!({ "jsonrpc": "2.0", "error": {
        "code": -32050, "message": "told so", "data": { "why": "because" },
    }});
    let own = request["id"].clone();
    match id {
        "null" => message["id"] = Value::Null,
        "missing" => {}
        "own" => message["id"] = own,
        "text" => message["id"] = own.to_string().into(),
        "server-error" => message["id"] = "server-error".into(),
        "empty" => message["id"] = "".into(),
        "fraction" => message["id"] = json!(1.5),
        "negative" => message["id"] = json!(-1),
        other => panic!("no such kind: {other}"),
    }
    message
}

const NAMELESS: [&str; 8] = [
    "null",
    "missing",
    "own",
    "text",
    "server-error",
    "empty",
    "fraction",
    "negative",
];

fn is_told(answer: &Result<McpResponse, Error>) -> bool {
    answer
        .as_ref()
        .err()
        .and_then(Error::as_protocol)
        .is_some_and(|error| {
            error.code == ErrorCode(-32050)
                && error.message == "told so"
                && error.data == Some(json!({ "why": "because" }))
        })
}

#[tokio::test]
async fn an_error_that_names_no_request_is_the_answer_to_the_request_it_comes_back_on() {
    let mut wrong = Vec::new();
    for era in ERAS {
        for code in [200, 400, 404, 406, 500, 503] {
            for streams in [false, true] {
                let server = Server::serve(era, move |seen: Seen| {
                    if seen.method == Method::GET {
                        return status(405);
                    }
                    let name = seen.message["params"]["_meta"]["com.example/id"].clone();
                    let message = refusal(&seen.message, name.as_str().unwrap_or("own"));
                    if streams {
                        return open_stream(code, &message);
                    }
                    json_body(code, &message)
                })
                .await;
                let upstream = server.upstream(era);
                for id in NAMELESS {
                    for (method, mut request) in requests() {
                        let meta = &mut request.context.meta;
                        meta.insert("com.example/id".to_owned(), id.into());
                        let answer = send(&upstream, request).await;
                        if !is_told(&answer) {
                            wrong.push(format!(
                                "{era:?} {code} stream={streams} {method} id={id}: {answer:?}"
                            ));
                        }
                    }
                    // Without the mend each takes its whole timeout.
                    if wrong.len() > 3 {
                        panic!("{}", wrong.join("\n"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn an_error_keeps_the_time_after_which_the_server_may_be_asked_again() {
    for era in ERAS {
        for code in [400, 500, 503] {
            for data in [None, Some(json!({ "why": "because" }))] {
                let told = data.clone();
                let server = Server::serve(era, move |seen: Seen| {
                    if seen.method == Method::GET {
                        return status(405);
                    }
                    let error = json!({ "code": -32050, "message": "busy", "data": told });
                    let message = json!({ "jsonrpc": "2.0", "id": null, "error": error });
                    let mut response = json_body(code, &message);
                    let after = "7".parse().unwrap();
                    response.headers_mut().insert("retry-after", after);
                    response
                })
                .await;
                for (method, request) in requests() {
                    let error = send(&server.upstream(era), request).await.unwrap_err();
                    let at = format!("{era:?} {code} {method}: {error:?}");
                    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)), "{at}");
                    let told = error.as_protocol().expect(&at);
                    assert_eq!((told.code.0, &*told.message), (-32050, "busy"), "{at}");
                    if data.is_some() {
                        assert_eq!(told.data.as_ref().unwrap()["why"], "because", "{at}");
                    }
                    let outcome = Outcome::of_error(&error);
                    assert!(!outcome.counts_against(), "{at}: {outcome:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_response_without_any_message_fails_its_request_at_once() {
    for era in ERAS {
        let responses: [(&str, Option<u16>, Respond); 12] = [
            ("a page, 500", Some(500), |_| {
                body(500, "text/html", "<h1>Oh no</h1>")
            }),
            ("a page, 502", Some(502), |_| {
                body(502, "text/html", "<h1>Oh no</h1>")
            }),
            ("a page, 400", Some(400), |_| {
                body(400, "text/html", "<h1>Oh no</h1>")
            }),
            ("a page, 200", None, |_| {
                body(200, "text/html", "<h1>Hello</h1>")
            }),
            ("nothing, 500", Some(500), |_| status(500)),
            ("nothing, 200", None, |_| body(200, "application/json", "")),
            ("other JSON", None, |_| {
                body(200, "application/json", "{\"detail\": \"no\"}")
            }),
            ("an error of another shape, 422", Some(422), |_| {
                body(422, "application/json", "{\"error\": \"no\"}")
            }),
            ("an error of another shape, 500", Some(500), |_| {
                body(500, "application/json", "{\"error\": {\"type\": \"no\"}}")
            }),
            ("an error of another shape, 200", None, |_| {
                body(200, "application/json", "{\"error\": \"no\"}")
            }),
            ("an error of another shape, on a stream", None, |_| {
                crate::server::raw_stream(200, b"data: {\"error\": \"no\"}\n\n".to_vec())
            }),
            ("a list", Some(500), |_| {
                body(500, "application/json", "[1, 2]")
            }),
        ];
        for (what, code, response) in responses {
            let server = Server::serve(era, move |seen: Seen| match seen.method {
                Method::GET => status(405),
                _ => response(&seen.message),
            })
            .await;
            for (method, request) in requests() {
                let error = send(&server.upstream(era), request).await.unwrap_err();
                let at = format!("{era:?} {method} {what}: {error:?}");
                let Error::Transport(transport) = &error else {
                    panic!("{at}");
                };
                assert_eq!(transport.status(), code, "{at}");
                assert!(!error.to_string().contains("was lost"), "{at}");
            }
        }
    }
}

#[tokio::test]
async fn an_accepted_request_that_no_stream_can_answer_fails_at_once() {
    for era in ERAS {
        for code in [202, 204] {
            let server = Server::serve(era, move |seen: Seen| match seen.method {
                Method::GET => status(405),
                _ => status(code),
            })
            .await;
            for (method, request) in requests() {
                let error = send(&server.upstream(era), request).await.unwrap_err();
                let at = format!("{era:?} {code} {method}: {error:?}");
                assert!(error.is_transport(), "{at}");
                assert!(error.to_string().contains(&code.to_string()), "{at}");
                // The server took it, and may have run it.
                assert!(!error.is_not_delivered(), "{at}");
            }
        }
    }
}

#[tokio::test]
async fn an_accepted_request_is_answered_on_the_sessions_own_stream() {
    let (sender, receiver) = tokio::sync::broadcast::channel::<String>(8);
    let sender = std::sync::Arc::new((sender, receiver));
    let server = Server::serve(Era::Session, move |seen: Seen| {
        let sender = sender.clone();
        if seen.method == Method::GET {
            let receiver = sender.0.subscribe();
            let events = futures::stream::unfold(receiver, |mut receiver| async move {
                let event = receiver.recv().await.ok()?;
                Some((Ok::<_, std::convert::Infallible>(event), receiver))
            });
            return body(
                200,
                "text/event-stream",
                axum::body::Body::from_stream(events),
            );
        }
        let mut answer = done(&seen.message, "over there");
        // To rmcp, a list of tools.
        answer["result"]["tools"] = json!([]);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let _ = sender.0.send(format!("data: {answer}\n\n"));
        });
        status(202)
    })
    .await;
    let answer = send(&server.upstream(Era::Session), requests()[0].1.clone()).await;
    assert_eq!(said(answer), "over there");
}

/// An answer to another request than this, as a body or on a stream.
fn others_answer(request: &Value, id: &Value, streams: bool, progress: bool) -> Response {
    let mut answer = done(request, "somebody else's");
    answer["id"] = id.clone();
    if progress {
        let token = &request["params"]["_meta"]["progressToken"];
        let progress = json!({ "jsonrpc": "2.0", "method": "notifications/progress",
            "params": { "progressToken": token, "progress": 1 } });
        let both = format!("data: {progress}\n\ndata: {answer}\n\n");
        return crate::server::raw_stream(200, both.into_bytes());
    }
    if streams {
        return open_stream(200, &answer);
    }
    json_body(200, &answer)
}

#[tokio::test]
async fn an_answer_to_another_request_is_not_taken_and_ends_the_connection() {
    for era in ERAS {
        for (streams, progress) in [(false, false), (true, false), (true, true)] {
            for offset in [json!(1), json!(-1), json!("abc"), Value::Null, json!(2.5)] {
                let given = offset.clone();
                let server = Server::serve(era, move |seen: Seen| {
                    if seen.method == Method::GET {
                        return status(405);
                    }
                    if seen.message["params"]["name"] == "right" {
                        return json_body(200, &done(&seen.message, "mine"));
                    }
                    let own = seen.message["id"].as_i64().unwrap_or_default();
                    let id = match given.as_i64() {
                        Some(offset) => json!(own + offset),
                        None => given.clone(),
                    };
                    others_answer(&seen.message, &id, streams, progress)
                })
                .await;
                let upstream = server.upstream(era);
                let right = McpRequest::call_tool("right").build();
                for (method, request) in requests() {
                    assert_eq!(said(send(&upstream, right.clone()).await), "mine");
                    let answer = send(&upstream, request).await;
                    let at = format!("{era:?} {method} stream={streams}/{progress} {offset}");
                    let error = answer.expect_err(&at);
                    assert!(error.is_transport(), "{at}: {error:?}");
                    assert!(
                        error.to_string().contains("another request"),
                        "{at}: {error}"
                    );
                    assert!(!error.is_not_delivered(), "{at}: {error:?}");
                    assert!(
                        !upstream.is_connected() || server.sessions() > 1 || era == Era::Modern,
                        "{at}"
                    );
                }
                // The connection was made anew for each.
                if era != Era::Modern {
                    assert_eq!(said(send(&upstream, right).await), "mine");
                    assert!(server.sessions() >= 3, "{era:?} {}", server.sessions());
                }
            }
        }
    }
}

#[tokio::test]
async fn two_calls_whose_answers_are_swapped_both_fail() {
    use std::sync::{Arc, Mutex};
    use tokio::sync::oneshot;

    for era in ERAS {
        for streams in [false, true] {
            // Each waits until both are there, and is answered what the other asked for.
            type Waiting = Option<(Value, oneshot::Sender<Value>)>;
            let waiting = Arc::<Mutex<Waiting>>::default();
            let server = Server::serve(era, move |seen: Seen| {
                if seen.method == Method::GET {
                    return status(405);
                }
                let (sender, other) = oneshot::channel::<Value>();
                let request = seen.message.clone();
                let first = waiting.lock().unwrap().take();
                let other = match first {
                    Some((first, to_first)) => {
                        to_first.send(request).unwrap();
                        futures::future::Either::Left(std::future::ready(Ok(first)))
                    }
                    None => {
                        *waiting.lock().unwrap() = Some((request, sender));
                        futures::future::Either::Right(other)
                    }
                };
                let text = futures::stream::once(async move {
                    let request = other.await.unwrap();
                    let owner = request["params"]["arguments"]["of"].clone();
                    let answer = done(&request, owner.as_str().unwrap());
                    let text = match streams {
                        true => format!("data: {answer}\n\n"),
                        false => answer.to_string(),
                    };
                    Ok::<_, std::convert::Infallible>(text)
                });
                let kind = match streams {
                    true => "text/event-stream",
                    false => "application/json",
                };
                body(200, kind, axum::body::Body::from_stream(text))
            })
            .await;
            let upstream = server.upstream(era);
            upstream.connect().await.unwrap();
            let call = |of: &str| {
                let call = McpRequest::call_tool("act").argument("of", of).build();
                send(&upstream, call)
            };
            let (ann, bob) = tokio::join!(call("Ann"), call("Bob"));
            for answer in [ann, bob] {
                let error = answer.expect_err("an answer of somebody else");
                assert!(error.is_transport(), "{era:?} {streams}: {error:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_whose_id_is_written_as_text_is_the_requests_own() {
    for era in ERAS {
        for streams in [false, true] {
            let server = Server::serve(era, move |seen: Seen| {
                if seen.method == Method::GET {
                    return status(405);
                }
                let id = seen.message["id"].to_string().into();
                let mut answer = done(&seen.message, "mine");
                answer["id"] = id;
                match streams {
                    true => open_stream(200, &answer),
                    false => json_body(200, &answer),
                }
            })
            .await;
            let upstream = server.upstream(era);
            let call = McpRequest::call_tool("act").build();
            assert_eq!(said(send(&upstream, call).await), "mine", "{era:?}");
            let list = send(&upstream, McpRequest::list_tools()).await.unwrap();
            assert!(matches!(*list.result, ServerResult::ListToolsResult(_)));
        }
    }
}

#[tokio::test]
async fn an_answer_on_the_post_of_a_notification_answers_no_call() {
    // The call waits on its own stream; the notification's POST brings an answer with its id.
    let server = Server::serve(Era::Session, move |seen: Seen| {
        if seen.method == Method::GET {
            return status(405);
        }
        if seen.message["method"] == "notifications/roots/list_changed" {
            let call = json!({ "id": 2, "method": "tools/call" });
            return json_body(200, &done(&call, "forged"));
        }
        let answer = done(&seen.message, "mine");
        let id = seen.message["id"].clone();
        assert!(id.is_number());
        let text = futures::stream::once(async move {
            tokio::time::sleep(Duration::from_millis(400)).await;
            Ok::<_, std::convert::Infallible>(format!("data: {answer}\n\n"))
        });
        body(
            200,
            "text/event-stream",
            axum::body::Body::from_stream(text),
        )
    })
    .await;
    let upstream = server.upstream(Era::Session);
    upstream.connect().await.unwrap();
    let calls = (0..4).map(|_| send(&upstream, McpRequest::call_tool("act").build()));
    let calls = futures::future::join_all(calls);
    let notify = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let changed = rmcp::model::ClientNotification::RootsListChangedNotification(
            rmcp::model::RootsListChangedNotification::default(),
        );
        let _ = send(
            &upstream,
            McpRequest::notification(changed, CallContext::new(RequestId::Number(9))),
        )
        .await;
    };
    let (answers, ()) = tokio::join!(calls, notify);
    for answer in answers {
        assert_eq!(said(answer), "mine");
    }
}
