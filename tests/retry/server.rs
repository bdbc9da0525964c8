//! A server that fails as it is told to, at the end of a pipe.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
};

use rmcp_layers::{Upstream, UpstreamBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Step {
    /// Answers with this result.
    Result(Value),
    /// Answers with a JSON-RPC error.
    Error(i32, Value),
    /// Reports these steps of progress, then does the next step.
    Progress(&'static [f64]),
    /// Asks the caller something, and ends the connection once it is answered.
    Ask(&'static str),
    /// Ends the connection.
    Hangup,
    /// Says nothing.
    Silence,
}

/// A tool's text.
pub fn says(text: &str) -> Step {
    Step::Result(json!({
        "resultType": "complete", "content": [{ "type": "text", "text": text }],
    }))
}

/// A tool that fails.
pub fn fails(text: &str, meta: Value) -> Step {
    Step::Result(json!({
        "resultType": "complete", "isError": true, "_meta": meta,
        "content": [{ "type": "text", "text": text }],
    }))
}

const QUESTION: u64 = 900;

/// The scripted server. Clones are the same one.
#[derive(Clone, Default)]
pub struct Server {
    steps: Arc<Mutex<VecDeque<Step>>>,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl Server {
    /// One that does these, a request each, and then answers every tool call with `done`.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: Arc::new(Mutex::new(steps.into_iter().collect())),
            ..Self::default()
        }
    }

    pub fn then(&self, steps: impl IntoIterator<Item = Step>) {
        self.steps.lock().unwrap().extend(steps);
    }

    pub fn upstream(&self) -> Upstream {
        self.upstream_of(Upstream::builder().name("scripted"))
    }

    pub fn upstream_of(&self, builder: UpstreamBuilder) -> Upstream {
        let server = self.clone();
        builder.transport(move || {
            let pipe = server.pipe();
            async move { Ok::<_, io::Error>(pipe) }
        })
    }

    /// A connection to it.
    pub fn pipe(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(self.clone().serve(far));
        near
    }

    async fn serve(self, pipe: DuplexStream) {
        let (read, mut write) = tokio::io::split(pipe);
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let request: Value = serde_json::from_str(&line).unwrap();
            let (id, method) = (&request["id"], request["method"].as_str());
            let (lines, hangup) = match method {
                Some(method @ ("server/discover" | "initialize")) => {
                    (vec![handshake(id, method)], false)
                }
                Some(_) if !id.is_null() => self.answer(&request),
                None if *id == QUESTION => return,
                _ => continue,
            };
            for line in lines {
                let line = format!("{line}\n");
                if write.write_all(line.as_bytes()).await.is_err() {
                    return;
                }
            }
            if hangup {
                return;
            }
        }
    }

    /// The requests that have arrived, but for `server/discover`.
    pub fn requests(&self) -> Vec<Value> {
        self.requests.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    /// What is said, and whether the connection ends then.
    fn answer(&self, request: &Value) -> (Vec<Value>, bool) {
        self.requests.lock().unwrap().push(request.clone());
        let id = &request["id"];
        let mut lines = Vec::new();
        loop {
            let step = self.steps.lock().unwrap().pop_front();
            match step.unwrap_or_else(|| says("done")) {
                Step::Result(result) => {
                    lines.push(json!({ "jsonrpc": "2.0", "id": id, "result": result }));
                    return (lines, false);
                }
                Step::Error(code, data) => {
                    let error = json!({ "code": code, "message": "as told", "data": data });
                    lines.push(json!({ "jsonrpc": "2.0", "id": id, "error": error }));
                    return (lines, false);
                }
                Step::Progress(steps) => lines.extend(steps.iter().map(|step| {
                    let token = &request["params"]["_meta"]["progressToken"];
                    let params = json!({ "progressToken": token, "progress": step });
                    json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params })
                })),
                Step::Ask(method) => {
                    let params = json!({
                        "messages": [], "maxTokens": 1, "message": "Who?",
                        "requestedSchema": { "type": "object", "properties": {} },
                    });
                    lines.push(json!({
                        "jsonrpc": "2.0", "id": QUESTION, "method": method, "params": params,
                    }));
                    return (lines, false);
                }
                Step::Silence => return (lines, false),
                Step::Hangup => return (lines, true),
            }
        }
    }
}

fn handshake(id: &Value, method: &str) -> Value {
    let capabilities = json!({ "tools": { "listChanged": true }, "resources": {} });
    let result = if method == "initialize" {
        json!({
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities,
            "serverInfo": { "name": "scripted", "version": "1" },
        })
    } else {
        json!({
            "resultType": "complete",
            "supportedVersions": ["2026-07-28"],
            "capabilities": capabilities,
            "ttlMs": 0,
            "cacheScope": "private",
        })
    };
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}
