//! Requests for plans of other processes that meet a fault, or the end of their plan.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use rmcp::model::*;
use rmcp_layers::{
    CallContext, McpRequest, ServiceBuilderExt, Upstream,
    delegate::{DelegateLayer, Delivery, Orchestrator, Plan, PlanHandle, PlanState, Status},
    store::{MemoryStore, Store, StoreError},
};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tower::{ServiceBuilder, ServiceExt};

use crate::{
    common::{demo::Demo, text},
    desk::*,
    faulty_store::{Fault, Faulty},
    processes::{asked, client, kept, structured},
    store::{Connection, LEASE, by, over},
};

/// A connection to a store that does operations, but keeps back the reply of one.
#[derive(Clone)]
struct Delayed {
    store: MemoryStore,
    /// The number of replies before the one that is kept back.
    before: Arc<AtomicUsize>,
    is_let_go: watch::Sender<bool>,
}

impl Delayed {
    fn to(store: &MemoryStore) -> Self {
        Self {
            store: store.clone(),
            before: Arc::new(AtomicUsize::new(usize::MAX)),
            is_let_go: watch::Sender::new(false),
        }
    }

    fn keep_back(&self, before: usize) {
        self.before.store(before, Ordering::Relaxed);
    }
}

impl Fault for Delayed {
    fn answer<'a, T: Send + 'a>(
        &'a self,
        operation: impl FnOnce(&'a MemoryStore) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        let done = operation(&self.store);
        if self.before.fetch_sub(1, Ordering::Relaxed) != 0 {
            return done;
        }
        let mut is_let_go = self.is_let_go.subscribe();
        Box::pin(async move {
            let reply = done.await;
            let _ = is_let_go.wait_for(|is_let_go| *is_let_go).await;
            reply
        })
    }
}

async fn over_delayed(connection: &Delayed, desk: &Desk) -> Orchestrator {
    let builder = Orchestrator::builder().store(Faulty(connection.clone()));
    let builder = builder.lease(LEASE).store_timeout(Duration::from_secs(60));
    let orchestrator = builder.build().unwrap();
    let agent = desk.agent().build().unwrap();
    orchestrator.register(agent).await.unwrap();
    orchestrator
}

/// Takes all plans over, when that is possible. Returns this one.
async fn take_over(orchestrator: &Orchestrator, id: &str) -> PlanHandle {
    sleep(LEASE * 2).await;
    let mut taken = orchestrator.resume().await.unwrap().into_iter();
    taken.find(|plan| &**plan.id() == id).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_answer_survives_the_process_that_could_not_pass_it_on() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let [one, two, three] = [(); 3].map(|()| Connection::to(&store));
    let first = over(&one, &[&desk]).await;
    let handle = first.run_plan(Plan::new([task("t", "ask")])).unwrap();
    asked(&handle, "t").await;
    one.cut();
    ended(&handle).await;

    // The agent of the second process is busy.
    let second = over(&two, &[]).await;
    let agent = desk.agent().max_concurrent(1).build().unwrap();
    second.register(agent).await.unwrap();
    second.run_plan(Plan::new([task("busy", "gated")])).unwrap();
    desk.events.until("begun busy").await;
    let taken = take_over(&second, handle.id()).await;
    assert_eq!(taken.task("t").unwrap().status, Status::InputRequired);
    let third = over(&three, &[&desk]).await;
    let context = CallContext::background();
    let sent = third
        .answer_task(&context, handle.id(), "t", blue())
        .await
        .unwrap();
    assert_eq!(sent, Delivery::Stored);
    while taken.task("t").unwrap().status != Status::Ready {
        taken.changed(taken.snapshot().version).await;
    }
    sleep(Duration::from_secs(5)).await;
    assert_eq!(desk.attempts("t"), 1);
    two.cut();
    ended(&taken).await;

    let taken = take_over(&third, handle.id()).await;
    let end = ended(&taken).await;
    assert_eq!(
        end.task("t").unwrap().output.as_ref().unwrap().answer,
        "\"blue\""
    );
    assert_eq!(desk.attempts("t"), 2);
    assert_eq!(kept(&store, handle.id()).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_question_whose_record_has_no_reply_yet_is_kept() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let (one, two) = (Delayed::to(&store), Connection::to(&store));
    let first = over_delayed(&one, &desk).await;
    let handle = first.run_plan(Plan::new([task("t", "ask twice")])).unwrap();
    asked(&handle, "t").await;
    // The next but one operation writes the second question.
    one.keep_back(1);
    handle.answer("t", blue()).unwrap();
    let second = over(&two, &[]).await;
    let context = CallContext::background();
    let stored = async || {
        let stored = second.stored_snapshot(&context, handle.id()).await;
        let task = stored.unwrap().unwrap().task("t").unwrap().clone();
        task.questions
    };
    let began = Instant::now();
    while !stored().await.is_some_and(|all| all.contains_key("size")) {
        assert!(began.elapsed() < Duration::from_secs(1));
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(handle.task("t").unwrap().questions, None);
    let large = InputResponses::from([("size".to_owned(), json!("large"))]);
    let sent = second.answer_task(&context, handle.id(), "t", large).await;
    assert_eq!(sent.unwrap(), Delivery::Stored);
    sleep(Duration::from_secs(3)).await;
    one.is_let_go.send_replace(true);
    let end = ended(&handle).await;
    assert_eq!(
        end.task("t").unwrap().output.as_ref().unwrap().answer,
        "\"large\""
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_as_its_plan_ends_does_not_stay_in_the_store() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let (one, two) = (Connection::to(&store), Delayed::to(&store));
    let first = over(&one, &[&desk]).await;
    let handle = first.run_plan(Plan::new([task("t", "gated")])).unwrap();
    desk.events.until("begun t").await;
    let second = over_delayed(&two, &desk).await;
    // Its second operation reads the task.
    two.keep_back(1);
    let context = CallContext::background();
    let cancel = async {
        let cancelled = second.cancel_plan(&context, handle.id()).await;
        cancelled.unwrap()
    };
    let end = async {
        sleep(Duration::from_secs(1)).await;
        desk.gate.send_replace(true);
        assert_eq!(ended(&handle).await.state, PlanState::Ended);
        // As long as its process has not released it.
        let lease = format!("delegate:default:plan:{}:lease", handle.id());
        let added = store.add(lease.as_bytes(), b"one".to_vec(), Some(LEASE));
        assert!(added.await.unwrap());
        two.is_let_go.send_replace(true);
    };
    let (delivery, ()) = futures::future::join(cancel, end).await;
    assert_eq!(delivery, Delivery::Delivered);
    assert_eq!(kept(&store, handle.id()).await, None);
}

#[tokio::test(start_paused = true)]
async fn task_status_of_another_process_waits_for_the_task_that_it_names() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let [one, two] = [(); 2].map(|()| Connection::to(&store));
    let (first, second) = (over(&one, &[&desk]).await, over(&two, &[]).await);
    let plan = Plan::new([task("a", "ask"), task("b", "wait 3000")]);
    let handle = first.run_plan(plan).unwrap();
    asked(&handle, "a").await;
    let client = client(&second, false);
    let began = Instant::now();
    let call = client.call_tool("task_status").argument("until", "end");
    let call = call.argument("plan", &**handle.id()).argument("task", "b");
    let status = call.await.unwrap();
    assert_eq!(structured(&status)["tasks"][0]["status"], "complete");
    let took = began.elapsed();
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn a_further_round_at_another_process_waits_no_longer_than_it_is_told() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let [one, two] = [(); 2].map(|()| Connection::to(&store));
    let (first, second) = (over(&one, &[&desk]).await, over(&two, &[]).await);
    let tasks = ["a", "b", "c"].map(|id| task(id, "ask"));
    let handle = first.run_plan(Plan::new(tasks)).unwrap();
    for id in ["a", "b", "c"] {
        asked(&handle, id).await;
    }
    one.cut();
    let answers = ["a", "b", "c"].map(|id| {
        let answer = blue().remove("color").unwrap();
        (format!("{id}/color"), answer)
    });
    let there = client(&second, false);
    let began = Instant::now();
    let tasks = json!([{ "id": "a", "description": "ask" }]);
    let round = there.call_tool("run_plan").argument("tasks", tasks);
    let round = round.argument("wait_s", 1);
    let state = Some(handle.id().to_string());
    let round = round.input(Some(InputResponses::from(answers)), state);
    let Ok(CallToolResponse::Complete(result)) = round.once().await else {
        panic!("no result")
    };
    let next = structured(&result)["next"].as_str().unwrap();
    assert!(next.contains("The request is kept"), "{next}");
    assert!(began.elapsed() < Duration::from_secs(2));
    let kept = kept(&store, handle.id()).await.unwrap();
    assert_eq!(kept.matches("\"answers\"").count(), 3, "{kept}");
}

#[tokio::test(start_paused = true)]
async fn a_further_round_at_another_process_returns_a_question_that_its_caller_cannot_answer() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let [one, two] = [(); 2].map(|()| Connection::to(&store));
    let (first, second) = (over(&one, &[&desk]).await, over(&two, &[]).await);
    let handle = first.run_plan(Plan::new([task("task", "ask")])).unwrap();
    asked(&handle, "task").await;
    // It declares the Tasks extension only.
    let there = client(&second, true);
    let began = Instant::now();
    let round = there
        .call_tool("delegate_task")
        .argument("description", "ask");
    let round = round.input(None, Some(handle.id().to_string()));
    let Ok(CallToolResponse::Complete(result)) = round.once().await else {
        panic!("no result")
    };
    assert!(text(&result).contains("Which color?"), "{}", text(&result));
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_cancelled_however_many_requests_wait_for_its_process() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let [one, two] = [(); 2].map(|()| Connection::to(&store));
    let first = over(&one, &[&desk]).await;
    let plan = Plan::new([task("a", "gated").idempotent(true)]);
    let handle = first.run_plan(plan).unwrap();
    desk.events.until("begun a").await;
    one.cut();
    let second = over(&two, &[&desk]).await;
    let context = CallContext::background();
    let mut refused = None;
    while refused.is_none() {
        refused = second.cancel_task(&context, handle.id(), "a").await.err();
    }
    second.cancel_plan(&context, handle.id()).await.unwrap();
    let taken = take_over(&second, handle.id()).await;
    assert_eq!(statuses(&ended(&taken).await), "a cancelled");
}

/// Has the process that runs a plan lose it, as by a failover of the store. It does not notice yet.
async fn lose(store: &MemoryStore, handle: &PlanHandle) {
    let lease = format!("delegate:default:plan:{}:lease", handle.id());
    store.remove(lease.as_bytes()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_cancelled_through_a_process_that_does_not_know_that_it_has_lost_it() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let [one, two] = [(); 2].map(|()| Connection::to(&store));
    let (first, second) = (over(&one, &[&desk]).await, over(&two, &[&desk]).await);
    let plan = Plan::new([task("a", "gated").idempotent(true)]);
    let handle = first.run_plan(plan).unwrap();
    desk.events.until("begun a").await;
    lose(&store, &handle).await;
    let taken = second.resume().await.unwrap().pop().unwrap();
    desk.events.until_times("begun a", 2).await;
    let context = CallContext::background();
    first.cancel_plan(&context, handle.id()).await.unwrap();
    let left = ended(&handle).await;
    assert!(matches!(left.state, PlanState::Released(_)), "{left}");
    assert_eq!(statuses(&ended(&taken).await), "a cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_task_is_cancelled_through_a_process_that_does_not_know_that_it_has_lost_its_plan() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let [one, two] = [(); 2].map(|()| Connection::to(&store));
    let (first, second) = (over(&one, &[&desk]).await, over(&two, &[&desk]).await);
    let plan = Plan::new(["a", "b"].map(|id| task(id, "gated").idempotent(true)));
    let handle = first.run_plan(plan).unwrap();
    desk.events.until("begun b").await;
    lose(&store, &handle).await;
    let taken = second.resume().await.unwrap().pop().unwrap();
    desk.events.until_times("begun b", 2).await;
    let client = client(&first, false);
    let call = client.call_tool("cancel_task").argument("task", "a");
    let result = call.argument("plan", &**handle.id()).await.unwrap();
    let facts = structured(&result);
    assert_eq!(facts["state"], "running");
    assert_eq!(facts["tasks"][0]["status"], "cancelled");
    desk.gate.send_replace(true);
    assert_eq!(statuses(&ended(&taken).await), "a cancelled, b complete");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_has_lost_a_plan_does_not_mark_it_as_ended() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let [one, two, three] = [(); 3].map(|()| Connection::to(&store));
    let (first, second) = (over(&one, &[&desk]).await, over(&two, &[&desk]).await);
    let plan = Plan::new([task("a", "gated").idempotent(true)]);
    let handle = first.run_plan(plan).unwrap();
    desk.events.until("begun a").await;
    lose(&store, &handle).await;
    let taken = second.resume().await.unwrap().pop().unwrap();
    desk.events.until_times("begun a", 2).await;
    two.cut();
    // It ends in the process that has lost it.
    handle.cancel();
    ended(&handle).await;
    ended(&taken).await;
    let third = over(&three, &[&desk]).await;
    let taken = take_over(&third, handle.id()).await;
    assert_eq!(statuses(&ended(&taken).await), "a cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_second_answer_to_a_question_does_not_answer_the_same_question_asked_again() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let [one, two] = [(); 2].map(|()| Connection::to(&store));
    let (first, second) = (over(&one, &[&desk]).await, over(&two, &[]).await);
    let handle = first.run_plan(Plan::new([task("t", "ask again")])).unwrap();
    asked(&handle, "t").await;
    let (late, context) = (Delayed::to(&store), CallContext::background());
    let third = over_delayed(&late, &desk).await;
    // Its second operation reads the task.
    late.keep_back(1);
    let red = json!({ "action": "accept", "content": { "color": "red" } });
    let red = InputResponses::from([("color".to_owned(), red)]);
    let answer_late = async {
        let sent = third.answer_task(&context, handle.id(), "t", red).await;
        sent.unwrap();
    };
    let answer = async {
        tokio::task::yield_now().await;
        let sent = second.answer_task(&context, handle.id(), "t", blue()).await;
        sent.unwrap();
        desk.events.until_times("begun t", 2).await;
        asked(&handle, "t").await;
        late.is_let_go.send_replace(true);
    };
    futures::future::join(answer_late, answer).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(kept(&store, handle.id()).await, None);
    assert_eq!(desk.attempts("t"), 2);
    assert_eq!(handle.task("t").unwrap().status, Status::InputRequired);
    second
        .answer_task(&context, handle.id(), "t", blue())
        .await
        .unwrap();
    assert_eq!(statuses(&ended(&handle).await), "t complete");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_large_to_be_kept_is_told_to_be_so() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let [one, two] = [(); 2].map(|()| Connection::to(&store));
    let (first, second) = (over(&one, &[&desk]).await, over(&two, &[]).await);
    let handle = first.run_plan(Plan::new([task("t", "ask")])).unwrap();
    asked(&handle, "t").await;
    let long = InputResponses::from([("color".to_owned(), json!("x".repeat(1 << 20)))]);
    let context = CallContext::background();
    let sent = second.answer_task(&context, handle.id(), "t", long).await;
    let refused = sent.unwrap_err().to_string();
    assert!(refused.contains("shorten them"), "{refused}");
    assert_eq!(kept(&store, handle.id()).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_task_of_the_extension_is_unknown_to_other_callers_of_another_process() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let [one, two] = [(); 2].map(|()| Connection::to(&store));
    let (first, second) = (over(&one, &[&desk]).await, over(&two, &[]).await);
    let plan = Plan::new([task("task", "ask")]);
    let handle = first.run_plan_for(plan, &by("ann")).unwrap();
    asked(&handle, "task").await;
    let stack = ServiceBuilder::new()
        .delegate(DelegateLayer::new(second))
        .service(Upstream::in_process(Demo::default()));
    let answers = InputResponses::from([("task/color".to_owned(), json!("red"))]);
    let messages = |plan: &str| -> [ClientRequest; 3] {
        let id = format!("delegated-task-{plan}");
        [
            GetTaskRequest::new(GetTaskParams::new(&*id)).into(),
            UpdateTaskRequest::new(UpdateTaskParams::new(&*id, answers.clone())).into(),
            CancelTaskRequest::new(CancelTaskParams::new(id)).into(),
        ]
    };
    let none = "0".repeat(32);
    for (message, unknown) in messages(handle.id()).into_iter().zip(messages(&none)) {
        let request = McpRequest::from_parts(message.clone(), by("ben"));
        let refused = stack.clone().oneshot(request).await.unwrap_err();
        assert_eq!(kept(&store, handle.id()).await, None);
        let request = McpRequest::from_parts(unknown, by("ben"));
        let of_none = stack.clone().oneshot(request).await.unwrap_err();
        assert_eq!(refused.to_string(), of_none.to_string());
        let request = McpRequest::from_parts(message, by("ann"));
        stack.clone().oneshot(request).await.unwrap();
        sleep(Duration::from_secs(3)).await;
    }
    assert_eq!(statuses(&ended(&handle).await), "task complete");
}
