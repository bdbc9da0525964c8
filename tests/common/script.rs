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

/// Serves by script over standard input and output.
pub async fn serve_stdio(answer: impl Fn(Value) -> Option<Vec<String>>) {
    serve(
        tokio::io::join(tokio::io::stdin(), tokio::io::stdout()),
        answer,
    )
    .await;
}

async fn serve(pipe: impl AsyncRead + AsyncWrite, answer: impl Fn(Value) -> Option<Vec<String>>) {
    let (read, mut write) = tokio::io::split(pipe);
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let request: Value = serde_json::from_str(&line).unwrap();
        let answers = match request["method"].as_str() {
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
