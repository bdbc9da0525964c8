//! Random plans on agents that fail, decline and go away, on a paused clock.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use proptest::{prelude::*, sample::Index};
use rmcp::model::{CallToolResult, ContentBlock, ServerResult};
use rmcp_layers::{
    Error, McpRequest, McpResponse, TransportError,
    delegate::{
        Agent, OnFailure, Orchestrator, Plan, PlanSnapshot, Retries, Status, Task, TaskSnapshot,
    },
};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};
use tower::service_fn;

/// The behaviour of an agent on a task.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Complete,
    Fail,
    /// It fails at the first attempt.
    FailOnce,
    Decline,
    /// The first agent declines it.
    DeclineOnce,
    /// The connection is lost after the call was sent.
    Lose,
}

#[derive(Clone, Debug)]
struct RandomTask {
    after: Vec<Index>,
    millis: u64,
    priority: i32,
    /// Of two capabilities, or none.
    capability: u8,
    act: Act,
    on_failure: OnFailure,
    idempotent: bool,
    deadline: Option<u64>,
}

#[derive(Clone, Debug)]
struct RandomPlan {
    tasks: Vec<RandomTask>,
    /// The limits of the agents.
    agents: Vec<usize>,
    cancelled: Vec<(Index, u64)>,
    /// An agent that leaves, one that loses its calls from then on, and one that comes.
    leaves: Option<u64>,
    lost: Option<u64>,
    comes: Option<u64>,
    stops: Option<u64>,
}

impl RandomTask {
    fn dependencies(&self, number: usize) -> BTreeSet<usize> {
        let after = self.after.iter().filter(|_| number > 0);
        after.map(|index| index.index(number)).collect()
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => Just(Act::Complete),
        1 => Just(Act::Fail),
        2 => Just(Act::FailOnce),
        1 => Just(Act::Decline),
        2 => Just(Act::DeclineOnce),
        1 => Just(Act::Lose),
    ]
}

fn random_task() -> impl Strategy<Value = RandomTask> {
    let policy = prop_oneof![
        Just(OnFailure::FailDependents),
        Just(OnFailure::SkipDependents),
        Just(OnFailure::Continue),
    ];
    let after = prop::collection::vec(any::<Index>(), 0..4);
    let deadline = prop::option::weighted(0.05, 1_000..100_000_u64);
    let rest = (policy, any::<bool>(), deadline);
    (after, 1..60_000_u64, -2..3_i32, 0..3_u8, act(), rest).prop_map(
        |(after, millis, priority, capability, act, (on_failure, idempotent, deadline))| {
            RandomTask {
                after,
                millis,
                priority,
                capability,
                act,
                on_failure,
                idempotent,
                deadline,
            }
        },
    )
}

fn random_plan() -> impl Strategy<Value = RandomPlan> {
    let at = || prop::option::weighted(0.3, 0..300_000_u64);
    let tasks = prop::collection::vec(random_task(), 1..=200);
    let agents = prop::collection::vec(1..5_usize, 2..5);
    let cancelled = prop::collection::vec((any::<Index>(), 0..300_000_u64), 0..5);
    let stops = prop::option::weighted(0.1, 0..600_000_u64);
    (tasks, agents, cancelled, at(), at(), at(), stops).prop_map(
        |(tasks, agents, cancelled, leaves, lost, comes, stops)| RandomPlan {
            tasks,
            agents,
            cancelled,
            leaves,
            lost,
            comes,
            stops,
        },
    )
}

fn plan(tasks: &[RandomTask]) -> Plan {
    Plan::new(tasks.iter().enumerate().map(|(number, own)| {
        let after = own.dependencies(number).into_iter();
        let mut task = Task::new(number.to_string(), "work")
            .after(after.map(|task| task.to_string()))
            .priority(own.priority)
            .on_failure(own.on_failure)
            .idempotent(own.idempotent)
            .retries(Retries::at_most(1));
        if own.capability > 0 {
            task = task.capability(own.capability.to_string());
        }
        if let Some(deadline) = own.deadline {
            task = task.deadline(Duration::from_millis(deadline));
        }
        task
    }))
}

/// A call of an agent, from its begin to its end or cancellation.
#[derive(Clone, Debug)]
struct Call {
    task: usize,
    agent: usize,
    from: Instant,
    until: Option<Instant>,
    is_ambiguous: bool,
}

/// The calls of all agents.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<Call>>>);

/// Notes the end of a call, also if it is dropped.
struct Ongoing(Calls, usize);

impl Calls {
    /// Begins a call. Returns it with the number of calls of the task before it.
    fn begin(&self, task: usize, agent: usize) -> (Ongoing, usize) {
        let mut calls = self.0.lock().unwrap();
        let earlier = calls.iter().filter(|call| call.task == task).count();
        calls.push(Call {
            task,
            agent,
            from: Instant::now(),
            until: None,
            is_ambiguous: false,
        });
        (Ongoing(self.clone(), calls.len() - 1), earlier)
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        self.0.0.lock().unwrap()[self.1].until = Some(Instant::now());
    }
}

