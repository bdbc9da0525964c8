//! The rows of rmcp's own client, which costs as much as the server.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rmcp::{
    RoleClient,
    model::ProtocolVersion,
    service::{ClientLifecycleMode, RunningService, serve_client_with_lifecycle},
    transport::{
        StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use tokio::task::JoinSet;

use crate::common::{
    Clock, Rounds, echo, figure, median,
    process::{Process, Spent},
};

/// Callers at once, where there are several.
const CALLERS: usize = 32;
/// Calls in one turn of a single caller.
const ALONE: usize = 60;
/// Calls of each of several callers in one turn.
const EACH: usize = 12;
/// How long a single caller is measured, and how long several are.
const BUDGET: Duration = Duration::from_secs(17);

type Client = RunningService<RoleClient, ()>;

/// The ways to call, direct and through the hop, one after the other.
const NAMES: [&str; 6] = [
    "events, direct",
    "events, hop",
    "json, direct",
    "json, hop",
    "sessions, direct",
    "sessions, hop",
];
const PREFIXES: [&str; 3] = ["", "json_", "sessions_"];

pub async fn measure(server: &Process, gateway: &Process) {
    let modern = ClientLifecycleMode::Discover {
        preferred_versions: vec![ProtocolVersion::LATEST],
    };
    let mut variants = Vec::new();
    for (path, lifecycle) in [
        ("events", &modern),
        ("json", &modern),
        ("events", &ClientLifecycleMode::Initialize),
    ] {
        for base in [&server.url, &gateway.url] {
            variants.push(Callers::connect(&format!("{base}/{path}"), lifecycle).await);
        }
    }
    for callers in &variants {
        callers.together().await;
        callers.alone().await;
    }

    let mut p50 = Rounds::new(&NAMES);
    let mut rate = Rounds::new(&NAMES);
    let processes = [std::process::id(), gateway.id(), server.id()];
    let mut spent = Spent::new(&processes, NAMES.len());
    let clock = Clock::new(2 * BUDGET);
    let mut count = 0;
    while !clock.is_over() {
        for variant in p50.order(count) {
            p50.add(variant, variants[variant].alone().await);
            let before = spent.now();
            rate.add(variant, variants[variant].together().await);
            spent.add(variant, CALLERS * EACH, &before);
        }
        count += 1;
    }

    println!("rmcp's client, one caller, half of the calls take at most");
    p50.print("us");
    println!("{CALLERS} callers");
    rate.print("calls/s");
    println!("{CALLERS} callers, processor time of a call in us (caller, gateway, server)");
    spent.print(&NAMES);
    for (way, prefix) in PREFIXES.iter().enumerate().rev() {
        let (direct, hop) = (2 * way, 2 * way + 1);
        let print = |name: &str, value, unit| figure(&format!("{prefix}{name}"), value, unit);
        print("direct_p50", p50.value(direct), "us");
        print("hop_p50", p50.value(hop), "us");
        print("direct_throughput", rate.value(direct), "calls/s");
        print("hop_throughput", rate.value(hop), "calls/s");
        print("hop_p50_vs_direct", p50.ratio(hop, direct), "ratio");
        print("hop_throughput_vs_direct", rate.ratio(hop, direct), "ratio");
    }
    for callers in variants {
        callers.leave().await;
    }
}

/// The clients of one variant.
struct Callers(Vec<Arc<Client>>);

impl Callers {
    async fn connect(url: &str, lifecycle: &ClientLifecycleMode) -> Self {
        let http = reqwest::Client::builder()
            .tcp_nodelay(true)
            .build()
            .expect("an HTTP client");
        let mut clients = Vec::new();
        for _ in 0..CALLERS {
            let config = StreamableHttpClientTransportConfig::with_uri(url);
            let transport = StreamableHttpClientTransport::with_client(http.clone(), config);
            let client = serve_client_with_lifecycle((), transport, lifecycle.clone()).await;
            clients.push(Arc::new(client.expect("the client connects")));
        }
        Self(clients)
    }

    /// The median time of a call in microseconds, one after the other.
    async fn alone(&self) -> f64 {
        let mut times = Vec::with_capacity(ALONE);
        for _ in 0..ALONE {
            let started = Instant::now();
            call(&self.0[0]).await;
            times.push(started.elapsed().as_secs_f64() * 1e6);
        }
        median(&times)
    }

    /// Calls a second of all callers at once.
    async fn together(&self) -> f64 {
        let started = Instant::now();
        let mut callers = JoinSet::new();
        for client in &self.0 {
            let client = client.clone();
            callers.spawn(async move {
                for _ in 0..EACH {
                    call(&client).await;
                }
            });
        }
        callers.join_all().await;
        (CALLERS * EACH) as f64 / started.elapsed().as_secs_f64()
    }

    async fn leave(self) {
        for client in self.0 {
            if let Some(client) = Arc::into_inner(client) {
                client.cancel().await.expect("the client ends");
            }
        }
    }
}

async fn call(client: &Client) {
    let result = client.call_tool(echo()).await.expect("the call succeeds");
    assert_eq!(result.content.len(), 1);
}
