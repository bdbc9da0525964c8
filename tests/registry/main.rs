//! What the registry promises, over real transports.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod down;
mod health;
mod http;
mod inner;
mod listen;
mod search;
mod tools;
mod versions;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{Http, soon};
use futures::StreamExt;
use inner::Inner;
use rmcp::{
    ClientHandler, ErrorData, Json, Peer, RoleClient, RoleServer, ServerHandler, ServiceExt,
    model::*,
    schemars::{self, JsonSchema},
    service::{NotificationContext, RequestContext, RunningService},
};
use rmcp_layers::{
    CallContext, Error, Handler, HttpEndpoint, McpClient, McpRequest, McpResponse, McpServer,
    Upstream,
    registry::{
        CALL_TOOL, DEPRECATED_META_KEY, Fingerprint, HealthPolicy, HealthState, InnerHealth,
        Passive, RegisteredTool, RegistryError, RegistryHandle, RegistryLayer, SEARCH_TOOLS,
        SearchMode, VERSION_META_KEY, VERSIONS_META_KEY,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tower::{BoxError, Layer, Service};

#[derive(Deserialize, JsonSchema)]
struct Sum {
    a: i64,
    b: i64,
}

fn add() -> RegisteredTool {
    RegisteredTool::builder("add")
        .description("Adds two numbers")
        .handler(|Sum { a, b }, _| async move { Ok::<_, BoxError>((a + b).to_string()) })
        .build()
        .unwrap()
}

/// A tool that takes anything and says `answer`.
fn says(name: &str, answer: &'static str) -> RegisteredTool {
    RegisteredTool::builder(name)
        .handler(move |_: JsonObject, _| async move { Ok::<_, BoxError>(answer.to_owned()) })
        .build()
        .unwrap()
}

fn said(result: &CallToolResult) -> &str {
    &result.content[0].as_text().unwrap().text
}

fn info() -> Implementation {
    Implementation::new("registry-tests", "1.0.0")
}

/// Counts what it hears of changes.
#[derive(Clone, Default)]
struct Ears {
    changes: Arc<AtomicUsize>,
    heard: Arc<Notify>,
}

impl ClientHandler for Ears {
    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.heard.notify_one();
    }
}

/// Serves a stack to an rmcp client with a handshake, over an in-memory pipe.
async fn connect<S>(stack: S) -> (RunningService<RoleClient, Ears>, Ears)
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    let (client_io, server_io) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        let running = McpServer::new(stack).serve(server_io).await.unwrap();
        let _ = running.waiting().await;
    });
    let ears = Ears::default();
    let client = ears.clone().serve(client_io).await.unwrap();
    (client, ears)
}

fn names(tools: &[Tool]) -> Vec<&str> {
    tools.iter().map(|tool| &*tool.name).collect()
}

async fn call(peer: &Peer<RoleClient>, name: &str, arguments: Value) -> CallToolResult {
    try_call(peer, name, arguments).await.unwrap()
}

async fn try_call(
    peer: &Peer<RoleClient>,
    name: &str,
    arguments: Value,
) -> Result<CallToolResult, ErrorData> {
    let mut params = CallToolRequestParams::new(name.to_owned());
    params.arguments = arguments.as_object().cloned();
    peer.call_tool(params).await.map_err(|error| match error {
        rmcp::ServiceError::McpError(error) => error,
        other => panic!("{other}"),
    })
}

fn in_seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
