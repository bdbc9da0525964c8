//! Plans in a store, whose orchestrator is cut off from it, and another that takes them over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::{BoxFuture, join, pending};
use rmcp_layers::{
    CallContext, Principal, Upstream,
    delegate::{Agent, Mapping, Orchestrator, Plan, PlanHandle, PlanState, Status, StatusTool},
    store::{MemoryStore, Store, StoreError},
};
use tokio::time::{Instant, sleep};

use crate::{
    common::piped,
    desk::*,
    faulty_store::{Fault, Faulty},
    worker::Worker,
};

pub const LEASE: Duration = Duration::from_secs(5);

/// A process's connection to a store, which can be cut or fail.
#[derive(Clone)]
pub struct Connection {
    store: MemoryStore,
    is_cut: Arc<AtomicBool>,
    fails: Arc<AtomicBool>,
}

impl Connection {
    pub fn to(store: &MemoryStore) -> Self {
        Self {
            store: store.clone(),
            is_cut: Arc::default(),
            fails: Arc::default(),
        }
    }

    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
    }
}

impl Fault for Connection {
    fn answer<'a, T: Send + 'a>(
        &'a self,
        answer: impl FnOnce(&'a MemoryStore) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        if self.is_cut.load(Ordering::Relaxed) {
            return Box::pin(pending());
        }
        if self.fails.load(Ordering::Relaxed) {
            return Box::pin(async { Err(StoreError::new("down")) });
        }
        answer(&self.store)
    }
}

/// An orchestrator over a connection to the store.
pub async fn over(connection: &Connection, desks: &[&Desk]) -> Orchestrator {
    let builder = Orchestrator::builder().store(Faulty(connection.clone()));
    let orchestrator = builder.lease(LEASE).build().unwrap();
    for desk in desks {
        let agent = desk.agent().max_concurrent(10).build().unwrap();
        orchestrator.register(agent).await.unwrap();
    }
    orchestrator
}

/// Takes over the only plan, as soon as that is possible.
pub async fn taken_over(orchestrator: &Orchestrator) -> PlanHandle {
    let began = Instant::now();
    loop {
        if let Some(plan) = orchestrator.resume().await.unwrap().pop() {
            return plan;
        }
        assert!(began.elapsed() < LEASE * 4, "no plan was taken over");
        sleep(LEASE / 10).await;
    }
}

pub fn by(name: &str) -> CallContext {
    let mut context = CallContext::background();
    context.set_principal(Principal::new(name));
    context
}

#[tokio::test(start_paused = true)]
async fn another_orchestrator_finishes_a_plan_and_no_finished_task_runs_again() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let (one, two) = (Connection::to(&store), Connection::to(&store));
    let first = over(&one, &[&desk]).await;
    let plan = Plan::new([
        task("done", "say 42"),
        task("failed", "fail"),
        task("unknown", "gated; say no"),
        task("safe", "gated; say yes").idempotent(true),
        task("next", "wait 1").after(["done", "safe"]),
        task("never", "say no").after(["unknown"]),
    ]);
    let handle = first.run_plan_for(plan, &by("ann")).unwrap();
    desk.events.until("begun safe").await;
    desk.events.until("ended failed").await;
    while handle.snapshot().ended() < 2 {
        handle.changed(handle.snapshot().version).await;
    }
    let second = over(&two, &[&desk]).await;
    // The lease keeps the others away.
    assert!(second.resume().await.unwrap().is_empty());
    one.cut();
    let taken = taken_over(&second).await;
    // The first one has given up before that.
    let released = ended(&handle).await;
    assert!(
        matches!(released.state, PlanState::Released(_)),
        "{released}"
    );
    desk.events.until("cancelled unknown").await;
    desk.gate.send_replace(true);
    let end = ended(&taken).await;
    let expected = "done complete, failed failed, unknown failed, safe complete, next complete, \
                    never failed";
    assert_eq!(statuses(&end), expected, "{end}");
    let next = &end.task("next").unwrap().output.as_ref().unwrap().answer;
    assert!(next.starts_with("Result of task `done`:\n42"), "{next}");
    let reason = end.task("unknown").unwrap().error.clone().unwrap();
    assert!(reason.contains("the orchestrator ended while"), "{reason}");
    let attempts =
        ["done", "failed", "unknown", "safe", "next", "never"].map(|task| desk.attempts(task));
    assert_eq!(attempts, [1, 1, 1, 2, 1, 0]);
    assert_eq!(end.task("safe").unwrap().attempts, 2);

    // The plan is still its principal's, also from the store.
    let id = handle.id();
    assert!(
        second.find_plan(&by("ann"), id).is_some() && second.find_plan(&by("ben"), id).is_none()
    );
    let third = over(&two, &[]).await;
    let stored = third
        .stored_snapshot(&by("ann"), id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (statuses(&stored), stored.state),
        (expected.to_owned(), PlanState::Ended)
    );
    assert!(
        third
            .stored_snapshot(&by("ben"), id)
            .await
            .unwrap()
            .is_none()
    );
    assert!(third.resume().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_question_survives_its_orchestrator_and_is_answered_once() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let (one, two) = (Connection::to(&store), Connection::to(&store));
    let first = over(&one, &[&desk]).await;
    let handle = first.run_plan(Plan::new([task("t", "ask")])).unwrap();
    while handle.task("t").unwrap().status != Status::InputRequired {
        handle.changed(handle.snapshot().version).await;
    }
    one.cut();
    let second = over(&two, &[&desk]).await;
    let taken = taken_over(&second).await;
    let asked = taken.task("t").unwrap();
    assert_eq!(asked.status, Status::InputRequired);
    assert!(asked.questions.unwrap().contains_key("color"));
    taken.answer("t", blue()).unwrap();
    taken.answer("t", blue()).unwrap_err();
    let end = ended(&taken).await;
    assert_eq!(
        end.task("t").unwrap().output.as_ref().unwrap().answer,
        "\"blue\""
    );
    // The call, and its second round.
    assert_eq!(desk.attempts("t"), 2);
}

