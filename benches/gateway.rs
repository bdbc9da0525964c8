//! What a gateway costs as it grows: a routed call, and a list served from known lists, by members and
//! tools.
//!
//! Members are services that answer at once, so that what is measured is the gateway alone.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use common::{figure, median};
use rmcp::model::{
    CacheScope, CallToolResult, ClientRequest, ContentBlock, ErrorCode, ErrorData, JsonObject,
    ListToolsResult, Tool,
};
use rmcp_layers::{Error, McpRequest, McpResponse, gateway::Gateway};
use tower::{Service, service_fn};

/// Members, and tools in all.
const SIZES: [(usize, usize); 8] = [
    (1, 10),
    (10, 10),
    (1, 1_000),
    (10, 1_000),
    (100, 100),
    (100, 1_000),
    (10, 10_000),
    (100, 10_000),
];
const ROUNDS: usize = 40;
const CALLS: usize = 2_000;

struct Sized {
    members: usize,
    tools: usize,
    gateway: Gateway,
    /// How often a member was asked for its list.
    asked: Arc<AtomicUsize>,
    names: Vec<String>,
    calls: Vec<f64>,
    lists: Vec<f64>,
}

fn tool(index: usize) -> Tool {
    let schema = JsonObject::from_iter([("type".to_owned(), "object".into())]);
    Tool::new(format!("tool_{index}"), "Does what it says.", schema)
}

impl Sized {
    async fn new((members, tools): (usize, usize)) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let mut builder = Gateway::builder().page_size(usize::MAX);
        for member in 0..members {
            let listed: Arc<[Tool]> = (0..tools / members).map(tool).collect();
            let asked = asked.clone();
            let stack = service_fn(move |request: McpRequest| {
                let answer = match &*request.message {
                    ClientRequest::ListToolsRequest(_) => {
                        asked.fetch_add(1, Ordering::Relaxed);
                        let mut list = ListToolsResult::with_all_items(listed.to_vec());
                        list.ttl_ms = Some(3_600_000);
                        list.cache_scope = Some(CacheScope::Public);
                        Ok(McpResponse::new(list))
                    }
                    ClientRequest::CallToolRequest(_) => {
                        Ok(McpResponse::new(CallToolResult::success(vec![
                            ContentBlock::text("done"),
                        ])))
                    }
                    _ => Err(Error::from(ErrorData::new(
                        ErrorCode::METHOD_NOT_FOUND,
                        "no",
                        None,
                    ))),
                };
                std::future::ready(answer)
            });
            builder = builder.member(format!("member-{member}"), stack);
        }
        let mut gateway = builder.build().expect("a gateway");
        // The gateway has to have listed once, and to know that members do not tell of changes.
        for _ in 0..3 {
            gateway
                .call(McpRequest::list_tools())
                .await
                .expect("a list");
            tokio::task::yield_now().await;
        }
        let each = tools / members;
        let names = (0..64)
            .map(|n| format!("member-{}__tool_{}", n * 7 % members, n * 31 % each))
            .collect();
        Self {
            members,
            tools,
            gateway,
            asked,
            names,
            calls: Vec::new(),
            lists: Vec::new(),
        }
    }

    async fn round(&mut self) {
        let started = Instant::now();
        for name in self.names.iter().cycle().take(CALLS) {
            let call = McpRequest::call_tool(name.as_str()).build();
            std::hint::black_box(self.gateway.call(call).await).expect("an answer");
        }
        self.calls.push(each(started.elapsed(), CALLS));
        let lists = (20_000 / self.tools).clamp(2, 200);
        let started = Instant::now();
        for _ in 0..lists {
            let list = self.gateway.call(McpRequest::list_tools()).await;
            std::hint::black_box(list).expect("a list");
        }
        self.lists.push(each(started.elapsed(), lists));
    }
}

/// Microseconds for one.
fn each(all: Duration, count: usize) -> f64 {
    all.as_secs_f64() * 1e6 / count as f64
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut all = Vec::new();
    for size in SIZES {
        all.push(Sized::new(size).await);
    }
    let asked: Vec<usize> = all
        .iter()
        .map(|one| one.asked.load(Ordering::Relaxed))
        .collect();
    let count = all.len();
    for round in 0..ROUNDS {
        for turn in 0..count {
            all[(round + turn) % count].round().await;
        }
    }
    println!("members  tools   call µs   list µs");
    for (one, asked) in all.iter().zip(asked) {
        println!(
            "{:>7} {:>6} {:>9.2} {:>9.1}",
            one.members,
            one.tools,
            median(&one.calls),
            median(&one.lists)
        );
        assert_eq!(
            asked,
            one.asked.load(Ordering::Relaxed),
            "a known list was asked for again"
        );
    }
    let of = |members, tools| {
        all.iter()
            .find(|one| (one.members, one.tools) == (members, tools))
            .expect("a measured size")
    };
    // By pairs from one round, so that what disturbs the machine disturbs both.
    let ratio = |many: &Sized, few: &Sized| {
        let pairs = many.calls.iter().zip(&few.calls);
        median(&pairs.map(|(a, b)| a / b).collect::<Vec<f64>>())
    };
    let route = ratio(of(10, 10_000), of(10, 10));
    figure("route_10000_tools_vs_10", route, "ratio");
    let route = ratio(of(100, 10_000), of(10, 10));
    figure(
        "route_100_members_10000_tools_vs_10_members_10_tools",
        route,
        "ratio",
    );
    let route = ratio(of(100, 10_000), of(100, 100));
    figure("route_100_members_10000_tools_vs_100", route, "ratio");
    figure("list_1000_tools_us", median(&of(10, 1_000).lists), "us");
}
