//! The spans, against OpenTelemetry's semantic conventions for MCP.

use std::{collections::BTreeMap, time::Duration};

use rmcp::model::CallToolResult;
use rmcp_layers::{
    ArgumentRules, Error, Lifecycle, McpRequest, McpResponse, McpServer, Principal,
    ServiceBuilderExt, Upstream,
    metrics::{MetricsLayer, PrincipalRecord, Side},
};
use serde_json::json;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tracing::Instrument;

use crate::{
    call,
    common::{Client, Http, demo::Demo, piped, soon, text, tool},
    list_then_call, served,
    spans_seen::Spans,
};

fn contains(span: &BTreeMap<String, String>, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(span.get(*name).map(String::as_str), Some(*value), "{name}");
    }
}

#[tokio::test]
async fn a_call_has_one_span_by_the_convention_that_ends_with_the_call() {
    let (spans, _guard) = Spans::keep();
    let (stack, _) = served(&MetricsLayer::new());
    list_then_call(&stack, "add").await;
    let span = spans.of_call();
    contains(
        &span.fields,
        &[
            ("otel.name", "tools/call add"),
            ("otel.kind", "server"),
            ("mcp.method.name", "tools/call"),
            ("mcp.protocol.version", "2026-07-28"),
            ("gen_ai.operation.name", "execute_tool"),
            ("gen_ai.tool.name", "add"),
            ("rmcp_layers.outcome", "complete"),
            ("rmcp_layers.upstream", "demo"),
        ],
    );
    assert!(span.get("jsonrpc.request.id").is_some());
    assert!(
        span.get("rmcp_layers.arguments.hash")
            .is_some_and(|hash| hash.starts_with("sha256:"))
    );
    for absent in [
        "error.type",
        "otel.status_code",
        "rpc.response.status_code",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "gen_ai.prompt.name",
        "mcp.session.id",
    ] {
        assert_eq!(span.get(absent), None, "{absent}");
    }
    assert!(span.closed);
}

#[tokio::test]
async fn no_span_is_a_child_of_the_span_in_which_rmcp_serves_the_session() {
    let (spans, _guard) = Spans::keep();
    let (stack, _) = served(&MetricsLayer::new());
    let (client, _) = served(&MetricsLayer::builder().side(Side::Client).build().unwrap());
    list_then_call(&stack, "add").await;
    list_then_call(&client, "add").await;
    let all = spans.all();
    assert!(all.len() >= 4);
    for span in all {
        assert_eq!(span.parent, None, "{span:?}");
    }
}

#[tokio::test]
async fn failures_have_their_type_and_code() {
    for (name, error, code) in [
        ("fail", "tool_error", None),
        ("reject", "-32050", Some("-32050")),
        ("unheard of", "-32602", Some("-32602")),
    ] {
        let (spans, _guard) = Spans::keep();
        let (stack, _) = served(&MetricsLayer::new());
        call(&stack, name).await;
        let span = spans.of_call();
        assert_eq!(span.get("error.type"), Some(error));
        assert_eq!(span.get("rpc.response.status_code"), code);
        assert_eq!(span.get("otel.status_code"), Some("ERROR"));
        assert_eq!(span.get("gen_ai.tool.name"), Some(name));
    }
}

#[tokio::test]
async fn failures_without_an_answer_of_the_server_have_types_of_their_own() {
    let refused =
        rmcp_layers::Refusal::new("office", "closed").with_code(rmcp_layers::code::FORBIDDEN);
    for (error, expected, server_code) in [
        (Error::timeout(Duration::from_secs(1)), "timeout", "-31504"),
        (Error::cancelled("enough"), "cancelled", "-31499"),
        (refused.into(), "refused", "-31403"),
    ] {
        for side in [Side::Server, Side::Client] {
            let (spans, _guard) = Spans::keep();
            let error = error.clone();
            let layer = MetricsLayer::builder().side(side).build().unwrap();
            let stack = layer.layer(service_fn(move |_: McpRequest| {
                std::future::ready(Err::<McpResponse, _>(error.clone()))
            }));
            let upstream = piped(Upstream::builder(), &McpServer::new(stack));
            // The handshake fails too.
            call(&upstream, "add").await;
            let all = spans.all();
            assert!(!all.is_empty());
            for span in all {
                assert_eq!(span.get("error.type"), Some(expected));
                let code = (side == Side::Server).then_some(server_code);
                assert_eq!(span.get("rpc.response.status_code"), code);
            }
        }
    }
}