#[tokio::test(start_paused = true)]
async fn of_two_orchestrators_that_take_a_plan_over_one_gets_it() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let connections = [(); 3].map(|()| Connection::to(&store));
    let first = over(&connections[0], &[&desk]).await;
    let plan = Plan::new((0..20).map(|n| task(&n.to_string(), "wait 100").idempotent(true)));
    let handle = first.run_plan(plan).unwrap();
    desk.events.until("ended 3").await;
    connections[0].cut();
    ended(&handle).await;
    sleep(LEASE).await;
    let second = over(&connections[1], &[&desk]).await;
    let third = over(&connections[2], &[&desk]).await;
    let (two, three) = join(second.resume(), third.resume()).await;
    let mut taken = [two.unwrap(), three.unwrap()].concat();
    assert_eq!(taken.len(), 1);
    let end = ended(&taken.pop().unwrap()).await;
    assert!(end.is_complete(), "{end}");
    for n in 0..20 {
        assert!(desk.attempts(&n.to_string()) <= 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_was_cancelled_is_not_taken_over() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let connection = Connection::to(&store);
    let first = over(&connection, &[&desk]).await;
    let handle = first
        .run_plan(Plan::new([
            task("a", "gated"),
            task("b", "say b").after(["a"]),
        ]))
        .unwrap();
    desk.events.until("begun a").await;
    handle.cancel();
    ended(&handle).await;
    let second = over(&connection, &[&desk]).await;
    assert!(second.resume().await.unwrap().is_empty());
    let context = CallContext::background();
    let stored = second
        .stored_snapshot(&context, handle.id())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(statuses(&stored), "a cancelled, b cancelled");
    assert_eq!(
        stored.state,
        PlanState::Stopped("the plan was cancelled".into())
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_a_moment_delays_a_plan_and_a_plan_that_is_not_stored_stops() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let connection = Connection::to(&store);
    let orchestrator = over(&connection, &[&desk]).await;
    let plan = || Plan::new([task("a", "gated"), task("b", "say b").after(["a"])]);
    let handle = orchestrator.run_plan(plan()).unwrap();
    desk.events.until("begun a").await;
    connection.fails.store(true, Ordering::Relaxed);
    desk.gate.send_replace(true);
    desk.events.until("ended a").await;
    sleep(Duration::from_secs(1)).await;
    // The result is not told of before it is stored.
    assert_eq!(handle.task("a").unwrap().status, Status::Running);
    connection.fails.store(false, Ordering::Relaxed);
    let end = ended(&handle).await;
    assert!(end.is_complete(), "{end}");
    assert_eq!((desk.attempts("a"), desk.attempts("b")), (1, 1));

    connection.fails.store(true, Ordering::Relaxed);
    let end = ended(&orchestrator.run_plan(plan()).unwrap()).await;
    assert_eq!(statuses(&end), "a cancelled, b cancelled");
    assert!(
        end.to_string().contains("the plan cannot be stored: down"),
        "{end}"
    );
}

/// An orchestrator whose agent starts work and is asked for its status.
pub async fn with_jobs(connection: &Connection, worker: &Worker) -> Orchestrator {
    let orchestrator = over(connection, &[]).await;
    let status = StatusTool::new("job_status")
        .handle("/id/job", "job")
        // The first orchestrator loses its lease between two polls.
        .interval(LEASE * 2);
    let mapping = Mapping::tool("job_start")
        .description("prompt")
        .answer("/result")
        .started(status.cancelled_by("job_cancel"));
    let agent = Agent::builder("worker", piped(Upstream::builder(), worker));
    let agent = agent.mapping(mapping).max_concurrent(1).build().unwrap();
    orchestrator.register(agent).await.unwrap();
    orchestrator
}

/// Returns a plan whose process has died while the work of its task goes on at the agent.
pub async fn left_work(store: &MemoryStore, worker: &Worker) -> PlanHandle {
    let connection = Connection::to(store);
    let orchestrator = with_jobs(&connection, worker).await;
    let handle = orchestrator.run_plan(Plan::new([task("t", "dig")]));
    let handle = handle.unwrap();
    worker.events.until("polled").await;
    connection.cut();
    ended(&handle).await;
    sleep(LEASE).await;
    handle
}

#[tokio::test(start_paused = true)]
async fn work_of_a_cancelled_task_that_no_attempt_follows_is_cancelled_at_its_agent() {
    let (store, worker) = (MemoryStore::new(), Worker::default());
    left_work(&store, &worker).await;
    // The agent is busy, so the task of the other plan waits for it.
    let second = with_jobs(&Connection::to(&store), &worker).await;
    let busy = second.run_plan(Plan::new([task("u", "dig")])).unwrap();
    worker.events.until_times("polled", 2).await;
    let taken = second.resume().await.unwrap().pop().unwrap();
    assert_eq!(taken.task("t").unwrap().status, Status::Ready);
    taken.cancel();
    assert_eq!(statuses(&ended(&taken).await), "t cancelled");
    worker.events.until("job cancelled").await;
    busy.cancel();
}

#[tokio::test(start_paused = true)]
async fn work_of_a_task_that_is_cancelled_before_its_attempt_goes_on_is_cancelled_at_its_agent() {
    let (store, worker) = (MemoryStore::new(), Worker::default());
    left_work(&store, &worker).await;
    let two = Connection::to(&store);
    let second = with_jobs(&two, &worker).await;
    let taken = second.resume().await.unwrap().pop().unwrap();
    // The attempt waits for its record.
    two.fails.store(true, Ordering::Relaxed);
    while taken.task("t").unwrap().status != Status::Running {
        taken.changed(taken.snapshot().version).await;
    }
    assert!(taken.cancel_task("t"));
    worker.events.until("job cancelled").await;
    two.fails.store(false, Ordering::Relaxed);
    assert_eq!(statuses(&ended(&taken).await), "t cancelled");
}

#[tokio::test(start_paused = true)]
async fn work_of_a_plan_that_was_cancelled_as_its_orchestrator_died_is_cancelled_at_its_agent() {
    let (store, worker) = (MemoryStore::new(), Worker::default());
    let handle = left_work(&store, &worker).await;
    let key = format!("delegate:default:plan:{}:stop", handle.id());
    let reason = b"the plan was cancelled".to_vec();
    store.set(key.as_bytes(), reason, None).await.unwrap();
    let second = with_jobs(&Connection::to(&store), &worker).await;
    let taken = second.resume().await.unwrap().pop().unwrap();
    assert_eq!(statuses(&ended(&taken).await), "t cancelled");
    worker.events.until("job cancelled").await;
}

#[tokio::test(start_paused = true)]
async fn work_that_an_agent_has_given_a_handle_of_goes_on_under_another_orchestrator() {
    let (store, worker) = (MemoryStore::new(), Worker::default());
    let (one, two) = (Connection::to(&store), Connection::to(&store));
    let over = async |connection: &Connection| with_jobs(connection, &worker).await;
    let first = over(&one).await;
    let handle = first.run_plan(Plan::new([task("t", "dig")])).unwrap();
    worker.events.until("polled").await;
    one.cut();
    let second = over(&two).await;
    let taken = taken_over(&second).await;
    let end = ended(&taken).await;
    let dug = end.task("t").unwrap();
    assert_eq!((dug.status, dug.attempts), (Status::Complete, 1), "{end}");
    assert_eq!(dug.output.as_ref().unwrap().answer, "job done");
    assert_eq!(worker.arguments("job_start").len(), 1);
    // The one that lost the plan leaves the work to the other.
    let released = ended(&handle).await;
    assert!(
        matches!(released.state, PlanState::Released(_)),
        "{released}"
    );
    sleep(LEASE).await;
    assert!(worker.arguments("job_cancel").is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_orchestrator_that_has_lost_its_plan_unknowingly_changes_nothing_of_it() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let first = over(&Connection::to(&store), &[&desk]).await;
    let plan = Plan::new([task("a", "gated"), task("b", "say b").after(["a"])]);
    let handle = first.run_plan(plan).unwrap();
    desk.events.until("begun a").await;
    // As by a failover of the store.
    let lease = format!("delegate:default:plan:{}:lease", handle.id());
    store.remove(lease.as_bytes()).await.unwrap();
    let second = over(&Connection::to(&store), &[&desk]).await;
    let taken = second.resume().await.unwrap().pop().unwrap();
    let expected = "a failed, b failed";
    assert_eq!(statuses(&ended(&taken).await), expected);
    desk.gate.send_replace(true);
    let released = ended(&handle).await;
    assert!(
        matches!(released.state, PlanState::Released(_)),
        "{released}"
    );
    assert_eq!((desk.attempts("a"), desk.attempts("b")), (1, 0));
    let third = over(&Connection::to(&store), &[]).await;
    let stored = third
        .stored_snapshot(&CallContext::background(), handle.id())
        .await;
    assert_eq!(statuses(&stored.unwrap().unwrap()), expected);
}

/// A store whose operations from the nth on fail for a number of times, after or before they are done.
#[derive(Clone)]
struct Losing {
    store: MemoryStore,
    seen: Arc<std::sync::atomic::AtomicUsize>,
    from: usize,
    times: usize,
    is_done: bool,
}

impl Fault for Losing {
    fn answer<'a, T: Send + 'a>(
        &'a self,
        answer: impl FnOnce(&'a MemoryStore) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        let n = self.seen.fetch_add(1, Ordering::SeqCst);
        if n < self.from || n >= self.from + self.times {
            return answer(&self.store);
        }
        // Of several that fail, only the reply of the first one is lost.
        let done = (self.is_done && n == self.from).then(|| answer(&self.store));
        Box::pin(async move {
            if let Some(done) = done {
                let _ = done.await;
            }
            Err(StoreError::new("down"))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_at_any_moment_has_no_task_done_twice_or_after_its_plan_was_refused() {
    let mut wrong = Vec::new();
    for (from, times, is_done) in (0..24)
        .flat_map(|from| [1, 2, 3, 5].map(|times| (from, times)))
        .flat_map(|(from, times)| [true, false].map(|is_done| (from, times, is_done)))
    {
        let (store, desk) = (MemoryStore::new(), Desk::new("a"));
        let seen = Arc::default();
        let losing = Losing {
            store: store.clone(),
            seen,
            from,
            times,
            is_done,
        };
        let first = Orchestrator::builder()
            .store(Faulty(losing))
            .lease(LEASE)
            .build()
            .unwrap();
        first.register(desk.agent().build().unwrap()).await.unwrap();
        let plan = Plan::new([task("a", "say a"), task("b", "say b").after(["a"])]);
        let end = ended(&first.run_plan(plan).unwrap()).await;
        let was = statuses(&end);
        let second = over(&Connection::to(&store), &[&desk]).await;
        sleep(LEASE * 2).await;
        let taken = second.resume().await.unwrap();
        for plan in &taken {
            ended(plan).await;
        }
        let done = (desk.attempts("a"), desk.attempts("b"));
        let expected = if end.is_complete() { (1, 1) } else { (0, 0) };
        if done != expected || (end.is_complete() && !taken.is_empty()) {
            wrong.push(format!(
                "{from} {times} {is_done}: {was}, then {done:?}, taken {}",
                taken.len()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
