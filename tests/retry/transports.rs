//! Retries between real ends: listens, clients, HTTP.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    http::{Request, StatusCode},
    middleware::Next,
    response::IntoResponse,
};
use rmcp::model::*;
use rmcp_layers::{Error, McpClient, McpRequest, McpResponse, Outcome, Upstream, retry::Jitter};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

use crate::{
    common::{Client, Heard, demo::Demo, soon},
    repeats::{layer, over, quick, tool},
    server::{Server, Step},
};

#[tokio::test(start_paused = true)]
async fn a_dropped_call_is_cancelled_at_the_server_and_not_repeated() {
    let demo = Demo::default();
    let stack = ServiceBuilder::new()
        .layer(
            layer()
                .policy(quick().safe_to_repeat(true))
                .build()
                .unwrap(),
        )
        .service(crate::common::piped(Upstream::builder(), &demo));
    let running = tokio::spawn(stack.oneshot(tool("wait")));
    demo.until("the call", |seen| seen.waiting == 1).await;
    running.abort();
    demo.until("the cancellation", |seen| seen.cancelled == 1)
        .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(demo.seen().started, 1);
}

#[tokio::test]
async fn a_listen_passes_and_brings_its_changes() {
    let demo = Demo::default();
    let stack = layer()
        .trust_annotations(true)
        .build()
        .unwrap()
        .layer(crate::common::piped(Upstream::builder(), &demo));
    let mut client = Client::legacy("Ann", stack).await;
    demo.until("the listen", |seen| !seen.listening.is_empty())
        .await;
    demo.change(ToolListChangedNotification::default()).await;
    assert_eq!(client.hear("the change").await, Heard::Tools);
}

#[tokio::test(start_paused = true)]
async fn what_tools_said_of_themselves_is_forgotten_when_they_change() {
    let listed = Step::Result(json!({
        "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
        "tools": [{ "name": "act", "inputSchema": {}, "annotations": { "readOnlyHint": true } }],
    }));
    let server = Server::new([listed]);
    let (layer, notify) = (
        layer().trust_annotations(true).build().unwrap(),
        Arc::new(Mutex::new(None)),
    );
    // The server, but for a listen, whose caller hears of a change.
    let (kept, upstream) = (notify.clone(), server.upstream());
    let stack = layer.layer(service_fn(move |request: McpRequest| {
        let (kept, upstream) = (kept.clone(), upstream.clone());
        async move {
            if let ClientRequest::SubscriptionsListenRequest(_) = *request.message {
                *kept.lock().unwrap() = Some(request.context.caller.clone());
                return Ok::<_, Error>(McpResponse::new(EmptyResult {}));
            }
            upstream.oneshot(request).await
        }
    }));
    let call = |request| stack.clone().oneshot(request);
    call(McpRequest::list_tools()).await.unwrap();
    let mut filter = SubscriptionFilter::default();
    filter.tools_list_changed = Some(true);
    let listen = SubscriptionsListenRequest::new(SubscriptionsListenRequestParams::new(filter));
    call(McpRequest::new(listen)).await.unwrap();
    server.then([Step::Hangup]);
    call(tool("act")).await.unwrap();
    let caller = notify.lock().unwrap().take().unwrap();
    let changed = ToolListChangedNotification::default();
    caller
        .notify(ServerNotification::ToolListChangedNotification(changed))
        .await
        .unwrap();
    server.then([Step::Hangup]);
    call(tool("act")).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_client_and_a_served_stack_work_through_it() {
    let server = Server::new([Step::Error(-32603, Value::Null)]);
    let stack = over(&server, layer().policy(quick().safe_to_repeat(true)));
    let client = McpClient::new(stack.clone());
    let result = client.call_tool("act").await.unwrap();
    assert_eq!(crate::common::text(&result), "done");
    server.then([Step::Error(-32603, Value::Null)]);
    let ann = Client::modern("Ann", stack).await;
    let result = ann.call(crate::common::tool("act", json!({}))).await;
    assert_eq!(crate::common::text(&result), "done");
    assert_eq!(server.count(), 4);
}

/// Serves the demo over HTTP behind something that answers the first calls of tools by itself.
async fn behind(
    times: usize,
    answer: (StatusCode, Option<String>),
) -> (Upstream, Arc<AtomicUsize>) {
    use rmcp::transport::{
        StreamableHttpServerConfig, StreamableHttpService,
        streamable_http_server::session::local::LocalSessionManager,
    };
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let service = StreamableHttpService::new(
        || Ok(Demo::default()),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    let refuse = move |request: Request<axum::body::Body>, next: Next| {
        let (count, answer) = (count.clone(), answer.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let is_call = body.windows(12).any(|part| part == b"\"tools/call\"");
            if is_call && count.fetch_add(1, Ordering::SeqCst) < times {
                let (status, after) = answer;
                let after = after.map(|after| [("retry-after", after)]);
                return (status, after.unwrap_or([("x-none", String::new())]), "no")
                    .into_response();
            }
            next.run(Request::from_parts(parts, body.into())).await
        }
    };
    let router = axum::Router::new()
        .route_service("/mcp", service)
        .layer(axum::middleware::from_fn(refuse));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    (Upstream::http(url).unwrap(), calls)
}

#[tokio::test]
async fn too_many_requests_over_http_are_repeated_when_the_server_says() {
    let date = || httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(3));
    for after in [Some(date()), Some("1".to_owned()), None] {
        let (upstream, calls) = behind(1, (StatusCode::TOO_MANY_REQUESTS, after.clone())).await;
        let stack = layer()
            .policy(quick().jitter(Jitter::None))
            .build()
            .unwrap()
            .layer(upstream);
        let begun = Instant::now();
        let response = soon("the answer", stack.oneshot(tool("add")))
            .await
            .unwrap();
        assert_eq!(response.report.attempts, 2);
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        // A date has whole seconds.
        let least = Duration::from_millis(if after.is_some() { 900 } else { 0 });
        assert!(begun.elapsed() >= least, "{after:?}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn what_http_leaves_open_is_repeated_only_where_that_is_safe() {
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::BAD_GATEWAY] {
        for (safe, attempts) in [(true, 2), (false, 1)] {
            let (upstream, calls) = behind(1, (status, None)).await;
            let policy = quick().safe_to_repeat(safe);
            let stack = layer().policy(policy).build().unwrap().layer(upstream);
            let _ = soon("the answer", stack.oneshot(tool("add"))).await;
            assert_eq!(calls.load(Ordering::SeqCst), attempts, "{status}");
        }
    }
    for status in [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::PAYLOAD_TOO_LARGE,
    ] {
        let (upstream, calls) = behind(1, (status, None)).await;
        let policy = quick().safe_to_repeat(true);
        let stack = layer().policy(policy).build().unwrap().layer(upstream);
        let answer = soon("the answer", stack.oneshot(tool("add"))).await;
        let outcome = Outcome::of(&answer);
        assert!(
            !outcome.counts_against() && outcome.is_answer(),
            "{status}: {outcome:?}"
        );
        assert_eq!(calls.load(Ordering::SeqCst), 1, "{status}: {answer:?}");
    }
}
