//! The rows of the lean caller.

use std::time::Duration;

use crate::common::{
    Rounds, figure,
    lean::{HttpCaller, Revision, Tool, long_text, together},
    process::{Process, Spent},
};

/// Callers at once, with a small message and with a large one.
const CALLERS: [usize; 2] = [32, 16];
/// The size of a large message, in bytes.
const LARGE: usize = 100_000;
const ROUNDS: usize = 5;
/// How long a single caller is measured in a round, and how long several are.
const ALONE: Duration = Duration::from_millis(250);
const TOGETHER: Duration = Duration::from_millis(750);

/// The path of the server, the revision, and the prefixes of the figures, small and large.
const WAYS: [(&str, Revision, [&str; 2]); 3] = [
    (
        "events",
        Revision::V_2025_06_18,
        ["lean_sessions_", "large_"],
    ),
    (
        "events",
        Revision::V_2026_07_28,
        ["lean_modern_", "large_modern_"],
    ),
    (
        "json",
        Revision::V_2026_07_28,
        ["lean_json_", "large_json_"],
    ),
];

/// The ways, small and large, each direct and through the hop.
const NAMES: [&str; 12] = [
    "small, sessions, direct",
    "small, sessions, hop",
    "small, modern, direct",
    "small, modern, hop",
    "small, modern in json, direct",
    "small, modern in json, hop",
    "100 KB, sessions, direct",
    "100 KB, sessions, hop",
    "100 KB, modern, direct",
    "100 KB, modern, hop",
    "100 KB, modern in json, direct",
    "100 KB, modern in json, hop",
];

/// The row of small calls with sessions through the hop.
const SESSIONS_HOP: usize = 1;

pub async fn measure(server: &Process, gateway: &Process) {
    let mut variants = Vec::new();
    for (callers, text) in CALLERS
        .into_iter()
        .zip(["hello".to_owned(), long_text(LARGE)])
    {
        let tool = Tool { name: "echo", text };
        for (path, revision, _) in WAYS {
            for base in [&server.url, &gateway.url] {
                let url = format!("{base}/{path}");
                let mut variant = Vec::new();
                for _ in 0..callers {
                    variant.push(HttpCaller::connect(&url, &tool, revision).await);
                }
                together(&mut variant, ALONE).await;
                variants.push(variant);
            }
        }
    }

    let mut p50 = Rounds::new(&NAMES);
    let mut rate = Rounds::new(&NAMES);
    let processes = [std::process::id(), gateway.id(), server.id()];
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
    print(&p50, &rate, &spent);
}

fn print(p50: &Rounds, rate: &Rounds, spent: &Spent) {
    println!("lean caller, one, half of the calls take at most");
    p50.print("us");
    println!(
        "lean caller, {} at once, {} with 100 KB",
        CALLERS[0], CALLERS[1]
    );
    rate.print("calls/s");
    println!("the same, processor time of a call in us (caller, gateway, server)");
    spent.print(&NAMES);
    let rows = (0..2).flat_map(|size| WAYS.map(|(_, _, prefixes)| prefixes[size]));
    for (row, prefix) in rows.enumerate() {
        let (direct, hop) = (2 * row, 2 * row + 1);
        let print = |name: &str, value, unit| figure(&format!("{prefix}{name}"), value, unit);
        print("direct_p50", p50.value(direct), "us");
        print("hop_p50", p50.value(hop), "us");
        print("direct_throughput", rate.value(direct), "calls/s");
        print("hop_throughput", rate.value(hop), "calls/s");
        print("hop_p50_vs_direct", p50.ratio(hop, direct), "ratio");
        print("hop_throughput_vs_direct", rate.ratio(hop, direct), "ratio");
    }
    let processes = ["caller_cpu_us", "hop_cpu_us", "server_cpu_us"];
    for (process, name) in processes.into_iter().enumerate() {
        if let Some(time) = spent.each(SESSIONS_HOP, process) {
            figure(name, time, "us");
        }
    }
}
