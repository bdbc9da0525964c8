//! The summary, the failures that are kept, and the stream of finished requests.

use std::time::Duration;

use futures::StreamExt;
use rmcp::model::CallToolResult;
use rmcp_layers::{
    Error, McpRequest, McpResponse, McpServer, Upstream,
    metrics::{MetricsLayer, Row},
};
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    call,
    common::{piped, soon},
    list_then_call, served,
};

fn row<'a>(rows: &'a [Row], name: &str) -> &'a Row {
    rows.iter()
        .find(|row| &*row.name == name)
        .unwrap_or_else(|| panic!("{name} is not among {rows:?}"))
}

/// A stack whose calls take as many milliseconds as they say.
fn timed(layer: &MetricsLayer) -> impl crate::common::Stack {
    layer.layer(service_fn(|request: McpRequest| async move {
        let call = request.as_tool_call().expect("a call");
        let millis = call.arguments.as_ref().and_then(|it| it["ms"].as_u64());
        tokio::time::sleep(Duration::from_millis(millis.unwrap_or_default())).await;
        let result = match &*call.name {
            "fail" => CallToolResult::error(vec![]),
            _ => CallToolResult::success(vec![]),
        };
        Ok::<_, Error>(McpResponse::new(result))
    }))
}

async fn take(stack: &impl crate::common::Stack, tool: &str, millis: u64) {
    let request = McpRequest::call_tool(tool).argument("ms", millis).build();
    let answer = stack.clone().oneshot(request).await;
    assert!(
        answer
            .map_err(Into::into)
            .is_ok_and(|it: McpResponse| it.as_tool_result().is_some())
    );
}

#[tokio::test]
async fn the_summary_has_rows_by_tool_by_upstream_and_by_outcome() {
    let (stack, handle) = served(&MetricsLayer::new());
    list_then_call(&stack, "add").await;
    call(&stack, "add").await;
    call(&stack, "fail").await;
    call(&stack, "reject").await;
    let summary = handle.summary();
    assert_eq!(row(&summary.all.by_tool, "add").calls, 2);
    assert_eq!(row(&summary.all.by_tool, "add").errors, 0);
    // No list has shown them.
    let other = row(&summary.all.by_tool, "_OTHER");
    assert_eq!((other.calls, other.errors), (2, 2));
    let demo = row(&summary.all.by_upstream, "demo");
    assert_eq!(demo.calls, summary.all.total.calls);
    assert_eq!(row(&summary.all.by_outcome, "tool_error").calls, 1);
    assert_eq!(row(&summary.all.by_outcome, "protocol_error").calls, 1);
    assert_eq!(summary.all.total.errors, 2);
    assert_eq!(handle.stats().failed, 2);
    let table = summary.to_string();
    for part in [
        "all time",
        "last 300s",
        "total",
        "add",
        "demo",
        "tool_error",
        "p99",
    ] {
        assert!(table.contains(part), "{part} in\n{table}");
    }
}

#[tokio::test(start_paused = true)]
async fn latencies_are_exact_to_a_hundredth_and_windows_forget() {
    let windows = [Duration::from_secs(60)];
    let layer = MetricsLayer::builder()
        .known_tools(["sleep"])
        .windows(windows)
        .build()
        .unwrap();
    let (stack, handle) = (timed(&layer), layer.handle());
    for millis in 1..=100 {
        take(&stack, "sleep", millis).await;
    }
    let summary = handle.summary();
    let window = &summary.windows[0];
    for row in [
        &summary.all.total,
        row(&summary.all.by_tool, "sleep"),
        &window.total,
        row(&window.by_tool, "sleep"),
        row(&window.by_outcome, "complete"),
    ] {
        assert_eq!(row.calls, 100);
        for (found, exact) in [
            (row.mean, 50.5),
            (row.p50, 50.0),
            (row.p95, 95.0),
            (row.p99, 99.0),
        ] {
            let found = found.as_secs_f64() * 1_000.0;
            assert!((found / exact - 1.0).abs() < 0.03, "{found} is not {exact}");
        }
    }
    tokio::time::advance(Duration::from_secs(120)).await;
    let summary = handle.summary();
    assert_eq!(summary.all.total.calls, 100);
    assert_eq!(summary.windows[0].total.calls, 0);
    assert!(summary.windows[0].by_tool.is_empty());
}

