//! A client over a pipe that sends whatever it is told to.

use rmcp_layers::McpServer;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, ReadHalf, WriteHalf};

use crate::common::{Stack, pipe_to, soon};

pub struct Line {
    lines: Lines<BufReader<ReadHalf<tokio::io::DuplexStream>>>,
    write: WriteHalf<tokio::io::DuplexStream>,
    next: u64,
}

impl Line {
    /// Serves a stack over a pipe, as over stdio.
    pub fn to(stack: impl Stack) -> Self {
        let (read, write) = tokio::io::split(pipe_to(McpServer::new(stack)));
        Self {
            lines: BufReader::new(read).lines(),
            write,
            next: 1,
        }
    }

    /// Sends a request of the current revision, with this `_meta` besides, and waits for its answer.
    pub async fn ask(&mut self, method: &str, mut params: Value, meta: Value) -> Value {
        let id = self.send(method, &mut params, meta).await;
        loop {
            let line = self.hear().await;
            if line["id"] == id && line.get("method").is_none() {
                return line;
            }
        }
    }

    /// Sends a request, and gives its id.
    pub async fn send(&mut self, method: &str, params: &mut Value, meta: Value) -> u64 {
        let id = self.next;
        self.next += 1;
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "line", "version": "0" },
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        for (key, value) in meta.as_object().unwrap() {
            params["_meta"][key] = value.clone();
        }
        let line = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.write
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
        id
    }

    /// The next line, whatever it is.
    pub async fn hear(&mut self) -> Value {
        let line = soon("a line", self.lines.next_line()).await.unwrap();
        serde_json::from_str(&line.expect("an open pipe")).unwrap()
    }
}

/// `_meta` with a token.
pub fn bearing(token: &str) -> Value {
    json!({ rmcp_layers::auth::TOKEN_META_KEY: token })
}
