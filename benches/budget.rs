//! What a budget costs: a result that is charged, and a result that is cut to its share.
//!
//! - *charge*: a `tools/call` with 1 KiB of text in answer, which fits. Everything from `call` to the answer is
//!   measured, less the same call without the layer: by counting, and by estimate.
//! - *fit*: 1 MiB of JSON in a text block at a share of 10,000 tokens, as minified and as pretty-printed text,
//!   beside `tiktoken-rs`: encode, keep 10,000 tokens, decode. The two take turns, and a ratio is the median of the
//!   ratios within one round.
//! - *cut*: 10 MiB of `structuredContent` with an output schema, and how much memory it takes beside the result.
//! - *run*: 200 KB of `=`, which no tokenizer can count in parts.
//! - *neighbour*: the 99th percentile of a call with 1 KiB in answer, one after another, alone and while 10 MiB are
//!   cut again and again by another task.
//!
//! The answers are made beforehand, and the layer keeps what it cuts.
//!
//! Run it with `cargo bench --bench budget`.

mod common;

use std::{
    fs,
    hint::black_box,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rmcp::model::{CallToolResult, ContentBlock, ListToolsResult, ServerResult, Tool};
use rmcp_layers::{
    Error, McpRequest, McpResponse,
    budget::{BudgetLayer, BudgetLayerBuilder, Charge, ContextBudget, TokenCounter, Tokenizer},
};
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::common::{Clock, Rounds, figure, median};

const MIB: usize = 1024 * 1024;
const SHARE: usize = 10_000;
/// So large that what the calls use does not change their shares.
const WINDOW: u64 = 100_000_000_000;
const BUDGET: Duration = Duration::from_secs(8);
/// Calls of one variant in a row.
const CALLS: usize = 500;

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

/// A stack that answers with each of these results in turn, and with the tool for a list.
#[derive(Clone, Default)]
struct Answers(Arc<Mutex<Vec<CallToolResult>>>);

impl Answers {
    fn prepare(&self, answer: &CallToolResult, count: usize) {
        let answers = vec![answer.clone(); count];
        *self.0.lock().unwrap() = answers;
    }

    fn stack(&self, schema: Value) -> impl Stack {
        let answers = self.0.clone();
        // A clone of the stack copies no schema.
        let schema = schema.as_object().cloned().map(Arc::new);
        service_fn(move |request: McpRequest| {
            let result: ServerResult = match request.as_tool_call() {
                Some(_) => answers.lock().unwrap().pop().unwrap_or_default().into(),
                None => {
                    let mut tool = Tool::new("rows", "Rows", Arc::default());
                    tool.output_schema = schema.clone();
                    ListToolsResult::with_all_items(vec![tool]).into()
                }
            };
            std::future::ready(Ok::<_, Error>(McpResponse::new(result)))
        })
    }
}

fn layer() -> BudgetLayerBuilder {
    let mut budget = ContextBudget::new(WINDOW);
    budget.reserved_for_response = 0;
    budget.reserved_for_system = 0;
    BudgetLayer::builder(budget)
        .max_fraction(SHARE as f64 / WINDOW as f64)
        .max_kept_item_bytes(64 * MIB)
}

fn call() -> McpRequest {
    McpRequest::call_tool("rows").build()
}

fn text(text: String) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

/// Rows that are together about so many bytes of JSON.
fn rows(bytes: usize) -> Value {
    const WORDS: &[&str] = &[
        "alpha", "server", "gamma", "request", "omega", "client", "answer", "table",
    ];
    let mut random = 1_u64;
    let mut word = move || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        WORDS[(random >> 40) as usize % WORDS.len()]
    };
    let mut row = |id: usize| {
        json!({
            "id": id,
            "name": format!("{} {} {}", word(), word(), word()),
            "path": format!("/srv/{}/{}-{}.txt", word(), word(), id * 7919),
            "tags": [word(), word()],
            "size": id * 104_729 % 1_000_003,
            "ok": id.is_multiple_of(3),
        })
    };
    let of_one = row(0).to_string().len() + 1;
    json!({ "rows": (0..bytes / of_one).map(row).collect::<Vec<_>>() })
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "rows": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "properties": { "id": { "type": "integer" }, "name": { "type": "string" } },
                    "required": ["id", "name", "path"],
                },
            },
        },
        "required": ["rows"],
    })
}

async fn timed(stack: impl Stack) -> Duration {
    let request = call();
    let start = Instant::now();
    let answer = stack.oneshot(request).await;
    let took = start.elapsed();
    black_box(answer.expect("an answer"));
    took
}

async fn charge() {
    let small =
        text("A line of 64 bytes, as a tool may answer with it, number 12345.\n".repeat(16));
    let (bare, counted, estimated) = (Answers::default(), Answers::default(), Answers::default());
    let bare_stack = bare.stack(schema());
    let counted_stack = layer()
        .build()
        .expect("a layer")
        .layer(counted.stack(schema()));
    let estimating = layer().charge(Charge::Estimate).build().expect("a layer");
    let estimated_stack = estimating.layer(estimated.stack(schema()));
    // As a client does, so that the output schemas are known.
    for stack in [&counted_stack, &estimated_stack] {
        let listed = stack.clone().oneshot(McpRequest::list_tools());
        listed.await.expect("a list");
    }
    let mut rounds = Rounds::new(&[
        "without the layer",
        "charged by counting",
        "charged by estimate",
    ]);
    let clock = Clock::new(BUDGET);
    for round in 0.. {
        for variant in rounds.order(round) {
            let answers = [&bare, &counted, &estimated][variant];
            answers.prepare(&small, CALLS);
            let mut took = Duration::ZERO;
            for _ in 0..CALLS {
                took += match variant {
                    0 => timed(bare_stack.clone()).await,
                    1 => timed(counted_stack.clone()).await,
                    _ => timed(estimated_stack.clone()).await,
                };
            }
            rounds.add(variant, took.as_secs_f64() * 1e6 / CALLS as f64);
        }
        if clock.is_over() {
            break;
        }
    }
    rounds.print("us");
    figure("charge_1k_us", rounds.value(1) - rounds.value(0), "us");
    figure(
        "charge_1k_estimate_us",
        rounds.value(2) - rounds.value(0),
        "us",
    );
}

