//! What `Upstream` promises over child processes and streamable HTTP.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

#[path = "../common/mod.rs"]
mod common;

mod attribution;
mod calls;
mod children;
mod draining;
mod dropped;
mod floods;
mod http;
mod roots;
mod running;
mod settings;
mod streams;
mod unannounced;
mod wedged;
mod wire;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::http::StatusCode;
use common::{
    Client, Heard, Http, Stack, demo::Demo, progress, recorder, said, soon, text, token, tool,
};
use rmcp::{
    model::*, service::ClientLifecycleMode, service::ServiceError,
    transport::StreamableHttpServerConfig,
};
use rmcp_layers::{
    ChildProcess, ErrorKind, HttpEndpoint, Lifecycle, McpRequest, McpServer, Upstream,
};
use serde_json::{Value, json};
use tower::ServiceExt;

const CHILD: &str = "SERVE_AS_CHILD";

/// Not a test: the child process of the tests here. They start this binary again, with a variable set.
/// What the harness itself says on standard output is no message, and passed over.
#[tokio::test]
async fn serve_as_child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let demo = rmcp::ServiceExt::serve(Demo::default(), rmcp::transport::stdio());
    demo.await.unwrap().waiting().await.unwrap();
}

fn child() -> ChildProcess {
    ChildProcess::new(std::env::current_exe().unwrap())
        .args(["--exact", "serve_as_child", "--nocapture", "--quiet"])
        .env(CHILD, "1")
        .quiet()
}

fn modern_child() -> Upstream {
    Upstream::builder()
        .name("child")
        .lifecycle(Lifecycle::Discover)
        .child_process(child())
}

fn legacy_child() -> Upstream {
    Upstream::builder()
        .name("child")
        .lifecycle(Lifecycle::Initialize)
        .child_process(child())
}

fn modern(http: &Http) -> Upstream {
    let builder = Upstream::builder().lifecycle(Lifecycle::Discover);
    builder.http(http.url.as_str()).unwrap()
}

fn legacy(http: &Http) -> Upstream {
    let builder = Upstream::builder().lifecycle(Lifecycle::Initialize);
    builder.http(http.url.as_str()).unwrap()
}

fn json_responses() -> StreamableHttpServerConfig {
    StreamableHttpServerConfig::default()
        .with_json_response(true)
        .with_legacy_session_mode(false)
}

async fn call(stack: &Upstream, name: &str) -> String {
    let call = stack.clone().oneshot(McpRequest::call_tool(name).build());
    said(soon(name, call).await)
}

/// What a server says of itself that is not in this process.
async fn seen(upstream: &Upstream) -> Value {
    serde_json::from_str(&call(upstream, "seen").await).unwrap()
}
