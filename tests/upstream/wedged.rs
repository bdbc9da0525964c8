//! Servers that have stopped answering.

use super::*;
use crate::wire::{Wire, Wires, tools, wired};

/// Connects, and makes two calls that time out.
async fn timed_out(upstream: &Upstream, wires: &mut Wires) -> Wire {
    let mut wire = wires.connect(upstream, tools()).await;
    let call = || upstream.clone().oneshot(McpRequest::call_tool("x").build());
    let calls = [tokio::spawn(call()), tokio::spawn(call())];
    for _ in &calls {
        wire.called().await;
    }
    for call in calls {
        let error = soon("a timeout", call).await.unwrap().unwrap_err();
        assert!(error.is_timeout(), "{error}");
    }
    wire
}

async fn works(upstream: &Upstream, wire: &mut Wire) {
    let call = McpRequest::call_tool("x").build();
    let call = tokio::spawn(upstream.clone().oneshot(call));
    let is_request = |message: &Value| message["id"].is_number();
    let request = wire.read(is_request).await;
    assert_eq!(request["method"], "tools/call");
    wire.finish(&request["id"]).await;
    assert_eq!(said(soon("an answer", call).await.unwrap()), "done");
}

fn impatient() -> (Upstream, Wires) {
    wired(Upstream::builder().request_timeout(Duration::from_secs(3)))
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_no_ping_after_a_timeout_is_connected_to_anew() {
    let (upstream, mut wires) = impatient();
    let mut wire = timed_out(&upstream, &mut wires).await;
    wire.read(|message| message["method"] == "ping").await;
    let mut next = wires.next(tools()).await;
    wire.ends().await;
    works(&upstream, &mut next).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_one_ping_after_two_timeouts_keeps_its_connection() {
    let (upstream, mut wires) = impatient();
    let mut wire = timed_out(&upstream, &mut wires).await;
    let ping = wire.read(|message| message["method"] == "ping").await;
    let error = json!({ "code": -32601, "message": "ping" });
    wire.write(json!({ "jsonrpc": "2.0", "id": ping["id"], "error": error }))
        .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    works(&upstream, &mut wire).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_child_that_is_stopped_is_replaced() {
    let upstream = Upstream::builder()
        .lifecycle(Lifecycle::Discover)
        .request_timeout(Duration::from_secs(1))
        .child_process(child());
    let pid = call(&upstream, "pid").await;
    let mut stop = std::process::Command::new("kill");
    assert!(stop.args(["-STOP", &pid]).status().unwrap().success());
    let ask = || {
        let call = McpRequest::call_tool("pid").build();
        upstream.clone().oneshot(call)
    };
    let error = soon("a timeout", ask()).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let next = async {
        loop {
            if let Ok(answer) = ask().await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    let next = soon("another child", next).await;
    assert_ne!(text(next.as_tool_result().unwrap()), pid);
    upstream.close().await;
}
