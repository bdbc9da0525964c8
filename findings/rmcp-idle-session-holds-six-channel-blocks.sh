#!/usr/bin/env bash
# An idle session of rmcp's HTTP server holds six blocks of more than 12 KB, one for each of its channels.
#
# tokio's bounded channels allocate room for 32 messages when they are made, also if their capacity is 16 or 1. rmcp
# sends whole messages, of about 480 bytes, by value. So a channel that has never held a message takes 15 KB.
# Seen: with rmcp 3.11.0 a session that has finished its handshake and has nothing to do has more than 90 KB on the
# heap, more than four fifths of them in six such blocks. Room for 10,000 sessions is close to a gigabyte of address
# space, of which the touched pages are resident.
#
# Needs a Rust toolchain (1.88 or newer). Exits 0 if the behaviour is as described.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat >Cargo.toml <<'TOML'
[package]
name = "idle-session"
version = "0.0.0"
edition = "2024"

[dependencies]
http = "1"
http-body-util = "0.1"
rmcp = { version = "=3.11.0", features = ["server", "transport-streamable-http-server"] }
tokio = { version = "1", features = ["rt", "macros", "time"] }
TOML

mkdir src
cat >src/main.rs <<'RUST'
use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{Arc, atomic::{AtomicI64, Ordering}},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use rmcp::{
    ServerHandler,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};

/// Blocks that are at least this large are counted apart.
const LARGE: usize = 12 * 1024;

static LIVE: AtomicI64 = AtomicI64::new(0);
static LARGE_BLOCKS: AtomicI64 = AtomicI64::new(0);
static LARGE_BYTES: AtomicI64 = AtomicI64::new(0);

struct Counting;

fn count(size: usize, sign: i64) {
    LIVE.fetch_add(sign * size as i64, Ordering::Relaxed);
    if size >= LARGE {
        LARGE_BLOCKS.fetch_add(sign, Ordering::Relaxed);
        LARGE_BYTES.fetch_add(sign * size as i64, Ordering::Relaxed);
    }
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Clone)]
struct Empty;

impl ServerHandler for Empty {}

type Service = StreamableHttpService<Empty, LocalSessionManager>;

async fn post(service: &Service, session: Option<&str>, body: &'static str) -> Option<String> {
    let mut request = http::Request::post("/mcp")
        .header("host", "localhost")
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json");
    if let Some(session) = session {
        request = request.header("mcp-session-id", session);
    }
    let request = request.body(Full::new(body.as_bytes())).unwrap();
    let response = service.handle(request).await;
    assert!(response.status().is_success(), "{}", response.status());
    let session = response.headers().get("mcp-session-id");
    let session = session.map(|id| id.to_str().unwrap().to_owned());
    let _ = response.into_body().collect().await;
    session
}

async fn sessions(service: &Service, count: usize) {
    for _ in 0..count {
        let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"idle","version":"1"}}}"#;
        let session = post(service, None, initialize).await;
        let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        post(service, session.as_deref(), initialized).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    const SESSIONS: usize = 200;
    let service = Service::new(
        || Ok(Empty),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    let now = || [&LIVE, &LARGE_BLOCKS, &LARGE_BYTES].map(|count| count.load(Ordering::Relaxed));
    sessions(&service, SESSIONS).await;
    let before = now();
    sessions(&service, SESSIONS).await;
    let [live, blocks, bytes] =
        std::array::from_fn(|i| (now()[i] - before[i]) as f64 / SESSIONS as f64);
    println!("an idle session: {live:.0} bytes, {bytes:.0} of them in {blocks:.1} blocks of {LARGE} bytes or more");
    assert!(live > 90_000.0 && blocks > 5.9 && bytes > 0.8 * live, "not as described");
}
RUST

cargo run --quiet --release
