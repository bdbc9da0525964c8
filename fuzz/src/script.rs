//! A server that answers a call with the lines of an input, and then as it should.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use rmcp_layers::{Lifecycle, Lines, McpRequest, Upstream};
use serde_json::{Value, value::RawValue};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tower::ServiceExt;

/// The result of a good answer.
const ANSWER: &str = r#"{"resultType":"complete","content":[{"type":"text","text":"the answer"}]}"#;

/// Returns a good answer.
pub fn answer(id: &Value) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{ANSWER}}}"#).into_bytes()
}

/// Calls a tool. Returns its text, or an error's.
pub async fn call(upstream: &Upstream) -> String {
    match upstream
        .clone()
        .oneshot(McpRequest::call_tool("x").build())
        .await
    {
        Ok(response) => format!("{:?}", response.as_tool_result()),
        Err(error) => format!("error: {error}"),
    }
}

pub fn is_answer(said: &str) -> bool {
    said.contains("the answer")
}

/// A server by lines.
#[derive(Clone)]
pub struct Script {
    is_legacy: bool,
    first: Arc<dyn Fn(&Value) -> Vec<u8> + Send + Sync>,
    connections: Arc<AtomicUsize>,
}

impl Script {
    /// Creates a server of revision 2025-11-25, or else 2026-07-28. `first` returns the lines that
    /// follow the first call, from its `id`.
    pub fn new(is_legacy: bool, first: impl Fn(&Value) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self {
            is_legacy,
            first: Arc::new(first),
            connections: Arc::default(),
        }
    }

    /// Returns the number of connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// Returns an upstream that leads to it.
    pub fn upstream(&self) -> Upstream {
        let script = self.clone();
        let lifecycle = if self.is_legacy {
            Lifecycle::Initialize
        } else {
            Lifecycle::Discover
        };
        Upstream::builder()
            .name("script")
            .lifecycle(lifecycle)
            .lines(move || {
                let (near, far) = tokio::io::duplex(16 * 1024);
                script.connections.fetch_add(1, Relaxed);
                tokio::spawn(script.clone().serve(far));
                async move {
                    let lines = Lines::from(tokio::io::split(near));
                    Ok::<_, io::Error>(lines.max_message_bytes(64 * 1024))
                }
            })
    }

    async fn serve(self, pipe: DuplexStream) {
        let (read, mut write) = tokio::io::split(pipe);
        let mut lines = BufReader::new(read).lines();
        // The client may answer parts of an input before it reads on.
        let (sender, mut texts) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
        tokio::spawn(async move {
            while let Some(text) = texts.recv().await {
                if write.write_all(&text).await.is_err() {
                    return;
                }
            }
        });
        let mut calls = 0;
        while let Ok(Some(line)) = lines.next_line().await {
            let text: &RawValue = serde_json::from_str(&line).expect("a message of the client");
            // An answer may have an id that a value cannot hold.
            let message: Value = serde_json::from_str(text.get()).unwrap_or_default();
            let id = &message["id"];
            let mut text = match message["method"].as_str() {
                Some("server/discover") => discovered(id),
                Some("initialize") => initialized(id),
                Some("tools/call") if calls == 0 => {
                    calls += 1;
                    (self.first)(id)
                }
                Some("tools/call") => answer(id),
                _ => continue,
            };
            text.push(b'\n');
            if sender.send(text).is_err() {
                return;
            }
        }
    }
}

fn discovered(id: &Value) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{}}}},"ttlMs":0,"cacheScope":"private"}}}}"#).into_bytes()
}

fn initialized(id: &Value) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"s","version":"0"}}}}}}"#).into_bytes()
}
