#!/usr/bin/env bash
# The Rust client sometimes leaves out the headers that mirror a tool's arguments (SEP-2243).
#
# rmcp 3.11.0 over streamable HTTP, protocol 2026-07-28. The server answers tools/list with an event stream that holds
# the list and then ends, as rmcp's own server does by default. The client looks for the marks `x-mcp-header` when its
# worker takes the answer from the stream. When the worker sees the end of the stream first, it passes the waiting answer
# on without looking. The application gets the list, but calls of the tool then go without `Mcp-Param-…`. Chance decides
# which comes first: of 300 connections that list and call, some calls have the header and some do not. After a list in
# plain JSON all have it.
# Consequence: a server that checks the mirrored headers refuses such calls, and a router by headers sends them astray,
# now and then.
#
# Needs a Rust toolchain (1.88 or newer). Exits 0 if the behaviour is as described.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat >Cargo.toml <<'TOML'
[package]
name = "mirrored-headers"
version = "0.0.0"
edition = "2024"

[dependencies]
axum = "0.8"
rmcp = { version = "=3.11.0", features = ["client", "transport-streamable-http-client-reqwest"] }
serde_json = "1"
tokio = { version = "1", features = ["full"] }
TOML

mkdir src
cat >src/main.rs <<'RUST'
use axum::http::{HeaderMap, header::CONTENT_TYPE};
use rmcp::{
    model::{CallToolRequestParams, ProtocolVersion},
    service::{ClientLifecycleMode, serve_client_with_lifecycle},
    transport::StreamableHttpClientTransport,
};
use serde_json::{Value, json};

const CALLS: usize = 300;

/// Answers a request. The list of tools comes as an event, if `as_event`.
fn respond(headers: &HeaderMap, body: &str, as_event: bool) -> (&'static str, String) {
    let request: Value = serde_json::from_str(body).unwrap_or_default();
    let mut result = json!({ "resultType": "complete", "ttlMs": 0, "cacheScope": "private" });
    match request["method"].as_str() {
        Some("server/discover") => {
            result["supportedVersions"] = json!(["2026-07-28"]);
            result["capabilities"] = json!({ "tools": {} });
            result["serverInfo"] = json!({ "name": "mirrors", "version": "1" });
        }
        Some("tools/list") => {
            let region = json!({ "type": "string", "x-mcp-header": "Region" });
            let schema = json!({ "type": "object", "properties": { "region": region } });
            result["tools"] = json!([{ "name": "store", "inputSchema": schema }]);
        }
        _ => {
            let header = headers.contains_key("mcp-param-region");
            result["content"] = json!([{ "type": "text", "text": header.to_string() }]);
        }
    }
    let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
    match as_event && request["method"] == "tools/list" {
        true => ("text/event-stream", format!("data: {answer}\n\n")),
        false => ("application/json", answer.to_string()),
    }
}

/// Returns how many of the calls came with the header of their argument.
async fn mirrored(as_event: bool) -> usize {
    let handle = move |headers: HeaderMap, body: String| async move {
        let (kind, text) = respond(&headers, &body, as_event);
        ([(CONTENT_TYPE, kind)], text)
    };
    let router = axum::Router::new().fallback(handle);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await });
    let mut count = 0;
    for _ in 0..CALLS {
        let lifecycle = ClientLifecycleMode::Discover {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        };
        let transport = StreamableHttpClientTransport::from_uri(url.as_str());
        let client = serve_client_with_lifecycle((), transport, lifecycle).await.unwrap();
        assert_eq!(client.list_tools(None).await.unwrap().tools.len(), 1);
        let arguments = json!({ "region": "eu" }).as_object().cloned().unwrap();
        let call = CallToolRequestParams::new("store").with_arguments(arguments);
        let result = serde_json::to_value(client.call_tool(call).await.unwrap()).unwrap();
        count += usize::from(result["content"][0]["text"] == "true");
        client.cancel().await.unwrap();
    }
    count
}

#[tokio::main]
async fn main() {
    let (as_json, as_event) = (mirrored(false).await, mirrored(true).await);
    println!("calls with the header, of {CALLS}: {as_json} after a list in JSON, {as_event} after a list as an event");
    assert_eq!(as_json, CALLS, "after a list in JSON");
    assert!(as_event > 0 && as_event < CALLS, "not as described");
}
RUST

cargo run --quiet
