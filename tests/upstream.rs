//! What `Upstream` promises over child processes and streamable HTTP.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

#[path = "upstream/attribution.rs"]
mod attribution;
mod common;
#[path = "upstream/draining.rs"]
mod draining;
#[path = "upstream/dropped.rs"]
mod dropped;
#[path = "upstream/floods.rs"]
mod floods;
#[path = "upstream/roots.rs"]
mod roots;
#[path = "upstream/running.rs"]
mod running;
#[path = "upstream/streams.rs"]
mod streams;
#[path = "upstream/unannounced.rs"]
mod unannounced;
#[path = "upstream/wire.rs"]
mod wire;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::http::StatusCode;
use common::{
    Client, Heard, Http, Stack, demo::Demo, progress, recorder, said, soon, text, token, tool,
};
use rmcp::{
    model::*, service::ClientLifecycleMode, service::ServiceError,
    transport::StreamableHttpServerConfig,
};
use rmcp_layers::{
    ChildProcess, ErrorKind, HttpEndpoint, Lifecycle, McpRequest, McpServer, Upstream,
};
use serde_json::{Value, json};
use tower::ServiceExt;

const CHILD: &str = "SERVE_AS_CHILD";

/// Not a test: the child process of the tests here. They start this binary again, with a variable set.
/// What the harness itself says on standard output is no message, and passed over.
#[tokio::test]
async fn serve_as_child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let demo = rmcp::ServiceExt::serve(Demo::default(), rmcp::transport::stdio());
    demo.await.unwrap().waiting().await.unwrap();
}

fn child() -> ChildProcess {
    ChildProcess::new(std::env::current_exe().unwrap())
        .args(["--exact", "serve_as_child", "--nocapture", "--quiet"])
        .env(CHILD, "1")
        .quiet()
}

fn modern_child() -> Upstream {
    Upstream::builder()
        .name("child")
        .lifecycle(Lifecycle::Discover)
        .child_process(child())
}

fn legacy_child() -> Upstream {
    Upstream::builder()
        .name("child")
        .lifecycle(Lifecycle::Initialize)
        .child_process(child())
}

fn modern(http: &Http) -> Upstream {
    let builder = Upstream::builder().lifecycle(Lifecycle::Discover);
    builder.http(http.url.as_str()).unwrap()
}

fn legacy(http: &Http) -> Upstream {
    let builder = Upstream::builder().lifecycle(Lifecycle::Initialize);
    builder.http(http.url.as_str()).unwrap()
}

fn json_responses() -> StreamableHttpServerConfig {
    StreamableHttpServerConfig::default()
        .with_json_response(true)
        .with_legacy_session_mode(false)
}

async fn call(stack: &Upstream, name: &str) -> String {
    let call = stack.clone().oneshot(McpRequest::call_tool(name).build());
    said(soon(name, call).await)
}

/// What a server says of itself that is not in this process.
async fn seen(upstream: &Upstream) -> Value {
    serde_json::from_str(&call(upstream, "seen").await).unwrap()
}