#[tokio::test]
async fn a_cancelled_call_and_a_panic_are_recorded_as_such() {
    let (spans, _guard) = Spans::keep();
    let layer = MetricsLayer::new();
    let demo = Demo::default();
    let stack = layer.layer(piped(Upstream::builder(), &demo));
    let waiting = stack.oneshot(McpRequest::call_tool("wait").build());
    let waiting = tokio::spawn(waiting);
    demo.until("a call that waits", |seen| seen.waiting == 1)
        .await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    let panics = layer.layer(service_fn(|request: McpRequest| async move {
        assert_ne!(request.method(), "tools/call", "a bug");
        Err::<McpResponse, _>(Error::cancelled("no call"))
    }));
    let panicking = tokio::spawn(panics.oneshot(McpRequest::call_tool("wait").build()));
    assert!(panicking.await.unwrap_err().is_panic());
    let calls = spans.of("tools/call");
    let types: Vec<_> = calls.iter().map(|span| span.get("error.type")).collect();
    assert_eq!(types, [Some("cancelled"), Some("panicked")]);
    assert!(calls.iter().all(|span| span.closed));
    let handle = layer.handle();
    let outcomes: Vec<_> = handle
        .recent_failures(10)
        .iter()
        .map(|call| call.outcome)
        .collect();
    assert_eq!(outcomes, ["panicked", "cancelled"]);
    assert_eq!(handle.stats().in_flight, 0);
}

#[tokio::test]
async fn a_clients_span_has_the_address_of_the_upstream_that_served_the_call() {
    let (spans, _guard) = Spans::keep();
    let http = Http::serve(Demo::default()).await;
    let layer = MetricsLayer::builder().side(Side::Client).build().unwrap();
    let upstream = Upstream::builder()
        .name("far")
        .http(http.url.as_str())
        .unwrap();
    let mut stack = layer.layer(upstream);
    let request = McpRequest::call_tool("add").build();
    soon("a call", stack.ready().await.unwrap().call(request))
        .await
        .unwrap();
    let span = spans.of_call();
    contains(
        &span.fields,
        &[
            ("otel.kind", "client"),
            ("server.address", "127.0.0.1"),
            ("server.port", &http.port().to_string()),
            ("network.transport", "tcp"),
            ("network.protocol.name", "http"),
            ("rmcp_layers.upstream", "far"),
        ],
    );
}

#[tokio::test]
async fn a_servers_span_over_http_has_the_session_and_the_protocol() {
    let (spans, _guard) = Spans::keep();
    let layer = MetricsLayer::new();
    let stack = layer.layer(piped(Upstream::builder(), &Demo::default()));
    let http = Http::serve(McpServer::new(stack)).await;
    let legacy = Upstream::builder().lifecycle(Lifecycle::Initialize);
    let client = legacy.http(http.url.as_str()).unwrap();
    call(&client, "add").await;
    let span = spans.of_call();
    contains(
        &span.fields,
        &[
            ("network.transport", "tcp"),
            ("network.protocol.name", "http"),
            ("network.protocol.version", "1.1"),
            ("mcp.protocol.version", "2025-11-25"),
        ],
    );
    assert!(span.get("mcp.session.id").is_some());
}

