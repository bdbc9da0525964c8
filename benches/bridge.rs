//! What a stack costs beside rmcp itself.
//!
//! One small `tools/call`, there and back, between an rmcp client and a server in the same process and on
//! the same thread, over typed channels: no JSON, no sockets, so what is left is rmcp's loops and ours.
//!
//! - *rmcp*: the client, and the handler served by rmcp.
//! - *handler*: `McpServer` over `Handler` in place of the handler.
//! - *nine layers*: the same with nine layers between the two that pass everything on.
//! - *gateway hop*: `McpServer` over an in-process `Upstream` to the handler: a second connection.
//!
//! The variants take turns, a few milliseconds each, and a ratio is the median of the ratios within one
//! round, so a machine that is busy with something else disturbs the times but hardly the ratios. Both
//! generations of the protocol are measured; the figures are those of rmcp's default lifecycle
//! (`initialize`), where rmcp itself has the least to do and the ratios are the highest.
//!
//! Run it with `cargo bench --bench bridge`.

mod common;

use std::time::{Duration, Instant};

use futures::channel::mpsc;
use rmcp::{
    RoleClient, RoleServer, ServerHandler, ServiceExt,
    model::ProtocolVersion,
    service::{ClientLifecycleMode, RunningService, RxJsonRpcMessage, serve_client_with_lifecycle},
};
use rmcp_layers::{Handler, Lifecycle, McpServer, Upstream};
use tower::ServiceBuilder;

use crate::common::{Clock, Echo, PassThrough, Rounds, echo, figure};

/// Calls of one variant in a row.
const CALLS: usize = 200;
/// Messages that may wait on a channel.
const BUFFER: usize = 64;
/// How long each lifecycle is measured.
const BUDGET: Duration = Duration::from_secs(8);

const RMCP: usize = 0;
const HANDLER: usize = 1;
const NINE: usize = 2;
const HOP: usize = 3;
const NAMES: [&str; 4] = [
    "rmcp alone",
    "McpServer + Handler",
    "McpServer + nine layers + Handler",
    "McpServer + Upstream to an rmcp server",
];

type Client = RunningService<RoleClient, ()>;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (initialize, discover) = runtime.block_on(async {
        let initialize = measure(ClientLifecycleMode::Initialize, Lifecycle::Initialize).await;
        let modern = ClientLifecycleMode::Discover {
            preferred_versions: vec![ProtocolVersion::LATEST],
        };
        (initialize, measure(modern, Lifecycle::Discover).await)
    });
    println!("one call in process, by `initialize` (2025-11-25)");
    initialize.print("us");
    println!("one call in process, by `server/discover` (2026-07-28)");
    discover.print("us");
    figure("modern_rmcp_us", discover.value(RMCP), "us");
    let modern = |name: &str, variant| figure(name, discover.ratio(variant, RMCP), "ratio");
    modern("modern_handler_vs_rmcp", HANDLER);
    modern("modern_nine_layers_vs_rmcp", NINE);
    modern("modern_gateway_hop_vs_rmcp", HOP);
    figure("nine_layers_vs_rmcp", initialize.ratio(NINE, RMCP), "ratio");
    figure("handler_vs_rmcp", initialize.ratio(HANDLER, RMCP), "ratio");
    figure("gateway_hop_vs_rmcp", initialize.ratio(HOP, RMCP), "ratio");
    figure("rmcp_us", initialize.value(RMCP), "us");
}

/// Measures all variants for callers of one lifecycle. The upstream's is the same, so that nothing is
/// translated between revisions.
async fn measure(lifecycle: ClientLifecycleMode, upstream: Lifecycle) -> Rounds {
    let nine = ServiceBuilder::new()
        .layer(PassThrough)
        .layer(PassThrough)
        .layer(PassThrough)
        .layer(PassThrough)
        .layer(PassThrough)
        .layer(PassThrough)
        .layer(PassThrough)
        .layer(PassThrough)
        .layer(PassThrough)
        .service(Handler::new(Echo));
    let hop = Upstream::builder().lifecycle(upstream).in_process(Echo);
    let clients = [
        connect(Echo, lifecycle.clone()).await,
        connect(McpServer::new(Handler::new(Echo)), lifecycle.clone()).await,
        connect(McpServer::new(nine), lifecycle.clone()).await,
        connect(McpServer::new(hop), lifecycle).await,
    ];
    for client in &clients {
        round(client).await;
    }
    let mut rounds = Rounds::new(&NAMES);
    let clock = Clock::new(BUDGET);
    let mut count = 0;
    while !clock.is_over() {
        for variant in rounds.order(count) {
            rounds.add(variant, round(&clients[variant]).await);
        }
        count += 1;
    }
    for client in clients {
        client.cancel().await.expect("the client ends");
    }
    rounds
}

/// An rmcp client of a server in this process.
async fn connect<H: ServerHandler>(handler: H, lifecycle: ClientLifecycleMode) -> Client {
    let (to_server, from_client) = mpsc::channel::<RxJsonRpcMessage<RoleServer>>(BUFFER);
    let (to_client, from_server) = mpsc::channel::<RxJsonRpcMessage<RoleClient>>(BUFFER);
    tokio::spawn(async move {
        let running = handler.serve((to_client, from_client)).await;
        let _ = running.expect("the server starts").waiting().await;
    });
    serve_client_with_lifecycle((), (to_server, from_server), lifecycle)
        .await
        .expect("the client connects")
}

/// Microseconds a call, over one variant's turn.
async fn round(client: &Client) -> f64 {
    let started = Instant::now();
    for _ in 0..CALLS {
        let result = client.call_tool(echo()).await.expect("the call succeeds");
        assert_eq!(result.content.len(), 1);
    }
    started.elapsed().as_secs_f64() * 1e6 / CALLS as f64
}
