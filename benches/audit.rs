//! What a record costs the call it is of, and what the HTTP companion costs a request.
//!
//! `audit_memory_ns` and `audit_file_ns` are what `AuditLayer` adds to a call with small arguments, which it hashes:
//! to a ring in memory, and to a file, where the writing itself is another thread's. `audit_auth_ns` is what it adds
//! outside of an `AuthLayer`, whose decision it records, with the ring in memory. `companion_us` is what
//! `HttpAuthLayer` adds to a POST with a token that is remembered: the token, the session, and the body read for what
//! it asks.

mod common;

use std::{
    convert::Infallible,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{Clock, Ready, Rounds, figure};
use futures::{
    FutureExt,
    future::{BoxFuture, ready},
};
use http_body_util::{BodyExt, Full};
use rmcp::model::{CallToolResult, ContentBlock};
use rmcp_layers::{
    Error, McpRequest, McpResponse, Principal,
    audit::{AuditFile, AuditLog, SinkOptions, WhenFull},
    auth::{AuthError, AuthLayer, Rules, Verified, Verifier, http::HttpAuthLayer},
};
use serde_json::json;
use tower::{Service, ServiceBuilder, service_fn};

/// How many calls a round has: fewer than a queue has room for.
const CALLS: usize = 2_000;

fn call() -> McpRequest {
    McpRequest::call_tool("db__query")
        .argument("table", "orders")
        .argument("limit", 50)
        .argument("where", json!({ "state": "open", "after": "2026-07-28" }))
        .principal(Principal::new("ada").with_issuer("https://issuer.example"))
        .build()
}

fn nanoseconds<S>(stack: &mut S) -> f64
where
    S: Service<McpRequest, Response = McpResponse, Error = Error>,
{
    let requests: Vec<_> = (0..CALLS).map(|_| call()).collect();
    let begun = Instant::now();
    for request in requests {
        let answer = stack.call(request).now_or_never();
        black_box(answer.expect("an answer at once").expect("an answer"));
    }
    begun.elapsed().as_nanos() as f64 / CALLS as f64
}

fn audit(runtime: &tokio::runtime::Runtime) {
    let done = CallToolResult::success(vec![ContentBlock::text("done")]);
    let inner = Ready(Arc::new(done.into()));
    let folder = std::env::temp_dir().join(format!("rmcp-layers-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let options = SinkOptions::new().when_full(WhenFull::Block);
    let file = AuditFile::new(folder.join("audit.jsonl")).options(options);
    let memory = AuditLog::builder().memory(1_000).build().unwrap();
    let file = AuditLog::builder().file(file).build().unwrap();
    let mut bare = inner.clone();
    let mut in_memory = ServiceBuilder::new()
        .layer(memory.layer())
        .service(inner.clone());
    let mut to_file = ServiceBuilder::new()
        .layer(file.layer())
        .service(inner.clone());
    let rules = || Rules::builder().tool("db__*", "calls").build().unwrap();
    let auth = || {
        AuthLayer::builder(Known)
            .rules(rules())
            .token_from(|_| Some("one".to_owned()))
    };
    let mut guarded = ServiceBuilder::new()
        .layer(auth().build().unwrap())
        .service(inner.clone());
    let mut guarded_in_memory = ServiceBuilder::new()
        .layer(memory.layer())
        .layer(auth().build().unwrap())
        .service(inner);

    let mut rounds = Rounds::new(&[
        "no layer",
        "AuditLayer, memory",
        "AuditLayer, file",
        "AuthLayer",
        "AuditLayer, memory, and AuthLayer",
    ]);
    let clock = Clock::new(Duration::from_secs(10));
    for round in 0.. {
        if round > 0 && clock.is_over() {
            break;
        }
        for variant in rounds.order(round) {
            let time = match variant {
                0 => nanoseconds(&mut bare),
                1 => nanoseconds(&mut in_memory),
                2 => nanoseconds(&mut to_file),
                3 => nanoseconds(&mut guarded),
                _ => nanoseconds(&mut guarded_in_memory),
            };
            rounds.add(variant, time);
            runtime.block_on(file.handle().flush()).unwrap();
        }
    }
    println!("a call with three arguments:");
    rounds.print("ns");
    let written: u64 = file
        .handle()
        .stats()
        .sinks
        .iter()
        .map(|sink| sink.written)
        .sum();
    println!("  ({written} lines were written)");
    figure("audit_memory_ns", rounds.value(1) - rounds.value(0), "ns");
    figure("audit_file_ns", rounds.value(2) - rounds.value(0), "ns");
    figure("audit_auth_ns", rounds.value(4) - rounds.value(3), "ns");
    std::fs::remove_dir_all(folder).unwrap();
}

/// Knows one token, and remembers it.
struct Known;

impl Verifier for Known {
    fn verify<'a>(&'a self, _token: &'a str) -> BoxFuture<'a, Result<Verified, AuthError>> {
        Box::pin(ready(Err(AuthError::invalid("not the one"))))
    }

    fn remembered(&self, token: &str) -> Option<Verified> {
        (token == "one").then(|| Verified::new(Principal::new("ada").with_scopes(["calls"])))
    }
}

fn companion(runtime: &tokio::runtime::Runtime) {
    let body = Bytes::from(
        json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": "db__query", "arguments": { "text": "x".repeat(400) } },
        })
        .to_string(),
    );
    let request = || {
        http::Request::post("/mcp")
            .header("authorization", "Bearer one")
            .header("content-type", "application/json")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", "db__query")
            .body(Full::new(body.clone()))
            .unwrap()
    };
    let rules = Rules::builder()
        .tool("db__*", "calls")
        .reveal_forbidden(true)
        .build()
        .unwrap();
    let guard = HttpAuthLayer::builder(Known).rules(rules).build().unwrap();
    let mut bare = service_fn(|request: http::Request<Full<Bytes>>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Ok::<_, Infallible>(http::Response::new(Full::new(body)))
    });
    let mut guarded = ServiceBuilder::new().layer(guard).service(service_fn(
        |request: http::Request<rmcp_layers::auth::http::PassedBody<Full<Bytes>>>| async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Ok::<_, Infallible>(http::Response::new(Full::new(body)))
        },
    ));
    let mut rounds = Rounds::new(&["no layer", "HttpAuthLayer"]);
    let clock = Clock::new(Duration::from_secs(6));
    runtime.block_on(async {
        for round in 0.. {
            if round > 0 && clock.is_over() {
                break;
            }
            for variant in rounds.order(round) {
                let requests: Vec<_> = (0..CALLS).map(|_| request()).collect();
                let begun = Instant::now();
                for request in requests {
                    match variant {
                        0 => assert!(bare.call(request).await.unwrap().status().is_success()),
                        _ => assert!(guarded.call(request).await.unwrap().status().is_success()),
                    }
                }
                rounds.add(
                    variant,
                    begun.elapsed().as_nanos() as f64 / CALLS as f64 / 1e3,
                );
            }
        }
    });
    println!("a POST of {} bytes:", body.len());
    rounds.print("us");
    figure("companion_us", rounds.value(1) - rounds.value(0), "us");
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // Clocks and timers are the runtime's.
    let _entered = runtime.enter();
    audit(&runtime);
    companion(&runtime);
}
