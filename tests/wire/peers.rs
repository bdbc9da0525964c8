//! A server and a caller that write and see the text of each message.

use std::{io, sync::Arc};

use rmcp::ServiceExt;
use rmcp_layers::{HttpEndpoint, Lifecycle, Lines, McpServer, Upstream};
use serde_json::Value;
use tokio::{
    io::{
        AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream, ReadHalf,
        WriteHalf,
    },
    sync::mpsc,
};

use crate::common::{Stack, soon};

pub const LEGACY: &str = "2025-11-25";
pub const MODERN: &str = "2026-07-28";

/// How a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// The crate's own lines.
    Lines,
    /// rmcp's lines.
    Pipe,
    /// Streamable HTTP, answers as JSON.
    Json,
    /// Streamable HTTP, answers as events.
    Events,
}

pub const ROADS: [Road; 4] = [Road::Lines, Road::Pipe, Road::Json, Road::Events];

type Answer = Arc<dyn Fn(&Value) -> Vec<String> + Send + Sync>;

/// A server of one revision, which answers a request with the texts that its script has for it.
/// In them, `$request_id` stands for the request's id.
#[derive(Clone)]
pub struct Server {
    revision: &'static str,
    capabilities: &'static str,
    initialized: Option<&'static str>,
    session: bool,
    answer: Answer,
    seen: mpsc::UnboundedSender<String>,
}

/// What a server has been sent, handshake aside.
pub struct Seen(mpsc::UnboundedReceiver<String>);

impl Seen {
    /// The next message.
    pub async fn any(&mut self) -> String {
        soon("a message", self.0.recv()).await.expect("a server")
    }

    /// The method of the next message.
    pub async fn method(&mut self) -> Option<String> {
        let message: Value = serde_json::from_str(&self.any().await).unwrap();
        message["method"].as_str().map(str::to_owned)
    }

    /// The next message of this method.
    pub async fn next(&mut self, method: &str) -> String {
        loop {
            let text = self.any().await;
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["method"] == method {
                return text;
            }
        }
    }
}

impl Server {
    pub fn new(
        revision: &'static str,
        answer: impl Fn(&Value) -> Vec<String> + Send + Sync + 'static,
    ) -> (Self, Seen) {
        let (sender, seen) = mpsc::unbounded_channel();
        let server = Self {
            revision,
            capabilities: r#"{"tools":{"listChanged":true},"prompts":{},"resources":{},"completions":{},"logging":{}}"#,
            initialized: None,
            session: false,
            answer: Arc::new(answer),
            seen: sender,
        };
        (server, Seen(seen))
    }

