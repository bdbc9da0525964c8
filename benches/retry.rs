//! What retry and the circuit breaker cost a call that does not fail.
//!
//! One small `tools/call`, made anew for each call, through a stack whose bottom answers at once; what the same
//! takes without the layers is taken off. The request is that of the other benches, as a client sends it that began
//! with `initialize`: one argument, and `_meta` with a progress token. Most of what a retry costs is the copy of the
//! request that it keeps, so two larger ones are measured too.
//!
//! - *bottom*: the bottom alone, in a box.
//! - *two layers*: under two layers that pass everything on: what any two layers cost.
//! - *retry*, *breaker*, *retry + breaker*: under these.
//! - *one has been open*: under both, after one key's breaker has been open, when keys are looked up under a lock.
//! - *by rates*: under both, where the breaker counts rates too.
//! - *without key*: under both, where attempts carry no idempotency key.
//! - *2026-07-28*: under both, with three arguments, and the revision, the client and its capabilities in `_meta`.
//! - *over HTTP*: the same, with the request that rmcp's HTTP server puts into the extensions.
//!
//! Then what a copy of a large request costs, beside writing it as JSON, which any upstream does.
//!
//! Run it with `cargo bench --bench retry`.

mod common;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use rmcp::model::{
    CallToolResult, ClientResult, ContentBlock, NumberOrString, ProgressToken, ServerNotification,
    ServerRequest,
};
use rmcp_layers::{
    Caller, CallerSink, Error, McpRequest, McpResponse,
    retry::{
        RetryLayer,
        breaker::{CircuitBreakerLayer, CircuitBreakerPolicy},
    },
};
use serde_json::json;
use tower::{Layer, Service, ServiceBuilder, service_fn, util::BoxCloneService};

use crate::common::{Clock, PassThrough, Rounds, figure};

/// Calls of one variant in a row.
const CALLS: usize = 500;
const BUDGET: Duration = Duration::from_secs(15);

type Stack = BoxCloneService<McpRequest, McpResponse, Error>;

const NAMES: [&str; 12] = [
    "bottom",
    "two layers that pass on",
    "retry",
    "breaker",
    "retry + breaker",
    "retry + breaker, one has been open",
    "retry + breaker, by rates",
    "retry + breaker, without key",
    "bottom, 2026-07-28",
    "retry + breaker, 2026-07-28",
    "bottom, 2026-07-28 over HTTP",
    "retry + breaker, 2026-07-28 over HTTP",
];
const BOTTOM: usize = 0;
const TWO: usize = 1;
const RETRY: usize = 2;
const BREAKER: usize = 3;
const BOTH: usize = 4;
const OPENED: usize = 5;
const RATES: usize = 6;
const NO_KEY: usize = 7;
const MODERN: usize = 9;
const HTTP: usize = 11;

struct Nobody;

