//! What a cache costs, and what it saves.
//!
//! - *hit*: a `tools/call` with one argument, answered from memory with 1 KiB of text: the request is made
//!   beforehand, and everything from `call` to the answer is measured, the request's end included.
//! - *bare*: the same answer out of a `moka` or an `lru` cache by a key that is at hand, and cloned: what a map
//!   alone costs. The variants take turns, and a ratio is the median of the ratios within one round.
//! - *miss*: what the layer adds to a call whose answer is not kept yet, over a stack that answers at once.
//! - *contended*: 32 tasks on all cores hit 100 keys, beside the same on an `lru` behind one `Mutex`.
//! - *memory*: how much the process grows by, an entry, for 100,000 entries with 100 bytes of text.
//!
//! Run it with `cargo bench --bench cache`.

mod common;

use std::{
    hint::black_box,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rmcp::model::{CallToolResult, ContentBlock};
use rmcp_layers::{
    Error, McpRequest, McpResponse, Principal,
    cache::{Cache, CacheLayer},
};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::common::{Clock, Rounds, figure};

/// Calls of one variant in a row.
const CALLS: usize = 500;
const BUDGET: Duration = Duration::from_secs(8);
const TASKS: usize = 32;
const ENTRIES: usize = 100_000;

trait Stack:
    Service<McpRequest, Response = McpResponse, Error = Error, Future: Send> + Clone + Send + 'static
{
}
impl<S> Stack for S where
    S: Service<McpRequest, Response = McpResponse, Error = Error, Future: Send>
        + Clone
        + Send
        + 'static
{
}

fn answering(bytes: usize) -> impl Stack {
    let answer = answer(bytes);
    service_fn(move |_: McpRequest| std::future::ready(Ok::<_, Error>(answer.clone())))
}

fn answer(bytes: usize) -> McpResponse {
    let text = ContentBlock::text("x".repeat(bytes));
    McpResponse::new(CallToolResult::success(vec![text]))
}

fn layer() -> CacheLayer {
    CacheLayer::builder()
        .cache_tool("*")
        .watch_changes(false)
        .max_entries(2 * ENTRIES)
        .max_bytes(1 << 30)
        .build()
        .expect("a possible cache")
}

fn request(key: usize) -> McpRequest {
    McpRequest::call_tool("search")
        .argument("query", format!("how tall is mountain number {key}"))
        .build()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let hits = runtime.block_on(hits());
    let misses = runtime.block_on(misses());
    let threads = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let contended = threads.block_on(contended());
    let per_entry = runtime.block_on(memory());

    println!("one answer of 1 KiB");
    hits.print("ns");
    println!("one call over a stack that answers at once");
    misses.print("ns");
    println!("{TASKS} tasks, a hit each in turn, per hit");
    contended.print("ns");
    figure("hit_1k_ns", hits.value(HIT), "ns");
    figure("hit_1k_principal_ns", hits.value(PRINCIPAL), "ns");
    figure("hit_vs_bare", hits.ratio(HIT, MOKA), "ratio");
    figure("hit_vs_bare_lru", hits.ratio(HIT, LRU), "ratio");
    figure("miss_added_ns", misses.value(1) - misses.value(0), "ns");
    figure("contended_hit_ns", contended.value(0), "ns");
    figure("contended_vs_mutex_lru", contended.ratio(0, 1), "ratio");
    figure("entry_bytes", per_entry, "bytes");
}

const MOKA: usize = 0;
const LRU: usize = 1;
const HIT: usize = 2;
const PRINCIPAL: usize = 3;

/// Nanoseconds a hit.
async fn hits() -> Rounds {
    let mut stack = layer().layer(answering(1024));
    let principal = Principal::new("alice").with_issuer("https://issuer.example");
    let by_alice = |mut request: McpRequest| {
        request.context.set_principal(principal.clone());
        request
    };
    let key = |number: usize| format!("search how tall is mountain number {number}");
    let keys: Vec<String> = (0..CALLS).map(key).collect();
    let moka = moka::sync::Cache::new(10_000);
    let lru = Mutex::new(lru::LruCache::unbounded());
    for (number, key) in keys.iter().enumerate() {
        call(&mut stack, request(number)).await;
        call(&mut stack, by_alice(request(number))).await;
        moka.insert(key.clone(), Arc::new(answer(1024)));
        lru.lock()
            .expect("a lock")
            .put(key.clone(), Arc::new(answer(1024)));
    }
    let mut rounds = Rounds::new(&[
        "moka get, and a clone",
        "lru get, and a clone",
        "hit",
        "hit of a principal",
    ]);
    let (clock, mut count) = (Clock::new(BUDGET), 0);
    while !clock.is_over() {
        for variant in rounds.order(count) {
            let requests: Vec<_> = (0..CALLS)
                .map(|number| match variant {
                    PRINCIPAL => by_alice(request(number)),
                    _ => request(number),
                })
                .collect();
            let started = Instant::now();
            match variant {
                MOKA => {
                    for key in &keys {
                        let found = moka.get(key).expect("an answer");
                        black_box(McpResponse::clone(&found));
                    }
                }
                LRU => {
                    for key in &keys {
                        let found = lru.lock().expect("a lock").get(key).cloned();
                        black_box(McpResponse::clone(&found.expect("an answer")));
                    }
                }
                _ => {
                    for request in requests {
                        black_box(call(&mut stack, request).await);
                    }
                }
            }
            rounds.add(
                variant,
                started.elapsed().as_secs_f64() * 1e9 / CALLS as f64,
            );
        }
        count += 1;
    }
    rounds
}

async fn call(stack: &mut impl Stack, request: McpRequest) -> McpResponse {
    stack
        .ready()
        .await
        .expect("a stack that is ready")
        .call(request)
        .await
        .expect("an answer")
}

/// Nanoseconds a call whose answer is not kept yet.
async fn misses() -> Rounds {
    let mut bare = answering(1024);
    let mut rounds = Rounds::new(&["the stack alone", "a miss"]);
    let (clock, mut count) = (Clock::new(BUDGET / 2), 0);
    while !clock.is_over() {
        for variant in rounds.order(count) {
            let mut stack = layer().layer(answering(1024));
            let requests: Vec<_> = (0..CALLS).map(request).collect();
            let started = Instant::now();
            for request in requests {
                black_box(match variant {
                    0 => call(&mut bare, request).await,
                    _ => call(&mut stack, request).await,
                });
            }
            rounds.add(
                variant,
                started.elapsed().as_secs_f64() * 1e9 / CALLS as f64,
            );
        }
        count += 1;
    }
    rounds
}

/// Nanoseconds a hit while 32 tasks hit, by the clock and all cores together.
async fn contended() -> Rounds {
    const KEYS: usize = 100;
    let default = CacheLayer::builder()
        .cache_tool("*")
        .watch_changes(false)
        .build()
        .expect("a possible cache");
    let mut stack = default.layer(answering(1024));
    let mut map = lru::LruCache::unbounded();
    for number in 0..KEYS {
        call(&mut stack, request(number)).await;
        map.put(number, Arc::new(answer(1024)));
    }
    let map = Arc::new(Mutex::new(map));
    let mut rounds = Rounds::new(&["hit", "lru behind a Mutex, and a clone"]);
    let (clock, mut count) = (Clock::new(BUDGET / 2), 0);
    while !clock.is_over() {
        for variant in rounds.order(count) {
            let work: Vec<_> = (0..TASKS)
                .map(|task| {
                    (0..CALLS)
                        .map(move |n| request((task + n) % KEYS))
                        .collect::<Vec<_>>()
                })
                .collect();
            let started = Instant::now();
            let tasks = work.into_iter().map(|requests| {
                let (mut stack, map) = (stack.clone(), map.clone());
                tokio::spawn(async move {
                    for (n, request) in requests.into_iter().enumerate() {
                        if variant == 0 {
                            black_box(call(&mut stack, request).await);
                        } else {
                            let found = map.lock().expect("a lock").get(&(n % KEYS)).cloned();
                            black_box(McpResponse::clone(&found.expect("an answer")));
                        }
                    }
                })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.expect("a task that ends");
            }
            let hits = (TASKS * CALLS) as f64;
            rounds.add(variant, started.elapsed().as_secs_f64() * 1e9 / hits);
        }
        count += 1;
    }
    rounds
}

/// How many bytes the process has more, an entry.
async fn memory() -> f64 {
    let layer = layer();
    let cache = layer.handle();
    let mut stack: Cache<_> = layer.layer(answering(100));
    let before = resident();
    for number in 0..ENTRIES {
        call(&mut stack, request(number)).await;
    }
    assert_eq!(cache.stats().entries, ENTRIES);
    let counted = cache.stats().bytes as f64 / ENTRIES as f64;
    println!("an entry counts {counted:.0} bytes against `max_bytes`");
    (resident() - before) / ENTRIES as f64
}

/// The resident set, in bytes, as Linux tells it; nothing elsewhere.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<f64>().ok());
    pages.unwrap_or(f64::NAN) * 4096.0
}
