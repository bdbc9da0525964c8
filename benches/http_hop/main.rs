//! What a gateway costs over HTTP.
//!
//! One `tools/call` over keep-alive HTTP on loopback, *direct* to an rmcp server and through a
//! *hop*: `McpServer` over `Upstream::http` to the same server, with `LenientHttpLayer` in front as
//! in `examples/gateway`.
//!
//! Caller, gateway and server are three processes. The last two have tokio's multi-thread runtime
//! as `#[tokio::main]` makes it, because that is how they are deployed: in one runtime, work that
//! belongs to one role would run on a worker that is warm from another, and a hop would look
//! cheaper or dearer than it is. They share the machine's processors, so with 32 calls at once
//! throughput is the inverse of the processor time that all three spend on a call.
//!
//! There are two callers:
//!
//! - The *lean* caller (`common/lean/http.rs`) costs less than the server, so that a ratio is about
//!   the gateway. Its figures begin with `lean_` and `large_`.
//! - *rmcp's client* over `reqwest` costs as much as the server. It is what a Rust program has.
//!
//! The ways to call:
//!
//! - *sessions*: with `initialize` and a session for each caller, of revision 2025-06-18 (lean) or
//!   2025-11-25 (rmcp's client); answers come as event streams.
//! - *modern* (lean) or *events*: revision 2026-07-28, without sessions; answers come as event
//!   streams, as rmcp's server sends them by default, also from the gateway. The figures of rmcp's
//!   client without a prefix are these.
//! - *json*: the same with answers in plain JSON (`json_response`), on both servers.
//!
//! Each of the 32 callers (16 with 100 KB in and out) has a connection and a session of its own, as
//! so many users would. All variants of a caller take turns, and a ratio is the median of the
//! ratios within one round: a machine that is busy with something else disturbs the absolute
//! figures, and the ratios hardly.
//!
//! - `hop_cpu_us`: the gateway's processor time for a call of the lean caller with sessions, 32 at
//!   once.
//! - `session_bytes`: the memory that an idle session of the gateway takes, over 2,000 of them;
//!   `rmcp_session_bytes` is that of the server alone.
//!
//! These need `/proc`, and are left out where there is none.
//!
//! Run it with `cargo bench --bench http_hop`; it takes about two minutes.

#[path = "../common/mod.rs"]
mod common;

mod lean_caller;
mod rmcp_client;
mod sessions;

use rmcp_layers::{McpServer, Upstream};
use tokio::runtime::Builder;

use crate::common::{
    Echo,
    gateway::gateway_routes,
    process::Process,
    serve::{routes, serve},
};

fn main() {
    let runtime = || Builder::new_multi_thread().enable_all().build();
    // A lean caller has nothing to share among threads.
    let lean = Builder::new_current_thread().enable_all().build();
    let lean = lean.expect("a runtime");
    // `cargo bench` adds an argument of its own at the end.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => {
            let server = serve(routes(|| Ok(Echo), || Ok(Echo)));
            runtime().expect("a runtime").block_on(server);
        }
        Some("gateway") => {
            let gateway = gateway(&arguments[1]);
            runtime().expect("a runtime").block_on(gateway);
        }
        _ => {
            let server = Process::start_own(&["serve"]);
            let gateway = Process::start_own(&["gateway", &server.url]);
            lean.block_on(sessions::measure());
            lean.block_on(lean_caller::measure(&server, &gateway));
            let measured = rmcp_client::measure(&server, &gateway);
            runtime().expect("a runtime").block_on(measured);
        }
    }
}

async fn gateway(server: &str) {
    let stack = |path: &str| {
        let upstream = Upstream::http(format!("{server}/{path}")).expect("an upstream");
        McpServer::new(upstream)
    };
    serve(gateway_routes(stack("events"), stack("json"))).await;
}
