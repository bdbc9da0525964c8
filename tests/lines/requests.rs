//! Requests that cannot be read.

use std::{io, sync::Mutex};

use rmcp_layers::{Handler, Lifecycle, Lines, McpServer, Upstream};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};

use crate::common::{demo::Demo, soon};

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
    // The part that is missing may be an id.
    let answer = client
        .ask(r#"{"jsonrpc":"2.0","method":"notifications/x","#)
        .await;
    assert_eq!(
        (&answer["error"]["code"], answer.get("id")),
        (&json!(-32700), None)
    );
    // A notification has no answer, and a blank line has none.
    client
        .send(&format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/x","params":{{"a":"{long}"}}}}"#
        ))
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
