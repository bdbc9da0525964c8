//! What reading and writing costs, beside rmcp's own.
//!
//! A request goes from a caller through `McpServer` and `Upstream` to a server, and its answer back: two
//! messages are read and two are written. The caller and the server are raw; they write texts that are
//! ready.
//!
//! - *lines*: both ends are `Lines`.
//! - *typed*: both ends are typed channels, with messages that are ready. Nothing is read or written.
//! - *rmcp*: the same two messages read and written once each by rmcp's types and `serde_json` (`from_slice`
//!   to `ClientJsonRpcMessage` and `ServerJsonRpcMessage`, `to_vec`).
//!
//! The time of the first without that of the second is what reading and writing takes, with the pipes and
//! the lines in them. The figures are its ratio to the third. All of them take turns, and a ratio is the
//! median of those within one round.
//!
//! Run it with `cargo bench --bench wire`.

mod common;

use std::{
    hint::black_box,
    io,
    time::{Duration, Instant},
};

use futures::{SinkExt, StreamExt, channel::mpsc};
use rmcp::{
    RoleClient, RoleServer, ServiceExt,
    model::{ClientJsonRpcMessage, JsonRpcMessage, RequestId, ServerJsonRpcMessage},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
};
use rmcp_layers::{Lifecycle, Lines, McpServer, Upstream};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};

use crate::common::{Clock, figure, median};

/// How long each exchange is measured.
const BUDGET: Duration = Duration::from_secs(6);
/// Bytes that a pipe holds: more than any message has.
const PIPE: usize = 4 * 1024 * 1024;
const BUFFER: usize = 16;

/// A request and its answer.
struct Exchange {
    figure: &'static str,
    call: Value,
    result: Value,
    /// Exchanges of one variant in a row.
    count: usize,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut unknown = Vec::new();
    for exchange in exchanges() {
        let ratio = runtime.block_on(measure(&exchange));
        match exchange.figure {
            "" => unknown.push(ratio),
            name => figure(name, ratio, "ratio"),
        }
    }
    let highest = unknown.into_iter().fold(f64::NAN, f64::max);
    figure("read_unknown_vs_rmcp", highest, "ratio");
}

fn call(params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 0, "method": "tools/call", "params": params })
}

fn exchanges() -> Vec<Exchange> {
    let small = |with: fn(Value) -> Value| Exchange {
        figure: "read_small_vs_rmcp",
        call: call(with(
            json!({ "name": "echo", "arguments": with(json!({ "text": "hello" })) }),
        )),
        result: with(json!({ "content": [with(json!({ "type": "text", "text": "hello" }))] })),
        count: 200,
    };
    let line = "the quick brown fox \"jumps\" over the lazy dog\n";
    let large = |with: fn(Value) -> Value| Exchange {
        figure: "read_100k_vs_rmcp",
        result: with(json!({ "content": [
            with(json!({ "type": "text", "text": line.repeat(100 * 1024 / line.len()) })),
        ] })),
        count: 20,
        ..small(with)
    };
    let list = |with: fn(Value) -> Value| Exchange {
        figure: "read_list_vs_rmcp",
        call: json!({ "jsonrpc": "2.0", "id": 0, "method": "tools/list", "params": {} }),
        result: with(json!({ "tools": (0..1_000).map(|n| tool(n, with)).collect::<Vec<_>>() })),
        count: 2,
    };
    let unknown = |exchange| Exchange {
        figure: "",
        ..exchange
    };
    vec![
        small(|value| value),
        large(|value| value),
        list(|value| value),
        unknown(small(with_unknown)),
        unknown(large(with_unknown)),
        unknown(list(with_unknown)),
    ]
}

/// Members that no revision has, in front of the others and after them.
fn with_unknown(value: Value) -> Value {
    let mut members = serde_json::Map::new();
    members.insert(
        "x-first".to_owned(),
        json!({ "a": [1, 2.5, { "b": null }], "c": "text" }),
    );
    members.extend(value.as_object().cloned().unwrap_or_default());
    members.insert("x-last".to_owned(), json!(["text", { "d": true }]));
    members.into()
}

fn tool(number: usize, with: fn(Value) -> Value) -> Value {
    with(json!({
        "name": format!("tool_{number}"),
        "description": "Searches the documents of a project by their text, and returns the best ten.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "query": { "type": "string", "description": "The text to search for." },
                "limit": { "type": "integer", "minimum": 1, "maximum": 50 },
            },
            "required": ["query"],
        },
        "annotations": with(json!({ "readOnlyHint": true })),
    }))
}

fn handshake() -> (Value, Value, Value) {
    let revision = "2025-11-25";
    let request = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": revision,
        "capabilities": {},
        "clientInfo": { "name": "bench", "version": "0" },
    } });
    let answer = json!({
        "protocolVersion": revision,
        "capabilities": { "tools": {} },
        "serverInfo": { "name": "bench", "version": "0" },
    });
    let notification = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    (request, answer, notification)
}