#[tokio::test]
async fn a_clients_span_has_the_session_with_an_upstream_over_http() {
    let (spans, _guard) = Spans::keep();
    let http = Http::serve(Demo::default()).await;
    let layer = MetricsLayer::builder().side(Side::Client).build().unwrap();
    let call_over = async |lifecycle| {
        let upstream = Upstream::builder().lifecycle(lifecycle);
        let stack = layer.layer(upstream.http(http.url.as_str()).unwrap());
        let request = McpRequest::call_tool("add").argument("a", 1).build();
        soon("a call", stack.oneshot(request)).await.unwrap();
    };
    call_over(Lifecycle::Initialize).await;
    call_over(Lifecycle::Initialize).await;
    call_over(Lifecycle::Discover).await;
    let calls = spans.of("tools/call");
    let sessions: Vec<_> = calls
        .iter()
        .map(|span| span.get("mcp.session.id"))
        .collect();
    let [Some(first), Some(second), None] = sessions[..] else {
        panic!("{sessions:?}");
    };
    assert_ne!(first, second);
}

#[tokio::test]
async fn a_clients_span_has_the_new_session_after_the_server_has_forgotten_the_old_one() {
    let (spans, _guard) = Spans::keep();
    let http = Http::serve(Demo::default()).await;
    let layer = MetricsLayer::builder().side(Side::Client).build().unwrap();
    let upstream = Upstream::builder().lifecycle(Lifecycle::Initialize);
    let stack = layer.layer(upstream.http(http.url.as_str()).unwrap());
    for forgets in [true, false, false] {
        let request = McpRequest::call_tool("add").argument("a", 1).build();
        let answered = stack.clone().oneshot(request);
        soon("a call", answered).await.unwrap();
        if forgets {
            http.forget().await;
        }
    }
    let calls = spans.of("tools/call");
    let session = |at: usize| calls[at].get("mcp.session.id").unwrap();
    assert_ne!(session(0), session(1));
    // The session in which the second call was answered lasts.
    assert_eq!(session(1), session(2));
}

#[tokio::test]
async fn prompts_resources_and_notifications_have_their_own_attributes() {
    let (spans, _guard) = Spans::keep();
    let layer = MetricsLayer::new();
    let demo = Demo::default();
    let stack = layer.layer(piped(Upstream::builder(), &demo));
    let client = Client::legacy("ann", stack.clone()).await;
    client.peer.notify_roots_list_changed().await.unwrap();
    demo.until("the notification", |seen| !seen.notices.is_empty())
        .await;
    for request in [
        McpRequest::read_resource("file:///a"),
        McpRequest::get_prompt("greet", serde_json::Map::new()),
    ] {
        let _ = stack.clone().oneshot(request).await;
    }
    let read = &spans.of("resources/read")[0];
    assert_eq!(read.get("mcp.resource.uri"), Some("file:///a"));
    assert_eq!(read.get("otel.name"), Some("resources/read"));
    let prompt = &spans.of("prompts/get")[0];
    assert_eq!(prompt.get("gen_ai.prompt.name"), Some("greet"));
    assert_eq!(prompt.get("gen_ai.tool.name"), None);
    assert_eq!(prompt.get("gen_ai.operation.name"), None);
    let notified = &spans.of("notifications/roots/list_changed")[0];
    assert_eq!(notified.get("jsonrpc.request.id"), None);
    assert_eq!(notified.get("otel.name"), notified.get("mcp.method.name"));
}

#[tokio::test]
async fn arguments_and_results_are_in_spans_only_if_asked_for_and_redacted() {
    let (spans, _guard) = Spans::keep();
    let layer = MetricsLayer::builder()
        .keep_arguments(ArgumentRules::new())
        .keep_results(ArgumentRules::new())
        .build()
        .unwrap();
    let client = Client::modern(
        "ann",
        layer.layer(piped(Upstream::builder(), &Demo::default())),
    )
    .await;
    let arguments = json!({ "a": 40, "b": 2, "password": "sesame" });
    let answer = client.call(tool("add", arguments)).await;
    assert_eq!(text(&answer), "42");
    let span = spans.of_call();
    let kept = span.get("gen_ai.tool.call.arguments").unwrap();
    assert!(kept.contains("40") && kept.contains("[redacted]") && !kept.contains("sesame"));
    assert!(span.get("gen_ai.tool.call.result").unwrap().contains("42"));
}

