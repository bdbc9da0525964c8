//! The Grafana dashboard of the gateway example, against a scrape.

use std::collections::{BTreeMap, BTreeSet};

use metrics_exporter_prometheus::PrometheusBuilder;
use rmcp_layers::{
    Error, McpRequest, McpResponse, ServiceBuilderExt,
    cache::CacheLayer,
    metrics::{MetricsLayer, Side, configure_prometheus},
    retry::{
        RetryLayer, RetryPolicy,
        breaker::{CircuitBreakerLayer, CircuitBreakerPolicy},
    },
};
use serde_json::Value;
use tower::{ServiceBuilder, ServiceExt, service_fn};

/// The metrics that a query names, each with the labels that it selects or groups by.
fn named(query: &str) -> Vec<(String, BTreeSet<String>)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut metrics = Vec::new();
    let mut labels = BTreeSet::new();
    let mut rest = query;
    while let Some(at) = rest.find(is_word) {
        rest = &rest[at..];
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        if word == "by" {
            let list = after
                .split_once('(')
                .and_then(|(_, list)| list.split_once(')'));
            let (list, after) = list.expect("a list of labels");
            labels.extend(list.split(',').map(|label| label.trim().to_owned()));
            rest = after;
        } else if word.starts_with("mcp_") || word.starts_with("rmcp_layers_") {
            if let Some((selected, after)) =
                after.strip_prefix('{').and_then(|it| it.split_once('}'))
            {
                let matchers = selected
                    .split(',')
                    .filter_map(|it| it.split(['=', '!']).next());
                labels.extend(matchers.map(str::to_owned));
                rest = after;
            }
            metrics.push(word.to_owned());
        }
    }
    assert!(!metrics.is_empty(), "no metric in {query}");
    metrics
        .into_iter()
        .map(|metric| (metric, labels.clone()))
        .collect()
}

/// A scrape of a stack that has done everything that is counted: the labels of each metric.
async fn scraped() -> BTreeMap<String, BTreeSet<String>> {
    let builder = configure_prometheus(PrometheusBuilder::new()).unwrap();
    let recorder = builder.build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let policy = CircuitBreakerPolicy::new().consecutive_failures(1);
    let client = MetricsLayer::builder().side(Side::Client).build().unwrap();
    let retry = RetryLayer::builder()
        .policy(RetryPolicy::new().safe_to_repeat(true))
        .build()
        .unwrap();
    let stack = ServiceBuilder::new()
        .metrics(MetricsLayer::new())
        .cache(CacheLayer::builder().cache_tool("add").build().unwrap())
        .retry_calls(retry)
        .circuit_breaker(
            CircuitBreakerLayer::builder()
                .policy(policy)
                .build()
                .unwrap(),
        )
        .metrics(client)
        .service(service_fn(|request: McpRequest| async move {
            rmcp_layers::ServedBy::set(&request.context.extensions, &"upstream".into());
            match request.target() {
                Some("add") => Ok(McpResponse::new(rmcp::model::CallToolResult::success(
                    vec![],
                ))),
                _ => Err(Error::timeout(std::time::Duration::from_secs(1))),
            }
        }));
    for tool in ["add", "add", "broken", "broken"] {
        let call = McpRequest::call_tool(tool).build();
        let _ = stack.clone().oneshot(call).await;
    }
    let mut metrics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let text = recorder.handle().render();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let labels = line
            .split_once('{')
            .and_then(|(_, rest)| rest.split_once('}'));
        let labels = labels.map_or("", |(labels, _)| labels).split(',');
        let labels = labels.filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        metrics.entry(name.to_owned()).or_default().extend(labels);
    }
    metrics
}

#[tokio::test(start_paused = true)]
async fn every_query_of_the_dashboard_finds_its_metrics_and_labels_in_a_scrape() {
    let dashboard = include_str!("../../examples/gateway/grafana.json");
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    let scraped = scraped().await;
    let mut queries = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            queries += 1;
            for (metric, labels) in named(query) {
                let known = scraped.get(&metric);
                let known = known.unwrap_or_else(|| panic!("{metric} of {query}: {scraped:#?}"));
                let unknown: Vec<_> = labels.difference(known).collect();
                assert!(unknown.is_empty(), "{unknown:?} of {query}");
            }
        }
    }
    assert!(queries >= 12);
}
