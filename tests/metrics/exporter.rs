//! What a Prometheus exporter renders, read by a parser that nobody here wrote.

use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use prometheus_parse::{Sample, Scrape, Value};
use rmcp_layers::{
    Lifecycle, McpRequest, McpServer, ServiceBuilderExt, Upstream,
    budget::{BudgetLayer, ContextBudget},
    cache::CacheLayer,
    metrics::{BUCKETS, MetricsLayer, Side, configure_prometheus},
    retry::breaker::{CircuitBreakerLayer, CircuitBreakerPolicy},
};
use tower::{ServiceBuilder, ServiceExt};

use crate::{
    call,
    common::{Client, Http, demo::Demo, piped, piped_legacy, soon},
    list_then_call, served,
    spans_seen::Spans,
};

/// A recorder for this thread.
fn recorder() -> (PrometheusRecorder, PrometheusHandle) {
    let builder = configure_prometheus(PrometheusBuilder::new()).unwrap();
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    (recorder, handle)
}

fn scrape(handle: &PrometheusHandle) -> Vec<Sample> {
    let lines = handle.render();
    let lines = lines.lines().map(|line| Ok(line.to_owned()));
    Scrape::parse(lines).unwrap().samples
}

fn of<'a>(samples: &'a [Sample], name: &str, label: (&str, &str)) -> Vec<&'a Sample> {
    samples
        .iter()
        .filter(|it| it.metric == name && it.labels.get(label.0) == Some(label.1))
        .collect()
}

#[tokio::test]
async fn durations_are_histograms_with_the_bounds_of_the_convention() {
    let (recorder, handle) = recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (stack, _) = served(&MetricsLayer::new());
    list_then_call(&stack, "add").await;
    call(&stack, "reject").await;
    let text = handle.render();
    assert!(text.contains("_bucket{"), "{text}");
    assert!(text.contains("le=\"300\""), "{text}");
    let samples = scrape(&handle);
    let name = "mcp_server_operation_duration_seconds";
    let added = of(&samples, name, ("gen_ai_tool_name", "add"));
    let [added] = added[..] else {
        panic!("{added:?}")
    };
    assert_eq!(added.labels.get("mcp_method_name"), Some("tools/call"));
    assert_eq!(
        added.labels.get("gen_ai_operation_name"),
        Some("execute_tool")
    );
    assert_eq!(added.labels.get("rmcp_layers_upstream"), Some("demo"));
    assert_eq!(added.labels.get("error_type"), None);
    let Value::Histogram(buckets) = &added.value else {
        panic!("{added:?}")
    };
    let bounds: Vec<_> = buckets.iter().map(|bucket| bucket.less_than).collect();
    assert_eq!(bounds[..14], BUCKETS);
    assert_eq!(bounds[14], f64::INFINITY);
    let rejected = of(&samples, name, ("error_type", "-32050"));
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].labels.get("gen_ai_tool_name"), Some("_OTHER"));
    assert_eq!(
        rejected[0].labels.get("rpc_response_status_code"),
        Some("-32050")
    );
    for sample in &samples {
        for (label, _) in sample.labels.iter() {
            assert!(!label.contains("session_id") && !label.contains("request_id"));
            assert!(!label.contains("uri"));
        }
    }
}

#[tokio::test]
async fn a_clients_durations_have_their_own_name_and_all_are_described() {
    let (recorder, handle) = recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (stack, _) = served(&MetricsLayer::builder().side(Side::Client).build().unwrap());
    list_then_call(&stack, "add").await;
    let samples = scrape(&handle);
    let client = ("mcp_method_name", "tools/call");
    assert_eq!(
        of(&samples, "mcp_client_operation_duration_seconds", client).len(),
        1
    );
    assert!(of(&samples, "mcp_server_operation_duration_seconds", client).is_empty());
    assert!(
        handle
            .render()
            .contains("# HELP mcp_client_operation_duration_seconds")
    );
}

