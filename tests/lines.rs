//! What the line transport promises of messages that cannot be read: who waits for one is told at once.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

mod common;
#[path = "lines/nameless.rs"]
mod nameless;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{
    demo::Demo,
    script::{scripted_lines, serve_stdio},
    soon,
};
use rmcp::{
    RoleServer,
    model::{
        JsonRpcMessage, NumberOrString, ProgressNotification, ProgressNotificationParam,
        ProgressToken,
    },
    transport::Transport,
};
use rmcp_layers::{
    ChildProcess, Delivered, Error, Handler, Lifecycle, Lines, McpRequest, McpResponse, McpServer,
    Upstream,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream},
    task::JoinHandle,
    time::Instant,
};
use tower::ServiceExt;

const CHILD: &str = "SERVE_AS_SCRIPT";
/// More than is read by default.
const LONG: usize = 17 * 1024 * 1024;

/// Not a test: the child process of one. It is this binary, started again with a variable set.
#[tokio::test]
async fn serve_as_script() {
    if std::env::var_os(CHILD).is_some() {
        serve_stdio(Script::default().answers()).await;
    }
}

fn ok(id: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "result": { "content": [], "resultType": "complete" } })
        .to_string()
}

fn long() -> String {
    "x".repeat(LONG)
}

/// The lines of a tool call's answer that cannot be read, by the tool's name.
fn broken(name: &str, id: &Value) -> Option<String> {
    Some(match name {
        "cut off" => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":["#),
        "no JSON" => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[tru]}}}}"#),
        "no message" => format!(r#"{{"jsonrpc":"1.0","id":{id},"result":{{}}}}"#),
        "no error" => format!(r#"{{"jsonrpc":"2.0","id":{id},"error":"failed"}}"#),
        // As the servers of different SDKs write it.
        "too long" => {
            let content = json!([{ "type": "text", "text": long() }]);
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":{content}}}}}"#)
        }
        "too long, id last" => {
            let content = json!([{ "type": "text", "text": long(), "id": 99 }]);
            format!(r#"{{"result":{{"content":{content}}},"jsonrpc":"2.0","id":{id}}}"#)
        }
        "nameless" => r#"{"jsonrpc":"2.0","result":{"content":["#.to_owned(),
        "nameless, too long" => format!(r#"{{"jsonrpc":"2.0","result":{{"text":"{}"#, long()),
        _ => return None,
    })
}

/// A server that does as the tool's name says.
#[derive(Clone, Default)]
struct Script {
    /// The ids of the calls to `hold`, the oldest first.
    held: Arc<Mutex<Vec<Value>>>,
}

impl Script {
    fn answers(&self) -> impl Fn(Value) -> Option<Vec<String>> + Clone + Send + Sync + use<> {
        let held = self.held.clone();
        move |request| {
            let id = &request["id"];
            let mut held = held.lock().unwrap();
            Some(match request["params"]["name"].as_str()? {
                "hold" => {
                    held.push(id.clone());
                    Vec::new()
                }
                "release one" => vec![ok(&held.remove(0)), ok(id)],
                "log" => vec![
                    "handling a call".to_owned(),
                    r#"{"level":"info","id":1,"message":"handling a call"}"#.to_owned(),
                    long(),
                    String::new(),
                    ok(id),
                ],
                name => vec![broken(name, id).unwrap_or_else(|| ok(id))],
            })
        }
    }

    fn upstream(&self) -> Upstream {
        let builder = Upstream::builder().name("fickle");
        scripted_lines(builder, self.answers())
    }
}

async fn call(upstream: &Upstream, name: &str) -> Result<McpResponse, Error> {
    let call = McpRequest::call_tool(name).build();
    soon(name, upstream.clone().oneshot(call)).await
}

/// A call in flight.
async fn begin(upstream: &Upstream, name: &'static str) -> JoinHandle<Result<McpResponse, Error>> {
    let before = upstream.in_flight();
    let upstream = upstream.clone();
    let begun = tokio::spawn({
        let upstream = upstream.clone();
        async move { call(&upstream, name).await }
    });
    soon("a call in flight", async {
        while upstream.in_flight() == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    begun
}

fn assert_unreadable(answer: Result<McpResponse, Error>, why: &str) {
    let error = answer.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("fickle") && text.contains(why), "{text}");
    let Error::Transport(error) = error else {
        panic!("{text}");
    };
    assert_eq!(error.delivered(), Delivered::Unknown);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_answer_fails_its_call_at_once_and_no_other() {
    let script = Script::default();
    let upstream = script.upstream();
    let held = begin(&upstream, "hold").await;
    let started = Instant::now();
    for (name, why) in [
        ("cut off", "no JSON (column 45)"),
        ("no JSON", "no JSON"),
        ("no message", "no message of MCP"),
        ("no error", "no message of MCP"),
        (
            "too long",
            "longer than `max_message_bytes`, 16777216 bytes",
        ),
        ("too long, id last", "longer than `max_message_bytes`"),
    ] {
        assert_unreadable(call(&upstream, name).await, why);
        call(&upstream, "readable").await.unwrap();
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert!(!held.is_finished());
    call(&upstream, "release one").await.unwrap();
    held.await.unwrap().unwrap();
    assert_eq!(upstream.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_an_id_fails_the_only_call_in_flight() {
    let script = Script::default();
    let upstream = script.upstream();
    let started = Instant::now();
    for name in ["nameless", "nameless, too long"] {
        assert_unreadable(
            call(&upstream, name).await,
            "the server's answer cannot be read",
        );
        call(&upstream, "readable").await.unwrap();
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(upstream.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_an_id_fails_the_call_that_is_left_when_others_are_answered() {
    let script = Script::default();
    let upstream = script.upstream();
    let others = [
        begin(&upstream, "hold").await,
        begin(&upstream, "hold").await,
    ];
    let nameless = begin(&upstream, "nameless").await;
    let started = Instant::now();
    // Those that began later are none of those that it may be for.
    call(&upstream, "readable").await.unwrap();
    call(&upstream, "release one").await.unwrap();
    assert!(!nameless.is_finished());
    call(&upstream, "release one").await.unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
    assert_unreadable(nameless.await.unwrap(), "no JSON");
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(upstream.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn two_answers_without_an_id_fail_the_two_calls_that_are_left() {
    let script = Script::default();
    let upstream = script.upstream();
    let other = begin(&upstream, "hold").await;
    let nameless = [
        begin(&upstream, "nameless").await,
        begin(&upstream, "nameless, too long").await,
    ];
    call(&upstream, "release one").await.unwrap();
    other.await.unwrap().unwrap();
    for call in nameless {
        assert_unreadable(call.await.unwrap(), "the server's answer cannot be read");
    }
    // Nothing of it is left for later calls.
    call(&upstream, "readable").await.unwrap();
    assert_eq!(upstream.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_cancelled_call_fails_nobody_else() {
    let script = Script::default();
    let upstream = script.upstream();
    let kept = begin(&upstream, "hold").await;
    let left = begin(&upstream, "nameless").await;
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    call(&upstream, "readable").await.unwrap();
    assert!(!kept.is_finished());
    call(&upstream, "release one").await.unwrap();
    kept.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_server_logs_on_its_output_is_passed_over() {
    let script = Script::default();
    let upstream = script.upstream();
    call(&upstream, "log").await.unwrap();
}

#[tokio::test]
async fn a_childs_unreadable_answer_fails_its_call_at_once() {
    let child = ChildProcess::new(std::env::current_exe().unwrap())
        .args(["--exact", "serve_as_script", "--nocapture", "--quiet"])
        .env(CHILD, "1")
        .quiet()
        .max_message_bytes(1024 * 1024);
    let upstream = Upstream::builder()
        .name("fickle")
        .lifecycle(Lifecycle::Discover)
        .child_process(child);
    let held = begin(&upstream, "hold").await;
    for (name, why) in [
        ("cut off", "no JSON"),
        ("no message", "no message of MCP"),
        (
            "too long, id last",
            "longer than `max_message_bytes`, 1048576 bytes",
        ),
    ] {
        assert_unreadable(call(&upstream, name).await, why);
    }
    call(&upstream, "release one").await.unwrap();
    held.await.unwrap().unwrap();
    upstream.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_handshake_fails_the_attempt_at_once() {
    let upstream = Upstream::builder().name("fickle").lines(|| {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            let (read, mut write) = tokio::io::split(far);
            let mut lines = BufReader::new(read).lines();
            while lines.next_line().await.unwrap().is_some() {
                write
                    .write_all(b"{\"jsonrpc\":\"2.0\",\"res\n")
                    .await
                    .unwrap();
            }
        });
        async move { Ok::<_, io::Error>(Lines::from(tokio::io::split(near))) }
    });
    let started = Instant::now();
    let error = soon("an attempt", upstream.connect()).await.unwrap_err();
    assert!(error.is_not_delivered(), "{error}");
    assert!(error.to_string().contains("cannot be read"), "{error}");
    assert_eq!(started.elapsed(), Duration::ZERO);
}

/// The far end of a line transport, by hand.
struct Raw {
    lines: tokio::io::Lines<BufReader<tokio::io::ReadHalf<DuplexStream>>>,
    write: tokio::io::WriteHalf<DuplexStream>,
}

impl Raw {
    fn new(pipe: DuplexStream) -> Self {
        let (read, write) = tokio::io::split(pipe);
        let lines = BufReader::new(read).lines();
        Self { lines, write }
    }

    async fn send(&mut self, line: &str) {
        self.write.write_all(line.as_bytes()).await.unwrap();
        self.write.write_all(b"\n").await.unwrap();
    }

    async fn next(&mut self) -> Value {
        let line = soon("a line", self.lines.next_line()).await.unwrap();
        serde_json::from_str(&line.unwrap()).unwrap()
    }

    async fn ask(&mut self, line: &str) -> Value {
        self.send(line).await;
        self.next().await
    }
}

#[tokio::test]
async fn a_clients_unreadable_lines_are_answered_and_do_not_end_the_session() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = McpServer::new(Handler::new(Demo::default()));
    let lines = Lines::from(tokio::io::split(far)).max_message_bytes(64 * 1024);
    tokio::spawn(async move {
        let running = rmcp::ServiceExt::serve(server, lines).await.unwrap();
        let _ = running.waiting().await;
    });
    let mut client = Raw::new(near);
    let initialize = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": { "name": "raw", "version": "0" },
        },
    });
    // Before the handshake too.
    let answer = client.ask("hello").await;
    assert_eq!(answer["error"]["code"], -32700, "{answer}");
    let answer = client.ask(&initialize.to_string()).await;
    assert_eq!(answer["result"]["serverInfo"]["name"], "demo");
    client
        .send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
        .await;

    let answer = client.ask("this is no JSON").await;
    assert_eq!(answer["error"]["code"], -32700, "{answer}");
    assert!(answer.get("id").is_none(), "{answer}");
    let answer = client
        .ask(r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","#)
        .await;
    assert_eq!(
        (&answer["error"]["code"], &answer["id"]),
        (&json!(-32700), &json!(2))
    );
    let answer = client
        .ask(r#"{"jsonrpc":"1.0","id":3,"method":"ping"}"#)
        .await;
    assert_eq!(
        (&answer["error"]["code"], &answer["id"]),
        (&json!(-32600), &json!(3))
    );
    let long = "x".repeat(1024 * 1024);
    let oversized = format!(
        r#"{{"method":"tools/call","params":{{"name":"{long}","id":7}},"jsonrpc":"2.0","id":"four"}}"#
    );
    let answer = client.ask(&oversized).await;
    assert_eq!(
        (&answer["error"]["code"], &answer["id"]),
        (&json!(-32600), &json!("four"))
    );
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("65536 bytes"),
        "{answer}"
    );
    // Nobody waits for an answer to a notification, or to a blank line.
    client
        .send(r#"{"jsonrpc":"2.0","method":"notifications/x","#)
        .await;
    client.send("").await;
    let answer = client
        .ask(r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"add","arguments":{"a":5}}}"#)
        .await;
    assert_eq!(answer["id"], 5);
    assert_eq!(answer["result"]["content"][0]["text"], "5");
}

#[tokio::test]
async fn a_servers_unreadable_request_is_answered() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let near = Mutex::new(Some(near));
    let upstream = Upstream::builder()
        .lifecycle(Lifecycle::Initialize)
        .lines(move || {
            let near = near.lock().unwrap().take().ok_or(io::ErrorKind::NotFound);
            async move { Ok::<_, io::Error>(Lines::from(tokio::io::split(near?))) }
        });
    let connecting = tokio::spawn({
        let upstream = upstream.clone();
        async move { upstream.connect().await }
    });
    let mut server = Raw::new(far);
    let initialize = server.next().await;
    let answered = json!({
        "jsonrpc": "2.0", "id": initialize["id"],
        "result": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "serverInfo": { "name": "raw", "version": "0" },
        },
    });
    let initialized = server.ask(&answered.to_string()).await;
    assert_eq!(initialized["method"], "notifications/initialized");
    connecting.await.unwrap().unwrap();
    let answer = server
        .ask(r#"{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{"#)
        .await;
    assert_eq!(
        (&answer["error"]["code"], &answer["id"]),
        (&json!(-32700), &json!(7))
    );
    let pong = server
        .ask(r#"{"jsonrpc":"2.0","id":8,"method":"ping"}"#)
        .await;
    assert_eq!((&pong["result"], &pong["id"]), (&json!({}), &json!(8)));
}

#[tokio::test]
async fn messages_leave_in_the_order_in_which_they_were_sent_whoever_waits_first() {
    let (near, far) = tokio::io::duplex(64);
    let (read, write) = tokio::io::split(near);
    let mut lines = Lines::from((read, write));
    let mut sent = Vec::new();
    for step in 0..20 {
        let token = ProgressToken(NumberOrString::Number(1));
        let params = ProgressNotificationParam::new(token, f64::from(step));
        let progress = JsonRpcMessage::notification(ProgressNotification::new(params).into());
        sent.push(Transport::<RoleServer>::send(&mut lines, progress));
    }
    for sending in sent.into_iter().rev() {
        tokio::spawn(sending);
    }
    let mut heard = BufReader::new(far).lines();
    for step in 0..20 {
        let line = soon("a message", heard.next_line()).await.unwrap().unwrap();
        let message: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(message["params"]["progress"], json!(f64::from(step)));
    }
}