#[tokio::test]
async fn the_principal_is_hashed_unless_the_operator_says_otherwise() {
    for (record, hashed, plain) in [
        (PrincipalRecord::Omitted, false, false),
        (PrincipalRecord::Hashed, true, false),
        (PrincipalRecord::Plain, false, true),
    ] {
        let (spans, _guard) = Spans::keep();
        let layer = MetricsLayer::builder().principal(record).build().unwrap();
        let stack = layer.layer(piped(Upstream::builder(), &Demo::default()));
        let call = McpRequest::call_tool("add").principal(Principal::new("ann"));
        soon("a call", stack.oneshot(call.build())).await.unwrap();
        let span = spans.of_call();
        let hash = span.get("rmcp_layers.principal.hash");
        assert_eq!(hash.is_some_and(|hash| hash.len() == 16), hashed);
        assert_eq!(span.get("enduser.id"), plain.then_some("ann"));
        assert_eq!(format!("{:?}", spans.all()).contains("\"ann\""), plain);
    }
}

#[tokio::test]
async fn attempts_and_the_cache_status_are_those_of_the_report() {
    let (spans, _guard) = Spans::keep();
    let cache = rmcp_layers::cache::CacheLayer::builder()
        .cache_tool("add")
        .build()
        .unwrap();
    let stack = ServiceBuilder::new()
        .metrics(MetricsLayer::new())
        .cache(cache)
        .service(piped(Upstream::builder(), &Demo::default()));
    for _ in 0..2 {
        let call = McpRequest::call_tool("add").build();
        soon("a call", stack.clone().oneshot(call)).await.unwrap();
    }
    let statuses: Vec<_> = spans
        .of("tools/call")
        .iter()
        .map(|span| span.get("rmcp_layers.cache.status").map(str::to_owned))
        .collect();
    assert_eq!(statuses, [Some("miss".to_owned()), Some("hit".to_owned())]);
    let twice = MetricsLayer::new().layer(service_fn(|_: McpRequest| async {
        let mut response = McpResponse::new(CallToolResult::success(vec![]));
        response.report.attempts = 2;
        Ok::<_, Error>(response)
    }));
    let call = McpRequest::call_tool("twice").build();
    twice.oneshot(call).await.unwrap();
    let last = spans.of("tools/call").pop().unwrap();
    assert_eq!(last.get("rmcp_layers.attempts"), Some("2"));
}

#[tokio::test]
async fn a_span_of_an_agent_that_covers_the_call_takes_the_attributes_if_told_to() {
    let (spans, _guard) = Spans::keep();
    let layer = MetricsLayer::builder()
        .join_outer_span(true)
        .build()
        .unwrap();
    let stack = layer.layer(piped(Upstream::builder(), &Demo::default()));
    let outer = tracing::info_span!(
        target: "rmcp_layers::metrics",
        "execute_tool add",
        "gen_ai.operation.name" = "execute_tool",
        "mcp.method.name" = tracing::field::Empty,
        "rmcp_layers.outcome" = tracing::field::Empty,
    );
    let call = McpRequest::call_tool("add").build();
    let answered = stack.clone().oneshot(call).instrument(outer);
    soon("a call", answered).await.unwrap();
    let joined = spans.of_call();
    assert_eq!(joined.get("otel.name"), None, "not a second span");
    assert_eq!(joined.get("rmcp_layers.outcome"), Some("complete"));
    // Elsewhere the layer makes a span of its own.
    let call = McpRequest::call_tool("add").build();
    soon("a call", stack.oneshot(call)).await.unwrap();
    assert_eq!(spans.of("tools/call").len(), 2);
}