#[tokio::test]
async fn events_of_other_layers_are_counters_of_the_same_recorder() {
    let (recorder, handle) = recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let policy = CircuitBreakerPolicy::new()
        .consecutive_failures(1)
        .open_for(Duration::from_secs(60));
    let failing = crate::common::script::scripted(Upstream::builder(), |request| {
        let error = serde_json::json!({ "code": -32603, "message": "broken" });
        let answer = serde_json::json!({ "jsonrpc": "2.0", "id": request["id"], "error": error });
        Some(vec![answer.to_string()])
    });
    let stack = ServiceBuilder::new()
        .metrics(MetricsLayer::new())
        .cache(CacheLayer::builder().cache_tool("add").build().unwrap())
        .circuit_breaker(
            CircuitBreakerLayer::builder()
                .policy(policy)
                .build()
                .unwrap(),
        )
        .service(failing);
    for _ in 0..2 {
        let request = McpRequest::call_tool("add").build();
        assert!(
            soon("a call", stack.clone().oneshot(request))
                .await
                .is_err()
        );
    }
    let samples = scrape(&handle);
    let refusals = of(&samples, "rmcp_layers_refusals_total", ("side", "server"));
    assert_eq!(refusals.len(), 1);
    for (name, label) in [
        ("rmcp_layers_breaker_changes_total", ("state", "open")),
        ("rmcp_layers_refusals_total", ("layer", "breaker")),
        ("rmcp_layers_cache_misses_total", ("method", "tools/call")),
    ] {
        let found = of(&samples, name, label);
        assert_eq!(found.len(), 1, "{name} is not in\n{}", handle.render());
        assert!(matches!(found[0].value, Value::Counter(count) if count >= 1.0));
    }
}

#[tokio::test]
async fn a_refusal_counts_once_for_each_side() {
    let (recorder, handle) = recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let client = MetricsLayer::builder().side(Side::Client).build().unwrap();
    let stack = ServiceBuilder::new()
        .metrics(MetricsLayer::new())
        .metrics(client)
        .service(tower::service_fn(|request: McpRequest| async move {
            match request.method() {
                "server/discover" => {
                    let demo = piped(Upstream::builder(), &Demo::default());
                    demo.oneshot(request).await
                }
                _ => Err(rmcp_layers::Refusal::new("office", "closed").into()),
            }
        }));
    let served = piped(Upstream::builder(), &McpServer::new(stack));
    call(&served, "add").await;
    let samples = scrape(&handle);
    for side in ["server", "client"] {
        let found = of(&samples, "rmcp_layers_refusals_total", ("side", side));
        assert!(
            matches!(found[..], [sample] if matches!(sample.value, Value::Counter(1.0))),
            "{}",
            handle.render()
        );
    }
}

#[tokio::test]
async fn requests_in_flight_are_a_gauge_that_goes_back_to_zero() {
    let (recorder, handle) = recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let layer = MetricsLayer::new();
    let demo = Demo::default();
    let server = McpServer::new(tower::Layer::layer(
        &layer,
        piped(Upstream::builder(), &demo),
    ));
    let stack = piped(Upstream::builder(), &server);
    let gauge = || match of(
        &scrape(&handle),
        "rmcp_layers_requests_in_flight",
        ("side", "server"),
    )[..]
    {
        [sample] => match sample.value {
            Value::Gauge(value) => value,
            _ => f64::NAN,
        },
        _ => f64::NAN,
    };
    let waiting = tokio::spawn(stack.oneshot(McpRequest::call_tool("wait").build()));
    demo.until("a call that waits", |seen| seen.waiting == 1)
        .await;
    assert_eq!(gauge(), 1.0);
    waiting.abort();
    demo.until("its end", |seen| seen.waiting == 0).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(gauge(), 0.0);
    assert_eq!(layer.handle().stats().in_flight, 0);
}

