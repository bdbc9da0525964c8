//! Bounds of labels and memory.

use rmcp::model::{CallToolResult, ErrorData};
use rmcp_layers::{Error, McpRequest, McpResponse, metrics::MetricsLayer};
use tower::{Layer, Service, service_fn};

use crate::{call, list_then_call, served};

/// The resident memory of this process, in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_default()
}

/// Marks the process that measures its memory.
const ALONE: &str = "RMCP_LAYERS_TEST_ALONE";

/// Runs one test of this binary in a process of its own, where no other test takes memory.
fn alone(test: &str) {
    let this = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(this);
    let run = command
        .args(["--exact", test])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
async fn a_million_calls_of_invented_tools_keep_series_and_memory_flat() {
    if std::env::var_os(ALONE).is_none() {
        return alone("limits::a_million_calls_of_invented_tools_keep_series_and_memory_flat");
    }
    let layer = MetricsLayer::new();
    let mut stack = layer.layer(service_fn(|_: McpRequest| {
        let error = ErrorData::invalid_params("no such tool", None);
        std::future::ready(Err::<McpResponse, _>(Error::protocol(error)))
    }));
    let handle = layer.handle();
    let mut before = 0;
    for n in 0..1_000_000_u32 {
        let request = McpRequest::call_tool(format!("invented_{}", n % 10_000)).build();
        assert!(stack.call(request).await.is_err());
        if n == 20_000 {
            before = resident();
        }
    }
    assert_eq!(handle.stats().series, 1);
    assert_eq!(handle.stats().calls, 1_000_000);
    let grown = resident().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more");
    let summary = handle.summary();
    assert_eq!(summary.all.by_tool.len(), 1);
    assert_eq!(summary.failures.len(), 100);
}

#[tokio::test]
async fn label_sets_are_bounded_over_all_combinations() {
    let layer = MetricsLayer::builder()
        .known_tools((0..100).map(|n| format!("tool_{n}")))
        .max_series(20)
        .build()
        .unwrap();
    let mut stack = layer.layer(service_fn(|request: McpRequest| async move {
        let fails = request
            .as_tool_call()
            .is_some_and(|call| call.arguments.is_some());
        match fails {
            true => Err(Error::cancelled("enough")),
            false => Ok(McpResponse::new(CallToolResult::success(vec![]))),
        }
    }));
    for n in 0..100 {
        let name = format!("tool_{n}");
        stack
            .call(McpRequest::call_tool(&name).build())
            .await
            .unwrap();
        let failing = McpRequest::call_tool(&name).argument("a", 1).build();
        assert!(stack.call(failing).await.is_err());
    }
    let stats = layer.handle().stats();
    assert_eq!((stats.series, stats.calls), (20, 200));
    assert_eq!(stats.folded, 200 - 18);
    let summary = layer.handle().summary();
    assert_eq!(
        (summary.all.total.calls, summary.all.total.errors),
        (200, 100)
    );
}

#[tokio::test]
async fn methods_codes_and_names_that_a_peer_invents_are_folded() {
    let (stack, handle) = served(&MetricsLayer::new());
    list_then_call(&stack, "add").await;
    for n in 0..50 {
        call(&stack, &format!("invented_{n}")).await;
        let custom = rmcp::model::CustomRequest::new(format!("invented/{n}"), None);
        let request = McpRequest::new(rmcp::model::ClientRequest::CustomRequest(custom));
        let _ = tower::ServiceExt::oneshot(stack.clone(), request).await;
    }
    let invented = MetricsLayer::new();
    let mut codes = invented.layer(service_fn(|request: McpRequest| async move {
        let code = request
            .target()
            .and_then(|name| name.parse().ok())
            .unwrap_or(0);
        let error = ErrorData::new(rmcp::model::ErrorCode(code), "invented", None);
        Err::<McpResponse, _>(Error::protocol(error))
    }));
    for code in 0..500 {
        let _ = codes
            .call(McpRequest::call_tool(code.to_string()).build())
            .await;
    }
    assert!(handle.stats().series < 10, "{:?}", handle.stats());
    assert_eq!(invented.handle().stats().series, 1);
}

#[test]
fn options_beyond_their_limits_are_refused_by_name() {
    use std::time::Duration;
    let builder = MetricsLayer::builder;
    for (built, option) in [
        (builder().max_series(2).build(), "max_series"),
        (builder().max_series(1_000_000).build(), "max_series"),
        (builder().windows([Duration::ZERO]).build(), "windows"),
        (
            builder().windows([Duration::from_secs(1); 5]).build(),
            "windows",
        ),
        (builder().keep_failures(1_000_000).build(), "keep_failures"),
        (
            builder()
                .keep_arguments(rmcp_layers::ArgumentRules::new().max_bytes(0))
                .build(),
            "keep_arguments",
        ),
    ] {
        let error = built.unwrap_err().to_string();
        assert!(error.contains(option), "{error}");
    }
}
