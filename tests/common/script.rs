//! A server that answers with the lines it is told to, whatever they are.

use std::io;

use rmcp_layers::{Lines, Upstream, UpstreamBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

/// An upstream whose server answers each request after the handshake with `answer`'s lines. A line
/// needs no JSON in it; `None` ends the connection. Notifications
/// and answers are ignored.
pub fn scripted(
    builder: UpstreamBuilder,
    answer: impl Fn(Value) -> Option<Vec<String>> + Clone + Send + Sync + 'static,
) -> Upstream {
    builder.transport(move || {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(serve(far, answer.clone()));
        async move { Ok::<_, io::Error>(near) }
    })
}

/// The same, read by the crate's own transport.
pub fn scripted_lines(
    builder: UpstreamBuilder,
    answer: impl Fn(Value) -> Option<Vec<String>> + Clone + Send + Sync + 'static,
) -> Upstream {
    builder.lines(move || {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(serve(far, answer.clone()));
        async move { Ok::<_, io::Error>(Lines::from(tokio::io::split(near))) }
    })
}

/// The same, with the handshake of revisions before 2026-07-28 and these capabilities, if there are any.
pub fn scripted_as(
    builder: UpstreamBuilder,
    legacy: Option<Value>,
    answer: impl Fn(Value) -> Option<Vec<String>> + Clone + Send + Sync + 'static,
) -> Upstream {
    builder.lines(move || {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (legacy, answer) = (legacy.clone(), answer.clone());
        tokio::spawn(async move { serve_as(legacy, far, answer).await });
        async move { Ok::<_, io::Error>(Lines::from(tokio::io::split(near))) }
    })
}

/// Serves by script over standard input and output.
pub async fn serve_stdio(answer: impl Fn(Value) -> Option<Vec<String>>) {
    serve_stdio_as(false, answer).await;
}

/// The same, with the handshake of revisions before 2026-07-28 if it is `legacy`.
pub async fn serve_stdio_as(legacy: bool, answer: impl Fn(Value) -> Option<Vec<String>>) {
    let pipe = tokio::io::join(tokio::io::stdin(), tokio::io::stdout());
    serve_as(legacy.then(all_lists), pipe, answer).await;
}

async fn serve(pipe: impl AsyncRead + AsyncWrite, answer: impl Fn(Value) -> Option<Vec<String>>) {
    serve_as(None, pipe, answer).await;
}

async fn serve_as(
    legacy: Option<Value>,
    pipe: impl AsyncRead + AsyncWrite,
    answer: impl Fn(Value) -> Option<Vec<String>>,
) {
    let (read, mut write) = tokio::io::split(pipe);
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let request: Value = serde_json::from_str(&line).unwrap();
        let answers = match request["method"].as_str() {
            Some("server/discover") if legacy.is_some() => {
                Some(vec![unknown(&request["id"]).to_string()])
            }
            Some("initialize") if legacy.is_some() => {
                let capabilities = legacy.clone().unwrap_or_default();
                Some(vec![initialized(&request["id"], &capabilities).to_string()])
            }
            Some("server/discover") => Some(vec![discovered(&request["id"])]),
            Some(_) if request.get("id").is_some() => answer(request),
            _ => Some(Vec::new()),
        };
        let Some(answers) = answers else { return };
        for line in answers {
            if write.write_all(line.as_bytes()).await.is_err()
                || write.write_all(b"\n").await.is_err()
            {
                return;
            }
        }
        if write.flush().await.is_err() {
            return;
        }
    }
}

fn discovered(id: &Value) -> String {
    json!({
        "jsonrpc": "2.0",
        "id": id,
        "result": {
            "resultType": "complete",
            "supportedVersions": ["2026-07-28"],
            "capabilities": { "tools": {} },
            "ttlMs": 0,
            "cacheScope": "private",
        },
    })
    .to_string()
}

fn unknown(id: &Value) -> Value {
    let error = json!({ "code": -32601, "message": "Method not found" });
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
}

fn all_lists() -> Value {
    json!({
        "tools": { "listChanged": true },
        "prompts": {},
        "resources": { "subscribe": true, "listChanged": true },
    })
}

fn initialized(id: &Value, capabilities: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": {
        "protocolVersion": "2025-11-25",
        "capabilities": capabilities,
        "serverInfo": { "name": "scripted", "version": "0" },
    } })
}

/// A URL whose server answers each request after the handshake with `answer`'s result, or JSON-RPC error
/// object. With a session it speaks as revisions before 2026-07-28 do.
pub async fn scripted_http(
    with_session: bool,
    answer: impl Fn(&Value) -> Value + Clone + Send + Sync + 'static,
) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let posted = move |body: String| {
        let answer = answer.clone();
        async move { post(&body, with_session, &answer) }
    };
    let router = axum::Router::new().route("/mcp", axum::routing::post(posted));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn post(
    body: &str,
    with_session: bool,
    answer: &impl Fn(&Value) -> Value,
) -> axum::response::Response<String> {
    let request: Value = serde_json::from_str(body).unwrap();
    let response = axum::response::Response::builder();
    let Some(id) = request.get("id") else {
        return response.status(202).body(String::new()).unwrap();
    };
    let method = request["method"].as_str().unwrap_or_default();
    let answered = match method {
        "server/discover" if with_session => unknown(id),
        "server/discover" => serde_json::from_str(&discovered(id)).unwrap(),
        "initialize" => initialized(id, &all_lists()),
        _ => json!({ "jsonrpc": "2.0", "id": id, "result": answer(&request) }),
    };
    let response = match with_session {
        true => response.header("mcp-session-id", "one"),
        false => response,
    };
    response
        .header("content-type", "application/json")
        .body(answered.to_string())
        .unwrap()
}