#[tokio::test]
async fn the_latest_failures_are_kept_with_their_request_ids() {
    let layer = MetricsLayer::builder().keep_failures(2).build().unwrap();
    let (stack, handle) = served(&layer);
    for tool in ["fail", "reject", "unheard of"] {
        call(&stack, tool).await;
    }
    let failures = handle.summary().failures;
    let names: Vec<_> = failures.iter().map(|call| call.name.as_deref()).collect();
    assert_eq!(names, [Some("unheard of"), Some("reject")]);
    let codes: Vec<_> = failures.iter().map(|call| call.code).collect();
    assert_eq!(codes, [Some(-32602), Some(-32050)]);
    assert_ne!(failures[0].request_id, failures[1].request_id);
    assert_eq!(handle.recent_failures(1).len(), 1);
}

#[tokio::test]
async fn a_dashboard_sees_calls_as_they_end_and_learns_how_many_it_lost() {
    let (stack, handle) = served(&MetricsLayer::new());
    let mut calls = handle.calls();
    call(&stack, "add").await;
    loop {
        let seen = soon("a finished call", calls.next()).await.unwrap();
        let line = serde_json::to_value(&*seen).unwrap();
        assert_eq!(line["side"], "server");
        assert!(line["request_id"].is_number() && line["duration_s"].is_f64());
        if seen.method == "tools/call" {
            assert_eq!(line["name"], "add");
            assert_eq!(line["upstream"], "demo");
            break;
        }
    }
    let layer = MetricsLayer::new();
    let stack = timed(&layer);
    let mut slow = layer.handle().calls();
    for _ in 0..1_500 {
        take(&stack, "sleep", 0).await;
    }
    soon("the oldest that is left", slow.next()).await.unwrap();
    assert_eq!(slow.lost(), 1_500 - 1_024);
    let mut read = 1;
    drop((stack, layer));
    while soon("the rest", slow.next()).await.is_some() {
        read += 1;
    }
    assert_eq!(read, 1_024);
}

#[tokio::test]
async fn listens_are_recorded_but_are_no_latency_and_not_in_flight() {
    let layer = MetricsLayer::new();
    let demo = crate::common::demo::Demo::default();
    let server = McpServer::new(layer.layer(piped(Upstream::builder(), &demo)));
    let stack = piped(Upstream::builder(), &server);
    let client = rmcp_layers::McpClient::new(stack);
    let mut filter = rmcp::model::SubscriptionFilter::default();
    filter.tools_list_changed = Some(true);
    let listen = soon("a listen", client.listen(filter)).await.unwrap();
    let handle = layer.handle();
    assert_eq!(handle.stats().in_flight, 0);
    let before = handle.stats().calls;
    drop(listen);
    demo.until("the end of the listen", |seen| seen.listening.is_empty())
        .await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    // Its cancellation is a notification.
    assert_eq!(handle.stats().calls, before + 2);
    assert_eq!(handle.summary().all.total.calls, before + 1);
}

#[tokio::test]
async fn the_table_has_no_control_characters_of_a_server() {
    let layer = MetricsLayer::builder()
        .known_tools(["a\ntotal 9 \u{1b}[31m"])
        .build()
        .unwrap();
    let stack = layer.layer(crate::common::piped(
        rmcp_layers::Upstream::builder(),
        &crate::common::demo::Demo::default(),
    ));
    let request = McpRequest::call_tool("a\ntotal 9 \u{1b}[31m").build();
    assert!(stack.oneshot(request).await.is_err());
    let table = layer.handle().summary().to_string();
    assert!(table.contains("a\u{fffd}total 9 \u{fffd}[31m"), "{table}");
}
