//! Requests whose params rmcp takes for absent or does not read at all.

use std::sync::Arc;

use rmcp::{
    ServiceExt,
    transport::{
        StreamableHttpServerConfig, streamable_http_server::session::local::LocalSessionManager,
    },
};
use rmcp_layers::{LenientHttpLayer, Lines, McpServer, audit::AuditLog, gateway::Filter};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};
use tower::ServiceBuilder;

use crate::{
    common::{Stack, soon},
    unreadable::{Poster, Reached, audit, is_refused, on_record},
};

const LISTS: [&str; 5] = [
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "skills/list",
];

const OTHERS: [&str; 15] = [
    "tools/call",
    "prompts/get",
    "resources/read",
    "resources/directory/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "skills/get",
    "tasks/get",
    "tasks/update",
    "tasks/cancel",
    "completion/complete",
    "logging/setLevel",
    "subscriptions/listen",
    "server/discover",
    "ping",
];

/// Methods, params as text, and the path of the misfit.
fn table() -> Vec<(&'static str, String, &'static str)> {
    let mut table = Vec::new();
    for method in LISTS {
        for cursor in ["5", "true", "{}", "[\"a\"]"] {
            let params = format!(r#"{{ "_meta": {{}}, "cursor" : {cursor} }}"#);
            table.push((method, params, "params.cursor"));
        }
        let twice = r#"{ "cursor": "a", "cursor": "b" }"#;
        table.push((method, twice.to_owned(), "params"));
    }
    for method in LISTS.into_iter().chain(OTHERS) {
        for params in ["5", "true", "\"guarded\"", "[\"guarded\"]"] {
            table.push((method, params.to_owned(), "params"));
        }
        for meta in ["5", "false", "\"a\"", "[{}]"] {
            let good = r#""name": "guarded", "uri": "shop://guarded", "taskId": "t", "level": "info", "notifications": {}"#;
            let params = format!(r#"{{ {good}, "_meta":{meta} }}"#);
            table.push((method, params, "params._meta"));
        }
    }
    table
}

fn target(method: &str, params: &str) -> Option<&'static str> {
    if !params.contains("shop://guarded") {
        return None;
    }
    match method {
        "tools/call" | "prompts/get" => Some("guarded"),
        "resources/directory/read" | "skills/get" => Some("shop://guarded"),
        _ if method.starts_with("resources/") && !LISTS.contains(&method) => Some("shop://guarded"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("t"),
        _ => None,
    }
}

async fn refused_on_record(answer: &Value, case: (&str, &str, &str), audit: &AuditLog) {
    let (method, params, path) = case;
    let case = format!("{method} {params}");
    is_refused(&case, answer, method, path);
    on_record(&case, audit, method, target(method, params)).await;
}

struct RawLines {
    lines: tokio::io::Lines<BufReader<ReadHalf<DuplexStream>>>,
    write: WriteHalf<DuplexStream>,
}

impl RawLines {
    /// Serves a stack over this crate's lines.
    fn to(stack: impl Stack) -> Self {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            let lines = Lines::from(tokio::io::split(far));
            if let Ok(running) = McpServer::new(stack).serve(lines).await {
                let _ = running.waiting().await;
            }
        });
        let (read, write) = tokio::io::split(near);
        let lines = BufReader::new(read).lines();
        Self { lines, write }
    }

    async fn ask(&mut self, method: &str, params: &str) -> Value {
        let line = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{params}}}"#);
        self.write.write_all(line.as_bytes()).await.unwrap();
        self.write.write_all(b"\n").await.unwrap();
        loop {
            let line = soon("a line", self.lines.next_line()).await.unwrap();
            let message: Value = serde_json::from_str(&line.expect("an open pipe")).unwrap();
            if message["id"] == 7 && message.get("method").is_none() {
                return message;
            }
        }
    }
}

const HANDSHAKE: &str = r#"{ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "0" } }"#;

#[tokio::test]
async fn params_that_rmcp_does_not_keep_are_refused_over_lines() {
    for several in [false, true] {
        let (reached, audit) = (Reached::default(), audit());
        let stack = ServiceBuilder::new()
            .layer(audit.layer())
            .service(reached.gateway(several, false, Filter::new()));
        let mut line = RawLines::to(stack);
        line.ask("initialize", HANDSHAKE).await;
        for (method, params, path) in table() {
            let answer = line.ask(method, &params).await;
            refused_on_record(&answer, (method, &params, path), &audit).await;
            reached.nothing();
        }
        let answer = line.ask("tools/list", r#"{ "cursor": null }"#).await;
        assert!(answer.get("result").is_some(), "{answer}");
    }
}

#[tokio::test]
async fn params_that_rmcp_does_not_keep_are_refused_over_http() {
    let (reached, audit) = (Reached::default(), audit());
    let stack = ServiceBuilder::new()
        .layer(audit.layer())
        .service(reached.gateway(true, false, Filter::new()));
    let server = McpServer::new(stack);
    let service = server.http_service(
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    let router = axum::Router::new()
        .route_service("/mcp", service)
        .layer(LenientHttpLayer::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let client = Poster(&url);
    let initialize =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{HANDSHAKE}}}"#);
    let (session, _) = client.post_text(&[], &initialize).await;
    let session = session.expect("a session");
    let headers = [
        ("mcp-session-id", session.as_str()),
        ("mcp-protocol-version", "2025-11-25"),
    ];
    let ask = async |method: &str, params: &str| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{params}}}"#);
        client.post_text(&headers, &body).await.1
    };
    for (method, params, path) in table() {
        if method == "skills/list" || method == "server/discover" {
            // rmcp's own checks come first: the session was offered no skills, and `_meta` is
            // required.
            continue;
        }
        let answer = ask(method, &params).await;
        let case = format!("{method} {params}");
        is_refused(&case, &answer, method, path);
        if method != "ping" {
            on_record(&case, &audit, method, target(method, &params)).await;
        }
        reached.nothing();
    }
    let answer = ask("tools/list", r#"{ "cursor": null }"#).await;
    assert!(answer.get("result").is_some(), "{answer}");

    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "t", "version": "0" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    for method in LISTS {
        let headers = [
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", method),
        ];
        let params = json!({ "cursor": 5, "_meta": meta });
        let request = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
        let (_, answer) = client.post(&headers, &request).await;
        is_refused("2026-07-28", &answer, method, "params.cursor");
        on_record("2026-07-28", &audit, method, None).await;
    }
    for params in [json!("x"), json!({ "name": "a", "_meta": 5 })] {
        // Where every request says its revision in `_meta`, rmcp misses that first.
        let headers = [
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "a"),
        ];
        let request =
            json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params });
        let (_, answer) = client.post(&headers, &request).await;
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
    reached.nothing();
}
