//! A server of an older revision whose every line is in a test's own hands.

use std::io;

use rmcp_layers::{Lifecycle, Upstream, UpstreamBuilder};
use serde_json::{Value, json};
use tokio::{
    io::{
        AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf, split,
    },
    sync::mpsc,
};

use crate::common::{Client, soon};

/// The far ends of an upstream's connections, in the order in which they are made.
pub struct Wires(mpsc::UnboundedReceiver<DuplexStream>);

/// The server's end of one connection.
pub struct Wire {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    write: WriteHalf<DuplexStream>,
    capabilities: Value,
    /// The params of the client's `initialize`.
    pub handshake: Value,
}

/// An upstream whose connections a test serves.
pub fn wired(builder: UpstreamBuilder) -> (Upstream, Wires) {
    let (sender, ends) = mpsc::unbounded_channel();
    let builder = builder.lifecycle(Lifecycle::Initialize);
    let upstream = builder.transport(move || {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let made = sender.send(far).map(|()| near);
        async move { made.map_err(|_| io::Error::other("the test has ended")) }
    });
    (upstream, Wires(ends))
}

impl Wires {
    /// Connects an upstream for no caller, and serves the handshake.
    pub async fn connect(&mut self, upstream: &Upstream, capabilities: Value) -> Wire {
        let upstream = upstream.clone();
        tokio::spawn(async move { upstream.connect().await });
        self.next(capabilities).await
    }

    /// Begins a session over an upstream that is not connected yet, and serves the handshake.
    pub async fn session(&mut self, name: &'static str, upstream: Upstream) -> (Client, Wire) {
        tokio::join!(Client::legacy(name, upstream), self.next(tools()))
    }

    /// Serves the handshake of the next connection, with these capabilities of the server.
    pub async fn next(&mut self, capabilities: Value) -> Wire {
        let far = soon("a connection", self.0.recv()).await.unwrap();
        let mut wire = Wire::over(far, capabilities);
        wire.shake_hands().await;
        wire
    }
}

/// The capabilities of a server with tools and log lines.
pub fn tools() -> Value {
    json!({ "tools": {}, "logging": {} })
}

/// A pipe whose far end a test serves.
pub fn wired_end(capabilities: Value) -> (DuplexStream, Wire) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    (near, Wire::over(far, capabilities))
}

impl Wire {
    fn over(far: DuplexStream, capabilities: Value) -> Self {
        let (read, write) = split(far);
        Self {
            lines: BufReader::new(read).lines(),
            write,
            capabilities,
            handshake: Value::Null,
        }
    }

    /// Serves the handshake.
    pub async fn shake_hands(&mut self) {
        let request = self.read(|message| message["method"] == "initialize").await;
        self.handshake = request["params"].clone();
        let result = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": self.capabilities,
            "serverInfo": { "name": "wire", "version": "1" },
        });
        self.answer(&request["id"], result).await;
        self.read(|message| message["method"] == "notifications/initialized")
            .await;
    }

    /// The next message that is `wanted`.
    pub async fn read(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = soon("a message", self.lines.next_line()).await.unwrap();
            let message = serde_json::from_str(&line.expect("a connection")).unwrap();
            if wanted(&message) {
                return message;
            }
        }
    }

    /// Reads to the end of the connection.
    pub async fn ends(&mut self) {
        while let Ok(Some(_)) = soon("the end", self.lines.next_line()).await {}
    }

    pub async fn write(&mut self, message: Value) {
        let line = format!("{message}\n");
        let written = self.write.write_all(line.as_bytes());
        soon("writing", written).await.unwrap();
    }

    /// The id of the next tool call.
    pub async fn called(&mut self) -> Value {
        let call = self.read(|message| message["method"] == "tools/call").await;
        call["id"].clone()
    }

    pub async fn answer(&mut self, id: &Value, result: Value) {
        self.write(json!({ "jsonrpc": "2.0", "id": id, "result": result }))
            .await;
    }

    /// Finishes a tool call.
    pub async fn finish(&mut self, id: &Value) {
        let done = json!({ "content": [{ "type": "text", "text": "done" }] });
        self.answer(id, done).await;
    }

    /// Answers the next read of a resource.
    pub async fn contents(&mut self) {
        let read = self
            .read(|message| message["method"] == "resources/read")
            .await;
        let contents = json!([{ "uri": read["params"]["uri"], "text": "contents" }]);
        self.answer(&read["id"], json!({ "contents": contents }))
            .await;
    }

    pub async fn notify(&mut self, method: &str, params: Value) {
        self.write(json!({ "jsonrpc": "2.0", "method": method, "params": params }))
            .await;
    }

    pub async fn log(&mut self, data: &str) {
        let params = json!({ "level": "info", "data": data });
        self.notify("notifications/message", params).await;
    }

    pub async fn send_request(&mut self, method: &str, id: &str, params: Value) {
        self.write(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
            .await;
    }

    /// Asks a question, and brings the answer.
    pub async fn request(&mut self, method: &str, id: &str, params: Value) -> Value {
        self.send_request(method, id, params).await;
        self.answer_to(id).await
    }

    pub async fn answer_to(&mut self, id: &str) -> Value {
        self.read(|message| message["id"] == id && message.get("method").is_none())
            .await
    }
}

/// The params of a question for each kind of request that a server may make.
pub fn questions() -> [(&'static str, Value); 4] {
    let message = json!({ "role": "user", "content": { "type": "text", "text": "Who are you?" } });
    let schema = json!({ "type": "object", "properties": {} });
    [
        (
            "sampling/createMessage",
            json!({ "messages": [message], "maxTokens": 10 }),
        ),
        (
            "elicitation/create",
            json!({ "message": "Your name?", "requestedSchema": schema }),
        ),
        ("roots/list", json!({})),
        ("com.example/question", json!({ "which": 1 })),
    ]
}