#[tokio::test]
async fn spans_that_cover_no_call_of_a_tool_or_another_hop_are_not_joined() {
    let (spans, _guard) = Spans::keep();
    let client = MetricsLayer::builder()
        .side(Side::Client)
        .join_outer_span(true)
        .build()
        .unwrap();
    let stack = ServiceBuilder::new()
        .metrics(MetricsLayer::new())
        .metrics(client.clone())
        .service(piped(Upstream::builder(), &Demo::default()));
    let call = McpRequest::call_tool("add").build();
    soon("a call", stack.oneshot(call)).await.unwrap();
    let kinds: Vec<_> = spans
        .of("tools/call")
        .iter()
        .map(|span| span.get("otel.kind").map(str::to_owned))
        .collect();
    assert_eq!(
        kinds,
        [Some("server".to_owned()), Some("client".to_owned())]
    );
    let chat = tracing::info_span!(
        target: "rmcp_layers::metrics",
        "chat",
        "gen_ai.operation.name" = "chat",
        "mcp.method.name" = tracing::field::Empty,
    );
    let stack = client.layer(piped(Upstream::builder(), &Demo::default()));
    let listed = stack.oneshot(McpRequest::list_tools()).instrument(chat);
    soon("a list", listed).await.unwrap();
    let all = spans.all();
    let chat = all
        .iter()
        .find(|span| span.get("gen_ai.operation.name") == Some("chat"))
        .unwrap();
    assert_eq!(chat.get("mcp.method.name"), None);
}

#[tokio::test]
async fn a_clients_span_has_the_revision_that_its_upstream_speaks() {
    let (spans, _guard) = Spans::keep();
    let layer = MetricsLayer::builder().side(Side::Client).build().unwrap();
    let stack = layer.layer(crate::common::piped_legacy(&Demo::default()));
    let client = Client::modern("ann", stack).await;
    client.call(tool("add", json!({}))).await;
    let span = spans.of_call();
    assert_eq!(span.get("mcp.protocol.version"), Some("2025-11-25"));
}

#[tokio::test]
async fn secrets_in_text_that_is_json_are_redacted() {
    let (spans, _guard) = Spans::keep();
    let layer = MetricsLayer::builder()
        .keep_arguments(ArgumentRules::new())
        .keep_results(ArgumentRules::new())
        .build()
        .unwrap();
    let stack = layer.layer(piped(Upstream::builder(), &Demo::default()));
    // The tool returns its `_meta` as JSON in a text.
    let call = McpRequest::call_tool("echo")
        .meta("password", "sesame")
        .argument(
            "body",
            json!({ "user": "ann", "password": "sesame" }).to_string(),
        )
        .build();
    soon("a call", stack.oneshot(call)).await.unwrap();
    let span = spans.of_call();
    for field in ["gen_ai.tool.call.arguments", "gen_ai.tool.call.result"] {
        let kept = span.get(field).unwrap();
        assert!(
            kept.contains("[redacted]") && !kept.contains("sesame"),
            "{kept}"
        );
    }
}

#[tokio::test]
async fn spans_of_inner_layers_are_children_of_the_calls_span() {
    let (spans, _guard) = Spans::keep();
    let inner = MetricsLayer::builder().side(Side::Client).build().unwrap();
    let stack = ServiceBuilder::new()
        .metrics(MetricsLayer::new())
        .metrics(inner)
        .service(piped(Upstream::builder(), &Demo::default()));
    let outer = piped(Upstream::builder(), &McpServer::new(stack));
    call(&outer, "add").await;
    let parents: Vec<_> = spans
        .of("tools/call")
        .into_iter()
        .map(|span| (span.get("otel.kind").unwrap().to_owned(), span.parent))
        .collect();
    let server = ("server".to_owned(), None);
    let client = ("client".to_owned(), Some("mcp.request".to_owned()));
    assert_eq!(parents, [server, client]);
}
