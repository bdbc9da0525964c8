//! What a gateway costs over pipes.
//!
//! One `tools/call` over standard input and output, *direct* to an rmcp server that is a child
//! process, and through a *hop*: a child process with `McpServer` over `Upstream::child_process`,
//! whose child is the same server. The caller is the lean one (`common/lean/pipe.rs`), which costs
//! less than the server and writes each request by itself.
//!
//! The last rows are HTTP in front of the server over pipes (`http_to_stdio_…`), against a direct
//! call of an rmcp server over HTTP.
//!
//! Each process has tokio's multi-thread runtime as `#[tokio::main]` makes it, the caller excepted.
//! All variants take turns, and a ratio is the median of the ratios within one round.
//!
//! Run it with `cargo bench --bench stdio_hop`; it takes about a minute.

mod common;

use std::time::Duration;

use rmcp::{ServiceExt, transport::stdio};
use rmcp_layers::{ChildProcess, Lines, McpServer, Upstream};
use tokio::{process::Command, runtime::Builder};

use crate::common::{
    Echo, Rounds, figure,
    gateway::gateway_routes,
    lean::{HttpCaller, PipeCaller, Revision, Tool, Turn, long_text, together},
    process::{Process, Spent},
    serve::{routes, serve},
};

/// Calls in flight at once, with a small message and with a large one.
const CALLS: usize = 32;
const LARGE_CALLS: usize = 16;
/// The size of a large message, in bytes.
const LARGE: usize = 100_000;
const ROUNDS: usize = 5;
/// How long calls one after the other are measured in a round, and how long several at once are.
const ALONE: Duration = Duration::from_millis(250);
const TOGETHER: Duration = Duration::from_millis(750);

const NAMES: [&str; 8] = [
    "small, 2025-06-18, direct",
    "small, 2025-06-18, hop",
    "small, 2026-07-28, direct",
    "small, 2026-07-28, hop",
    "100 KB, 2025-06-18, direct",
    "100 KB, 2025-06-18, hop",
    "HTTP with sessions, direct",
    "HTTP with sessions, hop to stdio",
];
const PREFIXES: [&str; 4] = [
    "stdio_hop_",
    "stdio_modern_hop_",
    "stdio_large_hop_",
    "http_to_stdio_hop_",
];

fn main() {
    let runtime = || Builder::new_multi_thread().enable_all().build();
    let mode = std::env::args().nth(1);
    // `cargo bench` adds an argument of its own at the end.
    match mode.as_deref() {
        Some("serve") => runtime().expect("a runtime").block_on(serve_pipes()),
        Some("gateway") => runtime().expect("a runtime").block_on(gateway()),
        Some("serve-http") => {
            let server = serve(routes(|| Ok(Echo), || Ok(Echo)));
            runtime().expect("a runtime").block_on(server);
        }
        Some("gateway-http") => runtime().expect("a runtime").block_on(http_gateway()),
        _ => {
            // A lean caller has nothing to share among threads.
            let lean = Builder::new_current_thread().enable_all().build();
            lean.expect("a runtime").block_on(measure());
        }
    }
}

async fn serve_pipes() {
    let server = Echo.serve(stdio()).await.expect("a caller");
    server.waiting().await.expect("the server runs");
}

fn upstream() -> Upstream {
    let program = std::env::current_exe().expect("the program's own path");
    Upstream::child_process(ChildProcess::new(program).arg("serve"))
}

async fn gateway() {
    let upstream = upstream();
    let server = McpServer::new(upstream.clone());
    let gateway = server.serve(Lines::from(stdio())).await;
    let gateway = gateway.expect("a caller");
    gateway.waiting().await.expect("the gateway runs");
    upstream.close().await;
}

async fn http_gateway() {
    let upstream = upstream();
    let server = McpServer::new(upstream.clone());
    let json = server.clone();
    serve(gateway_routes(server, json)).await;
    upstream.close().await;
}

