//! Errors that name no request.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use rmcp_layers::{Error, Lines, McpRequest, McpResponse, Upstream, UpstreamBuilder};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream},
    time::Instant,
};
use tower::ServiceExt;

use crate::{
    common::{
        said,
        script::{scripted, scripted_lines},
        soon,
    },
    ok,
};

fn builder() -> UpstreamBuilder {
    Upstream::builder().request_timeout(Duration::from_secs(60))
}

/// An error that names no request, in one of the ways that servers have.
fn nameless(id: &Value, code: i32, message: &str) -> String {
    let mut error = json!({
        "jsonrpc": "2.0",
        "error": { "code": code, "message": message, "data": { "why": message } },
    });
    if id != "missing" {
        error["id"] = id.clone();
    }
    error.to_string()
}

async fn call(upstream: &Upstream, name: &'static str) -> Result<McpResponse, Error> {
    let call = McpRequest::call_tool(name).build();
    soon("an answer", upstream.clone().oneshot(call)).await
}

fn told(answer: &Result<McpResponse, Error>) -> Option<(i32, String)> {
    let error = answer.as_ref().err()?.as_protocol()?;
    assert_eq!(error.data, Some(json!({ "why": error.message })));
    Some((error.code.0, error.message.to_string()))
}

#[tokio::test(start_paused = true)]
async fn an_error_without_a_name_is_the_answer_to_the_only_request_in_flight() {
    for id in [
        Value::Null,
        json!("missing"),
        json!("server-error"),
        json!(""),
        json!(-1),
    ] {
        for code in [-32700, -32600, -32602, -32603, -32000, -32050] {
            let script = {
                let id = id.clone();
                move |_: Value| Some(vec![nameless(&id, code, "told so")])
            };
            for upstream in [
                scripted_lines(builder(), script.clone()),
                scripted(builder(), script),
            ] {
                for name in ["one", "two"] {
                    let answer = call(&upstream, name).await;
                    let expected = Some((code, "told so".to_owned()));
                    assert_eq!(told(&answer), expected, "{id} {code}: {answer:?}");
                }
                let list = soon("a list", upstream.oneshot(McpRequest::list_tools())).await;
                assert!(list.unwrap_err().is_protocol(), "{id} {code}");
            }
        }
    }
}

/// Answers requests as they come, by the names of the tools called: `wait` when the next `go` comes.
fn waiting() -> impl Fn(Value) -> Option<Vec<String>> + Clone + Send + Sync + 'static {
    let waits = Arc::<Mutex<Vec<Value>>>::default();
    move |request| {
        let mut waits = waits.lock().unwrap();
        Some(match request["params"]["name"].as_str().unwrap() {
            "wait" => {
                waits.push(request["id"].clone());
                Vec::new()
            }
            "go" => {
                let mut lines: Vec<_> = waits.drain(..).map(|id| ok(&id)).collect();
                lines.push(ok(&request["id"]));
                lines
            }
            text => vec![nameless(&Value::Null, -32050, text)],
        })
    }
}

#[tokio::test(start_paused = true)]
async fn of_several_requests_the_one_that_is_left_was_meant() {
    let upstream = scripted_lines(builder(), waiting());
    let (ann, bob, third) = tokio::join!(
        call(&upstream, "wait"),
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            call(&upstream, "for Bob").await
        },
        async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            call(&upstream, "go").await
        },
    );
    assert!(ann.is_ok() && third.is_ok(), "{ann:?} {third:?}");
    assert_eq!(told(&bob), Some((-32050, "for Bob".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn of_several_such_errors_no_caller_reads_anothers() {
    let upstream = scripted_lines(builder(), waiting());
    let (waited, ann, bob, third) = tokio::join!(
        call(&upstream, "wait"),
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            call(&upstream, "for Ann").await
        },
        async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            call(&upstream, "for Bob").await
        },
        async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            call(&upstream, "go").await
        },
    );
    assert!(waited.is_ok() && third.is_ok());
    for answer in [ann, bob] {
        let error = answer.unwrap_err();
        assert!(error.is_transport(), "{error:?}");
        assert!(!format!("{error:?}").contains("for "), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_method_without_a_name_is_no_request_that_has_one() {
    // Some servers answer notifications so, and have read of any request its id.
    let upstream = scripted_lines(builder(), |request| {
        let about = nameless(&Value::Null, -32601, "notifications/cancelled");
        Some(vec![about, ok(&request["id"])])
    });
    let answer = call(&upstream, "act").await;
    assert!(answer.is_ok(), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_after_such_an_error_is_answered() {
    let answered = Arc::new(Mutex::new(0));
    let upstream = scripted_lines(builder(), move |request| {
        let mut answered = answered.lock().unwrap();
        *answered += 1;
        Some(vec![match *answered {
            1 => nameless(&Value::Null, -32700, "told so"),
            _ => json!({ "jsonrpc": "2.0", "id": request["id"], "result": {
                "resultType": "complete", "content": [{ "type": "text", "text": "done" }],
            }})
            .to_string(),
        }])
    });
    assert!(call(&upstream, "act").await.is_err());
    assert_eq!(said(call(&upstream, "act").await), "done");
}

/// Serves `initialize`, and answers all else with an error without an id.
async fn serve_initialize_alone(far: DuplexStream, code: i32) {
    let (read, mut write) = tokio::io::split(far);
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let message: Value = serde_json::from_str(&line).unwrap();
        let answer = match message["method"].as_str() {
            Some("initialize") => json!({ "jsonrpc": "2.0", "id": message["id"], "result": {
                "protocolVersion": "2025-06-18",
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "old", "version": "1" },
            }})
            .to_string(),
            Some("tools/call") => ok(&message["id"]),
            _ => nameless(&Value::Null, code, "unknown"),
        };
        let line = format!("{answer}\n");
        write.write_all(line.as_bytes()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_is_declined_without_an_id_goes_on_at_once() {
    for code in [-32601, -32600] {
        let upstream = builder().lines(move || {
            let (near, far) = tokio::io::duplex(64 * 1024);
            tokio::spawn(serve_initialize_alone(far, code));
            async move { Ok::<_, io::Error>(Lines::from(tokio::io::split(near))) }
        });
        let began = Instant::now();
        // That `notifications/initialized` is unknown too fails no call.
        let answer = call(&upstream, "x").await;
        assert!(answer.is_ok() || code != -32601, "{answer:?}");
        assert!(began.elapsed() < Duration::from_secs(1), "{code}");
    }
}
