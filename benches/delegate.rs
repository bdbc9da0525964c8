//! What delegation costs: the schedule of a plan beside the bare calls of its agents.
//!
//! - *task*: plans of 100, 1,000 and 10,000 tasks, each with up to three dependencies among the 50 tasks before it,
//!   on agents that answer at once. The time of a plan from its submission to its end, for each task, less that of the
//!   bare call: the same request, made for each call, sent to the agents' `tower` service, without a client, `_meta`, or
//!   anything that reads the result. A call by an `McpClient` is shown beside it.
//! - *levels*: eight chains of twenty tasks of 5 ms, and one task of 100 ms beside them, as one plan and level by
//!   level, where each level begins when the one before has ended.
//! - *memory*: 50,000 tasks that wait for an agent, in five plans.
//!
//! Run it with `cargo bench --bench delegate`.

mod common;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest, ContentBlock,
    JsonObject, ServerResult,
};
use rmcp_layers::{
    BoxStack, Error, McpClient, McpRequest, McpResponse,
    delegate::{Agent, Orchestrator, Plan, Task},
};
use tower::{ServiceExt, service_fn};

use crate::common::{Clock, Rounds, figure, median, process};

const BUDGET: Duration = Duration::from_secs(20);
const SIZES: [usize; 3] = [100, 1_000, 10_000];
/// Tasks of one variant in a row.
const TASKS: usize = 10_000;

/// An agent's stack that answers after a time.
fn stack(after: impl Fn(&McpRequest) -> Duration + Clone + Send + Sync + 'static) -> BoxStack {
    BoxStack::new(service_fn(move |request: McpRequest| {
        let after = after(&request);
        async move {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            let result = CallToolResult::success(vec![ContentBlock::text("done")]);
            Ok::<_, Error>(McpResponse::new(ServerResult::from(result)))
        }
    }))
}

fn at_once() -> BoxStack {
    stack(|_| Duration::ZERO)
}

fn orchestrator(stack: &BoxStack, agents: usize, max_concurrent: usize) -> Orchestrator {
    let orchestrator = Orchestrator::builder().build().expect("an orchestrator");
    for number in 0..agents {
        let agent = Agent::builder(number.to_string(), stack.clone())
            .capability("work")
            .max_concurrent(max_concurrent)
            .build()
            .expect("an agent");
        orchestrator.register_unprobed(agent).expect("its place");
    }
    orchestrator
}

fn task(id: usize) -> Task {
    Task::new(id.to_string(), "Say that it is done").capability("work")
}

/// A plan of so many tasks, with dependencies that are random and always the same.
fn plan(tasks: usize) -> Plan {
    let mut random = 1_u64;
    let mut next = move |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) as usize % below
    };
    Plan::new((0..tasks).map(|id| {
        let count = if id < 8 { 0 } else { next(4) };
        let after = (0..count)
            .map(|_| id - 1 - next(id.min(50)))
            .collect::<Vec<_>>();
        task(id).after(after.into_iter().map(|id| id.to_string()))
    }))
}

async fn tasks() {
    let stack = at_once();
    let orchestrator = orchestrator(&stack, 3, 3);
    let mut rounds = Rounds::new(&[
        "a bare call",
        "by an McpClient",
        "a task of 100",
        "a task of 1,000",
        "a task of 10,000",
    ]);
    let clock = Clock::new(BUDGET);
    for round in 0.. {
        for variant in rounds.order(round) {
            let took = match variant {
                0 => bare(&stack).await,
                1 => by_client(&stack).await,
                _ => planned(&orchestrator, SIZES[variant - 2]).await,
            };
            rounds.add(variant, took.as_secs_f64() * 1e6 / TASKS as f64);
        }
        if clock.is_over() {
            break;
        }
    }
    rounds.print("us");
    let bare = rounds.value(0);
    figure("bare_us", bare, "us");
    figure("client_us", rounds.value(1), "us");
    figure("task_us_100", rounds.value(2) - bare, "us");
    figure("task_us_1000", rounds.value(3) - bare, "us");
    figure("task_us_10000", rounds.value(4) - bare, "us");
    figure("flat_ratio", rounds.ratio(4, 2), "x");
}

