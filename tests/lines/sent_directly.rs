//! Calls over lines: their messages, their order and their cancellation.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use rmcp::model::{ClientResult, PingRequest, ProtocolVersion, ServerNotification, ServerRequest};
use rmcp_layers::{Caller, CallerSink, Error, Lifecycle, Lines, McpRequest, Upstream};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::io::{AsyncWrite, BufReader, DuplexStream, ReadHalf, WriteHalf, split};
use tower::ServiceExt;

use crate::common::{progress, recorder, said, soon, token};

/// The server's end of a connection.
struct Far {
    lines: tokio::io::Lines<BufReader<ReadHalf<DuplexStream>>>,
    write: WriteHalf<DuplexStream>,
}

impl Far {
    async fn read(&mut self, method: &str) -> Value {
        loop {
            let message = self.next().await;
            if message["method"] == method {
                return message;
            }
        }
    }

    async fn next(&mut self) -> Value {
        let line = soon("a message", self.lines.next_line()).await.unwrap();
        serde_json::from_str(&line.expect("a connection")).unwrap()
    }

    async fn write(&mut self, messages: &[Value]) {
        let lines: String = messages.iter().map(|it| format!("{it}\n")).collect();
        self.write.write_all(lines.as_bytes()).await.unwrap();
    }
}

/// An upstream over lines, connected, and its server's end.
async fn connected(modern: bool) -> (Upstream, Far) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let near = Arc::new(Mutex::new(Some(near)));
    let lifecycle = match modern {
        true => Lifecycle::Discover,
        false => Lifecycle::Initialize,
    };
    let upstream = Upstream::builder().lifecycle(lifecycle).lines(move || {
        let near = near.lock().unwrap().take().ok_or(io::ErrorKind::NotFound);
        async move {
            near.map(|near| Lines::from(split(near)))
                .map_err(io::Error::from)
        }
    });
    let (read, write) = split(far);
    let lines = BufReader::new(read).lines();
    let mut far = Far { lines, write };
    let connecting = upstream.connect();
    let shaking = async {
        let method = if modern {
            "server/discover"
        } else {
            "initialize"
        };
        let request = far.read(method).await;
        let result = match modern {
            true => json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"],
                "capabilities": { "tools": {} }, "ttlMs": 0, "cacheScope": "private",
            }),
            false => json!({
                "protocolVersion": "2025-11-25", "capabilities": { "tools": {} },
                "serverInfo": { "name": "far", "version": "0" },
            }),
        };
        far.write(&[answer(&request, result)]).await;
    };
    let (connected, ()) = tokio::join!(connecting, shaking);
    connected.unwrap();
    (upstream, far)
}

fn answer(request: &Value, result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": request["id"], "result": result })
}

fn done(request: &Value) -> Value {
    let text = &request["params"]["name"];
    let content = json!([{ "type": "text", "text": text }]);
    answer(
        request,
        json!({ "resultType": "complete", "content": content }),
    )
}

fn stepped(request: &Value, step: u32) -> Value {
    let token = &request["params"]["_meta"]["progressToken"];
    let params = json!({ "progressToken": token, "progress": step });
    json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params })
}