    /// A server whose every result is this.
    pub fn answering(revision: &'static str, result: &str) -> (Self, Seen) {
        let answer = format!(r#"{{"jsonrpc":"2.0","id":$request_id,"result":{result}}}"#);
        Self::new(revision, move |_| vec![answer.clone()])
    }

    /// Over HTTP, with a session.
    pub fn with_session(mut self) -> Self {
        self.session = true;
        self
    }

    pub fn with_capabilities(mut self, capabilities: &'static str) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// With this result of `initialize`.
    pub fn with_initialized(mut self, result: &'static str) -> Self {
        self.initialized = Some(result);
        self
    }

    /// The texts that answer this one.
    fn answers(&self, text: &str) -> Vec<String> {
        let message: Value = serde_json::from_str(text).unwrap();
        let method = message["method"].as_str();
        let (revision, capabilities) = (self.revision, self.capabilities);
        let info = r#"{"name":"raw","version":"1"}"#;
        let answers = match method {
            Some("server/discover") if revision == MODERN => vec![format!(
                r#"{{"jsonrpc":"2.0","id":$request_id,"result":{{"resultType":"complete","supportedVersions":["{revision}"],"capabilities":{capabilities},"ttlMs":0,"cacheScope":"private"}}}}"#
            )],
            Some("server/discover") => vec![
                r#"{"jsonrpc":"2.0","id":$request_id,"error":{"code":-32601,"message":"unknown"}}"#
                    .to_owned(),
            ],
            Some("initialize") => {
                let result = self.initialized.map_or_else(
                    || {
                        format!(
                            r#"{{"protocolVersion":"{revision}","capabilities":{capabilities},"serverInfo":{info}}}"#
                        )
                    },
                    str::to_owned,
                );
                vec![format!(
                    r#"{{"jsonrpc":"2.0","id":$request_id,"result":{result}}}"#
                )]
            }
            _ => {
                let _ = self.seen.send(text.to_owned());
                match method {
                    Some("notifications/initialized" | "notifications/cancelled") => Vec::new(),
                    Some("subscriptions/listen") => Vec::new(),
                    _ => (self.answer)(&message),
                }
            }
        };
        let id = message["id"].to_string();
        answers
            .into_iter()
            .map(|answer| answer.replace("$request_id", &id))
            .collect()
    }

    async fn serve(self, pipe: impl AsyncRead + AsyncWrite) {
        let (read, mut write) = tokio::io::split(pipe);
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            for answer in self.answers(&line) {
                let line = format!("{answer}\n");
                if write.write_all(line.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn post(self, events: bool, body: String) -> axum::response::Response<String> {
        let response = axum::response::Response::builder();
        let response = match self.session {
            true => response.header("mcp-session-id", "one"),
            false => response,
        };
        let answers = self.answers(&body);
        let response = match answers.last() {
            None => response.status(202).body(String::new()),
            Some(answer) if !events => response
                .header("content-type", "application/json")
                .body(answer.clone()),
            Some(_) => response.header("content-type", "text/event-stream").body(
                answers
                    .iter()
                    .map(|answer| format!("data: {answer}\n\n"))
                    .collect(),
            ),
        };
        response.unwrap()
    }

    /// An upstream that leads to it.
    pub async fn by(self, road: Road) -> Upstream {
        let builder = Upstream::builder().name("raw").lifecycle(Lifecycle::Auto);
        let pipe = {
            let server = self.clone();
            move || {
                let (near, far) = tokio::io::duplex(64 * 1024);
                tokio::spawn(server.clone().serve(far));
                near
            }
        };
        match road {
            Road::Lines => builder.lines(move || {
                let near = Lines::from(tokio::io::split(pipe()));
                async move { Ok::<_, io::Error>(near) }
            }),
            Road::Pipe => builder.transport(move || {
                let near = pipe();
                async move { Ok::<_, io::Error>(near) }
            }),
            Road::Json | Road::Events => {
                let post = axum::routing::post(move |body: String| {
                    self.clone().post(road == Road::Events, body)
                });
                let router = axum::Router::new().route("/mcp", post);
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                tokio::spawn(async move { axum::serve(listener, router).await });
                let endpoint = HttpEndpoint::new(format!("http://{address}/mcp"));
                builder.http(endpoint).unwrap()
            }
        }
    }
}

#[derive(Default, serde::Deserialize)]
struct Envelope {
    #[serde(default)]
    id: Value,
    method: Option<serde::de::IgnoredAny>,
}

/// A caller over lines.
pub struct Caller {
    lines: tokio::io::Lines<BufReader<ReadHalf<DuplexStream>>>,
    write: WriteHalf<DuplexStream>,
    meta: &'static str,
    next: u64,
    /// All lines so far.
    pub heard: Vec<String>,
}

const MODERN_META: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"raw","version":"0"},"io.modelcontextprotocol/clientCapabilities":{}"#;

impl Caller {
    /// A caller of the current revision.
    pub fn modern(stack: impl Stack) -> Self {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let lines = Lines::from(tokio::io::split(far));
        tokio::spawn(async move {
            if let Ok(running) = McpServer::new(stack).serve(lines).await {
                let _ = running.waiting().await;
            }
        });
        let (read, write) = tokio::io::split(near);
        Self {
            lines: BufReader::new(read).lines(),
            write,
            meta: MODERN_META,
            next: 1,
            heard: Vec::new(),
        }
    }

    /// A caller of the current revision with these capabilities.
    pub fn modern_with(stack: impl Stack, capabilities: &str) -> Self {
        let mut caller = Self::modern(stack);
        let declared = MODERN_META.strip_suffix("{}").unwrap();
        caller.meta = format!("{declared}{capabilities}").leak();
        caller
    }

    /// A caller of an older one, once it is initialized.
    pub async fn legacy(stack: impl Stack) -> Self {
        Self::legacy_with(stack, "{}").await
    }

    pub async fn legacy_with(stack: impl Stack, capabilities: &str) -> Self {
        let mut caller = Self::modern(stack);
        caller.meta = "";
        caller.initialize_with(capabilities).await;
        caller
    }

    /// Begins a session of an older revision.
    pub async fn initialize_with(&mut self, capabilities: &str) {
        let params = format!(
            r#"{{"protocolVersion":"{LEGACY}","capabilities":{capabilities},"clientInfo":{{"name":"raw","version":"0"}}}}"#
        );
        let text = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{params}}}"#);
        self.write(&text).await;
        self.answer(0).await;
        self.write(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
            .await;
    }

    /// Writes a line as it is.
    pub async fn write(&mut self, text: &str) {
        self.write_bytes(text.as_bytes()).await;
    }

    pub async fn write_bytes(&mut self, line: &[u8]) {
        self.write.write_all(line).await.unwrap();
        self.write.write_all(b"\n").await.unwrap();
    }

    /// Ends its messages.
    pub async fn shut(&mut self) {
        self.write.shutdown().await.unwrap();
    }

    /// The next line, whatever it is.
    pub async fn line(&mut self) -> String {
        let line = soon("a line", self.lines.next_line()).await.unwrap();
        let line = line.expect("an open pipe");
        self.heard.push(line.clone());
        line
    }

    /// The next request or notification.
    pub async fn message(&mut self) -> String {
        loop {
            let line = self.line().await;
            if serde_json::from_str::<Value>(&line).unwrap()["method"].is_string() {
                return line;
            }
        }
    }

    /// The next message of this method.
    pub async fn hear(&mut self, method: &str) -> String {
        loop {
            let line = self.line().await;
            if serde_json::from_str::<Value>(&line).unwrap()["method"] == method {
                return line;
            }
        }
    }

    async fn answer(&mut self, id: u64) -> String {
        loop {
            let line = self.line().await;
            // An id, and other members, may have numbers that a value cannot hold.
            let message: Envelope = serde_json::from_str(&line).unwrap_or_default();
            if message.id == id && message.method.is_none() {
                return line;
            }
        }
    }

    /// Sends a request whose params are the members in this text, and waits for its answer's text.
    pub async fn ask(&mut self, method: &str, members: &str) -> String {
        let id = self.send(method, members).await;
        self.answer(id).await
    }

    pub async fn send(&mut self, method: &str, members: &str) -> u64 {
        let id = self.next;
        self.next += 1;
        let comma = if members.is_empty() { "" } else { "," };
        let params = match self.meta {
            "" => format!("{{{members}}}"),
            meta => format!(r#"{{"_meta":{{{meta}}}{comma}{members}}}"#),
        };
        let text =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        self.write(&text).await;
        id
    }
}