/// The ratio of reading and writing to rmcp's.
async fn measure(exchange: &Exchange) -> f64 {
    let mut lines = OverLines::connect(exchange).await;
    let mut typed = OverChannels::connect(exchange).await;
    let answer = json!({ "jsonrpc": "2.0", "id": 0, "result": exchange.result }).to_string();
    let call = exchange.call.to_string();
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (clock, mut round) = (Clock::new(BUDGET), 0);
    while !clock.is_over() {
        let (mut by_lines, mut by_types, mut by_rmcp) = (0.0, 0.0, 0.0);
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => by_lines = lines.run(exchange.count).await,
                1 => by_types = typed.run(exchange.count).await,
                _ => by_rmcp = with_rmcp(&call, &answer, exchange.count),
            }
        }
        round += 1;
        ours.push(by_lines - by_types);
        theirs.push(by_rmcp);
        ratios.push((by_lines - by_types) / by_rmcp);
    }
    let bytes = call.len() + answer.len();
    println!(
        "{bytes:>7} bytes: {:>8.2} us, rmcp {:>8.2} us",
        median(&ours),
        median(&theirs)
    );
    median(&ratios)
}

/// Microseconds an exchange.
fn with_rmcp(call: &str, answer: &str, count: usize) -> f64 {
    let started = Instant::now();
    for _ in 0..count {
        let call: ClientJsonRpcMessage =
            serde_json::from_slice(black_box(call.as_bytes())).expect("a call");
        black_box(serde_json::to_vec(&call).expect("JSON"));
        let answer: ServerJsonRpcMessage =
            serde_json::from_slice(black_box(answer.as_bytes())).expect("an answer");
        black_box(serde_json::to_vec(&answer).expect("JSON"));
    }
    per_exchange(started, count)
}

fn per_exchange(started: Instant, count: usize) -> f64 {
    started.elapsed().as_secs_f64() * 1e6 / count as f64
}

/// One end of a pipe.
struct Pipe {
    read: BufReader<ReadHalf<DuplexStream>>,
    write: WriteHalf<DuplexStream>,
    line: Vec<u8>,
}

impl Pipe {
    fn new(pipe: DuplexStream) -> Self {
        let (read, write) = tokio::io::split(pipe);
        Self {
            read: BufReader::with_capacity(64 * 1024, read),
            write,
            line: Vec::new(),
        }
    }

    async fn next(&mut self) -> Option<&[u8]> {
        self.line.clear();
        let length = self.read.read_until(b'\n', &mut self.line).await.ok()?;
        (length > 0).then_some(&*self.line)
    }

    async fn write(&mut self, pieces: &[&[u8]]) {
        let text = pieces.concat();
        self.write.write_all(&text).await.expect("an open pipe");
    }
}

/// The `id` of a request that this crate wrote.
fn id_in(line: &[u8]) -> &[u8] {
    let start = br#"{"jsonrpc":"2.0","id":"#.len();
    let rest = &line[start..];
    let end = rest.iter().position(|byte| *byte == b',');
    &rest[..end.expect("an `id` in front")]
}

struct OverLines {
    caller: Pipe,
    /// The call's text before and after its `id`.
    call: (Vec<u8>, Vec<u8>),
    asked: usize,
}

