//! How the gateway example lets requests in over HTTP, and answers them.

#[path = "../../examples/gateway/transport.rs"]
mod transport;

use rmcp::{
    model::{
        CallToolResult, ClientRequest, ContentBlock, ErrorData, ProgressNotification,
        ProgressNotificationParam, ServerNotification,
    },
    transport::StreamableHttpServerConfig,
};
use rmcp_layers::{Error, McpRequest, McpResponse, McpServer};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::service_fn;

use crate::common::{Http, soon};

async fn serve(config: StreamableHttpServerConfig) -> Http {
    let stack = service_fn(|request: McpRequest| async move {
        let ClientRequest::CallToolRequest(call) = &*request.message else {
            return Err(ErrorData::invalid_request("only tools", None).into());
        };
        let arguments = call.params.arguments.clone().unwrap_or_default();
        let length = arguments.get("length").and_then(Value::as_u64).unwrap_or(1);
        if arguments.contains_key("progress") {
            let token = request.context.progress_token().unwrap();
            let step = ProgressNotificationParam::new(token, 1.0);
            let step = ServerNotification::ProgressNotification(ProgressNotification::new(step));
            request.context.caller.notify(step).await?;
        }
        let text = "x".repeat(usize::try_from(length).unwrap());
        Ok::<_, Error>(McpResponse::new(CallToolResult::success(vec![
            ContentBlock::text(text),
        ])))
    });
    Http::serve_with(McpServer::new(stack), 0, config).await
}

/// Posts a message, and gives back the head and the body of the response.
async fn post(http: &Http, headers: &[(&str, &str)], message: &Value) -> (String, String) {
    let port = http.port();
    let body = message.to_string();
    let mut request = format!(
        "POST /mcp HTTP/1.1\r\nconnection: close\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\ncontent-length: {}\r\n",
        body.len()
    );
    if !headers.iter().any(|(name, _)| *name == "host") {
        request += &format!("host: 127.0.0.1:{port}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("\r\n{body}");
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    soon("a response", tcp.read_to_end(&mut response))
        .await
        .unwrap();
    let response = String::from_utf8(response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn call(arguments: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "act",
        "arguments": arguments,
        "_meta": {
            "progressToken": 1,
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "raw", "version": "0" },
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    }})
}

const MODERN: [(&str, &str); 3] = [
    ("mcp-protocol-version", "2026-07-28"),
    ("mcp-method", "tools/call"),
    ("mcp-name", "act"),
];

async fn from_origin(http: &Http, host: Option<&str>, origin: Option<&str>) -> String {
    let mut headers = MODERN.to_vec();
    headers.extend(host.map(|host| ("host", host)));
    headers.extend(origin.map(|origin| ("origin", origin)));
    let (head, _) = post(http, &headers, &call(json!({}))).await;
    head.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused() {
    let http = serve(transport::config(&[], None).unwrap()).await;
    let allowed = [
        None,
        Some("http://localhost"),
        Some("http://localhost:6274"),
        Some("https://localhost:8443"),
        Some("http://127.0.0.1:3000"),
        Some("http://[::1]:3000"),
    ];
    for origin in allowed {
        let status = from_origin(&http, None, origin).await;
        assert!(status.contains(" 200 "), "{origin:?}: {status}");
    }
    let refused = [
        "http://evil.example",
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://evil.example:80",
        "localhost",
        "file://",
        "chrome-extension://abcdef",
        "",
    ];
    for origin in refused {
        let status = from_origin(&http, None, Some(origin)).await;
        assert!(status.contains(" 403 "), "{origin:?}: {status}");
    }
    let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": { "name": "raw", "version": "0" },
    }});
    let (head, _) = post(&http, &[("origin", "http://evil.example")], &initialize).await;
    assert!(head.contains(" 403 "), "{head}");
}

#[tokio::test]
async fn pages_of_the_gateways_own_hosts_are_let_in() {
    let hosts = ["gateway.example", "other.example:8443", "fd00::1"].map(str::to_owned);
    let http = serve(transport::config(&hosts, None).unwrap()).await;
    let host = Some("gateway.example");
    for (origin, expected) in [
        ("https://gateway.example", " 200 "),
        ("https://gateway.example:444", " 200 "),
        ("https://other.example:8443", " 200 "),
        ("https://other.example:9443", " 403 "),
        ("http://[fd00::1]:8931", " 200 "),
        ("https://a.gateway.example", " 403 "),
    ] {
        let status = from_origin(&http, host, Some(origin)).await;
        assert!(status.contains(expected), "{origin}: {status}");
    }
}

#[tokio::test]
async fn the_configured_origins_are_let_in_and_no_other() {
    let origins = [
        "https://app.example".to_owned(),
        "http://localhost:*".to_owned(),
    ];
    let http = serve(transport::config(&[], Some(&origins)).unwrap()).await;
    for (origin, expected) in [
        ("https://app.example", " 200 "),
        ("https://app.example:443", " 200 "),
        ("https://app.example:8443", " 403 "),
        ("http://app.example", " 403 "),
        ("http://localhost:1", " 200 "),
        ("http://127.0.0.1:1", " 403 "),
    ] {
        let status = from_origin(&http, None, Some(origin)).await;
        assert!(status.contains(expected), "{origin}: {status}");
    }
    let none = serve(transport::config(&[], Some(&[])).unwrap()).await;
    let status = from_origin(&none, None, Some("http://localhost")).await;
    assert!(status.contains(" 403 "), "{status}");
    assert!(from_origin(&none, None, None).await.contains(" 200 "));
}

#[test]
fn an_origin_that_is_none_is_named() {
    for origin in [
        "app.example",
        "*",
        "https://",
        "ftp://app.example",
        "https://a b",
        "https://a:",
    ] {
        let error = transport::config(&[], Some(&[origin.to_owned()])).err();
        let error = error.expect(origin);
        assert!(
            error.contains("allowed_origins") && error.contains(origin),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_long_result_is_one_body_unless_something_came_before_it() {
    let http = serve(transport::config(&[], None).unwrap()).await;
    for length in [1, 3 << 20] {
        let message = call(json!({ "length": length }));
        let (head, body) = post(&http, &MODERN, &message).await;
        assert!(head.contains("content-type: application/json"), "{head}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert_eq!(text.len(), length);
    }
    let message = call(json!({ "length": 5, "progress": true }));
    let (head, body) = post(&http, &MODERN, &message).await;
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert!(
        body.contains("notifications/progress") && body.contains("xxxxx"),
        "{body}"
    );
}
