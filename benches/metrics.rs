//! What metrics cost a call.
//!
//! One small `tools/call`, made anew for each call, through a stack whose bottom answers at once; what the same
//! takes without the layer is taken off.
//!
//! - *bottom*: the bottom alone, in a box.
//! - *spans off*: under the layer, without a subscriber and without a recorder.
//! - *metrics*: under the layer, with a Prometheus recorder, without a subscriber.
//! - *bare span*: in a span of `tracing` with the same fields, which are recorded at the same times.
//! - *spans*: under the layer, with the same subscriber and no recorder.
//!
//! The subscriber keeps spans in tracing-subscriber's registry, and formats their fields as its `fmt` layer does.
//! Then how far the p99 of the summary is from the exact one, for latencies from 1 ms to some minutes.
//!
//! Run it with `cargo bench --bench metrics`.

mod common;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use metrics_exporter_prometheus::PrometheusBuilder;
use rmcp::model::{CallToolResult, ContentBlock};
use rmcp_layers::{
    Error, McpRequest, McpResponse,
    metrics::{MetricsLayer, configure_prometheus},
};
use tower::{Layer, Service, service_fn, util::BoxCloneService};
use tracing::{Instrument, field::Empty};

use crate::common::{Clock, Rounds, figure};

/// Calls of one variant in a row.
const CALLS: usize = 500;
const BUDGET: Duration = Duration::from_secs(15);

type Stack = BoxCloneService<McpRequest, McpResponse, Error>;

const NAMES: [&str; 5] = ["bottom", "spans off", "metrics", "bare span", "spans"];
const BOTTOM: usize = 0;
const OFF: usize = 1;
const METRICS: usize = 2;
const BARE: usize = 3;
const SPANS: usize = 4;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let rounds = runtime.block_on(measure());
    println!("one request, made and answered");
    rounds.print("ns");
    let added = |variant| rounds.value(variant) - rounds.value(BOTTOM);
    figure("spans_off_ns", added(OFF), "ns");
    figure("metrics_ns", added(METRICS), "ns");
    figure("spans_vs_bare", added(SPANS) / added(BARE), "ratio");
    figure("p99_error_percent", p99_error(), "percent");
}

fn bottom() -> Stack {
    BoxCloneService::new(service_fn(|request: McpRequest| async move {
        black_box(&request);
        let content = vec![ContentBlock::text("hello")];
        Ok(McpResponse::new(CallToolResult::success(content)))
    }))
}

fn measured() -> Stack {
    let layer = MetricsLayer::builder().known_tools(["echo"]);
    BoxCloneService::new(layer.build().expect("a layer").layer(bottom()))
}

/// A span with the fields of the layer's, and the same values.
fn bare() -> Stack {
    let inner = bottom();
    BoxCloneService::new(service_fn(move |request: McpRequest| {
        let mut inner = inner.clone();
        let name = request.target().unwrap_or_default();
        let id = request.context.id.to_string();
        let span = tracing::info_span!(
            target: "rmcp_layers::metrics",
            parent: None,
            "mcp.request",
            "otel.name" = format!("tools/call {name}"),
            "otel.kind" = "server",
            "otel.status_code" = Empty,
            "mcp.method.name" = request.method(),
            "mcp.protocol.version" = Empty,
            "mcp.session.id" = Empty,
            "mcp.resource.uri" = Empty,
            "gen_ai.tool.name" = name,
            "gen_ai.prompt.name" = Empty,
            "gen_ai.operation.name" = "execute_tool",
            "gen_ai.tool.call.arguments" = Empty,
            "gen_ai.tool.call.result" = Empty,
            "jsonrpc.request.id" = id,
            "error.type" = Empty,
            "rpc.response.status_code" = Empty,
            "network.transport" = Empty,
            "network.protocol.name" = Empty,
            "network.protocol.version" = Empty,
            "server.address" = Empty,
            "server.port" = Empty,
            "client.address" = Empty,
            "client.port" = Empty,
            "enduser.id" = Empty,
            "rmcp_layers.arguments.hash" = HASH,
            "rmcp_layers.principal.hash" = Empty,
            "rmcp_layers.outcome" = Empty,
            "rmcp_layers.duration_ms" = Empty,
            "rmcp_layers.cache.status" = Empty,
            "rmcp_layers.attempts" = Empty,
            "rmcp_layers.result.tokens" = Empty,
            "rmcp_layers.upstream" = Empty,
        );
        let recorded = span.clone();
        let begun = Instant::now();
        async move {
            let answer = inner.call(request).await;
            recorded.record("rmcp_layers.outcome", "complete");
            let millis = begun.elapsed().as_secs_f64() * 1_000.0;
            recorded.record("rmcp_layers.duration_ms", millis);
            answer
        }
        .instrument(span)
    }))
}

