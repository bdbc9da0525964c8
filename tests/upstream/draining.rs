//! An upstream that is drained: it takes no more requests, and ends the ones it has.

use tokio::task::JoinHandle;

use super::*;
use crate::wire::wired;

/// Makes a call that the server answers only once it is cancelled.
async fn waiting(name: &str, upstream: &Upstream) -> JoinHandle<()> {
    let call = McpRequest::call_tool("wait").build();
    let call = tokio::spawn({
        let upstream = upstream.clone();
        async move { drop(upstream.oneshot(call).await) }
    });
    soon(name, async {
        while seen(upstream).await["waiting"] != 1 {}
    })
    .await;
    call
}

async fn is_refused(name: &str, upstream: &Upstream) {
    let call = upstream
        .clone()
        .oneshot(McpRequest::call_tool("add").build());
    let error = soon(name, call).await.unwrap_err();
    assert!(error.is_not_delivered(), "{name}: {error}");
    assert!(error.to_string().contains("closed"), "{name}: {error}");
}

#[tokio::test]
async fn a_drain_waits_for_the_calls_in_flight_and_refuses_others() {
    let http = Http::serve(Demo::default()).await;
    let legacy_http = Http::serve(Demo::default()).await;
    for (name, upstream) in [
        ("http", modern(&http)),
        ("legacy http", legacy(&legacy_http)),
        ("child", modern_child()),
        ("legacy child", legacy_child()),
    ] {
        let call = waiting(name, &upstream).await;
        let mut drained = std::pin::pin!(upstream.drain(Duration::from_secs(60)));
        assert!(futures::poll!(&mut drained).is_pending(), "{name}");
        is_refused(name, &upstream).await;
        assert!(upstream.is_connected(), "{name}");
        assert!(futures::poll!(&mut drained).is_pending(), "{name}");
        call.abort();
        assert_eq!(soon(name, drained).await, 0, "{name}");
        assert!(!upstream.is_connected(), "{name}");
        is_refused(name, &upstream).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_calls_end_and_cuts_off_those_that_do_not() {
    let demo = Demo::default();
    for lifecycle in [Lifecycle::Initialize, Lifecycle::Discover] {
        let upstream = common::piped(Upstream::builder().lifecycle(lifecycle), &demo);
        let slow = McpRequest::call_tool("slow")
            .argument("rest", 60_000)
            .build();
        let slow = tokio::spawn(upstream.clone().oneshot(slow));
        let endless = McpRequest::call_tool("wait").build();
        let endless = tokio::spawn(upstream.clone().oneshot(endless));
        demo.until("the call", |seen| seen.waiting == 1).await;
        let began = tokio::time::Instant::now();
        assert_eq!(upstream.drain(Duration::from_secs(120)).await, 1);
        assert!(began.elapsed() >= Duration::from_secs(120));
        assert_eq!(said(slow.await.unwrap()), "at last");
        let error = endless.await.unwrap().unwrap_err();
        assert!(error.is_transport(), "{error}");
        demo.until("the end", |seen| seen.waiting == 0).await;
    }
}

#[tokio::test]
async fn a_drain_does_not_wait_for_listens() {
    let http = Http::serve(Demo::default()).await;
    for (name, upstream) in [("http", modern(&http)), ("child", legacy_child())] {
        let (caller, mut received) = recorder();
        let filter = SubscriptionFilter::builder().tools_list_changed().build();
        let params = SubscriptionsListenRequestParams::new(filter);
        let message = SubscriptionsListenRequest::new(params);
        let mut listen = McpRequest::new(message);
        listen.context.caller = caller;
        let listen = tokio::spawn(upstream.clone().oneshot(listen));
        soon(name, received.recv()).await.unwrap();
        assert_eq!(upstream.in_flight(), 1, "{name}");
        let drained = upstream.drain(Duration::from_secs(3_600));
        assert_eq!(soon(name, drained).await, 0, "{name}");
        let error = soon(name, listen).await.unwrap().unwrap_err();
        assert!(error.is_transport(), "{name}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_a_connection_is_in_flight() {
    let (upstream, _wires) = wired(Upstream::builder());
    let call = McpRequest::call_tool("x").build();
    let call = tokio::spawn(upstream.clone().oneshot(call));
    tokio::task::yield_now().await;
    assert_eq!(upstream.in_flight(), 1);
    assert_eq!(upstream.drain(Duration::from_secs(5)).await, 1);
    let error = soon("the call's end", call).await.unwrap().unwrap_err();
    assert!(error.is_not_delivered(), "{error}");
    assert_eq!(upstream.in_flight(), 0);
}