#[tokio::test]
async fn meta_reaches_the_server() {
    let http = Http::serve(Demo::default()).await;
    for upstream in [modern_child(), legacy_child(), modern(&http), legacy(&http)] {
        let call = McpRequest::call_tool("echo")
            .meta("traceparent", "00-abc-def-01")
            .meta("tracestate", "vendor=1")
            .meta("baggage", "user=7")
            .meta("com.example/unheard-of", json!({ "deep": [1, 2] }))
            .progress_token(token("mine"))
            .build();
        let echoed = said(soon("a call", upstream.oneshot(call)).await);
        let echoed: Value = serde_json::from_str(&echoed).unwrap();
        let meta = &echoed["meta"];
        assert_eq!(meta["traceparent"], "00-abc-def-01");
        assert_eq!(meta["tracestate"], "vendor=1");
        assert_eq!(meta["baggage"], "user=7");
        assert_eq!(meta["com.example/unheard-of"], json!({ "deep": [1, 2] }));
        assert_ne!(meta["progressToken"], "mine");
        assert_eq!(echoed["client"]["name"], "rmcp-layers");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_notifications_arrive_in_order_under_the_callers_token() {
    let http = Http::serve(Demo::default()).await;
    let through = Http::serve(McpServer::new(modern(&http))).await;
    let through_legacy = Http::serve(McpServer::new(legacy(&http))).await;
    for (name, upstream) in [
        ("child", modern_child()),
        ("legacy child", legacy_child()),
        ("http", modern(&http)),
        ("legacy http", legacy(&http)),
        ("two hops", modern(&through)),
        ("two legacy hops", legacy(&through_legacy)),
    ] {
        for count in [1, 1_000] {
            let (caller, mut received) = recorder();
            let call = McpRequest::call_tool("progress")
                .argument("count", count)
                .progress_token(token("mine"))
                .caller(caller)
                .build();
            let answer = soon(name, upstream.clone().oneshot(call)).await;
            assert_eq!(said(answer), "reported", "{name}");
            let expected: Vec<_> = (1..=count).map(|n| (token("mine"), f64::from(n))).collect();
            let got = progress(&mut received);
            assert!(
                got == expected,
                "{name}: {} of {count}, or not in order",
                got.len()
            );
        }
    }
}

#[tokio::test]
async fn dropping_a_calls_future_cancels_the_handler() {
    let demo = Demo::default();
    let http = Http::serve(demo.clone()).await;
    for (count, (name, upstream)) in [("http", modern(&http)), ("legacy http", legacy(&http))]
        .into_iter()
        .enumerate()
    {
        let waiting = upstream
            .clone()
            .oneshot(McpRequest::call_tool("wait").build());
        let waiting = tokio::spawn(waiting);
        demo.until(name, |seen| seen.waiting == 1).await;
        waiting.abort();
        demo.until(name, |seen| {
            seen.cancelled == count + 1 && seen.waiting == 0
        })
        .await;
        assert_eq!(upstream.in_flight(), 0, "{name}");
    }
    for (name, upstream) in [("child", modern_child()), ("legacy child", legacy_child())] {
        let waiting = upstream
            .clone()
            .oneshot(McpRequest::call_tool("wait").build());
        let waiting = tokio::spawn(waiting);
        soon(name, async {
            while seen(&upstream).await["waiting"] != 1 {}
        })
        .await;
        waiting.abort();
        soon(name, async {
            while seen(&upstream).await != json!({ "waiting": 0, "cancelled": 1 }) {}
        })
        .await;
        assert_eq!(upstream.in_flight(), 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_cancelled_anywhere_leave_nothing_behind() {
    let demo = Demo::default();
    let http = Http::serve(demo.clone()).await;
    for (name, upstream) in [
        ("http", modern(&http)),
        ("legacy http", legacy(&http)),
        ("child", modern_child()),
        ("legacy child", legacy_child()),
    ] {
        for _ in 0..20 {
            let mut calls = tokio::task::JoinSet::new();
            for n in 0..50 {
                let tool = ["add", "wait", "progress", "wait"][n % 4];
                let (caller, _received) = recorder();
                let call = McpRequest::call_tool(tool)
                    .argument("count", 20)
                    .progress_token(token("mine"))
                    .caller(caller)
                    .build();
                let call = upstream.clone().oneshot(call);
                let polls = rand::random_range(0..40);
                calls.spawn(async move {
                    let mut call = std::pin::pin!(call);
                    for _ in 0..polls {
                        tokio::select! {
                            biased;
                            _ = &mut call => return,
                            () = tokio::task::yield_now() => {}
                        }
                    }
                });
            }
            soon("fifty cancelled calls", calls.join_all()).await;
        }
        soon(name, async {
            while seen(&upstream).await["waiting"] != 0 {}
        })
        .await;
        assert_eq!(upstream.in_flight(), 0, "{name}");
    }
    demo.until("the end of every call", |seen| {
        seen.started == seen.cancelled
    })
    .await;
}

fn kill(pid: &str) {
    let killed = std::process::Command::new("sh")
        .args(["-c", &format!("kill -9 {pid}")])
        .status();
    assert!(killed.unwrap().success());
}

/// The process is gone, and waited for.
async fn gone(pid: &str) {
    if cfg!(target_os = "linux") {
        let stat = format!("/proc/{pid}/stat");
        soon("the end of the child", async {
            while std::fs::exists(&stat).unwrap() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn killing_a_child_fails_its_calls_at_once_and_the_next_call_succeeds() {
    for child in [modern_child(), legacy_child()] {
        let other = modern_child();
        let wait = |upstream: &Upstream| {
            let wait = McpRequest::call_tool("wait").build();
            tokio::spawn(upstream.clone().oneshot(wait))
        };
        let pid = call(&child, "pid").await;
        let calls = [wait(&child), wait(&child)];
        let others = wait(&other);
        soon("waiting", async {
            while seen(&child).await["waiting"] != 2 {}
        })
        .await;
        soon("waiting", async {
            while seen(&other).await["waiting"] != 1 {}
        })
        .await;

        let killed = std::time::Instant::now();
        kill(&pid);
        for call in calls {
            let error = soon("the call's end", call).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Transport);
            assert!(!error.is_not_delivered(), "{error}");
            assert!(error.to_string().contains("child"), "{error}");
        }
        assert!(killed.elapsed() < Duration::from_secs(2), "not at once");
        assert_ne!(call(&child, "pid").await, pid);
        gone(&pid).await;
        assert_eq!(seen(&other).await["waiting"], 1);
        assert!(!others.is_finished());
        others.abort();
    }
}

#[tokio::test]
async fn a_child_that_exits_is_started_again_and_none_stays() {
    let child = modern_child();
    let mut pids = Vec::new();
    for _ in 0..2 {
        pids.push(call(&child, "pid").await);
        let exit = child.clone().oneshot(McpRequest::call_tool("exit").build());
        assert!(soon("the exit", exit).await.unwrap_err().is_transport());
    }
    for pid in pids {
        gone(&pid).await;
    }
}

#[tokio::test]
async fn closing_an_upstream_ends_its_child() {
    let child = modern_child();
    let pid = call(&child, "pid").await;
    let held = tokio::spawn(child.clone().oneshot(McpRequest::call_tool("wait").build()));
    soon("waiting", async {
        while seen(&child).await["waiting"] != 1 {}
    })
    .await;
    soon("the end", child.close()).await;
    if cfg!(target_os = "linux") {
        assert!(!std::fs::exists(format!("/proc/{pid}/stat")).unwrap());
    }
    assert!(
        soon("its end", held)
            .await
            .unwrap()
            .unwrap_err()
            .is_transport()
    );
    let call = child.oneshot(McpRequest::call_tool("add").build()).await;
    assert!(call.unwrap_err().is_not_delivered());

    // And so does letting go of it.
    let child = modern_child();
    let pid = self::call(&child, "pid").await;
    drop(child);
    gone(&pid).await;
}

#[tokio::test]
async fn a_command_that_is_no_server_says_why() {
    let absent = Upstream::child_process("no-such-program-anywhere");
    let error = absent.oneshot(McpRequest::list_tools()).await.unwrap_err();
    assert!(error.is_not_delivered());
    assert!(
        error.to_string().contains("no-such-program-anywhere"),
        "{error}"
    );

    let silent = Upstream::child_process("true");
    let error = soon("a failure", silent.oneshot(McpRequest::list_tools())).await;
    assert!(error.unwrap_err().is_not_delivered());
}

#[tokio::test]
async fn ten_mebibytes_pass() {
    const BYTES: usize = 10 * 1024 * 1024;
    let demo = Demo::default();
    let sse = Http::serve(demo.clone()).await;
    let json = Http::serve_with(demo, 0, json_responses()).await;
    for (name, upstream) in [
        ("child", modern_child()),
        ("http", modern(&sse)),
        ("legacy http", legacy(&sse)),
        ("json", modern(&json)),
        ("legacy json", legacy(&json)),
    ] {
        let call = McpRequest::call_tool("big")
            .argument("bytes", BYTES)
            .build();
        let answer = soon(name, upstream.oneshot(call)).await;
        assert_eq!(said(answer).len(), BYTES, "{name}");
    }
}

#[tokio::test]
async fn an_oversized_response_fails_its_call_and_no_other() {
    let demo = Demo::default();
    let sse = Http::serve(demo.clone()).await;
    let json = Http::serve_with(demo, 0, json_responses()).await;
    for (name, http, lifecycle) in [
        ("http", &sse, Lifecycle::Discover),
        ("legacy http", &sse, Lifecycle::Initialize),
        ("json", &json, Lifecycle::Discover),
        ("legacy json", &json, Lifecycle::Initialize),
    ] {
        let endpoint = HttpEndpoint::new(&http.url).max_response_bytes(64 * 1024);
        let upstream = Upstream::builder().lifecycle(lifecycle);
        let upstream = upstream.http(endpoint).unwrap();
        let held = upstream
            .clone()
            .oneshot(McpRequest::call_tool("wait").build());
        let held = tokio::spawn(held);
        soon(name, async {
            while seen(&upstream).await["waiting"] != 1 {}
        })
        .await;
        let call = McpRequest::call_tool("big")
            .argument("bytes", 100_000)
            .build();
        let error = soon(name, upstream.clone().oneshot(call))
            .await
            .unwrap_err();
        assert!(error.is_transport(), "{name}: {error}");
        assert!(!held.is_finished(), "{name}");
        held.abort();
        soon(name, async {
            while seen(&upstream).await["waiting"] != 0 {}
        })
        .await;
    }
}

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
async fn an_older_caller_is_asked_what_a_newer_server_wants_to_know() {
    let http = Http::serve(Demo::default()).await;
    for upstream in [modern_child(), modern(&http)] {
        let mut client = Client::legacy("Ann", upstream).await;
        let result = client.call(tool("ask", json!({}))).await;
        let answered: Value = serde_json::from_str(text(&result)).unwrap();
        assert_eq!(answered["state"], "round one");
        assert_eq!(answered["answers"]["name"]["content"]["name"], "Ann");
        client.hear("a question").await;
        client.hear("a question").await;
    }
}

#[tokio::test]
async fn over_http_a_servers_request_finds_its_caller_among_several() {
    let demo = Demo::default();
    let http = Http::serve(demo.clone()).await;
    let server = McpServer::new(legacy(&http));
    let initialize = ClientLifecycleMode::Initialize;
    let mut ann = Client::of(&server, "Ann", initialize.clone()).await;
    let mut bob = Client::of(&server, "Bob", initialize).await;
    let peer = ann.peer.peer().clone();
    let anns = tokio::spawn(async move { peer.call_tool_once(tool("wait", json!({}))).await });
    demo.until("Ann's call", |seen| seen.waiting == 1).await;
    assert_eq!(text(&bob.call(tool("sample", json!({}))).await), "I am Bob");
    assert_eq!(bob.hear("the question").await, Heard::Asked("sampling"));
    ann.hears_nothing().await;
    anns.abort();
}

#[tokio::test]
async fn a_servers_error_arrives_as_it_was() {
    let http = Http::serve(Demo::default()).await;
    for upstream in [modern_child(), modern(&http), legacy(&http)] {
        let client = Client::legacy("Ann", upstream).await;
        let failed = client.peer.call_tool_once(tool("reject", json!({}))).await;
        let Err(ServiceError::McpError(error)) = failed else {
            panic!("{failed:?}");
        };
        assert_eq!(error.code.0, -32050);
        assert_eq!(error.message, "not on a Sunday");
        assert_eq!(
            error.data,
            Some(json!({ "day": "Sunday", "nested": [1, { "two": null }] }))
        );
    }
}

#[tokio::test]
async fn a_clients_notifications_reach_the_server() {
    // Without a session, rmcp's server accepts notifications over HTTP and drops them.
    let demo = Demo::default();
    let http = Http::serve(demo.clone()).await;
    let client = Client::legacy("Ann", legacy(&http)).await;
    client.peer.notify_roots_list_changed().await.unwrap();
    demo.until("the notification", |seen| {
        let method = "notifications/roots/list_changed";
        seen.notices.iter().any(|notice| notice == method)
    })
    .await;
}

/// Whether there is such a process, and it has not ended.
#[cfg(target_os = "linux")]
fn runs(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

/// A process that has been killed has a moment to end.
#[cfg(target_os = "linux")]
async fn ended(pid: &str) {
    soon("the end of a process", async {
        while runs(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[cfg(target_os = "linux")]
async fn written(file: &std::path::Path) -> String {
    soon("a file", async {
        loop {
            match std::fs::read_to_string(file) {
                Ok(text) if text.ends_with('\n') => return text,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await
}

#[cfg(target_os = "linux")]
fn scratch(name: &str) -> std::path::PathBuf {
    let file = std::env::temp_dir().join(format!("rmcp-layers-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&file);
    file
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn closing_while_connecting_ends_the_child_and_what_it_started() {
    let file = scratch("connecting");
    let script = format!("sleep 100 & echo $$ $! > {}; wait", file.display());
    let silent = Upstream::child_process(ChildProcess::new("sh").args(["-c", &script]));
    let connecting = silent.clone();
    let connecting = tokio::spawn(async move { connecting.connect().await });
    let pids = written(&file).await;
    let closed = std::time::Instant::now();
    let both = futures::future::join(silent.close(), silent.close());
    soon("the end", both).await;
    for pid in pids.split_whitespace() {
        ended(pid).await;
    }
    let error = soon("the end", connecting).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    let error = silent.connect().await.unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    assert!(closed.elapsed() < Duration::from_secs(2), "not at once");
}

#[cfg(target_os = "linux")]
#[test]
fn a_runtime_that_ends_while_connecting_leaves_no_child() {
    let file = scratch("runtime");
    let script = format!("sleep 100 & echo $$ $! > {}; wait", file.display());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let silent = Upstream::child_process(ChildProcess::new("sh").args(["-c", &script]));
    let pids = runtime.block_on(async {
        tokio::spawn(async move { silent.connect().await });
        written(&file).await
    });
    drop(runtime);
    for pid in pids.split_whitespace() {
        for _ in 0..200 {
            if runs(pid) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        assert!(!runs(pid), "{pid}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_child_that_died_is_noticed_though_its_output_is_held_open() {
    let file = scratch("held");
    let initialized = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": { "tools": {} },
        "serverInfo": { "name": "dying", "version": "1" }
    });
    let script = format!(
        r#"sleep 100 & echo $$ $! > {}
        read line; id=${{line##*'"id":'}}; id=${{id%%[,\}}]*}}
        echo '{{"jsonrpc":"2.0","id":'$id',"result":{initialized}}}'
        read line; read line; exit 1"#,
        file.display()
    );
    let dying = Upstream::builder()
        .lifecycle(Lifecycle::Initialize)
        .reconnect_in_background(false)
        .child_process(ChildProcess::new("bash").args(["-c", &script]));
    let call = dying
        .clone()
        .oneshot(McpRequest::call_tool("anything").build());
    let began = std::time::Instant::now();
    let error = soon("the call's end", call).await.unwrap_err();
    assert!(error.is_transport() && !error.is_not_delivered(), "{error}");
    assert!(began.elapsed() < Duration::from_secs(3), "not at once");
    for pid in written(&file).await.split_whitespace() {
        ended(pid).await;
    }
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

#[tokio::test]
async fn settings_that_cannot_work_are_refused_when_they_are_made() {
    let endpoint = || HttpEndpoint::new("http://127.0.0.1:9/mcp");
    for name in RESERVED {
        let error = Upstream::http(endpoint().header(name, "x")).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    let error = Upstream::http(endpoint().bearer("a\nSECRET")).unwrap_err();
    assert!(!error.to_string().contains("SECRET"), "{error}");
    Upstream::http(endpoint().header("authorization", "Basic x")).unwrap();
}

const RESERVED: [&str; 5] = [
    "accept",
    "content-type",
    "last-event-id",
    "mcp-protocol-version",
    "mcp-session-id",
];

#[tokio::test]
async fn secrets_are_in_no_name_error_or_debug_output() {
    let url = "http://user:SECRET@127.0.0.1:9/mcp?key=SECRET";
    let endpoint = HttpEndpoint::new(url)
        .bearer("SECRET")
        .header("x-key", "SECRET");
    let shown = format!("{endpoint:?}");
    assert!(
        !shown.contains("SECRET") && shown.contains("x-key"),
        "{shown}"
    );
    let upstream = Upstream::http(endpoint).unwrap();
    assert_eq!(upstream.name(), "http://127.0.0.1:9/mcp");
    let error = upstream.connect().await.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("SECRET"), "{shown}");
    let error = Upstream::http("http://user:SECRET@:x/?key=SECRET").unwrap_err();
    assert!(!error.to_string().contains("SECRET"), "{error}");

    let child = ChildProcess::new("true").env("API_KEY", "SECRET");
    let shown = format!("{child:?}");
    assert!(
        !shown.contains("SECRET") && shown.contains("API_KEY"),
        "{shown}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_first_wait_of_nothing_grows_too() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let count = attempts.clone();
    let absent = Upstream::builder()
        .reconnect_backoff(Duration::ZERO, Duration::from_secs(30))
        .transport(move || {
            count.fetch_add(1, Ordering::SeqCst);
            async { Err::<tokio::io::DuplexStream, _>(std::io::Error::other("not there")) }
        });
    absent.connect().await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let attempts = attempts.load(Ordering::SeqCst);
    assert!((2..=30).contains(&attempts), "{attempts} in ten seconds");
}

#[tokio::test]
async fn the_longest_waiting_time_is_no_panic() {
    let absent = Upstream::builder()
        .reconnect_backoff(Duration::MAX, Duration::MAX)
        .child_process("no-such-program-anywhere");
    for _ in 0..2 {
        let error = absent.connect().await.unwrap_err();
        assert!(error.is_not_delivered(), "{error}");
    }
}

#[tokio::test]
async fn a_client_that_somebody_else_made_is_not_made_again() {
    let client = rmcp::service::serve_client_with_lifecycle(
        (),
        common::pipe_to(Demo::default()),
        ClientLifecycleMode::Initialize,
    );
    let client = client.await.unwrap();
    let upstream = Upstream::builder().peer(client.peer().clone());
    upstream.connect().await.unwrap();
    client.cancel().await.unwrap();
    for _ in 0..2 {
        let error = upstream.connect().await.unwrap_err();
        assert!(error.to_string().contains("has ended"), "{error}");
        assert_eq!(error.retry_after(), None, "{error}");
    }
}
