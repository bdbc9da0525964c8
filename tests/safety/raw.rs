//! Servers and clients whose every message is in a test's hands.

use std::{
    io,
    sync::{Arc, Mutex},
};

use rmcp_layers::{McpServer, Upstream, UpstreamBuilder};
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf, split,
};

use crate::common::{Stack, pipe_to, soon};

/// A server that notes each message, and answers each request: a call with `says` before its result.
#[derive(Clone, Default)]
pub struct Noting {
    pub heard: Arc<Mutex<Vec<Value>>>,
    /// What a call is told before it is answered. `"TOKEN"` stands for its progress token.
    pub says: Arc<Vec<Value>>,
}

impl Noting {
    pub fn saying(says: Vec<Value>) -> Self {
        Self {
            says: Arc::new(says),
            ..Self::default()
        }
    }

    pub fn behind(&self, builder: UpstreamBuilder) -> Upstream {
        let server = self.clone();
        builder.transport(move || {
            let (near, far) = tokio::io::duplex(64 * 1024);
            tokio::spawn(server.clone().serve(far));
            async move { Ok::<_, io::Error>(near) }
        })
    }

    async fn serve(self, pipe: DuplexStream) {
        let (read, mut write) = split(pipe);
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let message: Value = serde_json::from_str(&line).unwrap();
            self.heard.lock().unwrap().push(message.clone());
            for message in self.answers(&message) {
                if write
                    .write_all(format!("{message}\n").as_bytes())
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
    }

    /// What a message is answered with.
    pub fn answers(&self, message: &Value) -> Vec<Value> {
        let Some(id) = message.get("id") else {
            return Vec::new();
        };
        let info = json!({ "name": "noting", "version": "0" });
        let mut answers = Vec::new();
        let result = match message["method"].as_str() {
            Some("initialize") => json!({
                "protocolVersion": "2025-11-25", "serverInfo": info,
                "capabilities": { "tools": {}, "logging": {} },
            }),
            Some("server/discover") => json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"],
                "capabilities": { "tools": {} }, "ttlMs": 0, "cacheScope": "private",
            }),
            Some("tools/call") => {
                let token = &message["params"]["_meta"]["progressToken"];
                for said in self.says.iter() {
                    let said = said.to_string().replace("\"TOKEN\"", &token.to_string());
                    answers.push(serde_json::from_str(&said).unwrap());
                }
                json!({ "resultType": "complete", "content": [] })
            }
            _ => json!({ "resultType": "complete" }),
        };
        answers.push(json!({ "jsonrpc": "2.0", "id": id, "result": result }));
        answers
    }

    /// Waits until a notification of this method has been heard. Those before it have been, too.
    pub async fn until(&self, method: &str) {
        let heard = async {
            while !self.methods().iter().any(|heard| heard == method) {
                tokio::task::yield_now().await;
            }
        };
        soon(method, heard).await;
    }

    pub fn methods(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        let methods = heard
            .iter()
            .filter_map(|message| message["method"].as_str());
        methods.map(str::to_owned).collect()
    }
}

/// A client that sends what it is told to.
pub struct Raw {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    write: WriteHalf<DuplexStream>,
}

impl Raw {
    /// Serves a stack over a pipe, and shakes hands as revisions before 2026-07-28 do.
    pub async fn legacy(stack: impl Stack) -> Self {
        Self::of(McpServer::new(stack)).await
    }

    pub async fn of(server: McpServer<impl Stack>) -> Self {
        let (read, write) = split(pipe_to(server));
        let mut raw = Self {
            lines: BufReader::new(read).lines(),
            write,
        };
        let params = json!({
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": { "name": "raw", "version": "0" },
        });
        raw.ask("initialize", params).await;
        raw.tell("notifications/initialized", json!({})).await;
        raw
    }

    pub async fn send(&mut self, message: Value) {
        let line = format!("{message}\n");
        self.write.write_all(line.as_bytes()).await.unwrap();
    }

    pub async fn tell(&mut self, method: &str, params: Value) {
        self.send(json!({ "jsonrpc": "2.0", "method": method, "params": params }))
            .await;
    }

    pub async fn hear(&mut self) -> Value {
        let line = soon("a line", self.lines.next_line()).await.unwrap();
        serde_json::from_str(&line.expect("an open pipe")).unwrap()
    }

    /// The answer to a request.
    pub async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.ask_and_hear(method, params).await.pop().unwrap()
    }

    /// All that is heard up to a request's answer.
    pub async fn ask_and_hear(&mut self, method: &str, params: Value) -> Vec<Value> {
        self.send(json!({ "jsonrpc": "2.0", "id": method, "method": method, "params": params }))
            .await;
        let mut heard = Vec::new();
        loop {
            let message = self.hear().await;
            let answers = message["id"] == method && message.get("method").is_none();
            heard.push(message);
            if answers {
                return heard;
            }
        }
    }
}