const HASH: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

async fn measure() -> Rounds {
    let recorder = configure_prometheus(PrometheusBuilder::new())
        .expect("the bounds")
        .build_recorder();
    let scrape = recorder.handle();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::sink)
        .finish();
    let subscriber = tracing::Dispatch::new(subscriber);
    let mut stacks = [bottom(), measured(), measured(), bare(), measured()];
    // A span's callsite asks the subscriber of its first use whether it is interested at all.
    {
        let _subscriber = tracing::dispatcher::set_default(&subscriber);
        let request = McpRequest::call_tool("echo").build();
        stacks[SPANS].call(request).await.expect("an answer");
    }
    let mut rounds = Rounds::new(&NAMES);
    let clock = Clock::new(BUDGET);
    let mut round = 0;
    while !clock.is_over() {
        for variant in rounds.order(round) {
            let _recorder =
                (variant == METRICS).then(|| metrics::set_default_local_recorder(&recorder));
            let _subscriber = [BARE, SPANS]
                .contains(&variant)
                .then(|| tracing::dispatcher::set_default(&subscriber));
            let stack = &mut stacks[variant];
            let begun = Instant::now();
            for _ in 0..CALLS {
                let request = McpRequest::call_tool("echo")
                    .argument("text", "hello")
                    .build();
                std::future::poll_fn(|cx| stack.poll_ready(cx))
                    .await
                    .expect("a ready stack");
                black_box(stack.call(request).await.expect("an answer"));
            }
            let spent = begun.elapsed().as_secs_f64();
            if round > 0 {
                rounds.add(variant, spent / CALLS as f64 * 1e9);
            }
            // What was recorded is kept until it is rendered.
            scrape.run_upkeep();
        }
        round += 1;
    }
    rounds
}

/// How far the p99 of a summary is from the exact one, in percent: the worst of several
/// distributions, on a paused clock.
fn p99_error() -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let errors = (0..8).map(|seed: u64| {
        let mut random = seed * 2 + 1;
        let mut exact: Vec<Duration> = (0..20_000)
            .map(|_| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                // Half of them within 10 ms, a few of minutes.
                let part = (random >> 33) as f64 / (1_u64 << 31) as f64;
                Duration::from_micros((1_000.0 / (1.0 - part).max(1e-5)) as u64)
            })
            .collect();
        let found = runtime.block_on(p99_of(&exact));
        exact.sort_unstable();
        let exact = exact[exact.len() * 99 / 100 - 1];
        (found.as_secs_f64() / exact.as_secs_f64() - 1.0).abs() * 100.0
    });
    errors.fold(0.0, f64::max)
}

async fn p99_of(latencies: &[Duration]) -> Duration {
    let layer = MetricsLayer::new();
    for latency in latencies {
        let latency = *latency;
        let mut stack = layer.layer(service_fn(move |_: McpRequest| async move {
            tokio::time::advance(latency).await;
            Ok::<_, Error>(McpResponse::new(CallToolResult::success(vec![])))
        }));
        let request = McpRequest::call_tool("echo").build();
        stack.call(request).await.expect("an answer");
    }
    layer.handle().summary().all.total.p99
}
