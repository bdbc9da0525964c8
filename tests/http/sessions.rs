//! A session that the server has forgotten is begun anew.

use axum::http::Method;
use rmcp_layers::{Error, McpRequest, McpServer, Upstream};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    common::{Client, soon, text, tool},
    server::{Era, Respond, Response, Seen, Server, body, done, json_body, status},
};

/// How servers say that they do not know a session.
fn refusals() -> Vec<(&'static str, Respond)> {
    fn told(code: u16, error: i64, message: &str, id: Value) -> Response {
        json_body(
            code,
            &json!({
                "jsonrpc": "2.0", "id": id, "error": { "code": error, "message": message },
            }),
        )
    }
    vec![
        ("server-everything", |_| {
            told(
                400,
                -32000,
                "Bad Request: No valid session ID provided",
                Value::Null,
            )
        }),
        ("TypeScript, own id", |request| {
            told(
                400,
                -32000,
                "Bad Request: No valid session ID provided",
                request["id"].clone(),
            )
        }),
        ("TypeScript", |_| {
            told(
                400,
                -32000,
                "Bad Request: Server not initialized",
                Value::Null,
            )
        }),
        ("TypeScript, 404", |_| {
            told(404, -32001, "Session not found", Value::Null)
        }),
        ("Python", |_| {
            told(
                400,
                -32600,
                "Bad Request: Missing session ID",
                "server-error".into(),
            )
        }),
        ("Python, 404", |_| {
            told(
                404,
                -32600,
                "Not Found: Invalid or expired session ID",
                "server-error".into(),
            )
        }),
        ("mcp-go", |_| {
            body(400, "text/plain", "Invalid session ID\n")
        }),
        ("Go", |_| body(404, "text/plain", "session not found\n")),
        ("rmcp of old", |_| {
            body(401, "text/plain", "Unauthorized: Session not found")
        }),
        ("gone", |_| status(410)),
        ("409", |_| {
            body(409, "text/plain", "Session has been terminated")
        }),
        ("422", |_| {
            body(422, "application/json", "{\"error\": \"Unknown session\"}")
        }),
        ("200", |_| {
            told(200, -32000, "Session not found", Value::Null)
        }),
    ]
}

/// A server that forgets its first session once a tool `restart` is called.
async fn restarting(refuse: Respond) -> Server {
    let restarted = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    Server::serve(Era::Session, move |seen: Seen| {
        use std::sync::atomic::Ordering;
        if seen.method == Method::GET {
            return status(405);
        }
        let old = seen
            .headers
            .get("mcp-session-id")
            .is_none_or(|id| id == "session-1");
        if old && restarted.load(Ordering::SeqCst) {
            return refuse(&seen.message);
        }
        if seen.message["params"]["name"] == "restart" {
            restarted.store(true, Ordering::SeqCst);
        }
        json_body(200, &done(&seen.message, "done"))
    })
    .await
}

#[tokio::test]
async fn a_refusal_about_the_session_begins_it_anew_for_old_and_new_callers() {
    for (server_kind, refuse) in refusals() {
        let server = restarting(refuse).await;
        let top = McpServer::new(server.upstream(Era::Session));
        let lifecycle = rmcp::service::ClientLifecycleMode::Initialize;
        let old = Client::of(&top, "old", lifecycle.clone()).await;
        let call = |name| tool(name, json!({}));
        assert_eq!(
            text(&old.call(call("restart")).await),
            "done",
            "{server_kind}"
        );
        let answer = soon(
            "the old caller's call",
            old.peer.call_tool_once(call("act")),
        )
        .await;
        assert!(answer.is_ok(), "{server_kind}: {answer:?}");
        let new = Client::of(&top, "new", lifecycle).await;
        let answer = soon(
            "the new caller's call",
            new.peer.call_tool_once(call("act")),
        )
        .await;
        assert!(answer.is_ok(), "{server_kind}: {answer:?}");
        assert_eq!(server.sessions(), 2, "{server_kind}");
    }
}

#[tokio::test]
async fn each_kind_of_request_is_sent_again_in_the_new_session() {
    for (server_kind, refuse) in refusals() {
        let server = restarting(refuse).await;
        let upstream = server.upstream(Era::Session);
        let send = |request| soon("an answer", upstream.clone().oneshot(request));
        send(McpRequest::call_tool("restart").build())
            .await
            .unwrap();
        let list = send(McpRequest::list_tools()).await;
        assert!(list.is_ok(), "{server_kind}: {list:?}");
        assert_eq!(server.count("tools/list"), 2, "{server_kind}");
    }
}

async fn refused(upstream: &Upstream, name: &'static str) -> Error {
    let call = McpRequest::call_tool(name).build();
    soon("a refusal", upstream.clone().oneshot(call))
        .await
        .unwrap_err()
}

#[tokio::test]
async fn a_server_that_knows_no_session_at_all_is_asked_twice_and_no_more() {
    for (server_kind, refuse) in refusals() {
        let server = Server::serve(Era::Session, move |seen: Seen| match seen.method {
            Method::GET => status(405),
            _ => refuse(&seen.message),
        })
        .await;
        let upstream = server.upstream(Era::Session);
        let error = refused(&upstream, "act").await;
        assert_eq!(server.count("tools/call"), 2, "{server_kind}: {error:?}");
        assert!(!error.is_timeout(), "{server_kind}: {error:?}");
        // The error is the server's own, where it gave one.
        if server_kind.contains("TypeScript") || server_kind.contains("Python") {
            assert!(error.is_protocol(), "{server_kind}: {error:?}");
        }
    }
}

#[tokio::test]
async fn a_refusal_that_is_not_about_the_session_is_the_answer() {
    let refusals: [(&str, Respond); 7] = [
        ("bad params", |request| {
            json_body(
                400,
                &json!({ "jsonrpc": "2.0", "id": request["id"],
            "error": { "code": -32602, "message": "Invalid params: session is missing" } }),
            )
        }),
        ("a tool's own session", |request| {
            json_body(
                200,
                &json!({
            "jsonrpc": "2.0", "id": request["id"],
            "error": { "code": -32000, "message": "browser session not found" } }),
            )
        }),
        ("an unknown method", |request| {
            json_body(
                404,
                &json!({
            "jsonrpc": "2.0", "id": request["id"],
            "error": { "code": -32601, "message": "Method not found" } }),
            )
        }),
        ("too large", |_| {
            body(413, "text/plain", "too large for this session")
        }),
        ("too many", |_| {
            body(429, "text/plain", "session limit: no valid session")
        }),
        ("an internal error", |_| {
            body(500, "text/plain", "session not found")
        }),
        ("plain", |_| body(400, "text/plain", "Bad Request")),
    ];
    for (what, refuse) in refusals {
        let server = Server::serve(Era::Session, move |seen: Seen| match seen.method {
            Method::GET => status(405),
            _ => refuse(&seen.message),
        })
        .await;
        let error = refused(&server.upstream(Era::Session), "act").await;
        assert_eq!(server.count("tools/call"), 1, "{what}: {error:?}");
        assert_eq!(server.sessions(), 1, "{what}: {error:?}");
        assert!(!error.is_timeout(), "{what}: {error:?}");
    }
}
