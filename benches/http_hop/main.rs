//! What a gateway costs over HTTP.
//!
//! One small `tools/call` over keep-alive HTTP on loopback, *direct* to an rmcp server and through a *hop*:
//! `McpServer` over `Upstream::http` to the same server. The caller is the same both times: rmcp's client
//! over a `reqwest` client that keeps its connections and sets `TCP_NODELAY`.
//!
//! Caller, gateway and server are three processes, each with tokio's multi-thread runtime as
//! `#[tokio::main]` makes it, because that is how they are deployed: in one runtime, work that belongs to
//! one role would run on a worker that is warm from another, and a hop would look cheaper or dearer than
//! it is. They share the machine's processors, so with 32 calls at once throughput is the inverse of the
//! processor time that all three spend on a call.
//!
//! - *events*: revision 2026-07-28, without sessions; answers come as event streams, as rmcp's server
//!   sends them by default, also from the gateway. The figures without a prefix are these.
//! - *json*: the same with answers in plain JSON (`json_response`), on both servers.
//! - *sessions*: revision 2025-11-25, with `initialize` and a session for each caller.
//!
//! Each of the 32 callers has an rmcp client of its own, as 32 users would. All variants take turns, and a
//! ratio is the median of the ratios within one round: a machine that is busy with something else
//! disturbs the absolute figures, and the ratios hardly.
//!
//! Run it with `cargo bench --bench http_hop`; it takes about 40 seconds.

mod common;

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::serve::ListenerExt;
use rmcp::{
    RoleClient, ServerHandler,
    model::ProtocolVersion,
    service::{ClientLifecycleMode, RunningService, serve_client_with_lifecycle},
    transport::{
        StreamableHttpClientTransport, StreamableHttpServerConfig, StreamableHttpService,
        streamable_http_client::StreamableHttpClientTransportConfig,
        streamable_http_server::session::local::LocalSessionManager,
    },
};
use rmcp_layers::{McpServer, Upstream};
use tokio::task::JoinSet;

use crate::common::{Clock, Echo, Rounds, echo, figure, median};

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

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    // `cargo bench` adds an argument of its own at the end.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => runtime.block_on(serve(|| Ok(Echo), || Ok(Echo))),
        Some("gateway") => runtime.block_on(gateway(&arguments[1])),
        _ => runtime.block_on(measure()),
    }
}

async fn measure() {
    let server = Role::start(&["serve"]);
    let gateway = Role::start(&["gateway", &server.url]);
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
    let mut spent = [0; 3].map(|_| Rounds::new(&NAMES));
    let processes = [std::process::id(), gateway.child.id(), server.child.id()];
    let clock = Clock::new(2 * BUDGET);
    let mut count = 0;
    while !clock.is_over() {
        for variant in p50.order(count) {
            p50.add(variant, variants[variant].alone().await);
            let before = processes.map(processor_time);
            rate.add(variant, variants[variant].together().await);
            for (role, spent) in spent.iter_mut().enumerate() {
                let time = processor_time(processes[role]) - before[role];
                spent.add(variant, time / (CALLERS * EACH) as f64);
            }
        }
        count += 1;
    }

    println!("one caller, half of the calls take at most");
    p50.print("us");
    println!("{CALLERS} callers");
    rate.print("calls/s");
    println!("{CALLERS} callers, processor time of a call in us (caller, gateway, server)");
    for (variant, name) in NAMES.iter().enumerate() {
        let [caller, gateway, server] = [0, 1, 2].map(|role: usize| spent[role].value(variant));
        println!("  {name:<44} {caller:>8.1} {gateway:>8.1} {server:>8.1}");
    }
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

/// Another process, which ends with this one.
struct Role {
    child: Child,
    url: String,
    /// Closed, it ends the process.
    stdin: Option<ChildStdin>,
}

impl Role {
    fn start(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("the program's own path");
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the process starts");
        let stdin = child.stdin.take();
        let mut url = String::new();
        let stdout = child.stdout.take().expect("its standard output");
        BufReader::new(stdout)
            .read_line(&mut url)
            .expect("the process says where it listens");
        Self {
            child,
            url: url.trim().to_owned(),
            stdin,
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// Microseconds that the threads of a process have run for, where the system says so.
fn processor_time(process: u32) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{process}/task"));
    let ran = |thread: std::fs::DirEntry| {
        let line = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        line.split(' ').next()?.parse::<f64>().ok()
    };
    let threads = threads.into_iter().flatten().flatten();
    threads.filter_map(ran).sum::<f64>() / 1e3
}

async fn gateway(server: &str) {
    let stack = |path: &str| {
        let upstream = Upstream::http(format!("{server}/{path}")).expect("an upstream");
        McpServer::new(upstream)
    };
    let (events, json) = (stack("events"), stack("json"));
    serve(move || Ok(events.clone()), move || Ok(json.clone())).await;
}

/// Serves `/events` and `/json`, says where, and ends when standard input does.
async fn serve<H: ServerHandler>(
    events: impl Fn() -> Result<H, std::io::Error> + Send + Sync + 'static,
    json: impl Fn() -> Result<H, std::io::Error> + Send + Sync + 'static,
) {
    let sessions = Arc::new(LocalSessionManager::default());
    let config = StreamableHttpServerConfig::default();
    let events = StreamableHttpService::new(events, sessions.clone(), config.clone());
    let json = StreamableHttpService::new(json, sessions, config.with_json_response(true));
    let router = axum::Router::new()
        .route_service("/events", events)
        .route_service("/json", json);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .expect("a port");
    let address = listener.local_addr().expect("its address");
    println!("http://{address}");
    // Without this an event waits for the acknowledgement of the one before it.
    let listener = listener.tap_io(|tcp| {
        let _ = tcp.set_nodelay(true);
    });
    let parent = tokio::task::spawn_blocking(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
    });
    tokio::select! {
        served = async { axum::serve(listener, router).await } => served.expect("the server runs"),
        _ = parent => {}
    }
}
