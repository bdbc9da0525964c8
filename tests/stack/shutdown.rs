//! The shutdown of a server: calls in flight end, new ones are refused, transports close.

use std::{io, sync::Arc, time::Duration};

use rmcp::{
    ServiceError, ServiceExt as _, model::*, service::ClientLifecycleMode,
    transport::StreamableHttpServerConfig,
};
use rmcp_layers::{
    Handler, Lifecycle, McpClient, McpRequest, McpServer, ServerHandle, Stack, Upstream, code,
    from_fn,
};
use serde_json::json;
use tokio::sync::Notify;
use tower::{ServiceBuilder, ServiceExt};

use crate::common::{Client, Http, demo::Demo, said, soon, tool};

const LIMIT: Duration = Duration::from_secs(5);

fn gated(demo: &Demo) -> (McpServer<impl Stack + use<>>, Arc<Notify>) {
    gated_over(Handler::new(demo.clone()))
}

/// A server whose calls of `add` wait for the gate.
fn gated_over<S: Stack>(bottom: S) -> (McpServer<impl Stack + use<S>>, Arc<Notify>) {
    let gate = Arc::new(Notify::new());
    let opened = gate.clone();
    let stack = ServiceBuilder::new()
        .layer(from_fn(move |request: McpRequest, next| {
            let opened = opened.clone();
            async move {
                if request.target() == Some("add") {
                    opened.notified().await;
                }
                next.run(request).await
            }
        }))
        .service(bottom);
    (McpServer::new(stack), gate)
}

/// Serves over a pipe that closes with the server.
fn over_pipe(server: &McpServer<impl Stack>, lifecycle: Lifecycle) -> Upstream {
    let server = server.clone();
    Upstream::builder().lifecycle(lifecycle).transport(move || {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (server, token) = (server.clone(), server.handle().cancellation_token());
        tokio::spawn(async move {
            if let Ok(running) = server.serve_with_ct(far, token).await {
                let _ = running.waiting().await;
            }
        });
        async move { Ok::<_, io::Error>(near) }
    })
}

/// Serves over HTTP with streams that close with the server.
async fn over_http(server: &McpServer<impl Stack + Sync>, json: bool) -> (Http, String) {
    let config = StreamableHttpServerConfig::default()
        .with_json_response(json)
        .with_cancellation_token(server.handle().cancellation_token());
    let http = Http::serve_with(server.clone(), 0, config).await;
    let url = http.url.clone();
    (http, url)
}

fn add() -> McpRequest {
    let call = McpRequest::call_tool("add");
    call.argument("a", json!(2))
        .argument("b", json!(40))
        .build()
}

