//! What a gateway promises: many servers behind one interface, and none of them in another's way.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

mod apps;
mod callers;
mod close;
#[path = "../common/mod.rs"]
mod common;
mod deaths;
mod declared;
mod hints;
mod lists;
mod live;
mod names;
mod routes;
mod shop;
mod unfit;
mod unmatched;
mod updates;
#[allow(dead_code, reason = "each test binary uses its own part")]
#[path = "../upstream/wire.rs"]
mod wire;

use std::{
    collections::HashSet,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    Client, Heard, demo::Demo, pipe_to, piped, piped_legacy, progress, recorder, said, soon, text,
    token, tool,
};
use futures::StreamExt;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::*,
    service::{RequestContext, SubscriptionContext, SubscriptionSink},
};
use rmcp_layers::{
    Audience, Error, Lifecycle, McpClient, McpRequest, McpResponse, Principal, ServedBy, ToolHints,
    TransportError, Upstream,
    gateway::{
        Filter, Gateway, GatewayHandle, ListReport, Member, MemberState, NamespaceLayer, PerCaller,
        Prefix,
    },
    registry::{RegisteredTool, RegistryLayer, SearchMode},
};
use serde_json::json;
use shop::{Shop, named};
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt, service_fn};

fn names(tools: &[Tool]) -> Vec<&str> {
    tools.iter().map(|tool| &*tool.name).collect()
}

async fn listed(gateway: &Gateway) -> Vec<String> {
    let tools = McpClient::new(gateway.clone())
        .list_all_tools()
        .await
        .unwrap();
    names(&tools).into_iter().map(str::to_owned).collect()
}

fn two() -> (Shop, Shop, Gateway) {
    let (one, other) = (
        Shop::with("one", &["a", "same"]),
        Shop::with("other", &["b", "same"]),
    );
    let gateway = Gateway::builder()
        .member("one", one.piped())
        .member("other", other.piped())
        .build()
        .unwrap();
    (one, other, gateway)
}

async fn call(gateway: &Gateway, name: &str) -> Result<McpResponse, Error> {
    soon(
        "a call",
        gateway.clone().oneshot(McpRequest::call_tool(name).build()),
    )
    .await
}

/// A member that cannot be reached, and says when it will be tried again.
fn down(name: &'static str) -> Member {
    Member::new(
        name,
        service_fn(|_request: McpRequest| async {
            let error = TransportError::not_delivered("connection refused");
            Err::<McpResponse, _>(Error::from(error.with_retry_after(Duration::from_secs(3))))
        }),
    )
}