impl CallerSink for Nobody {
    fn notify(&self, _notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn request(&self, _request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(std::future::ready(Err(Error::cancelled("nobody"))))
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let rounds = runtime.block_on(measure());
    println!("one request, made and answered");
    rounds.print("ns");
    let added = |variant| {
        let bottom = if variant >= MODERN {
            variant - 1
        } else {
            BOTTOM
        };
        rounds.value(variant) - rounds.value(bottom)
    };
    for (name, variant) in [
        ("two_passing_layers_ns", TWO),
        ("retry_ns", RETRY),
        ("breaker_ns", BREAKER),
        ("retry_breaker_ns", BOTH),
        ("retry_breaker_opened_ns", OPENED),
        ("retry_breaker_rates_ns", RATES),
        ("retry_breaker_without_key_ns", NO_KEY),
        ("retry_breaker_modern_ns", MODERN),
        ("retry_breaker_http_ns", HTTP),
    ] {
        figure(name, added(variant), "ns");
    }
    let (copy, write) = large();
    figure("copy_1mib_us", copy, "us");
    figure("copy_1mib_vs_json", copy / write, "ratio");
}

fn bottom() -> Stack {
    BoxCloneService::new(service_fn(|request: McpRequest| async move {
        black_box(&request);
        let content = vec![ContentBlock::text("hello")];
        Ok(McpResponse::new(CallToolResult::success(content)))
    }))
}

async fn measure() -> Rounds {
    let retry = RetryLayer::new;
    let breaker = CircuitBreakerLayer::new;
    let opened = breaker();
    opened.handle().force_open("another");
    let rates = CircuitBreakerPolicy::new().failure_rate(0.5);
    let rates = CircuitBreakerLayer::builder().policy(rates).build();
    let keyless = RetryLayer::builder().idempotency_key(false).build();
    let both = |breaker: CircuitBreakerLayer, retry: RetryLayer| {
        boxed(
            ServiceBuilder::new()
                .layer(retry)
                .layer(breaker)
                .service(bottom()),
        )
    };
    let mut stacks = [
        bottom(),
        boxed(
            ServiceBuilder::new()
                .layer(PassThrough)
                .layer(PassThrough)
                .service(bottom()),
        ),
        boxed(retry().layer(bottom())),
        boxed(breaker().layer(bottom())),
        both(breaker(), retry()),
        both(opened, retry()),
        both(rates.expect("a policy"), retry()),
        both(breaker(), keyless.expect("a policy")),
        bottom(),
        both(breaker(), retry()),
        bottom(),
        both(breaker(), retry()),
    ];
    let mut rounds = Rounds::new(&NAMES);
    let clock = Clock::new(BUDGET);
    let mut round = 0;
    while !clock.is_over() {
        for variant in rounds.order(round) {
            let stack = &mut stacks[variant];
            let begun = Instant::now();
            for _ in 0..CALLS {
                let request = request(variant);
                std::future::poll_fn(|cx| stack.poll_ready(cx))
                    .await
                    .expect("a ready stack");
                black_box(stack.call(request).await.expect("an answer"));
            }
            let spent = begun.elapsed().as_secs_f64();
            if round > 0 {
                rounds.add(variant, spent / CALLS as f64 * 1e9);
            }
        }
        round += 1;
    }
    rounds
}

fn boxed<S>(stack: S) -> Stack
where
    S: Service<McpRequest, Response = McpResponse, Error = Error, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
{
    BoxCloneService::new(stack)
}

fn request(variant: usize) -> McpRequest {
    let call = if variant < MODERN - 1 {
        McpRequest::call_tool("echo").argument("text", "hello")
    } else {
        McpRequest::call_tool("search")
            .argument("query", "middleware")
            .argument("limit", 10)
            .argument("exact", false)
            .meta("io.modelcontextprotocol/protocolVersion", "2026-07-28")
            .meta(
                "io.modelcontextprotocol/clientInfo",
                json!({ "name": "bench", "version": "1.0.0" }),
            )
            .meta(
                "io.modelcontextprotocol/clientCapabilities",
                json!({ "roots": {} }),
            )
    };
    let mut request = call
        .progress_token(ProgressToken(NumberOrString::Number(7)))
        .caller(Caller::new(Nobody))
        .build();
    if variant >= HTTP - 1 {
        let http = http::Request::post("/mcp")
            .header("host", "127.0.0.1:8931")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-session-id", "3f1c8f0e-58a7-4c9c-8ed4-0b9f3b8d9a11")
            .header(
                "authorization",
                "Bearer abcdefghijklmnopqrstuvwxyz0123456789",
            )
            .header("user-agent", "bench/1.0.0");
        let (parts, ()) = http.body(()).expect("a request").into_parts();
        request.context.extensions.insert(parts);
    }
    request
}

/// What it takes to copy a request with a mebibyte of arguments in a thousand strings, and to write it as JSON.
fn large() -> (f64, f64) {
    let mut call = McpRequest::call_tool("write");
    for line in 0..1_024 {
        call = call.argument(format!("line{line}"), "x".repeat(1_024));
    }
    let request = call.build();
    let (mut copies, mut writes) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let begun = Instant::now();
        black_box(request.clone());
        copies.push(begun.elapsed().as_secs_f64() * 1e6);
        let begun = Instant::now();
        black_box(serde_json::to_string(&*request.message).expect("JSON"));
        writes.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    (common::median(&copies), common::median(&writes))
}
