//! Counts and times the calls of a stack: a summary, the latest failures, and a scrape for
//! Prometheus.
//!
//! Output of `cargo run --example metrics`:
//!
//! ```text
//! forecast: 3 calls, 0 failed, cached 67 %
//! alarm: 1 calls, 1 failed
//! failed: tools/call alarm of weather: tool_error
//! mcp_server_operation_duration_seconds_count of forecast: 3
//! live: tools/call forecast: complete
//! ```

use futures::StreamExt;
use metrics_exporter_prometheus::PrometheusBuilder;
use rmcp::{
    model::{CallToolResult, ContentBlock},
    tool, tool_router,
};
use rmcp_layers::{
    McpClient, ServiceBuilderExt, Upstream,
    cache::CacheLayer,
    metrics::{MetricsLayer, configure_prometheus},
};
use tower::ServiceBuilder;

struct Weather;

#[tool_router(server_handler)]
impl Weather {
    #[tool(description = "Tells the weather of tomorrow")]
    fn forecast(&self) -> String {
        "sunny".to_owned()
    }

    #[tool(description = "Sets off an alarm")]
    fn alarm(&self) -> CallToolResult {
        CallToolResult::error(vec![ContentBlock::text("the siren is out of order")])
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The recorder of the `metrics` facade, with the bounds of OpenTelemetry's convention.
    let recorder = configure_prometheus(PrometheusBuilder::new())?.build_recorder();
    let scrape = recorder.handle();
    metrics::set_global_recorder(recorder)?;

    let layer = MetricsLayer::new();
    let handle = layer.handle();
    let stack = ServiceBuilder::new()
        .metrics(layer)
        .cache(CacheLayer::builder().cache_tool("forecast").build()?)
        .service(Upstream::builder().name("weather").in_process(Weather));
    let client = McpClient::new(stack);

    // A tool that no list has shown would be counted as `_OTHER`.
    client.list_all_tools().await?;
    for _ in 0..3 {
        client.call_tool("forecast").await?;
    }
    client.call_tool("alarm").await?;

    let summary = handle.summary(); // its `Display` is a table with the latencies
    for row in &summary.all.by_tool {
        let cached = row.cache_hit_rate;
        let cached = cached.map_or(String::new(), |rate| {
            format!(", cached {:.0} %", rate * 100.0)
        });
        println!(
            "{}: {} calls, {} failed{cached}",
            row.name, row.calls, row.errors
        );
    }
    for call in &summary.failures {
        let (name, upstream) = (call.name.as_deref(), call.upstream.as_deref());
        let (name, upstream) = (name.unwrap_or("-"), upstream.unwrap_or("-"));
        println!(
            "failed: {} {name} of {upstream}: {}",
            call.method, call.outcome
        );
    }

    let name = "mcp_server_operation_duration_seconds_count";
    let text = scrape.render();
    let counts = text
        .lines()
        .filter(|line| line.starts_with(name) && line.contains("\"forecast\""))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    println!("{name} of forecast: {}", counts.sum::<u64>());

    // Calls as they end, for a dashboard.
    let mut calls = handle.calls();
    client.call_tool("forecast").await?;
    if let Some(call) = calls.next().await {
        let name = call.name.as_deref().unwrap_or("-");
        println!("live: {} {name}: {}", call.method, call.outcome);
    }
    Ok(())
}