async fn until_calls(handle: &ServerHandle, calls: usize) {
    soon("calls in flight", async {
        while handle.stats().calls != calls {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Drains a server with a call in flight, which is answered. Another call is refused.
async fn drained(way: &str, server: McpServer<impl Stack + Sync>, gate: Arc<Notify>, to: Upstream) {
    let handle = server.handle();
    let call = tokio::spawn(to.clone().oneshot(add()));
    until_calls(&handle, 1).await;
    let drain = tokio::spawn({
        let handle = handle.clone();
        async move { handle.drain(LIMIT).await }
    });
    let refused = soon("a refusal", async {
        loop {
            match to.clone().oneshot(McpRequest::list_tools()).await {
                Err(error) => return error,
                Ok(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    let error = refused.as_protocol().expect(way);
    assert_eq!(error.code, code::UNAVAILABLE, "{way}");
    assert!(!drain.is_finished(), "{way}");
    gate.notify_one();
    assert_eq!(said(soon(way, call).await.unwrap()), "42", "{way}");
    assert_eq!(soon(way, drain).await.unwrap(), 0, "{way}");
    assert_eq!(handle.stats().calls, 0, "{way}");
}

#[tokio::test]
async fn a_drain_waits_for_the_calls_in_flight_and_refuses_new_ones() {
    let demo = Demo::default();
    for lifecycle in [Lifecycle::Discover, Lifecycle::Initialize] {
        let (server, gate) = gated(&demo);
        let to = over_pipe(&server, lifecycle);
        drained("pipe", server, gate, to).await;
        for json in [false, true] {
            let (server, gate) = gated(&demo);
            let (_http, url) = over_http(&server, json).await;
            let to = Upstream::builder().lifecycle(lifecycle);
            let to = to.http(&url).unwrap();
            drained("http", server, gate, to).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_cuts_off_calls_at_its_limit_and_answers_them() {
    let demo = Demo::default();
    for lifecycle in [Lifecycle::Discover, Lifecycle::Initialize] {
        let (server, _gate) = gated(&demo);
        let handle = server.handle();
        let to = over_pipe(&server, lifecycle);
        let calls: Vec<_> = (0..3)
            .map(|_| tokio::spawn(to.clone().oneshot(add())))
            .collect();
        until_calls(&handle, 3).await;
        let begun = tokio::time::Instant::now();
        assert_eq!(handle.drain(LIMIT).await, 3);
        assert!(begun.elapsed() < LIMIT + Duration::from_secs(1));
        for call in calls {
            let error = call.await.unwrap().unwrap_err();
            assert_eq!(error.as_protocol().unwrap().code, code::UNAVAILABLE);
        }
        assert_eq!(handle.stats().calls, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn close_does_not_wait_for_calls() {
    let (server, _gate) = gated(&Demo::default());
    let handle = server.handle();
    let to = over_pipe(&server, Lifecycle::Discover);
    let call = tokio::spawn(to.clone().oneshot(add()));
    until_calls(&handle, 1).await;
    let begun = tokio::time::Instant::now();
    handle.close().await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.as_protocol().unwrap().code, code::UNAVAILABLE);
}

#[tokio::test]
async fn a_drain_ends_listens_without_an_error() {
    let demo = Demo::default();
    let (server, _gate) = gated(&demo);
    let handle = server.handle();
    let (_http, url) = over_http(&server, false).await;
    let mut listens = Vec::new();
    for to in [
        over_pipe(&server, Lifecycle::Discover),
        Upstream::builder().http(&url).unwrap(),
    ] {
        let filter = SubscriptionFilter::builder().tools_list_changed().build();
        let client = McpClient::new(to);
        let listen = soon("a listen", client.listen(filter)).await.unwrap();
        listens.push((client, listen));
    }
    assert_eq!(handle.stats().listens, 2);
    let ends = listens
        .iter_mut()
        .map(|(_, listen)| futures::StreamExt::next(listen));
    let (cut_off, ends) = tokio::join!(handle.drain(LIMIT), futures::future::join_all(ends));
    assert_eq!(cut_off, 0);
    for end in ends {
        assert!(end.is_none(), "{end:?}");
    }
    assert_eq!(handle.stats().listens, 0);
}

#[tokio::test]
async fn transports_with_the_token_of_the_handle_end_with_the_server() {
    let (server, _gate) = gated(&Demo::default());
    let (near, far) = tokio::io::duplex(4096);
    let handle = server.handle();
    let token = handle.cancellation_token();
    let serving = tokio::spawn(server.clone().serve_with_ct(far, token));
    let client = soon("a client", ().serve(near)).await.unwrap();
    let running = serving.await.unwrap().unwrap();
    let (http, url) = over_http(&server, false).await;
    let legacy = Upstream::builder().lifecycle(Lifecycle::Initialize);
    let legacy = legacy.http(&url).unwrap();
    legacy
        .clone()
        .oneshot(McpRequest::list_tools())
        .await
        .unwrap();

    // The end of one transport is not that of the server.
    handle.cancellation_token().cancel();
    legacy
        .clone()
        .oneshot(McpRequest::list_tools())
        .await
        .unwrap();

    handle.close().await;
    soon("the pipe's end", running.waiting()).await.unwrap();
    soon("the client's end", client.waiting()).await.unwrap();
    http.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_draining_server_refuses_new_subscriptions_of_a_session() {
    let demo = Demo::default();
    let (server, gate) = gated_over(Upstream::in_process(demo.clone()));
    let handle = server.handle();
    let client = Client::of(&server, "ann", ClientLifecycleMode::Initialize).await;
    demo.until("a listen", |seen| seen.listening.len() == 1)
        .await;
    let peer = client.peer.peer().clone();
    let call = tokio::spawn(async move { peer.call_tool(tool("add", json!({"a": 1}))).await });
    until_calls(&handle, 1).await;
    let drain = tokio::spawn({
        let handle = handle.clone();
        async move { handle.drain(LIMIT).await }
    });
    tokio::task::yield_now().await;
    let subscribe = client
        .peer
        .subscribe(SubscribeRequestParams::new("demo://a"));
    let refused = soon("an answer", subscribe).await.unwrap_err();
    let ServiceError::McpError(refused) = refused else {
        panic!("{refused}");
    };
    assert_eq!(refused.code, code::UNAVAILABLE);
    gate.notify_one();
    soon("the call", call).await.unwrap().unwrap();
    assert_eq!(soon("the drain", drain).await.unwrap(), 0);
}
