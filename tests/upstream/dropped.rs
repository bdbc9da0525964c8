//! A call that is dropped together with the last handle of its upstream.

use rmcp::service::serve_client_with_lifecycle;

use super::*;
use crate::wire::{tools, wired, wired_end};

/// Begins a call over `upstream`, of which there is no other handle, and drops both.
async fn drop_with_its_call(upstream: Upstream, until_begun: impl Future<Output = ()>) {
    let call = upstream.oneshot(McpRequest::call_tool("wait").build());
    let call = tokio::spawn(call);
    until_begun.await;
    call.abort();
    let _ = call.await;
}

#[tokio::test]
async fn a_call_that_is_dropped_with_the_last_handle_is_cancelled_first_over_a_pipe() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let connecting = tokio::spawn(async move {
        upstream.connect().await.unwrap();
        upstream
    });
    let mut wire = wires.next(tools()).await;
    let upstream = connecting.await.unwrap();
    let mut id = Value::Null;
    drop_with_its_call(upstream, async { id = wire.called().await }).await;
    let cancelled = wire
        .read(|message| message["method"] == "notifications/cancelled")
        .await;
    assert_eq!(cancelled["params"]["requestId"], id);
    wire.ends().await;
}

#[tokio::test]
async fn a_call_that_is_dropped_with_the_last_handle_is_cancelled_first_over_an_owned_client() {
    let (near, mut wire) = wired_end(tools());
    let client = serve_client_with_lifecycle((), near, ClientLifecycleMode::Initialize);
    let (client, ()) = tokio::join!(client, wire.shake_hands());
    let upstream = Upstream::builder().running(client.unwrap());
    let mut id = Value::Null;
    drop_with_its_call(upstream, async { id = wire.called().await }).await;
    let cancelled = wire
        .read(|message| message["method"] == "notifications/cancelled")
        .await;
    assert_eq!(cancelled["params"]["requestId"], id);
    wire.ends().await;
}

#[tokio::test]
async fn a_call_that_is_dropped_with_the_last_handle_is_cancelled_at_once() {
    let demo = Demo::default();
    let http = Http::serve(demo.clone()).await;
    let in_process = || Upstream::in_process(demo.clone());
    for (count, upstream) in [in_process(), legacy(&http), modern(&http)]
        .into_iter()
        .enumerate()
    {
        let began = std::time::Instant::now();
        drop_with_its_call(upstream, demo.until("a call", |seen| seen.waiting == 1)).await;
        demo.until("its cancellation", |seen| seen.cancelled == count + 1)
            .await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "{count}: {took:?}");
    }
}