#[tokio::test]
async fn many_calls_at_once_each_have_their_own_progress_and_answer_whatever_their_order() {
    for modern in [false, true] {
        let (upstream, mut far) = connected(modern).await;
        let begun: Vec<_> = (0..50)
            .map(|number| {
                let (caller, heard) = recorder();
                let name = format!("call {number}");
                let call = McpRequest::call_tool(name.clone()).caller(caller);
                let call = call.progress_token(token(&name)).build();
                (name, tokio::spawn(upstream.clone().oneshot(call)), heard)
            })
            .collect();
        let mut requests = Vec::new();
        while requests.len() < 50 {
            requests.push(far.read("tools/call").await);
        }
        let mut messages: Vec<_> = requests.iter().map(|it| stepped(it, 1)).collect();
        for request in requests.iter().rev() {
            messages.extend([stepped(request, 2), done(request)]);
        }
        far.write(&messages).await;
        for (name, call, mut heard) in begun {
            assert_eq!(said(soon("an answer", call).await.unwrap()), name);
            let steps = [(token(&name), 1.0), (token(&name), 2.0)];
            assert_eq!(progress(&mut heard), steps);
        }
        assert_eq!(upstream.in_flight(), 0);
    }
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_under_its_own_id() {
    for modern in [false, true] {
        let (upstream, mut far) = connected(modern).await;
        let call = |name: &'static str| {
            let call = McpRequest::call_tool(name).build();
            tokio::spawn(upstream.clone().oneshot(call))
        };
        let (stays, dropped) = (call("stays"), call("dropped"));
        let mut requests = [far.read("tools/call").await, far.read("tools/call").await];
        requests.sort_by_key(|it| it["params"]["name"].to_string());
        let [gone, stayed] = requests;
        dropped.abort();
        let cancelled = far.read("notifications/cancelled").await;
        assert_eq!(cancelled["params"]["requestId"], gone["id"], "{modern}");
        // A late answer is no other call's.
        far.write(&[done(&gone), done(&stayed)]).await;
        assert_eq!(said(soon("an answer", stays).await.unwrap()), "stays");
    }
}

/// A caller that answers each question with an empty result.
struct Answers;

impl CallerSink for Answers {
    fn notify(&self, _notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn request(&self, _request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(std::future::ready(Ok(ClientResult::empty(()))))
    }
}

#[tokio::test]
async fn a_question_during_a_call_is_answered_by_the_calls_caller() {
    for modern in [false, true] {
        let (upstream, mut far) = connected(modern).await;
        let mut call = McpRequest::call_tool("asks")
            .caller(Caller::new(Answers))
            .build();
        let older = ProtocolVersion::V_2025_11_25;
        call.context.meta.set_protocol_version(older);
        let call = tokio::spawn(upstream.clone().oneshot(call));
        let request = far.read("tools/call").await;
        let question = json!({
            "jsonrpc": "2.0", "id": "q", "method": "elicitation/create",
            "params": { "message": "?", "requestedSchema": { "type": "object", "properties": {} } },
        });
        far.write(&[question]).await;
        let answer = far.next().await;
        assert_eq!(
            (&answer["id"], &answer["result"]),
            (&json!("q"), &json!({})),
            "{modern}"
        );
        far.write(&[done(&request)]).await;
        assert_eq!(said(soon("an answer", call).await.unwrap()), "asks");
    }
}

/// A writer that takes nothing until it is opened, and notes the length of each write.
#[derive(Clone, Default)]
struct Gate(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_open: bool,
    waiting: Option<std::task::Waker>,
    writes: Vec<String>,
}

impl AsyncWrite for Gate {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        text: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock().unwrap();
        if !state.is_open {
            state.waiting = Some(context.waker().clone());
            return Poll::Pending;
        }
        state
            .writes
            .push(String::from_utf8_lossy(text).into_owned());
        Poll::Ready(Ok(text.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn messages_that_wait_for_a_slow_reader_leave_in_one_piece() {
    use rmcp::{RoleServer, transport::Transport};
    let gate = Gate::default();
    let mut lines = Lines::from((tokio::io::empty(), gate.clone()));
    let mut sent = Vec::new();
    for id in 0..10 {
        let ping = ServerRequest::PingRequest(PingRequest::default());
        let ping = rmcp::model::JsonRpcMessage::request(ping, rmcp::model::RequestId::Number(id));
        sent.push(tokio::spawn(Transport::<RoleServer>::send(
            &mut lines, ping,
        )));
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    let waiting = {
        let mut state = gate.0.lock().unwrap();
        state.is_open = true;
        state.waiting.take()
    };
    waiting.unwrap().wake();
    for sent in sent {
        soon("a message", sent).await.unwrap().unwrap();
    }
    let writes = gate.0.lock().unwrap().writes.clone();
    assert_eq!(writes.len(), 2, "{writes:?}");
    let text = writes.concat();
    let ids = text.lines().map(|line| {
        let message: Value = serde_json::from_str(line).unwrap();
        message["id"].as_i64().unwrap()
    });
    assert!(ids.eq(0..10), "{text}");
}