fn agent(
    number: usize,
    limit: usize,
    tasks: &Arc<[RandomTask]>,
    calls: &Calls,
    lost: Option<Instant>,
) -> Agent {
    let (tasks, calls) = (tasks.clone(), calls.clone());
    let stack = service_fn(move |request: McpRequest| {
        let (tasks, calls) = (tasks.clone(), calls.clone());
        async move {
            let call = request.as_tool_call().expect("a call of a tool");
            let id = call.arguments.as_ref().unwrap()["task_id"]
                .as_str()
                .unwrap();
            let task: usize = id.rsplit('/').next().unwrap().parse().unwrap();
            let (ongoing, earlier) = calls.begin(task, number);
            let own = &tasks[task];
            sleep(Duration::from_millis(own.millis)).await;
            let is_lost = lost.is_some_and(|at| at <= Instant::now());
            let result = match own.act {
                Act::Lose => None,
                _ if is_lost => None,
                Act::Fail => Some(CallToolResult::error(vec![ContentBlock::text("no")])),
                Act::FailOnce if earlier == 0 => {
                    Some(CallToolResult::error(vec![ContentBlock::text("not yet")]))
                }
                Act::Decline => Some(CallToolResult::structured(json!({ "status": "rejected" }))),
                Act::DeclineOnce if earlier == 0 => {
                    Some(CallToolResult::structured(json!({ "status": "rejected" })))
                }
                _ => Some(CallToolResult::structured(json!({ "result": "done" }))),
            };
            if result.is_none() {
                calls.0.lock().unwrap()[ongoing.1].is_ambiguous = true;
            }
            drop(ongoing);
            match result {
                Some(result) => Ok(McpResponse::new(ServerResult::from(result))),
                None => Err(Error::from(TransportError::new("the connection is lost"))),
            }
        }
    });
    let capabilities: &[&str] = [&["1"][..], &["2"], &["1", "2"]][number % 3];
    Agent::builder(number.to_string(), stack)
        .capabilities(capabilities.iter().copied())
        .max_concurrent(limit)
        .build()
        .unwrap()
}

/// Runs a plan to its end. Returns its last state, its changes, and the calls of the agents.
async fn run(random: &RandomPlan) -> (PlanSnapshot, Vec<TaskSnapshot>, Vec<Call>) {
    let orchestrator = Orchestrator::builder().build().unwrap();
    let (tasks, calls) = (Arc::from(&*random.tasks), Calls::default());
    let start = Instant::now();
    let at = |millis: u64| start + Duration::from_millis(millis);
    for (number, limit) in random.agents.iter().enumerate() {
        let lost = random.lost.filter(|_| number == 1).map(at);
        let agent = agent(number, *limit, &tasks, &calls, lost);
        orchestrator.register_unprobed(agent).unwrap();
    }
    let handle = orchestrator.run_plan(plan(&random.tasks)).unwrap();
    let changes = tokio::spawn(handle.changes().collect::<Vec<_>>());
    let mut events = tokio::task::JoinSet::new();
    for (index, millis) in &random.cancelled {
        let (handle, id) = (handle.clone(), index.index(tasks.len()).to_string());
        let when = at(*millis);
        events.spawn(async move {
            sleep_until(when).await;
            handle.cancel_task(&id);
        });
    }
    if let Some(when) = random.stops.map(at) {
        let handle = handle.clone();
        events.spawn(async move {
            sleep_until(when).await;
            handle.cancel();
        });
    }
    if let Some(when) = random.leaves.map(at) {
        let orchestrator = orchestrator.clone();
        events.spawn(async move {
            sleep_until(when).await;
            orchestrator.unregister("0");
        });
    }
    if let Some(when) = random.comes.map(at) {
        let (orchestrator, number) = (orchestrator.clone(), random.agents.len());
        let agent = agent(number, 2, &tasks, &calls, None);
        events.spawn(async move {
            sleep_until(when).await;
            orchestrator.register_unprobed(agent).unwrap();
        });
    }
    let end = handle.wait().await;
    let changes = changes.await.unwrap();
    assert_eq!(orchestrator.waiting(), 0);
    assert!(
        orchestrator
            .agents()
            .iter()
            .all(|agent| agent.in_flight == 0)
    );
    let calls = calls.0.lock().unwrap().clone();
    (end, changes, calls)
}

fn paused<T>(run: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run)
}