async fn fit() {
    let value = rows(MIB);
    let minified = value.to_string();
    let pretty = serde_json::to_string_pretty(&value).expect("JSON");
    let (in_minified, in_pretty) = (text(minified.clone()), text(pretty));
    let answers = Answers::default();
    let stack = layer()
        .build()
        .expect("a layer")
        .layer(answers.stack(schema()));
    let bpe = tiktoken_rs::o200k_base_singleton();
    let mut rounds = Rounds::new(&[
        "tiktoken-rs: encode, cut, decode",
        "1 MiB, minified",
        "1 MiB, pretty",
    ]);
    let clock = Clock::new(BUDGET);
    for round in 0.. {
        for variant in rounds.order(round) {
            let took = match variant {
                0 => {
                    let start = Instant::now();
                    let tokens = bpe.encode_ordinary(&minified);
                    black_box(bpe.decode_bytes(&tokens[..SHARE]).expect("bytes"));
                    start.elapsed()
                }
                _ => {
                    answers.prepare([&in_minified, &in_pretty][variant - 1], 1);
                    timed(stack.clone()).await
                }
            };
            rounds.add(variant, took.as_secs_f64() * 1e3);
        }
        if clock.is_over() {
            break;
        }
    }
    rounds.print("ms");
    figure("fit_1mib_ms", rounds.value(1), "ms");
    figure("fit_1mib_pretty_ms", rounds.value(2), "ms");
    figure("fit_vs_tiktoken", rounds.ratio(1, 0), "x");
}

async fn cut() {
    let mut large = CallToolResult::default();
    large.structured_content = Some(rows(10 * MIB));
    let answers = Answers::default();
    let stack = layer()
        .build()
        .expect("a layer")
        .layer(answers.stack(schema()));
    // The layer reads the output schema there.
    let listed = stack.clone().oneshot(McpRequest::list_tools());
    listed.await.expect("a list");
    let (mut took, mut grown) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        answers.prepare(&large, 1);
        let before = reset_peak();
        took.push(timed(stack.clone()).await.as_secs_f64() * 1e3);
        grown.push((peak() - before) / (10 * MIB) as f64);
    }
    figure("cut_10mib_ms", median(&took), "ms");
    figure("cut_10mib_memory", median(&grown), "times its size");
}

async fn run() {
    let answers = Answers::default();
    let stack = layer()
        .build()
        .expect("a layer")
        .layer(answers.stack(schema()));
    let mut took = Vec::new();
    for _ in 0..15 {
        answers.prepare(&text("=".repeat(200_000)), 1);
        took.push(timed(stack.clone()).await.as_secs_f64() * 1e3);
    }
    figure("run_200k_ms", median(&took), "ms");
}

async fn neighbour() {
    let small =
        text("A line of 64 bytes, as a tool may answer with it, number 12345.\n".repeat(16));
    let large = text(rows(10 * MIB).to_string());
    let (near, far) = (Answers::default(), Answers::default());
    let near_stack = layer()
        .build()
        .expect("a layer")
        .layer(near.stack(schema()));
    let far_stack = layer().build().expect("a layer").layer(far.stack(schema()));
    let mut ratios = Vec::new();
    for _ in 0..9 {
        let alone = p99(&near, &near_stack, &small).await;
        // More than are cut within the time.
        far.prepare(&large, 24);
        let is_over = Arc::new(AtomicBool::new(false));
        let cutting = tokio::spawn({
            let (stack, is_over) = (far_stack.clone(), is_over.clone());
            async move {
                let mut cuts = 0;
                while !is_over.load(Ordering::Relaxed) {
                    black_box(stack.clone().oneshot(call()).await.expect("an answer"));
                    cuts += 1;
                }
                cuts
            }
        });
        let beside = p99(&near, &near_stack, &small).await;
        is_over.store(true, Ordering::Relaxed);
        let cuts = cutting.await.expect("the cuts");
        println!("  alone {alone:.1} us, beside {cuts} cuts {beside:.1} us");
        ratios.push(beside / alone);
    }
    figure("neighbour_p99_ratio", median(&ratios), "x");
}

/// The 99th percentile of calls one after another, in microseconds.
async fn p99(answers: &Answers, stack: &impl Stack, answer: &CallToolResult) -> f64 {
    const COUNT: usize = 10_000;
    answers.prepare(answer, COUNT);
    let stack = stack.clone();
    let calls = tokio::spawn(async move {
        let mut took = Vec::with_capacity(COUNT);
        for _ in 0..COUNT {
            took.push(timed(stack.clone()).await.as_secs_f64() * 1e6);
            tokio::task::yield_now().await;
        }
        took
    });
    let mut took = calls.await.expect("the calls");
    took.sort_by(f64::total_cmp);
    took[COUNT * 99 / 100]
}

/// Sets the peak of the memory to what is used now, and returns it in bytes.
fn reset_peak() -> f64 {
    fs::write("/proc/self/clear_refs", "5").ok();
    peak()
}

fn peak() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) * 1024.0
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let tokenizer = Tokenizer::for_model("gpt-5");
    tokenizer.prepare();
    black_box(tokenizer.count("text"));
    charge().await;
    fit().await;
    cut().await;
    run().await;
    neighbour().await;
}
