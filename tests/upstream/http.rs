//! Streamable HTTP: sessions, connections, failures and changes.

use super::*;

#[tokio::test]
async fn a_forgotten_session_is_begun_anew() {
    let http = Http::serve(Demo::default()).await;
    let upstream = legacy(&http);
    for _ in 0..3 {
        assert_eq!(call(&upstream, "add").await, "0");
        http.forget().await;
    }
    assert_eq!(call(&upstream, "add").await, "0");
}

#[tokio::test]
async fn a_forgotten_session_takes_no_subscription_with_it() {
    let demo = Demo::default();
    let http = Http::serve(demo.clone()).await;
    let upstream = legacy(&http);
    let server = McpServer::new(upstream.clone());
    let mut ann = Client::of(&server, "Ann", ClientLifecycleMode::Initialize).await;
    let subscribe = ann.peer.subscribe(SubscribeRequestParams::new("demo://a"));
    soon("a subscription", subscribe).await.unwrap();
    http.forget().await;
    // A call of somebody else's hears of it first.
    assert_eq!(call(&upstream, "add").await, "0");
    // What changed meanwhile is not known, so the subscriber is told that it may have.
    ann.hear("the resource").await;
}

#[tokio::test]
async fn a_server_that_was_started_again_is_found_again() {
    for lifecycle in [Lifecycle::Initialize, Lifecycle::Discover] {
        let demo = Demo::default();
        let mut http = Http::serve(demo.clone()).await;
        let upstream = Upstream::builder().lifecycle(lifecycle);
        let upstream = upstream.http(http.url.as_str()).unwrap();
        for _ in 0..3 {
            assert_eq!(call(&upstream, "add").await, "0");
            let held = upstream
                .clone()
                .oneshot(McpRequest::call_tool("wait").build());
            let held = tokio::spawn(held);
            demo.until("a call", |seen| seen.waiting == 1).await;
            http.stop().await;
            let error = soon(&format!("{lifecycle:?}: the call's end"), held)
                .await
                .unwrap()
                .unwrap_err();
            assert!(error.is_transport(), "{lifecycle:?}: {error}");
            let absent = || {
                let add = McpRequest::call_tool("add").build();
                soon("a failure", upstream.clone().oneshot(add))
            };
            let mut error = absent().await.unwrap_err();
            if !error.is_not_delivered() {
                // It was on its way when the loss of its session showed: that happens once.
                assert!(error.is_transport(), "{lifecycle:?}: {error}");
                error = absent().await.unwrap_err();
            }
            assert!(error.is_not_delivered(), "{lifecycle:?}: {error}");
            let config = StreamableHttpServerConfig::default();
            http = Http::serve_with(demo.clone(), http.port(), config).await;
            soon("the next call", async {
                loop {
                    let add = McpRequest::call_tool("add").build();
                    match upstream.clone().oneshot(add).await {
                        Ok(_) => break,
                        Err(error) => {
                            let after = error.retry_after().unwrap_or(Duration::from_millis(20));
                            tokio::time::sleep(after).await;
                        }
                    }
                }
            })
            .await;
        }
    }
}

#[tokio::test]
async fn calls_share_tcp_connections() {
    for config in [StreamableHttpServerConfig::default(), json_responses()] {
        let http = Http::serve_with(Demo::default(), 0, config).await;
        for upstream in [modern(&http), legacy(&http)] {
            let before = http.accepted();
            for _ in 0..200 {
                call(&upstream, "add").await;
            }
            let made = http.accepted() - before;
            assert!((1..=3).contains(&made), "{made} connections for 200 calls");
        }
    }
}

/// A server that answers every request with this status.
async fn answering(status: StatusCode, header: (&'static str, &'static str)) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(move || async move { (status, [header], "no") });
    tokio::spawn(axum::serve(listener, router).into_future());
    url
}

#[tokio::test]
async fn http_failures_say_what_they_are() {
    let url = answering(StatusCode::SERVICE_UNAVAILABLE, ("retry-after", "7")).await;
    let error = Upstream::http(url).unwrap().connect().await.unwrap_err();
    assert!(error.is_not_delivered());
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)), "{error}");

    let url = answering(StatusCode::UNAUTHORIZED, ("www-authenticate", "Bearer")).await;
    let error = Upstream::http(url).unwrap().connect().await.unwrap_err();
    assert!(error.is_transport(), "{error}");

    let url = answering(StatusCode::OK, ("content-type", "text/html")).await;
    let error = Upstream::http(url).unwrap().connect().await.unwrap_err();
    assert!(error.is_transport(), "{error}");

    let error = Upstream::http("http://127.0.0.1:9/mcp").unwrap();
    let error = error.connect().await.unwrap_err();
    assert!(error.is_not_delivered(), "{error}");
}