async fn measure() {
    let server = Process::start_own(&["serve-http"]);
    let gateway = Process::start_own(&["gateway-http"]);
    let text = "hello".to_owned();
    let small = Tool { name: "echo", text };
    let text = long_text(LARGE);
    let large = Tool { name: "echo", text };

    let mut variants = Vec::new();
    for (tool, revision, calls) in [
        (&small, Revision::V_2025_06_18, CALLS),
        (&small, Revision::V_2026_07_28, CALLS),
        (&large, Revision::V_2025_06_18, LARGE_CALLS),
    ] {
        for mode in ["serve", "gateway"] {
            variants.push(Variant::over_pipes(mode, tool, revision, calls).await);
        }
    }
    for process in [&server, &gateway] {
        variants.push(Variant::over_http(process, &small).await);
    }
    for variant in &mut variants {
        variant.together().await;
    }

    let mut p50 = Rounds::new(&NAMES);
    let mut rate = Rounds::new(&NAMES);
    // The caller's process, and in each row the one that it calls.
    let mut processes = vec![std::process::id()];
    processes.extend(variants.iter().map(Variant::process));
    let mut spent = Spent::new(&processes, NAMES.len());
    for round in 0..ROUNDS {
        for variant in p50.order(round) {
            p50.add(variant, variants[variant].alone().await);
            let before = spent.now();
            let turn = variants[variant].together().await;
            spent.add(variant, turn.calls, &before);
            rate.add(variant, turn.rate());
        }
    }
    print(&p50, &rate, &spent);
    for variant in variants {
        variant.leave().await;
    }
}

fn print(p50: &Rounds, rate: &Rounds, spent: &Spent) {
    println!("one call after the other, half of them take at most");
    p50.print("us");
    println!("{CALLS} calls at once, {LARGE_CALLS} with 100 KB");
    rate.print("calls/s");
    println!("the same, processor time of a call in us (caller, process that it calls)");
    for (variant, name) in NAMES.iter().enumerate() {
        let times = [0, variant + 1].map(|process| spent.each(variant, process));
        if let [Some(caller), Some(called)] = times {
            println!("  {name:<44} {caller:>8.1} {called:>8.1}");
        }
    }
    for (row, prefix) in PREFIXES.iter().enumerate() {
        let (direct, hop) = (2 * row, 2 * row + 1);
        let print = |name: &str, value, unit| figure(&format!("{prefix}{name}"), value, unit);
        print("p50", p50.value(hop), "us");
        print("throughput", rate.value(hop), "calls/s");
        print("p50_vs_direct", p50.ratio(hop, direct), "ratio");
        print("throughput_vs_direct", rate.ratio(hop, direct), "ratio");
        if let Some(time) = spent.each(hop, hop + 1) {
            print("cpu_us", time, "us");
        }
    }
}

/// The caller of one row.
enum Variant {
    Pipes {
        caller: Box<PipeCaller>,
        calls: usize,
    },
    Http {
        callers: Vec<HttpCaller>,
        process: u32,
    },
}

impl Variant {
    async fn over_pipes(mode: &str, tool: &Tool, revision: Revision, calls: usize) -> Self {
        let program = std::env::current_exe().expect("the program's own path");
        let mut command = Command::new(program);
        command.arg(mode);
        let caller = PipeCaller::start(command, tool, revision).await;
        Self::Pipes {
            caller: Box::new(caller),
            calls,
        }
    }

    async fn over_http(process: &Process, tool: &Tool) -> Self {
        let url = format!("{}/events", process.url);
        let mut callers = Vec::new();
        for _ in 0..CALLS {
            callers.push(HttpCaller::connect(&url, tool, Revision::V_2025_06_18).await);
        }
        Self::Http {
            callers,
            process: process.id(),
        }
    }

    fn process(&self) -> u32 {
        match self {
            Self::Pipes { caller, .. } => caller.process(),
            Self::Http { process, .. } => *process,
        }
    }

    async fn alone(&mut self) -> f64 {
        match self {
            Self::Pipes { caller, .. } => caller.alone(ALONE).await,
            Self::Http { callers, .. } => callers[0].alone(ALONE).await,
        }
    }

    async fn together(&mut self) -> Turn {
        match self {
            Self::Pipes { caller, calls } => caller.together(*calls, TOGETHER).await,
            Self::Http { callers, .. } => together(callers, TOGETHER).await,
        }
    }

    async fn leave(self) {
        if let Self::Pipes { caller, .. } = self {
            caller.leave().await;
        }
    }
}
