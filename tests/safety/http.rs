//! Errors of an upstream over HTTP say neither too much nor too little.

use axum::{body::Body, http::Response};
use rmcp::ErrorData;
use rmcp_layers::{Lifecycle, McpRequest, Outcome, Repeat, Upstream};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::common::{Events, soon};

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
