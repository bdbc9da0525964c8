//! What a stack promises to callers and servers: nothing is lost on the way through.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

mod common;

#[path = "stack/box_stack.rs"]
mod box_stack;
#[path = "stack/from_fn.rs"]
mod from_fn;
#[path = "stack/order.rs"]
mod order;

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    Client, Heard, demo::Demo, pipe_to, piped, piped_legacy, progress, recorder, said,
    script::scripted, soon, text, token, tool,
};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::*,
    service::{ClientLifecycleMode, RequestContext, ServiceError},
};
use rmcp_layers::{
    CallContext, Error, ErrorKind, ExceptListensLayer, Handler, Lifecycle, McpClient, McpRequest,
    McpResponse, McpServer, Outcome, Refusal, TransportError, Upstream, code,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    time::Instant,
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService};

type Boxed = BoxCloneService<McpRequest, McpResponse, Error>;

/// Every way to reach a server without a network.
fn bottoms(demo: &Demo) -> Vec<(&'static str, Boxed)> {
    vec![
        ("handler", BoxCloneService::new(Handler::new(demo.clone()))),
        (
            "in-process",
            BoxCloneService::new(Upstream::in_process(demo.clone())),
        ),
        (
            "pipe",
            BoxCloneService::new(piped(Upstream::builder(), demo)),
        ),
        ("legacy pipe", BoxCloneService::new(piped_legacy(demo))),
    ]
}

/// Serves a stack over a pipe, and reaches it through that.
fn served(stack: impl common::Stack) -> Upstream {
    let server = McpServer::new(stack);
    Upstream::builder().name("outer").transport(move || {
        let near = pipe_to(server.clone());
        async move { Ok::<_, io::Error>(near) }
    })
}

fn echoed(result: &CallToolResult) -> Value {
    serde_json::from_str(text(result)).unwrap()
}

#[tokio::test]
async fn meta_reaches_the_server_and_each_hop_says_its_own() {
    for (bottom, stack) in bottoms(&Demo::default()) {
        let client = Client::modern("asker", stack).await;
        let mut meta = RequestMetaObject::new();
        meta.insert("traceparent".into(), "00-abc-def-01".into());
        meta.insert("tracestate".into(), "vendor=1".into());
        meta.insert("baggage".into(), "user=7".into());
        meta.insert("com.example/unheard-of".into(), json!({ "deep": [1, 2] }));
        let mut call = tool("echo", json!({}));
        call.meta = Some(meta);
        let echoed = echoed(&client.call(call).await);
        let meta = &echoed["meta"];
        assert_eq!(meta["traceparent"], "00-abc-def-01", "{bottom}");
        assert_eq!(meta["tracestate"], "vendor=1", "{bottom}");
        assert_eq!(meta["baggage"], "user=7", "{bottom}");
        assert_eq!(
            meta["com.example/unheard-of"],
            json!({ "deep": [1, 2] }),
            "{bottom}"
        );
        let client = match bottom {
            "handler" | "in-process" => "asker",
            _ => "rmcp-layers",
        };
        assert_eq!(echoed["client"]["name"], client, "{bottom}");
        let version = match bottom {
            "legacy pipe" => "2025-11-25",
            _ => "2026-07-28",
        };
        assert_eq!(echoed["version"], version, "{bottom}");
        if bottom != "legacy pipe" {
            let capabilities = &echoed["capabilities"];
            assert!(capabilities["sampling"].is_object(), "{bottom}: {echoed}");
        }
    }
}