#[tokio::test]
async fn the_duration_of_a_session_is_recorded_when_it_ends_and_only_for_older_revisions() {
    let (recorder, handle) = recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let layer = MetricsLayer::new();
    let stack = tower::Layer::layer(&layer, piped(Upstream::builder(), &Demo::default()));
    let name = "mcp_server_session_duration_seconds";
    let version = ("mcp_protocol_version", "2025-11-25");
    let modern = Client::modern("ann", stack.clone()).await;
    let legacy = Client::legacy("bob", stack).await;
    for client in [&modern, &legacy] {
        client
            .call(crate::common::tool("add", serde_json::json!({})))
            .await;
    }
    assert!(of(&scrape(&handle), name, version).is_empty());
    for client in [modern, legacy] {
        client.peer.cancel().await.unwrap();
    }
    let recorded = async {
        while of(&scrape(&handle), name, version).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon("the session's duration", recorded).await;
    let samples = scrape(&handle);
    assert_eq!(samples.iter().filter(|it| it.metric == name).count(), 1);
}

#[tokio::test]
async fn the_duration_of_a_session_with_a_server_is_recorded_when_it_ends() {
    let (recorder, handle) = recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let name = "mcp_client_session_duration_seconds";
    let http = Http::serve(Demo::default()).await;
    let over_http = || Upstream::builder().name("far");
    let modern = over_http().http(http.url.as_str()).unwrap();
    let legacy = over_http().lifecycle(Lifecycle::Initialize);
    let legacy = legacy.http(http.url.as_str()).unwrap();
    let over_lines = piped_legacy(&Demo::default());
    for stack in [&modern, &legacy, &over_lines] {
        call(stack, "add").await;
    }
    assert!(scrape(&handle).iter().all(|it| it.metric != name));
    for stack in [modern, legacy, over_lines] {
        soon("the end", stack.close()).await;
    }
    let recorded = || -> Vec<Sample> {
        let samples = scrape(&handle).into_iter();
        samples.filter(|it| it.metric == name).collect()
    };
    let both = async {
        while recorded().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    soon("the sessions' durations", both).await;
    let recorded = recorded();
    assert_eq!(recorded.len(), 2, "{recorded:?}");
    let [far] = of(&recorded, name, ("rmcp_layers_upstream", "far"))[..] else {
        panic!("{recorded:?}")
    };
    for (label, value) in [
        ("mcp_protocol_version", "2025-11-25"),
        ("network_transport", "tcp"),
        ("network_protocol_name", "http"),
        ("server_address", "127.0.0.1"),
        ("server_port", &http.port().to_string()),
    ] {
        assert_eq!(far.labels.get(label), Some(value), "{label}");
    }
}

#[tokio::test]
async fn the_tokens_that_a_budget_charges_are_on_the_span_in_the_summary_and_in_a_counter() {
    let (recorder, scraped) = recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let (spans, _guard) = Spans::keep();
    let layer = MetricsLayer::new();
    let budget = BudgetLayer::builder(ContextBudget::new(50_000))
        .build()
        .unwrap();
    let stack = ServiceBuilder::new()
        .metrics(layer.clone())
        .budget(budget)
        .service(piped(Upstream::builder(), &Demo::default()));
    let request = McpRequest::call_tool("big")
        .argument("bytes", 2_000)
        .build();
    let answer = stack.oneshot(request).await;
    let charged = answer.unwrap().report.budget.unwrap().charged;
    assert!(charged > 0);
    let span = spans.of_call();
    assert_eq!(
        span.get("rmcp_layers.result.tokens"),
        Some(&*charged.to_string())
    );
    assert_eq!(layer.handle().summary().all.total.tokens, charged);
    let counted = of(
        &scrape(&scraped),
        "rmcp_layers_result_tokens_total",
        ("side", "server"),
    )
    .iter()
    .map(|sample| match sample.value {
        Value::Counter(counted) => counted,
        ref other => panic!("{other:?}"),
    })
    .sum::<f64>();
    assert_eq!(counted, charged as f64);
}