impl OverLines {
    async fn connect(exchange: &Exchange) -> Self {
        let result = exchange.result.to_string();
        let upstream = Upstream::builder()
            .lifecycle(Lifecycle::Initialize)
            .lines(move || {
                let (near, far) = tokio::io::duplex(PIPE);
                tokio::spawn(serve_lines(Pipe::new(far), result.clone()));
                async move { Ok::<_, io::Error>(Lines::from(tokio::io::split(near))) }
            });
        let (near, far) = tokio::io::duplex(PIPE);
        tokio::spawn(async move {
            let lines = Lines::from(tokio::io::split(far));
            let running = McpServer::new(upstream).serve(lines).await;
            let _ = running.expect("the server starts").waiting().await;
        });
        let mut caller = Pipe::new(near);
        let (request, _, notification) = handshake();
        let lines = [request.to_string(), notification.to_string()].map(|line| line + "\n");
        caller.write(&[lines[0].as_bytes()]).await;
        caller.next().await.expect("an answer");
        caller.write(&[lines[1].as_bytes()]).await;
        let call = exchange.call.to_string() + "\n";
        let (before, after) = call.split_once(r#""id":0"#).expect("an `id`");
        let mut over = Self {
            caller,
            call: (
                format!(r#"{before}"id":"#).into_bytes(),
                after.as_bytes().to_vec(),
            ),
            asked: 1,
        };
        over.run(1).await;
        over
    }

    async fn run(&mut self, count: usize) -> f64 {
        let started = Instant::now();
        for _ in 0..count {
            self.asked += 1;
            let id = self.asked.to_string();
            let (before, after) = &self.call;
            self.caller.write(&[before, id.as_bytes(), after]).await;
            let answer = self.caller.next().await.expect("an answer");
            assert!(answer.len() > 40);
        }
        per_exchange(started, count)
    }
}

async fn serve_lines(mut pipe: Pipe, result: String) {
    let (_, initialized, _) = handshake();
    let initialized = initialized.to_string();
    let mut is_first = true;
    while let Some(line) = pipe.next().await {
        if !line.windows(4).take(40).any(|part| part == b"\"id\"") {
            continue;
        }
        let id = id_in(line).to_vec();
        let result = match std::mem::take(&mut is_first) {
            true => &initialized,
            false => &result,
        };
        let before = br#"{"jsonrpc":"2.0","id":"#;
        pipe.write(&[before, &id, br#","result":"#, result.as_bytes(), b"}\n"])
            .await;
    }
}

type ToServer = mpsc::Sender<RxJsonRpcMessage<RoleServer>>;
type FromServer = mpsc::Receiver<TxJsonRpcMessage<RoleServer>>;

struct OverChannels {
    send: ToServer,
    receive: FromServer,
    /// Answers for the server to give.
    answers: mpsc::UnboundedSender<ServerJsonRpcMessage>,
    call: ClientJsonRpcMessage,
    answer: ServerJsonRpcMessage,
    asked: i64,
}

impl OverChannels {
    async fn connect(exchange: &Exchange) -> Self {
        let (answers, to_give) = mpsc::unbounded();
        let mut to_give = Some(to_give);
        let upstream = Upstream::builder()
            .lifecycle(Lifecycle::Initialize)
            .transport(move || {
                let (to_server, from_client) =
                    mpsc::channel::<RxJsonRpcMessage<RoleServer>>(BUFFER);
                let (to_client, from_server) =
                    mpsc::channel::<RxJsonRpcMessage<RoleClient>>(BUFFER);
                let to_give = to_give.take().expect("one connection");
                tokio::spawn(serve_typed(from_client, to_client, to_give));
                async move { Ok::<_, io::Error>((to_server, from_server)) }
            });
        let (send, from_client) = mpsc::channel(BUFFER);
        let (to_client, receive) = mpsc::channel(BUFFER);
        tokio::spawn(async move {
            let running = McpServer::new(upstream)
                .serve((to_client, from_client))
                .await;
            let _ = running.expect("the server starts").waiting().await;
        });
        let (request, _, notification) = handshake();
        let read = |json| serde_json::from_value(json).expect("a message");
        let answer = json!({ "jsonrpc": "2.0", "id": 0, "result": exchange.result });
        let mut over = Self {
            send,
            receive,
            answers,
            call: read(exchange.call.clone()),
            answer: serde_json::from_value(answer).expect("an answer"),
            asked: 0,
        };
        over.send.send(read(request)).await.expect("a server");
        over.receive.next().await.expect("an answer");
        over.send.send(read(notification)).await.expect("a server");
        over.run(1).await;
        over
    }

    async fn run(&mut self, count: usize) -> f64 {
        let mut calls = Vec::new();
        for _ in 0..count {
            self.asked += 1;
            let mut call = self.call.clone();
            if let JsonRpcMessage::Request(request) = &mut call {
                request.id = RequestId::Number(self.asked);
            }
            calls.push(call);
            let _ = self.answers.unbounded_send(self.answer.clone());
        }
        let started = Instant::now();
        for call in calls {
            self.send.send(call).await.expect("a server");
            let answer = self.receive.next().await.expect("an answer");
            assert!(matches!(answer, JsonRpcMessage::Response(_)));
        }
        per_exchange(started, count)
    }
}

async fn serve_typed(
    mut receive: mpsc::Receiver<RxJsonRpcMessage<RoleServer>>,
    mut send: mpsc::Sender<RxJsonRpcMessage<RoleClient>>,
    mut to_give: mpsc::UnboundedReceiver<ServerJsonRpcMessage>,
) {
    let (_, initialized, _) = handshake();
    let initialized = json!({ "jsonrpc": "2.0", "id": 0, "result": initialized });
    let mut first = serde_json::from_value(initialized).ok();
    while let Some(message) = receive.next().await {
        let JsonRpcMessage::Request(request) = message else {
            continue;
        };
        let mut answer = match first.take() {
            Some(answer) => answer,
            None => to_give.next().await.expect("an answer"),
        };
        if let JsonRpcMessage::Response(answer) = &mut answer {
            answer.id = request.id;
        }
        if send.send(answer).await.is_err() {
            return;
        }
    }
}