#[tokio::test]
async fn a_server_hears_what_this_caller_can_do_and_not_what_another_can() {
    let upstream = piped(Upstream::builder(), &Demo::default());
    let mut call = McpRequest::call_tool("echo").progress_token(token("mine"));
    for key in ["protocolVersion", "clientInfo", "clientCapabilities"] {
        let key = format!("io.modelcontextprotocol/{key}");
        let theirs = match &*key {
            "io.modelcontextprotocol/protocolVersion" => json!("2026-07-28"),
            "io.modelcontextprotocol/clientInfo" => json!({ "name": "other hop", "version": "9" }),
            _ => json!({ "roots": {} }),
        };
        call = call.meta(key, theirs);
    }
    let echoed: Value =
        serde_json::from_str(&said(upstream.clone().oneshot(call.build()).await)).unwrap();
    assert_ne!(echoed["meta"]["progressToken"], "mine");
    assert_eq!(echoed["client"]["name"], "rmcp-layers");
    assert_eq!(echoed["capabilities"], json!({ "roots": {} }));

    let nothing = upstream
        .oneshot(McpRequest::call_tool("echo").build())
        .await;
    let echoed: Value = serde_json::from_str(&said(nothing)).unwrap();
    assert_eq!(echoed["capabilities"], json!({}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_notifications_arrive_in_order_under_the_callers_token() {
    for (bottom, stack) in bottoms(&Demo::default()) {
        let outer = served(stack);
        let (caller, mut received) = recorder();
        let call = McpRequest::call_tool("progress")
            .argument("count", 1_000)
            .progress_token(token("mine"))
            .caller(caller)
            .build();
        let answer = soon("a thousand notifications", outer.oneshot(call)).await;
        assert_eq!(said(answer), "reported", "{bottom}");
        let expected: Vec<_> = (1..=1_000).map(|n| (token("mine"), f64::from(n))).collect();
        assert!(
            progress(&mut received) == expected,
            "{bottom}: not in order"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn progress_that_comes_before_the_requests_handle_arrives() {
    for (bottom, stack) in bottoms(&Demo::default()) {
        let outer = served(stack);
        for _ in 0..300 {
            let (caller, mut received) = recorder();
            let call = McpRequest::call_tool("progress")
                .argument("count", 1)
                .progress_token(token("mine"))
                .caller(caller)
                .build();
            soon("a call", outer.clone().oneshot(call)).await.unwrap();
            assert_eq!(progress(&mut received), [(token("mine"), 1.0)], "{bottom}");
        }
    }
}

#[tokio::test]
async fn a_caller_that_asked_for_no_progress_gets_none() {
    for (bottom, stack) in bottoms(&Demo::default()) {
        let (caller, mut received) = recorder();
        let call = McpRequest::call_tool("progress")
            .argument("count", 3)
            .caller(caller)
            .build();
        soon("a call", stack.oneshot(call)).await.unwrap();
        assert_eq!(progress(&mut received), [], "{bottom}");
    }
}

#[tokio::test]
async fn dropping_a_calls_future_cancels_the_handler() {
    let demo = Demo::default();
    let mut count = 0;
    for (bottom, stack) in bottoms(&demo) {
        for outer in [served(stack.clone()), served(served(stack))] {
            let call = outer.clone().oneshot(McpRequest::call_tool("wait").build());
            let call = tokio::spawn(call);
            count += 1;
            demo.until(bottom, |seen| seen.started == count && seen.waiting == 1)
                .await;
            call.abort();
            demo.until(bottom, |seen| seen.cancelled == count && seen.waiting == 0)
                .await;
            assert_eq!(outer.in_flight(), 0, "{bottom}");
        }
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_its_calls() {
    let demo = Demo::default();
    for (before, (bottom, stack)) in bottoms(&demo).into_iter().enumerate() {
        let client = Client::legacy("leaver", stack).await;
        let peer = client.peer.peer().clone();
        let call = tokio::spawn(async move { peer.call_tool_once(tool("wait", json!({}))).await });
        let count = before + 1;
        demo.until(bottom, |seen| seen.started == count).await;
        drop(client);
        demo.until(bottom, |seen| seen.cancelled == count && seen.waiting == 0)
            .await;
        call.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_calls_cancelled_anywhere_leave_nothing_behind() {
    for legacy in [false, true] {
        let demo = Demo::default();
        let inner = match legacy {
            false => piped(Upstream::builder(), &demo),
            true => piped_legacy(&demo),
        };
        let outer = served(inner.clone());
        outer
            .clone()
            .oneshot(McpRequest::call_tool("add").build())
            .await
            .unwrap();
        let tasks = || {
            tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks()
        };
        let mut baseline = tasks();
        // Tasks of the handshakes end in their own time.
        soon("a settled start", async {
            for _ in 0..200 {
                tokio::task::yield_now().await;
                baseline = tasks();
            }
        })
        .await;

        let started = std::time::Instant::now();
        for _ in 0..50 {
            let mut calls = tokio::task::JoinSet::new();
            for n in 0..100 {
                let name = ["add", "wait", "progress", "wait"][n % 4];
                let (caller, _received) = recorder();
                let call = McpRequest::call_tool(name)
                    .argument("count", 20)
                    .progress_token(token("mine"))
                    .caller(caller)
                    .build();
                let call = outer.clone().oneshot(call);
                let polls = rand::random_range(0..12);
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
            soon("a hundred cancelled calls", calls.join_all()).await;
        }
        demo.until("the end of every call", |seen| seen.waiting == 0)
            .await;
        soon("the end of every task", async {
            while tasks() > baseline || outer.in_flight() > 0 || inner.in_flight() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let seen = demo.seen();
        assert_eq!(seen.started, seen.cancelled);
        assert!(seen.started > 0, "no call got as far as the server");
        assert!(started.elapsed() < Duration::from_secs(60));
        let still = outer.oneshot(McpRequest::call_tool("add").argument("a", 4).build());
        assert_eq!(said(still.await), "4");
    }
}

#[tokio::test]
async fn a_servers_request_goes_to_its_caller_or_to_nobody() {
    let demo = Demo::default();
    let server = McpServer::new(piped_legacy(&demo));
    let initialize = ClientLifecycleMode::Initialize;
    let mut ann = Client::of(&server, "Ann", initialize.clone()).await;

    // Alone, and with another call of its own in flight.
    assert_eq!(text(&ann.call(tool("sample", json!({}))).await), "I am Ann");
    let waiting = |client: &Client| {
        let peer = client.peer.peer().clone();
        tokio::spawn(async move { peer.call_tool_once(tool("wait", json!({}))).await })
    };
    let anns = waiting(&ann);
    demo.until("Ann's call", |seen| seen.waiting == 1).await;
    assert_eq!(text(&ann.call(tool("sample", json!({}))).await), "I am Ann");
    for _ in 0..2 {
        assert_eq!(ann.hear("the question").await, Heard::Asked("sampling"));
    }

    // With two who could be meant, neither is asked, with or without a call in flight.
    let mut bob = Client::of(&server, "Bob", initialize).await;
    let refused = bob.call(tool("sample", json!({}))).await;
    assert_eq!(refused.is_error, Some(true));
    assert!(text(&refused).contains("several callers"), "{refused:?}");
    anns.abort();
    demo.until("the end of Ann's call", |seen| seen.waiting == 0)
        .await;
    for client in [&ann, &bob] {
        let refused = client.call(tool("sample", json!({}))).await;
        assert!(text(&refused).contains("several callers"), "{refused:?}");
    }
    ann.hears_nothing().await;
    bob.hears_nothing().await;
}

#[tokio::test]
async fn a_request_of_a_server_in_this_process_or_a_handler_finds_its_caller() {
    let demo = Demo::default();
    let in_process = Upstream::builder()
        .lifecycle(Lifecycle::Initialize)
        .in_process(demo.clone());
    let stacks: [Boxed; 2] = [
        BoxCloneService::new(Handler::new(demo.clone())),
        BoxCloneService::new(in_process),
    ];
    for stack in stacks {
        let mut ann = Client::legacy("Ann", stack).await;
        assert_eq!(text(&ann.call(tool("sample", json!({}))).await), "I am Ann");
        assert_eq!(ann.hear("the question").await, Heard::Asked("sampling"));
    }
}

#[tokio::test]
async fn ten_mebibytes_pass() {
    const BYTES: usize = 10 * 1024 * 1024;
    for (bottom, stack) in bottoms(&Demo::default()) {
        let call = McpRequest::call_tool("big").argument("bytes", BYTES);
        let answer = soon("a big answer", served(stack).oneshot(call.build())).await;
        assert_eq!(said(answer).len(), BYTES, "{bottom}");
    }
}

#[tokio::test]
async fn a_servers_error_arrives_as_it_was() {
    for (bottom, stack) in bottoms(&Demo::default()) {
        let clients = [
            Client::legacy("old", stack.clone()).await,
            Client::modern("new", served(stack)).await,
        ];
        for client in clients {
            let failed = client.peer.call_tool_once(tool("reject", json!({}))).await;
            let Err(ServiceError::McpError(error)) = failed else {
                panic!("{bottom}: {failed:?}");
            };
            assert_eq!(error.code.0, -32050, "{bottom}");
            assert_eq!(error.message, "not on a Sunday", "{bottom}");
            assert_eq!(
                error.data,
                Some(json!({ "day": "Sunday", "nested": [1, { "two": null }] })),
                "{bottom}"
            );
        }
    }
}

#[tokio::test]
async fn the_crates_own_errors_stay_outside_the_reserved_codes() {
    let own: [(Error, i32, Value); 5] = [
        (
            TransportError::new("gone").with_upstream("files").into(),
            -31502,
            json!({ "kind": "transport", "upstream": "files", "delivered": "unknown" }),
        ),
        (
            TransportError::not_delivered("gone")
                .with_retry_after(Duration::from_millis(1_500))
                .into(),
            -31502,
            json!({ "kind": "transport", "delivered": "no", "retryAfterMs": 1_500 }),
        ),
        (
            Error::timeout(Duration::from_secs(2)),
            -31504,
            json!({ "kind": "timeout", "afterMs": 2_000 }),
        ),
        (
            Error::cancelled("enough"),
            -31499,
            json!({ "kind": "cancelled" }),
        ),
        (
            Refusal::new("breaker", "open")
                .with_data(json!({ "tool": "add" }))
                .into(),
            -31503,
            json!({ "kind": "refused", "layer": "breaker", "tool": "add" }),
        ),
    ];
    for (error, code, data) in own {
        assert!(!(-32768..=-32000).contains(&code));
        let stack = failing_calls(Handler::new(Demo::default()), error);
        let client = Client::legacy("old", stack).await;
        let failed = client.peer.call_tool_once(tool("add", json!({}))).await;
        let Err(ServiceError::McpError(error)) = failed else {
            panic!("{failed:?}");
        };
        assert_eq!(error.code.0, code);
        assert_eq!(error.data, Some(data));
    }
}

/// Lets everything but tool calls through.
fn failing_calls(inner: impl common::Stack, error: Error) -> Boxed {
    BoxCloneService::new(service_fn(move |request: McpRequest| {
        let (inner, error) = (inner.clone(), error.clone());
        async move {
            if request.as_tool_call().is_some() {
                return Err(error);
            }
            inner.oneshot(request).await.map_err(Into::into)
        }
    }))
}

#[tokio::test]
async fn malformed_input_is_answered_and_does_not_end_the_session() {
    let pipe = pipe_to(McpServer::new(Handler::new(Demo::default())));
    let (read, mut write) = tokio::io::split(pipe);
    let mut lines = BufReader::new(read).lines();
    let initialize = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": { "name": "raw", "version": "0" },
        },
    });
    let mut send = async |line: &str| {
        write.write_all(line.as_bytes()).await.unwrap();
        write.write_all(b"\n").await.unwrap();
    };
    let mut next = async || -> Value {
        let line = soon("a line", lines.next_line()).await.unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    };
    send(&initialize.to_string()).await;
    assert_eq!(next().await["result"]["serverInfo"]["name"], "demo");
    send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;

    // No JSON: nobody could be answered, and nothing happens.
    send("this is no JSON").await;
    send(r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","#).await;
    // JSON, but no message.
    send(r#"{"jsonrpc":"2.0","id":3,"method":7}"#).await;
    let answer = next().await;
    assert_eq!(answer["error"]["code"], -32600, "{answer}");
    // A message with the wrong params.
    send(r#"{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"nome":"add"}}"#).await;
    let answer = next().await;
    assert!(answer["error"]["code"].is_i64(), "{answer}");
    // And the session goes on.
    send(r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"add","arguments":{"a":5}}}"#)
        .await;
    let answer = next().await;
    assert_eq!(answer["id"], 5);
    assert_eq!(answer["result"]["content"][0]["text"], "5");
}

#[tokio::test]
async fn changes_reach_the_sessions_that_subscribed_and_no_other() {
    for index in 0..bottoms(&Demo::default()).len() {
        let demo = Demo::default();
        let (bottom, stack) = bottoms(&demo).swap_remove(index);
        let server = McpServer::new(stack);
        let initialize = ClientLifecycleMode::Initialize;
        let mut ann = Client::of(&server, "Ann", initialize.clone()).await;
        let mut bob = Client::of(&server, "Bob", initialize).await;
        let updated = |uri: &str| {
            ResourceUpdatedNotification::new(ResourceUpdatedNotificationParam::new(uri))
        };

        // The lists' changes, to all, without asking.
        if bottom == "in-process" || bottom == "pipe" {
            demo.until(bottom, |seen| seen.listening.len() == 2).await;
        } else {
            settled(&ann, &bob).await;
        }
        demo.change(ToolListChangedNotification::default()).await;
        assert_eq!(ann.hear(bottom).await, Heard::Tools);
        assert_eq!(bob.hear(bottom).await, Heard::Tools);

        // A resource's, to the one who subscribed to it.
        let subscribe = |client: &Client, uri: &str| {
            let (peer, params) = (client.peer.peer().clone(), SubscribeRequestParams::new(uri));
            async move { peer.subscribe(params).await }
        };
        subscribe(&ann, "demo://a").await.unwrap();
        subscribe(&bob, "demo://b").await.unwrap();
        demo.change(updated("demo://a")).await;
        assert_eq!(
            ann.hear(bottom).await,
            Heard::Updated("demo://a".to_owned()),
            "{bottom}"
        );
        bob.hears_nothing().await;
        demo.change(updated("demo://b")).await;
        assert_eq!(
            bob.hear(bottom).await,
            Heard::Updated("demo://b".to_owned()),
            "{bottom}"
        );
        ann.hears_nothing().await;

        // And no more once it has unsubscribed.
        let done = UnsubscribeRequestParams::new("demo://a");
        soon(bottom, ann.peer.unsubscribe(done)).await.unwrap();
        let gone = |uris: Option<&Vec<String>>| {
            uris.is_none_or(|uris| !uris.iter().any(|uri| uri == "demo://a"))
        };
        demo.until(bottom, |seen| {
            gone(Some(&seen.subscribed))
                && seen
                    .listening
                    .iter()
                    .all(|filter| gone(filter.resource_subscriptions.as_ref()))
        })
        .await;
        demo.change(updated("demo://a")).await;
        demo.change(updated("demo://b")).await;
        assert_eq!(
            bob.hear(bottom).await,
            Heard::Updated("demo://b".to_owned()),
            "{bottom}"
        );
        ann.hears_nothing().await;
    }
}

/// Both sessions have had the time to open what they listen with.
async fn settled(ann: &Client, bob: &Client) {
    for client in [ann, bob] {
        for _ in 0..20 {
            client.call(tool("add", json!({}))).await;
        }
    }
}

#[tokio::test]
async fn a_modern_listen_yields_what_it_asked_for() {
    for index in 0..bottoms(&Demo::default()).len() {
        let demo = Demo::default();
        let (bottom, stack) = bottoms(&demo).swap_remove(index);
        let client = Client::modern("listener", stack).await;
        let filter = SubscriptionFilter::builder()
            .tools_list_changed()
            .resource_subscription("demo://a")
            .build();
        let mut listen = soon(bottom, client.peer.listen(filter.clone()))
            .await
            .unwrap();
        assert_eq!(*listen.acknowledged(), filter, "{bottom}");
        if bottom == "legacy pipe" {
            demo.until(bottom, |seen| seen.subscribed == ["demo://a"])
                .await;
        } else {
            demo.until(bottom, |seen| seen.listening.len() == 1).await;
        }
        demo.change(ToolListChangedNotification::default()).await;
        let heard = soon(bottom, listen.next()).await.unwrap().unwrap();
        assert!(
            matches!(heard, ServerNotification::ToolListChangedNotification(_)),
            "{bottom}: {heard:?}"
        );
        for uri in ["demo://b", "demo://a"] {
            demo.change(ResourceUpdatedNotification::new(
                ResourceUpdatedNotificationParam::new(uri),
            ))
            .await;
        }
        let heard = soon(bottom, listen.next()).await.unwrap().unwrap();
        let ServerNotification::ResourceUpdatedNotification(update) = heard else {
            panic!("{bottom}: {heard:?}");
        };
        assert_eq!(update.params.uri, "demo://a", "{bottom}");
        drop(listen);
        demo.until(bottom, |seen| {
            seen.listening.is_empty() && seen.subscribed.is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn a_clients_notifications_reach_the_bottom() {
    for index in 0..bottoms(&Demo::default()).len() {
        let demo = Demo::default();
        let (bottom, stack) = bottoms(&demo).swap_remove(index);
        let client = Client::legacy("teller", stack).await;
        soon(bottom, client.peer.notify_roots_list_changed())
            .await
            .unwrap();
        let custom =
            CustomNotification::new("notifications/com.example/hello", Some(json!({ "n": 1 })));
        soon(bottom, client.peer.send_notification(custom.into()))
            .await
            .unwrap();
        demo.until(bottom, |seen| {
            let heard = |notice: &str| seen.notices.iter().any(|seen| seen == notice);
            heard("notifications/roots/list_changed")
                && heard(r#"notifications/com.example/hello {"n":1}"#)
        })
        .await;
    }
}

#[tokio::test]
async fn an_older_caller_is_asked_what_a_newer_server_wants_to_know() {
    let demo = Demo::default();
    for stack in [
        Boxed::new(Upstream::in_process(demo.clone())),
        Boxed::new(piped(Upstream::builder(), &demo)),
    ] {
        let mut client = Client::legacy("Ann", stack).await;
        let result = client.call(tool("ask", json!({}))).await;
        let answered = echoed(&result);
        assert_eq!(answered["state"], "round one");
        assert_eq!(answered["answers"]["name"]["content"]["name"], "Ann");
        assert_eq!(
            answered["answers"]["greeting"]["content"]["text"],
            "I am Ann"
        );
        let mut asked = [
            client.hear("a question").await,
            client.hear("a question").await,
        ];
        asked.sort_by_key(|heard| format!("{heard:?}"));
        assert_eq!(
            asked,
            [Heard::Asked("elicitation"), Heard::Asked("sampling")]
        );
    }
}

#[tokio::test]
async fn an_older_callers_log_level_goes_with_each_request_to_a_newer_server() {
    let mut client = Client::legacy("Ann", piped(Upstream::builder(), &Demo::default())).await;
    assert_eq!(text(&client.call(tool("log", json!({}))).await), "None");
    assert_eq!(client.hear("the line").await, Heard::Log(json!("line")));
    let level = SetLevelRequestParams::new(LoggingLevel::Warning);
    client.peer.set_level(level).await.unwrap();
    let logged = client.call(tool("log", json!({}))).await;
    assert_eq!(text(&logged), "Some(Warning)");
}

#[tokio::test]
async fn an_older_callers_log_level_reaches_an_older_server_and_a_handler() {
    for legacy in [true, false] {
        let demo = Demo::default();
        let stack: Boxed = match legacy {
            true => BoxCloneService::new(piped_legacy(&demo)),
            false => BoxCloneService::new(Handler::new(demo.clone())),
        };
        let mut client = Client::legacy("Ann", stack).await;
        let level = SetLevelRequestParams::new(LoggingLevel::Warning);
        client.peer.set_level(level).await.unwrap();
        assert_eq!(demo.seen().level, Some(LoggingLevel::Warning));
        client.call(tool("log", json!({}))).await;
        assert_eq!(client.hear("the line").await, Heard::Log(json!("line")));
    }
}

/// Passes everything on, as a layer of this crate would.
#[derive(Clone)]
struct Through<S>(S);

impl<S: Service<McpRequest, Response = McpResponse>> Service<McpRequest> for Through<S> {
    type Response = McpResponse;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: McpRequest) -> S::Future {
        self.0.call(request)
    }
}

fn through<S>() -> impl tower::Layer<S, Service = Through<S>> + Clone {
    tower::layer::layer_fn(Through)
}

/// Memory as a test likes it.
#[derive(Clone)]
struct Memory(Arc<AtomicUsize>);

impl tower_memlim::memory::AvailableMemory for Memory {
    fn available_memory(&self) -> Result<usize, tower::BoxError> {
        match self.0.load(Ordering::Relaxed) {
            0 => Err("nobody knows".into()),
            bytes => Ok(bytes),
        }
    }
}

fn enough(memory: &Memory) -> tower_memlim::layer::MemoryLimitLayer<Memory> {
    let least = tower_memlim::memory::Threshold::MinAvailableBytes(1_000);
    tower_memlim::layer::MemoryLimitLayer::new(least, memory.clone())
}

fn small(request: McpRequest) -> Result<McpRequest, tower::BoxError> {
    match request.target() {
        Some("big") => Err("too big for this filter".into()),
        _ => Ok(request),
    }
}

fn marked(mut request: McpRequest) -> McpRequest {
    let meta = &mut request.context.meta;
    meta.insert("com.example/mark".into(), json!("marked"));
    request
}

/// A stack of tower's layers, a third party's and ours, in any order, without adapters.
fn mixed(bottom: impl common::Stack<Error: Into<tower::BoxError>>, memory: &Memory) -> Boxed {
    let stack = ServiceBuilder::new()
        .layer(through())
        .timeout(Duration::from_secs(20))
        .layer(through())
        .load_shed()
        .layer(through())
        .concurrency_limit(8)
        .layer(through())
        .buffer(16)
        .layer(through())
        .filter(small)
        .layer(through())
        .layer(enough(memory))
        .layer(through())
        .map_request(marked)
        .layer(through())
        .service(bottom);
    BoxCloneService::new(stack.map_err(Error::from))
}

#[tokio::test]
async fn towers_layers_stack_between_ours() {
    let memory = Memory(Arc::new(AtomicUsize::new(1_000_000)));
    let demo = Demo::default();
    let stacks = [
        mixed(Handler::new(demo.clone()), &memory),
        mixed(Upstream::in_process(demo.clone()), &memory),
        mixed(piped_legacy(&demo), &memory),
    ];
    for stack in stacks {
        memory.0.store(1_000_000, Ordering::Relaxed);
        let client = Client::legacy("Ann", stack).await;
        let call = async |call: CallToolRequestParams| {
            soon("a call", client.peer.call_tool_once(call)).await
        };
        let echoed = echoed(&client.call(tool("echo", json!({}))).await);
        assert_eq!(echoed["meta"]["com.example/mark"], "marked");

        // A server's error passes all of them as it is.
        let Err(ServiceError::McpError(error)) = call(tool("reject", json!({}))).await else {
            panic!("an error was lost");
        };
        assert_eq!(error.code.0, -32050);
        assert_eq!(error.message, "not on a Sunday");

        let Err(ServiceError::McpError(error)) = call(tool("big", json!({}))).await else {
            panic!("the filter let it through");
        };
        assert_eq!(error.code, rmcp_layers::code::FORBIDDEN);
        assert!(error.message.contains("too big for this filter"), "{error}");
        assert_eq!(error.data.unwrap()["kind"], "refused");

        // The third party's own failure, through a buffer, which fails for good with what is inside it.
        memory.0.store(0, Ordering::Relaxed);
        let Err(ServiceError::McpError(error)) = call(tool("add", json!({}))).await else {
            panic!("nothing failed");
        };
        assert!(error.message.contains("available memory"), "{error}");
        assert_eq!(error.data.unwrap()["kind"], "refused");
    }
}

/// Outcomes of the calls that go through a stack, as an observing layer sees them.
#[derive(Clone, Default)]
struct Outcomes(Arc<Mutex<Vec<Outcome>>>);

impl Outcomes {
    fn over(&self, inner: impl common::Stack) -> Boxed {
        let outcomes = self.0.clone();
        BoxCloneService::new(service_fn(move |request: McpRequest| {
            let (inner, outcomes) = (inner.clone(), outcomes.clone());
            async move {
                let is_call = request.as_tool_call().is_some();
                let result = inner.oneshot(request).await.map_err(Into::into);
                if is_call {
                    outcomes.lock().unwrap().push(Outcome::of(&result));
                }
                result
            }
        }))
    }

    fn last(&self) -> Outcome {
        self.0.lock().unwrap().pop().expect("an outcome")
    }
}

#[tokio::test(start_paused = true)]
async fn towers_timeout_and_load_shed_keep_their_meaning() {
    let demo = Demo::default();
    let bottoms = || bottoms(&demo).into_iter();
    for (bottom, stack) in bottoms() {
        let outcomes = Outcomes::default();
        let stack = ServiceBuilder::new()
            .timeout(Duration::from_secs(5))
            .service(Through(stack));
        let client = Client::legacy("Ann", outcomes.over(stack)).await;
        let failed = client.peer.call_tool_once(tool("wait", json!({}))).await;
        assert_eq!(outcomes.last(), Outcome::Timeout, "{bottom}");
        let Err(ServiceError::McpError(error)) = failed else {
            panic!("{bottom}: {failed:?}");
        };
        assert_eq!(error.code, rmcp_layers::code::TIMEOUT, "{bottom}");
        demo.until(bottom, |seen| seen.waiting == 0).await;
    }
    for (bottom, stack) in bottoms() {
        let outcomes = Outcomes::default();
        let stack = ServiceBuilder::new()
            .load_shed()
            .concurrency_limit(1)
            .service(Through(stack));
        let client = Client::modern("Ann", outcomes.over(stack)).await;
        let peer = client.peer.peer().clone();
        let first = tokio::spawn(async move { peer.call_tool_once(tool("wait", json!({}))).await });
        demo.until(bottom, |seen| seen.waiting == 1).await;
        let failed = client.peer.call_tool_once(tool("add", json!({}))).await;
        assert_eq!(
            outcomes.last(),
            Outcome::Refused {
                layer: "load_shed",
                code: code::UNAVAILABLE.0,
                not_delivered: true
            },
            "{bottom}"
        );
        let Err(ServiceError::McpError(error)) = failed else {
            panic!("{bottom}: {failed:?}");
        };
        assert_eq!(error.code, rmcp_layers::code::UNAVAILABLE, "{bottom}");
        assert_eq!(error.data.unwrap()["layer"], "load_shed", "{bottom}");
        // A permit comes back with the call it was given to.
        first.abort();
        demo.until(bottom, |seen| seen.waiting == 0).await;
        soon("the permit's return", async {
            while client
                .peer
                .call_tool_once(tool("add", json!({})))
                .await
                .is_err()
            {}
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn bounds_on_calls_are_none_on_sessions() {
    let demo = Demo::default();
    for (bottom, stack) in bottoms(&demo) {
        let bounds = ServiceBuilder::new()
            .load_shed()
            .concurrency_limit(1)
            .timeout(Duration::from_secs(5));
        let stack = ServiceBuilder::new()
            .layer(ExceptListensLayer::new(bounds))
            .service(Through(stack));
        let server = McpServer::new(stack);
        let mut clients = Vec::new();
        for name in ["Ann", "Bob", "Cid"] {
            let client = Client::of(&server, name, ClientLifecycleMode::Initialize).await;
            client.call(tool("add", json!({}))).await;
            clients.push(client);
        }
        // Longer than a call may take.
        tokio::time::advance(Duration::from_secs(60)).await;
        demo.change(ToolListChangedNotification::default()).await;
        for client in &mut clients {
            assert_eq!(client.hear(bottom).await, Heard::Tools, "{bottom}");
        }
        let [ann, bob, _] = &clients[..] else {
            panic!("three clients");
        };
        let peer = ann.peer.peer().clone();
        let first = tokio::spawn(async move { peer.call_tool_once(tool("wait", json!({}))).await });
        demo.until(bottom, |seen| seen.waiting == 1).await;
        let shed = bob.peer.call_tool_once(tool("add", json!({}))).await;
        let Err(ServiceError::McpError(error)) = shed else {
            panic!("{bottom}: {shed:?}");
        };
        assert_eq!(error.code, code::UNAVAILABLE, "{bottom}");
        let late = soon(bottom, first).await.unwrap();
        let Err(ServiceError::McpError(error)) = late else {
            panic!("{bottom}: {late:?}");
        };
        assert_eq!(error.code, code::TIMEOUT, "{bottom}");
        demo.until(bottom, |seen| seen.waiting == 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_in_one_of_nine_ways() {
    let demo = Demo::default();
    let outcomes = Outcomes::default();
    let upstream = piped(
        Upstream::builder().request_timeout(Duration::from_secs(5)),
        &demo,
    );
    let stack = outcomes.over(ServiceBuilder::new().filter(small).service(upstream));
    let outer = served(stack);
    let tasks = ClientCapabilities::builder().enable_tasks().build();
    let call = |name: &str| {
        let call = McpRequest::call_tool(name).meta(
            "io.modelcontextprotocol/clientCapabilities",
            serde_json::to_value(&tasks).unwrap(),
        );
        let mut outer = outer.clone();
        async move { outer.ready().await.unwrap().call(call.build()).await }
    };
    let expected = [
        ("add", Outcome::Complete),
        ("fail", Outcome::ToolError),
        ("ask", Outcome::InputRequired),
        ("task", Outcome::Task),
        ("reject", Outcome::Protocol { code: -32050 }),
        ("wait", Outcome::Timeout),
        (
            "big",
            Outcome::Refused {
                layer: "layer",
                code: code::FORBIDDEN.0,
                not_delivered: true,
            },
        ),
    ];
    for (name, outcome) in expected {
        let answer = call(name).await;
        assert_eq!(outcomes.last(), outcome, "{name}");
        // The hop outside it reads results as they were, and all failures as the wire errors they are.
        let outside = Outcome::of(&answer);
        match outcome {
            Outcome::Timeout => assert_eq!(outside, Outcome::Protocol { code: -31504 }),
            Outcome::Refused { .. } => assert_eq!(outside, Outcome::Protocol { code: -31403 }),
            same => assert_eq!(outside, same, "{name}"),
        }
    }

    // A server that goes away, and one that is not there.
    let going = outcomes.over(scripted(Upstream::builder(), |_| None));
    going
        .oneshot(McpRequest::call_tool("add").build())
        .await
        .unwrap_err();
    let unknown = Outcome::Transport {
        not_delivered: false,
        status: None,
    };
    assert_eq!(outcomes.last(), unknown);
    let absent = Upstream::builder()
        .transport(|| async { Err::<tokio::io::DuplexStream, _>(io::Error::other("nobody")) });
    let absent = outcomes.over(absent);
    absent
        .oneshot(McpRequest::call_tool("add").build())
        .await
        .unwrap_err();
    let not_delivered = Outcome::Transport {
        not_delivered: true,
        status: None,
    };
    assert_eq!(outcomes.last(), not_delivered);

    // A layer that calls it off.
    let cancelled = failing_calls(Handler::new(demo), Error::cancelled("by a layer"));
    let cancelled = outcomes.over(cancelled);
    cancelled
        .oneshot(McpRequest::call_tool("add").build())
        .await
        .unwrap_err();
    assert_eq!(outcomes.last(), Outcome::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn progress_starts_an_upstreams_patience_anew() {
    for legacy in [false, true] {
        let builder = Upstream::builder().request_timeout(Duration::from_secs(10));
        let builder = match legacy {
            false => builder,
            true => builder.lifecycle(Lifecycle::Initialize),
        };
        let upstream = piped(builder, &Demo::default());
        upstream.connect().await.unwrap();
        let slow = |rest: u64| {
            McpRequest::call_tool("slow")
                .argument("count", 5)
                .argument("apart", 8_000)
                .argument("rest", rest)
        };
        // Four times the timeout, but never silent for as long.
        let talking = slow(1).progress_token(token("mine")).build();
        assert_eq!(said(upstream.clone().oneshot(talking).await), "at last");
        let then_silent = slow(60_000).progress_token(token("mine")).build();
        let started = Instant::now();
        let error = upstream.clone().oneshot(then_silent).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let took = started.elapsed();
        assert!(took >= Duration::from_secs(50) && took < Duration::from_secs(51));
        assert_eq!(upstream.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_to_connect_are_spaced_and_shared() {
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let noted = attempts.clone();
    let upstream = Upstream::builder()
        .name("absent")
        .reconnect_backoff(Duration::from_secs(4), Duration::from_secs(60))
        .transport(move || {
            noted.lock().unwrap().push(Instant::now());
            async { Err::<tokio::io::DuplexStream, _>(io::Error::other("nobody home")) }
        });
    let call = || upstream.clone().oneshot(McpRequest::list_tools());
    let error = call().await.unwrap_err();
    assert!(error.is_not_delivered());
    assert!(error.to_string().contains("nobody home"), "{error}");
    assert_eq!(attempts.lock().unwrap().len(), 1);
    // Meanwhile calls fail at once, and say when it is worth coming back.
    for _ in 0..100 {
        let error = call().await.unwrap_err();
        let after = error.retry_after().expect("a time to come back");
        assert!(after >= Duration::from_secs(2) && after <= Duration::from_secs(4));
    }
    assert_eq!(attempts.lock().unwrap().len(), 1);
    // In the background the time between attempts doubles, to its cap.
    tokio::time::sleep(Duration::from_secs(600)).await;
    let attempts = attempts.lock().unwrap().clone();
    let gaps: Vec<_> = attempts.windows(2).map(|two| two[1] - two[0]).collect();
    for (n, gap) in gaps.iter().enumerate() {
        let whole =
            Duration::from_secs(4 * 2_u64.pow(n.min(4) as u32)).min(Duration::from_secs(60));
        assert!(
            *gap >= whole / 2 && *gap <= whole + Duration::from_millis(10),
            "gap {n}: {gap:?}"
        );
    }
    assert!(gaps.len() > 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_attempt_serves_all_who_wait_for_it() {
    let demo = Demo::default();
    let made = Arc::new(AtomicUsize::new(0));
    let counted = made.clone();
    let upstream = Upstream::builder().transport(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let near = pipe_to(demo.clone());
        async move { Ok::<_, io::Error>(near) }
    });
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..200 {
        calls.spawn(
            upstream
                .clone()
                .oneshot(McpRequest::call_tool("add").build()),
        );
    }
    for answer in soon("two hundred calls", calls.join_all()).await {
        answer.unwrap();
    }
    assert_eq!(made.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_lost_connection_fails_its_calls_at_once_and_the_next_succeeds() {
    let upstream = scripted(Upstream::builder().name("fickle"), |request| {
        let id = &request["id"];
        match request["params"]["name"].as_str() {
            Some("leave") => None,
            Some("hold") => Some(Vec::new()),
            _ => Some(vec![
                json!({ "jsonrpc": "2.0", "id": id, "result": { "content": [], "resultType": "complete" } })
                    .to_string(),
            ]),
        }
    });
    let call = |name: &str| {
        let call = upstream
            .clone()
            .oneshot(McpRequest::call_tool(name).build());
        async move { soon("a call", call).await }
    };
    let held = tokio::spawn(call("hold"));
    soon("a call in flight", async {
        while upstream.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let error = call("leave").await.unwrap_err();
    assert!(error.is_transport() && !error.is_not_delivered(), "{error}");
    assert!(error.to_string().contains("fickle"), "{error}");
    assert!(held.await.unwrap().unwrap_err().is_transport());
    call("stay").await.unwrap();
    assert_eq!(upstream.in_flight(), 0);
}

/// rmcp's own line transport drops what it cannot read, so nothing but the silence is seen here. Our own
/// (`tests/lines.rs`) says so at once.
#[tokio::test(start_paused = true)]
async fn an_unreadable_answer_ends_its_call_when_the_servers_time_is_over() {
    let unreadable: [fn(&Value) -> String; 3] = [
        |id| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":["#),
        |id| format!(r#"{{"jsonrpc":"1.0","id":{id},"result":{{}}}}"#),
        |id| {
            let text = "x".repeat(17 * 1024 * 1024);
            let content = json!([{ "type": "text", "text": text }]);
            json!({ "jsonrpc": "2.0", "id": id, "result": { "content": content } }).to_string()
        },
    ];
    for line in unreadable {
        let patience = Duration::from_secs(60);
        let builder = Upstream::builder().request_timeout(patience);
        let upstream = scripted(builder, move |request| {
            Some(match request["params"]["name"].as_str() {
                Some("readable") => vec![
                    json!({
                        "jsonrpc": "2.0",
                        "id": request["id"],
                        "result": { "content": [], "resultType": "complete" },
                    })
                    .to_string(),
                ],
                _ => vec![line(&request["id"])],
            })
        });
        let call = |name| {
            upstream
                .clone()
                .oneshot(McpRequest::call_tool(name).build())
        };
        call("readable").await.unwrap();
        let started = Instant::now();
        let error = call("unreadable").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(started.elapsed().as_secs(), patience.as_secs());
        call("readable").await.unwrap();
    }
}

/// A stack that acts otherwise than `inner` where `act` answers.
fn except<F>(inner: impl common::Stack, act: F) -> Boxed
where
    F: Fn(&McpRequest) -> Option<Result<McpResponse, Error>> + Clone + Send + Sync + 'static,
{
    BoxCloneService::new(service_fn(move |request: McpRequest| {
        let (inner, act) = (inner.clone(), act.clone());
        async move {
            match act(&request) {
                Some(answer) => answer,
                None => inner.oneshot(request).await.map_err(Into::into),
            }
        }
    }))
}

fn is_guest(request: &McpRequest) -> bool {
    let info = request.context.client_info();
    info.is_some_and(|info| info.name == "guest")
}

fn modern() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover {
        preferred_versions: vec![ProtocolVersion::LATEST],
    }
}

fn tools_changes() -> SubscriptionFilter {
    SubscriptionFilter::builder().tools_list_changed().build()
}

#[tokio::test]
async fn a_listen_refused_to_one_caller_is_not_refused_to_another() {
    let stack = except(Upstream::in_process(Demo::default()), |request| {
        let refused = is_guest(request) && request.method() == "subscriptions/listen";
        refused
            .then(|| Err(ErrorData::method_not_found::<SubscriptionsListenRequestMethod>().into()))
    });
    let server = McpServer::new(stack);
    let guest = Client::of(&server, "guest", modern()).await;
    let ann = Client::of(&server, "ann", modern()).await;
    if let Ok(mut listen) = guest.peer.listen(tools_changes()).await {
        let _ = soon("the refusal", listen.next()).await;
    }
    // This session has heard that there is none.
    assert!(guest.peer.listen(tools_changes()).await.is_err());
    ann.peer.listen(tools_changes()).await.unwrap();
}

#[tokio::test]
async fn what_one_caller_is_told_decides_nothing_for_another() {
    let inner = Upstream::in_process(Demo::default());
    let stack = service_fn(move |request: McpRequest| {
        let inner = inner.clone();
        async move {
            let narrowed = is_guest(&request) && request.method() == "server/discover";
            let mut response = inner.oneshot(request).await?;
            if narrowed && let ServerResult::DiscoverResult(told) = &mut response.result {
                told.capabilities.tools = None;
                told.capabilities.resources = None;
                told.supported_versions = vec![ProtocolVersion::LATEST];
            }
            Ok::<_, Error>(response)
        }
    });
    let server = McpServer::new(stack);
    let ann = Client::of(&server, "ann", modern()).await;
    let older = Client::of(&server, "ann", ClientLifecycleMode::Initialize).await;
    let before = ann.peer.listen(tools_changes()).await.unwrap();
    let guest = Client::of(&server, "guest", modern()).await;
    let after = ann.peer.listen(tools_changes()).await.unwrap();
    assert_eq!(*before.acknowledged(), tools_changes());
    assert_eq!(*after.acknowledged(), tools_changes());
    let guests = guest.peer.listen(tools_changes()).await.unwrap();
    assert_eq!(guests.acknowledged().tools_list_changed, None);
    ann.peer.list_tools(None).await.unwrap();
    ann.call(tool("add", json!({}))).await;
    let subscription = SubscribeRequestParams::new("demo://a");
    older.peer.subscribe(subscription).await.unwrap();
    // Nor is a handshake of the older kind refused, which only the guest was told is unknown.
    Client::of(&server, "ann", ClientLifecycleMode::Initialize).await;
}

#[tokio::test]
async fn one_callers_schema_does_not_check_another_callers_headers() {
    let stack = except(Upstream::in_process(Demo::default()), |request| {
        if request.method() != "tools/list" {
            return None;
        }
        let region = match is_guest(request) {
            true => json!({ "type": "string", "x-mcp-header": "Region" }),
            false => json!({ "type": "string" }),
        };
        let both = json!({ "type": "string", "x-mcp-header": "Shard" });
        let tools = json!([
            { "name": "differs", "inputSchema": { "type": "object", "properties": { "a": region } } },
            { "name": "same", "inputSchema": { "type": "object", "properties": { "a": both } } },
        ]);
        let tools = serde_json::from_value(tools).unwrap();
        Some(Ok(McpResponse::new(ListToolsResult::with_all_items(tools))))
    });
    let server = McpServer::new(stack);
    let guest = Client::of(&server, "guest", ClientLifecycleMode::Initialize).await;
    let ann = Client::of(&server, "ann", ClientLifecycleMode::Initialize).await;
    guest.peer.list_tools(None).await.unwrap();
    assert!(server.get_tool("differs").is_some());
    ann.peer.list_tools(None).await.unwrap();
    assert!(server.get_tool("differs").is_none());
    assert!(server.get_tool("same").is_some());
}

/// Counts what is alive.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn among(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A stack that never answers `method`, and counts the requests that wait in it.
fn stuck_at(method: &'static str, alive: &Arc<AtomicUsize>) -> Boxed {
    let (inner, alive) = (Upstream::in_process(Demo::default()), alive.clone());
    BoxCloneService::new(service_fn(move |request: McpRequest| {
        let (inner, alive) = (inner.clone(), alive.clone());
        async move {
            if request.method() == method {
                let _held = (Alive::among(&alive), request);
                std::future::pending::<()>().await;
                unreachable!()
            }
            inner.oneshot(request).await
        }
    }))
}

async fn none(alive: &AtomicUsize) {
    soon("the end of what was alive", async {
        while alive.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_listen_that_nobody_acknowledges_ends_with_its_session() {
    let alive = Arc::default();
    let server = McpServer::new(stuck_at("subscriptions/listen", &alive));
    let client = Client::of(&server, "ann", ClientLifecycleMode::Initialize).await;
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    client.peer.cancel().await.unwrap();
    none(&alive).await;
}

#[tokio::test(start_paused = true)]
async fn a_listen_that_nobody_acknowledges_is_not_waited_for_without_end() {
    let alive = Arc::default();
    let stack = stuck_at("subscriptions/listen", &alive);
    let client = Client::legacy("ann", stack).await;
    let asked = client
        .peer
        .subscribe(SubscribeRequestParams::new("demo://a"));
    let answer = tokio::time::timeout(Duration::from_secs(90), asked).await;
    let Ok(Err(ServiceError::McpError(error))) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(error.code, code::TIMEOUT);
}

#[tokio::test]
async fn a_sessions_notifications_are_bounded_and_end_with_it() {
    let alive = Arc::default();
    let client = Client::legacy("ann", stuck_at("notifications/roots/list_changed", &alive)).await;
    for _ in 0..1_000 {
        client.peer.notify_roots_list_changed().await.unwrap();
    }
    client.call(tool("add", json!({}))).await;
    let count = alive.load(Ordering::SeqCst);
    assert!(count > 0 && count <= 64, "{count}");
    client.peer.cancel().await.unwrap();
    none(&alive).await;
}

#[tokio::test(start_paused = true)]
async fn listens_that_a_layer_ends_are_opened_again_more_and_more_seldom() {
    let stack = ServiceBuilder::new()
        .timeout(Duration::from_secs(1))
        .service(Upstream::in_process(Demo::default()));
    let mut client = Client::legacy("ann", stack).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let mut told = 0;
    while client.heard.try_recv().is_ok() {
        told += 1;
    }
    assert!(
        (10..60).contains(&told),
        "{told} spurious changes in ten minutes"
    );
}

#[tokio::test]
async fn a_notification_taken_apart_and_put_together_is_one_still() {
    let demo = Demo::default();
    let context = CallContext::new(RequestId::Number(1));
    let told = McpRequest::notification(RootsListChangedNotification::default(), context);
    let (message, context) = told.into_parts();
    let again = McpRequest::from_parts(message, context.clone());
    assert!(again.as_notification().is_some());
    piped_legacy(&demo).oneshot(again).await.unwrap();
    demo.until("the notification", |seen| {
        seen.notices
            .iter()
            .any(|notice| notice == "notifications/roots/list_changed")
    })
    .await;
    // Another message with its context is what it is.
    let other = McpRequest::from_parts(ListToolsRequest::default().into(), context);
    assert!(other.as_notification().is_none());
}

/// Says who calls it.
struct Who;

impl ServerHandler for Who {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        _params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = context.client_info().unwrap().name;
        let samples = context.client_capabilities().unwrap().sampling.is_some();
        let text = format!("{name} samples: {samples}");
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

#[tokio::test]
async fn a_handler_sees_who_calls_also_where_a_layer_wraps_the_caller() {
    let wrapped = ServiceBuilder::new()
        .map_request(|mut request: McpRequest| {
            request.context.caller = request.context.caller.filter_map_notifications(Some);
            request
        })
        .service(Handler::new(Who));
    for stack in [Boxed::new(Handler::new(Who)), Boxed::new(wrapped)] {
        let client = Client::modern("ann", stack).await;
        let said = client.call(tool("who", json!({}))).await;
        assert_eq!(text(&said), "ann samples: true");
    }
}

#[tokio::test]
async fn what_the_top_refuses_it_refuses_in_its_own_name() {
    let stack = ServiceBuilder::new()
        .map_request(|mut request: McpRequest| {
            let caller = &request.context.caller;
            request.context.caller = caller.filter_map_notifications(|mut notification| {
                if let ServerNotification::SubscriptionsAcknowledgedNotification(notice) =
                    &mut notification
                {
                    notice.params.notifications.resource_subscriptions = None;
                }
                Some(notification)
            });
            request
        })
        .service(Upstream::in_process(Demo::default()));
    let client = Client::legacy("ann", stack).await;
    let refused = client
        .peer
        .subscribe(SubscribeRequestParams::new("demo://a"))
        .await;
    let Err(ServiceError::McpError(error)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(error.code, code::FORBIDDEN);
    assert_eq!(error.data.unwrap()["layer"], "server");

    let misfit = except(Handler::new(Demo::default()), |request| {
        let lists = request.method() == "tools/list";
        lists.then(|| Ok(McpResponse::new(EmptyResult {})))
    });
    let error = McpClient::new(misfit).list_all_tools().await.unwrap_err();
    assert!(error.is_transport(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_state_cannot_be_read_is_cancelled() {
    let cancelled = Arc::new(AtomicUsize::new(0));
    let count = cancelled.clone();
    let stack = except(
        Handler::new(Demo::default()),
        move |request| match request.method() {
            "tools/call" => {
                let created = json!({
                    "resultType": "task",
                    "taskId": "t",
                    "status": "working",
                    "createdAt": "2026-07-28T00:00:00Z",
                    "lastUpdatedAt": "2026-07-28T00:00:00Z",
                    "ttlMs": null,
                });
                let created: CreateTaskResult = serde_json::from_value(created).unwrap();
                Some(Ok(McpResponse::new(ServerResult::CreateTaskResult(
                    created,
                ))))
            }
            "tasks/get" => Some(Ok(McpResponse::new(EmptyResult {}))),
            "tasks/cancel" => {
                count.fetch_add(1, Ordering::SeqCst);
                Some(Ok(McpResponse::new(EmptyResult {})))
            }
            _ => None,
        },
    );
    let tasks = ClientCapabilities::builder().enable_tasks().build();
    let client = McpClient::builder(stack).capabilities(tasks).build();
    let error = client.call_tool("task").await.unwrap_err();
    assert!(error.is_transport(), "{error}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cancelled.load(Ordering::SeqCst), 1);
}
