//! What a progress notification costs under the layer, against rmcp alone.
//!
//! A tool sends 1,000 notifications as fast as it may, over an in-process pipe to rmcp's client.
//!
//! - *rmcp*: an rmcp server.
//! - *served*: the same handler under `McpServer`, without the layer.
//! - *layer*: under the layer, with 10 notifications a second.
//! - *layer, 1000/s*: under the layer, with 1,000 a second.
//!
//! All of it runs twice: on two threads, which rmcp's server and client share between them while the layer has
//! little for the second one, and on one thread, where the time is the work.
//!
//! Run it with `cargo bench --bench progress`.

mod common;

use std::time::{Duration, Instant};

use rmcp::{
    ErrorData, RoleClient, RoleServer, ServerHandler, Service, ServiceExt,
    model::{
        CallToolRequest, CallToolRequestParams, CallToolResponse, CallToolResult, ClientRequest,
        ContentBlock, ProgressNotificationParam,
    },
    service::{PeerRequestOptions, RequestContext, RunningService},
};
use rmcp_layers::{Handler, McpServer, ServiceBuilderExt, progress::ProgressLayer};
use tokio::runtime::Builder;
use tower::ServiceBuilder;

use crate::common::{Clock, Rounds, figure};

/// Notifications of one call.
const COUNT: u32 = 1_000;
/// For each number of threads.
const BUDGET: Duration = Duration::from_secs(10);

const NAMES: [&str; 4] = ["rmcp", "served", "layer", "layer, 1000/s"];
const RMCP: usize = 0;
const LAYER: usize = 2;

#[derive(Clone)]
struct Reporting;

impl ServerHandler for Reporting {
    async fn call_tool(
        &self,
        _request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if let Some(token) = context.meta.get_progress_token() {
            for n in 0..COUNT {
                let progress = ProgressNotificationParam::new(token.clone(), f64::from(n));
                let _ = context.peer.notify_progress(progress).await;
            }
        }
        Ok(CallToolResult::success(vec![ContentBlock::text("done")]).into())
    }
}

async fn connect(server: impl Service<RoleServer>) -> RunningService<RoleClient, ()> {
    let (near, far) = tokio::io::duplex(1 << 20);
    tokio::spawn(async move {
        if let Ok(running) = server.serve(far).await {
            let _ = running.waiting().await;
        }
    });
    ().serve(near).await.expect("a connection")
}

fn main() {
    let two = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let one = Builder::new_current_thread().enable_all().build();
    for (threads, runtime, name) in [
        ("two threads", two, "progress_vs_rmcp"),
        ("one thread", one, "progress_work_vs_rmcp"),
    ] {
        let runtime = runtime.expect("a runtime");
        let rounds = runtime.block_on(async {
            // On a task, as the handlers.
            tokio::spawn(measure()).await.expect("the rounds")
        });
        println!("one notification of a call with {COUNT}, on {threads}");
        rounds.print("ns");
        figure(name, rounds.ratio(LAYER, RMCP), "ratio");
    }
}

async fn measure() -> Rounds {
    let layered = |layer: ProgressLayer| {
        let stack = ServiceBuilder::new()
            .progress(layer)
            .service(Handler::new(Reporting));
        McpServer::new(stack)
    };
    let often = ProgressLayer::builder().max_per_second(1_000).build();
    let clients = [
        connect(Reporting).await,
        connect(McpServer::new(Handler::new(Reporting))).await,
        connect(layered(ProgressLayer::new())).await,
        connect(layered(often.expect("a layer"))).await,
    ];
    let mut rounds = Rounds::new(&NAMES);
    let clock = Clock::new(BUDGET);
    let mut round = 0;
    while !clock.is_over() {
        for variant in rounds.order(round) {
            // rmcp's client gives every request a progress token.
            let call = CallToolRequest::new(CallToolRequestParams::new("report"));
            let call = ClientRequest::CallToolRequest(call);
            let begun = Instant::now();
            let peer = clients[variant].peer();
            let handle = peer
                .send_cancellable_request(call, PeerRequestOptions::no_options())
                .await
                .expect("a request");
            handle.await_response().await.expect("an answer");
            let spent = begun.elapsed().as_secs_f64();
            if round > 0 {
                rounds.add(variant, spent / f64::from(COUNT) * 1e9);
            }
        }
        round += 1;
    }
    rounds
}