fn check(random: &RandomPlan) -> Result<(), TestCaseError> {
    let (end, changes, calls) = paused(run(random));
    for (number, task) in end.tasks.iter().enumerate() {
        let own = &random.tasks[number];
        prop_assert!(task.status.is_terminal(), "{}: {}", number, task.status);
        // One terminal state, and nothing after it.
        let id = number.to_string();
        let states = changes.iter().filter(|change| *change.id == id);
        let states: Vec<_> = states.map(|change| change.status).collect();
        let ends = states.iter().filter(|status| status.is_terminal()).count();
        prop_assert_eq!(ends, 1, "{}: {:?}", number, states);
        prop_assert_eq!(states.last(), Some(&task.status));
        let own_calls: Vec<_> = calls.iter().filter(|call| call.task == number).collect();
        if task.status == Status::Complete {
            let is_done = matches!(own.act, Act::Complete | Act::FailOnce | Act::DeclineOnce);
            prop_assert!(is_done && !own_calls.is_empty(), "{:?}", own.act);
        }
        // Never twice at the same time, and never again after an ambiguous failure.
        for pair in own_calls.windows(2) {
            prop_assert!(pair[0].until.is_some_and(|until| until <= pair[1].from));
            prop_assert!(!pair[0].is_ambiguous || own.idempotent);
        }
        // After its dependencies.
        for dependency in own.dependencies(number) {
            let other = &end.tasks[dependency];
            let starts = task.started_after;
            prop_assert!(starts.is_none_or(|starts| Some(starts) >= other.ended_after));
            let goes_on = random.tasks[dependency].on_failure == OnFailure::Continue;
            let is_met = other.status == Status::Complete || goes_on;
            prop_assert!(is_met || own_calls.is_empty());
            let of_dependency = calls.iter().filter(|call| call.task == dependency);
            let last = of_dependency.filter_map(|call| call.until).max();
            let first = own_calls.iter().map(|call| call.from).min();
            if let (Some(last), Some(first)) = (last, first) {
                prop_assert!(last <= first);
            }
        }
    }
    check_limits(random, &calls)
}

fn check_limits(random: &RandomPlan, calls: &[Call]) -> Result<(), TestCaseError> {
    let limit = |agent: usize| random.agents.get(agent).copied().unwrap_or(2);
    for call in calls {
        // As many as there are when it begins.
        let at_once = calls.iter().filter(|other| {
            let is_open = other.until.is_none_or(|until| until > call.from);
            other.agent == call.agent && other.from <= call.from && is_open
        });
        prop_assert!(at_once.count() <= limit(call.agent));
        let needed = random.tasks[call.task].capability;
        let has = call.agent % 3 == 2 || needed == 0 || call.agent % 3 + 1 == usize::from(needed);
        prop_assert!(has);
    }
    Ok(())
}

/// The time of the same tasks if, whenever a place is free, the first ready task gets it.
fn list_schedule(tasks: &[RandomTask], places: usize) -> u64 {
    let mut dependents: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut waiting = BTreeMap::new();
    for (number, task) in tasks.iter().enumerate() {
        let dependencies = task.dependencies(number);
        for dependency in &dependencies {
            dependents.entry(*dependency).or_default().push(number);
        }
        waiting.insert(number, dependencies.len());
    }
    let mut age = 0;
    let mut ready = BinaryHeap::new();
    let mut add = |ready: &mut BinaryHeap<_>, task: usize| {
        age += 1;
        ready.push(Reverse((Reverse(tasks[task].priority), age, task)));
    };
    for number in 0..tasks.len() {
        if waiting[&number] == 0 {
            add(&mut ready, number);
        }
    }
    let mut running = BinaryHeap::new();
    let mut now = 0;
    loop {
        while running.len() < places
            && let Some(Reverse((_, _, task))) = ready.pop()
        {
            running.push(Reverse((now + tasks[task].millis, task)));
        }
        let Some(Reverse((ends, task))) = running.pop() else {
            return now;
        };
        now = ends;
        for dependent in dependents.remove(&task).unwrap_or_default() {
            let left = waiting.get_mut(&dependent).unwrap();
            *left -= 1;
            if *left == 0 {
                add(&mut ready, dependent);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_random_plan_on_unreliable_agents_keeps_all_promises(random in random_plan()) {
        check(&random)?;
    }

    #[test]
    fn the_time_of_a_plan_is_that_of_an_ideal_list_schedule(
        mut random in random_plan(),
        places in prop::collection::vec(1..5_usize, 1..4),
    ) {
        for task in &mut random.tasks {
            (task.capability, task.act, task.deadline) = (0, Act::Complete, None);
        }
        random.agents = places;
        random.cancelled.clear();
        (random.leaves, random.lost, random.comes, random.stops) = (None, None, None, None);
        let ideal = list_schedule(&random.tasks, random.agents.iter().sum());
        let (end, _, _) = paused(run(&random));
        prop_assert!(end.is_complete());
        let took = end.elapsed.as_millis() as f64;
        prop_assert!(took <= ideal as f64 * 1.05, "{} ms, ideally {} ms", took, ideal);
    }
}