#[tokio::test]
async fn changes_reach_the_subscriber_over_http() {
    for (name, upstream) in [
        ("http", modern as fn(&Http) -> Upstream),
        ("legacy http", legacy),
    ] {
        let demo = Demo::default();
        let http = Http::serve(demo.clone()).await;
        let server = McpServer::new(upstream(&http));
        changes_reach(name, &demo, &server).await;
    }
}

async fn changes_reach(name: &str, demo: &Demo, server: &McpServer<impl Stack>) {
    let initialize = ClientLifecycleMode::Initialize;
    let mut ann = Client::of(server, "Ann", initialize.clone()).await;
    let mut bob = Client::of(server, "Bob", initialize).await;
    let updated =
        |uri: &str| ResourceUpdatedNotification::new(ResourceUpdatedNotificationParam::new(uri));
    soon(
        name,
        ann.peer.subscribe(SubscribeRequestParams::new("demo://a")),
    )
    .await
    .unwrap();
    soon(
        name,
        bob.peer.subscribe(SubscribeRequestParams::new("demo://b")),
    )
    .await
    .unwrap();
    // The server's side of what has been acknowledged may still be opening.
    let subscribed = |uri: &str, seen: &common::demo::Seen| {
        let listening = seen
            .listening
            .iter()
            .filter_map(|filter| filter.resource_subscriptions.as_ref());
        seen.subscribed
            .iter()
            .chain(listening.flatten())
            .any(|known| known == uri)
    };
    demo.until(name, |seen| {
        subscribed("demo://a", seen) && subscribed("demo://b", seen)
    })
    .await;
    demo.change(updated("demo://a")).await;
    assert_eq!(ann.hear(name).await, Heard::Updated("demo://a".to_owned()));
    demo.change(updated("demo://b")).await;
    assert_eq!(bob.hear(name).await, Heard::Updated("demo://b".to_owned()));
    ann.hears_nothing().await;
    demo.change(ToolListChangedNotification::default()).await;
    assert_eq!(ann.hear(name).await, Heard::Tools);
    assert_eq!(bob.hear(name).await, Heard::Tools);
    soon(
        name,
        ann.peer
            .unsubscribe(UnsubscribeRequestParams::new("demo://a")),
    )
    .await
    .unwrap();
    demo.until(name, |seen| !subscribed("demo://a", seen)).await;
    demo.change(updated("demo://a")).await;
    ann.hears_nothing().await;
}

#[tokio::test]
async fn a_broken_response_stream_fails_its_call_and_no_other() {
    use axum::{body::Body, http::Response};
    use futures::StreamExt as _;
    let router =
        axum::Router::new().fallback(|method: axum::http::Method, body: String| async move {
            let message: Value = serde_json::from_str(&body).unwrap_or_default();
            let json = |result: Value| {
                let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
                Response::builder()
                    .header("content-type", "application/json")
                    .body(Body::from(answer.to_string()))
                    .unwrap()
            };
            let status = |status| {
                Response::builder()
                    .status(status)
                    .body(Body::empty())
                    .unwrap()
            };
            match (method.as_str(), message["method"].as_str()) {
                ("GET", _) => status(500),
                (_, Some("initialize")) => json(json!({
                    "protocolVersion": "2025-11-25",
                    "capabilities": { "tools": {} },
                    "serverInfo": { "name": "breaking", "version": "1" }
                })),
                (_, Some("tools/call")) if message["params"]["name"] == "slow" => {
                    tokio::time::sleep(Duration::from_secs(3)).await;
                    json(json!({ "content": [] }))
                }
                (_, Some("tools/call")) => {
                    let events = futures::stream::iter([
                        Ok("id: 1\ndata: \n\n".to_owned()),
                        Err(std::io::Error::other("broken")),
                    ]);
                    Response::builder()
                        .header("content-type", "text/event-stream")
                        .body(Body::from_stream(events.boxed()))
                        .unwrap()
                }
                _ => status(202),
            }
        });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    let upstream = Upstream::builder().lifecycle(Lifecycle::Initialize);
    let upstream = upstream.http(url).unwrap();
    upstream.connect().await.unwrap();
    let slow = upstream
        .clone()
        .oneshot(McpRequest::call_tool("slow").build());
    let slow = tokio::spawn(slow);
    let broken = upstream.oneshot(McpRequest::call_tool("broken").build());
    let error = soon("the broken call", broken).await.unwrap_err();
    assert!(error.is_transport() && !error.is_not_delivered(), "{error}");
    soon("the other call", slow).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_over_http_is_said_to_be_and_why() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let absent = Upstream::http(format!("http://{address}/mcp?key=secret")).unwrap();
    let error = absent.connect().await.unwrap_err();
    assert!(error.is_not_delivered());
    let said = error.to_string();
    assert!(said.to_lowercase().contains("refused"), "{said}");
    assert!(!said.contains("secret"), "{said}");
}
