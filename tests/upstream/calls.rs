//! Calls: their `_meta`, notifications, cancellation, sizes and errors.

use super::*;

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
