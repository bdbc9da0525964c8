//! Spans, histograms and summaries of requests.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

#[path = "../common/mod.rs"]
mod common;
mod spans_seen;

mod dashboard;
mod exporter;
mod limits;
mod log;
mod spans;
mod summary;
mod traces;

use rmcp_layers::{
    McpRequest, McpServer, Upstream,
    metrics::{MetricsHandle, MetricsLayer},
};
use tower::{Layer, ServiceExt};

use crate::common::{demo::Demo, piped, soon};

/// A layer over a demo server at the other end of a pipe, served over another pipe.
fn served(layer: &MetricsLayer) -> (Upstream, MetricsHandle) {
    let demo = piped(Upstream::builder().name("demo"), &Demo::default());
    let server = McpServer::new(layer.layer(demo));
    (piped(Upstream::builder(), &server), layer.handle())
}

/// Makes a call, and shows the layer the list of tools before.
async fn list_then_call(stack: &Upstream, tool: &str) {
    let listed = stack.clone().oneshot(McpRequest::list_tools());
    soon("a list", listed).await.unwrap();
    call(stack, tool).await;
}

async fn call(stack: &Upstream, tool: &str) {
    let request = McpRequest::call_tool(tool).argument("a", 1).build();
    // Some of the tools fail.
    let _ = soon("a call", stack.clone().oneshot(request)).await;
}
