//! The rows and their figures.

use std::time::Duration;

use crate::{
    gateway::Gateway,
    lean::{HttpCaller, Revision, Tool, long_text, together},
    process::{Process, Spent, peak},
    rounds::{Rounds, figure},
};

/// Callers at once, with a small message and with a large one.
const CALLERS: [usize; 2] = [32, 16];
/// The size of a large message, in bytes.
const LARGE: usize = 100_000;
const ROUNDS: usize = 5;
/// How long a single caller is measured in a round, and how long several are. A row waits for its
/// turn for less than the 15 s after which the gateway closes an idle connection.
const ALONE: Duration = Duration::from_millis(250);
const TOGETHER: Duration = Duration::from_millis(650);

const NAMES: [&str; 8] = [
    "small, direct",
    "small, plain",
    "small, tower-mcp",
    "small, gateway",
    "100 KB, direct",
    "100 KB, plain",
    "100 KB, tower-mcp",
    "100 KB, gateway",
];

pub async fn measure() {
    let server = Process::start_own(&["serve"]);
    let url = format!("{}/events", server.url);
    let gateway = Gateway::start(&url);
    let plain = Process::start_own(&["plain", &url]);
    let tower_mcp = Process::start_own(&["tower-mcp", &url]);
    let targets = [
        (url.as_str(), "echo"),
        (plain.url.as_str(), "echo"),
        (tower_mcp.url.as_str(), "peer_echo"),
        (gateway.process().url.as_str(), "echo"),
    ];
    let mut variants = Vec::new();
    for (callers, text) in CALLERS
        .into_iter()
        .zip(["hello".to_owned(), long_text(LARGE)])
    {
        for (url, name) in targets {
            let text = text.clone();
            let tool = Tool { name, text };
            let mut variant = Vec::new();
            for _ in 0..callers {
                variant.push(HttpCaller::connect(url, &tool, Revision::V_2025_06_18).await);
            }
            together(&mut variant, ALONE).await;
            variants.push(variant);
        }
    }

    let mut p50 = Rounds::new(&NAMES);
    let mut rate = Rounds::new(&NAMES);
    let processes = [
        plain.id(),
        tower_mcp.id(),
        gateway.process().id(),
        server.id(),
    ];
    let processes = [&[std::process::id()], processes.as_slice()].concat();
    let mut spent = Spent::new(&processes, NAMES.len());
    for round in 0..ROUNDS {
        for variant in p50.order(round) {
            let callers = &mut variants[variant];
            p50.add(variant, callers[0].alone(ALONE).await);
            let before = spent.now();
            let turn = together(callers, TOGETHER).await;
            spent.add(variant, turn.calls, &before);
            rate.add(variant, turn.rate());
        }
    }

    println!("one caller, half of the calls take at most");
    p50.print("us");
    println!("{} callers, {} with 100 KB", CALLERS[0], CALLERS[1]);
    rate.print("calls/s");
    println!(
        "the same, processor time of a call in us (caller, plain, tower-mcp, gateway, server)"
    );
    spent.print(&NAMES);
    let names = ["plain", "tower-mcp", "gateway", "server"];
    for (name, process) in names.iter().zip(&processes[1..]) {
        if let Some(bytes) = peak(*process) {
            println!("peak memory of {name}: {:.1} MiB", bytes / 1024.0 / 1024.0);
        }
    }
    figures(&p50, &rate);
}

fn figures(p50: &Rounds, rate: &Rounds) {
    for (size, [hop, prefix]) in [["hop", ""], ["large", "large_"]].into_iter().enumerate() {
        let [direct, plain, tower_mcp, gateway] = [0, 1, 2, 3].map(|row| 4 * size + row);
        for (name, ratio) in [("throughput", rate), ("p50", p50)] {
            let pairs = [
                (format!("{hop}_vs_tower_mcp_{name}"), gateway, tower_mcp),
                (
                    format!("{prefix}tower_mcp_vs_direct_{name}"),
                    tower_mcp,
                    direct,
                ),
                (format!("{prefix}gateway_vs_direct_{name}"), gateway, direct),
                (format!("{prefix}plain_vs_direct_{name}"), plain, direct),
                (
                    format!("{prefix}plain_vs_tower_mcp_{name}"),
                    plain,
                    tower_mcp,
                ),
            ];
            for (name, row, to) in pairs {
                figure(&name, ratio.ratio(row, to), "ratio");
            }
        }
    }
}
