//! The bodies of a server's HTTP responses, whatever bytes they are: events, or JSON.
//!
//! The call that they answer ends soon after the body, the next call is answered by its own
//! answer, and memory is bounded. Of an input the first byte says the revision, the media type and
//! the status. `$id` stands for the call's id.
//!
//! ```console
//! cargo +nightly fuzz run events fuzz/corpus/events fuzz/seeds/events -- -max_len=65536
//! ```

#![no_main]

use std::{
    sync::{LazyLock, Mutex},
    time::{Duration, Instant},
};

use axum::{body::Bytes, response::Response, serve::ListenerExt};
use libfuzzer_sys::fuzz_target;
use rmcp_layers::{HttpEndpoint, Lifecycle, Upstream};
use rmcp_layers_fuzz::{Counting, Peak, answer, call, is_answer};
use serde_json::Value;
use tokio::runtime::Runtime;

#[global_allocator]
static MEMORY: Counting = Counting;

/// The time in which a call ends after its response. It is real.
const SOON: Duration = Duration::from_secs(10);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
});

/// The body of the next call's response, its media type and its status.
static NEXT: Mutex<Option<(Vec<u8>, &str, u16)>> = Mutex::new(None);

static URL: LazyLock<String> = LazyLock::new(|| {
    let listener = RUNTIME
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/mcp", axum::routing::post(respond));
    let listener = listener.tap_io(|tcp| tcp.set_nodelay(true).unwrap());
    RUNTIME.spawn(async move { axum::serve(listener, router).await });
    url
});

async fn respond(body: Bytes) -> Response<axum::body::Body> {
    let message: Value = serde_json::from_slice(&body).expect("a message of the client");
    let id = &message["id"];
    let result = |result: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
    let (body, kind, status) = match message["method"].as_str() {
        Some("server/discover") => {
            let result = result(
                r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}"#,
            );
            (result.into_bytes(), "application/json", 200)
        }
        Some("initialize") => {
            let result = result(
                r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"0"}}"#,
            );
            (result.into_bytes(), "application/json", 200)
        }
        Some("tools/call") => match NEXT.lock().unwrap().take() {
            Some((text, kind, status)) => (with_id(&text, id), kind, status),
            None => (answer(id), "application/json", 200),
        },
        _ => (Vec::new(), "text/plain", 202),
    };
    let response = Response::builder()
        .status(status)
        .header("content-type", kind);
    response.body(body.into()).unwrap()
}

fn with_id(input: &[u8], id: &Value) -> Vec<u8> {
    match String::from_utf8(input.to_vec()) {
        Ok(text) => text.replace("$id", &id.to_string()).into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, input)) = data.split_first() else {
        return;
    };
    let url = URL.clone();
    let lifecycle = if kind & 1 == 0 {
        Lifecycle::Initialize
    } else {
        Lifecycle::Discover
    };
    let media = if kind & 2 == 0 {
        "text/event-stream"
    } else {
        "application/json"
    };
    let status = if kind & 4 == 0 { 200 } else { 400 };
    let peak = Peak::start();
    *NEXT.lock().unwrap() = Some((input.to_vec(), media, status));
    RUNTIME.block_on(async {
        let endpoint = HttpEndpoint::new(url);
        let upstream = Upstream::builder()
            .name("http")
            .lifecycle(lifecycle)
            .reconnect_backoff(Duration::from_millis(1), Duration::from_millis(1))
            .http(endpoint)
            .unwrap();
        let begun = Instant::now();
        let first = call(&upstream).await;
        let took = begun.elapsed();
        assert!(took < SOON, "{took:?}: {first}");
        *NEXT.lock().unwrap() = None;
        let second = call(&upstream).await;
        assert!(is_answer(&second), "{second} after {first}");
    });
    peak.check(input);
});