async fn bare(stack: &BoxStack) -> Duration {
    let start = Instant::now();
    for id in 0..TASKS {
        let mut arguments = JsonObject::new();
        arguments.insert("task_id".to_owned(), id.to_string().into());
        arguments.insert("description".to_owned(), "Say that it is done".into());
        let call = CallToolRequestParams::new("execute_task").with_arguments(arguments);
        let request = McpRequest::new(ClientRequest::from(CallToolRequest::new(call)));
        black_box(stack.clone().oneshot(request).await.expect("an answer"));
    }
    start.elapsed()
}

async fn by_client(stack: &BoxStack) -> Duration {
    let client = McpClient::new(stack.clone());
    let start = Instant::now();
    for id in 0..TASKS {
        let answer = client
            .call_tool("execute_task")
            .argument("task_id", id.to_string())
            .argument("description", "Say that it is done")
            .await;
        black_box(answer.expect("an answer"));
    }
    start.elapsed()
}

async fn planned(orchestrator: &Orchestrator, size: usize) -> Duration {
    let mut took = Duration::ZERO;
    for _ in 0..TASKS / size {
        let plan = plan(size);
        let start = Instant::now();
        let handle = orchestrator.run_plan(plan).expect("a valid plan");
        let end = handle.wait().await;
        took += start.elapsed();
        assert!(end.is_complete(), "{end}");
    }
    took
}

async fn levels() {
    const CHAINS: usize = 8;
    const LENGTH: usize = 20;
    let stack = stack(|request| {
        let call = request
            .as_tool_call()
            .and_then(|call| call.arguments.as_ref());
        let is_slow = call.is_some_and(|all| all["description"] == "slow");
        Duration::from_millis(if is_slow { 100 } else { 5 })
    });
    let orchestrator = orchestrator(&stack, 3, 3);
    let slow = || Task::new("slow", "slow");
    let fast = |chain: usize, place: usize| Task::new(format!("{chain}-{place}"), "fast");
    let mut rounds = Rounds::new(&["level by level", "as a plan"]);
    for round in 0..7 {
        for variant in rounds.order(round) {
            let start = Instant::now();
            if variant == 0 {
                for place in 0..LENGTH {
                    let level = (0..CHAINS).map(|chain| fast(chain, place));
                    let beside = (place == 0).then(slow);
                    let ends = orchestrator.run_parallel(level.chain(beside)).await;
                    black_box(ends.expect("a valid plan"));
                }
            } else {
                let tasks = (0..CHAINS).flat_map(|chain| {
                    (0..LENGTH).map(move |place| {
                        let before = place.checked_sub(1);
                        fast(chain, place).after(before.map(|place| format!("{chain}-{place}")))
                    })
                });
                let plan = Plan::new(tasks.chain([slow()]));
                let end = orchestrator.run_plan(plan).expect("a valid plan");
                assert!(end.wait().await.is_complete());
            }
            rounds.add(variant, start.elapsed().as_secs_f64() * 1e3);
        }
    }
    rounds.print("ms");
    figure("vs_levels", rounds.ratio(1, 0), "x");
}

async fn memory() {
    const PLANS: usize = 5;
    let orchestrator = orchestrator(&stack(|_| Duration::from_secs(3_600)), 1, 1);
    let own = std::process::id();
    let mut grown = Vec::new();
    for _ in 0..3 {
        let before = process::resident(own).unwrap_or(f64::NAN);
        let plans: Vec<_> = (0..PLANS)
            .map(|_| orchestrator.run_plan(Plan::new((0..TASKS).map(task))))
            .map(|plan| plan.expect("a valid plan"))
            .collect();
        while orchestrator.waiting() < PLANS * TASKS - 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let after = process::resident(own).unwrap_or(f64::NAN);
        grown.push((after - before) / (PLANS * TASKS) as f64);
        for plan in &plans {
            plan.cancel();
            plan.wait().await;
        }
    }
    // Later ones reuse the memory of the first.
    figure(
        "task_bytes",
        grown.first().copied().unwrap_or(f64::NAN),
        "bytes",
    );
    black_box(median(&grown));
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    memory().await;
    tasks().await;
    levels().await;
}
