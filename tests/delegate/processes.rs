//! Plans whose caller reaches a process that does not run them.

use std::time::Duration;

use futures::future::join;
use rmcp::model::*;
use rmcp_layers::{
    CallContext, McpClient, Principal, ServiceBuilderExt, Upstream,
    delegate::{
        Agent, DelegateLayer, Delivery, Orchestrator, Plan, PlanHandle, RequestError, Status,
    },
    store::{MemoryStore, Store},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower::ServiceBuilder;

use crate::{
    common::{Stack, demo::Demo, piped, text},
    desk::*,
    store::{Connection, LEASE, by, left_work, over, taken_over, with_jobs},
    worker::Worker,
};

/// A client of a process.
pub fn client(orchestrator: &Orchestrator, extensions: bool) -> McpClient<impl Stack> {
    let layer = DelegateLayer::new(orchestrator.clone());
    let inner = Upstream::in_process(Demo::default());
    let mut able = ClientCapabilities::builder().enable_elicitation().build();
    if extensions {
        able = ClientCapabilities::builder().enable_tasks().build();
    }
    let stack = ServiceBuilder::new().delegate(layer).service(inner);
    McpClient::builder(stack).capabilities(able).build()
}

pub fn structured(result: &CallToolResult) -> &Value {
    result.structured_content.as_ref().unwrap()
}

pub async fn asked(handle: &PlanHandle, task: &str) {
    while handle.task(task).unwrap().status != Status::InputRequired {
        handle.changed(handle.snapshot().version).await;
    }
}

/// Two processes over one store, each with the agent.
async fn two(store: &MemoryStore, desk: &Desk) -> (Orchestrator, Orchestrator) {
    let one = over(&Connection::to(store), &[desk]).await;
    (one, over(&Connection::to(store), &[desk]).await)
}

/// The requests for a plan that are in the store.
pub async fn kept(store: &MemoryStore, plan: &str) -> Option<String> {
    let key = format!("delegate:default:plan:{plan}:requests").into_bytes();
    let found = store.get(&[key]).await.unwrap().pop().unwrap();
    found.map(|found| String::from_utf8(found.value).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_plan_and_a_task_of_it_are_cancelled_through_another_process() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let (one, other) = two(&store, &desk).await;
    let plan = Plan::new([
        task("a", "gated"),
        task("b", "gated"),
        task("c", "say c").after(["b"]),
    ]);
    let handle = one.run_plan(plan).unwrap();
    desk.events.until("begun b").await;
    let client = client(&other, false);
    let cancel = || {
        client
            .call_tool("cancel_task")
            .argument("plan", &**handle.id())
    };
    let result = cancel().argument("task", "a").await.unwrap();
    desk.events.until("cancelled a").await;
    let facts = structured(&result);
    assert_eq!(facts["tasks"][0]["status"], "cancelled", "{facts}");
    assert_eq!(
        (&facts["state"], &facts["done"]),
        (&json!("running"), &json!(1))
    );
    let unknown = cancel().argument("task", "x").await.unwrap();
    assert!(text(&unknown).contains("no task `x`"), "{}", text(&unknown));

    let result = cancel().await.unwrap();
    desk.events.until("cancelled b").await;
    assert_eq!(structured(&result)["state"], "incomplete");
    let end = ended(&handle).await;
    assert_eq!(statuses(&end), "a cancelled, b cancelled, c cancelled");
    // A plan that has ended is not told of anything.
    let again = cancel().await.unwrap();
    assert_eq!(structured(&again)["state"], "incomplete");
    assert_eq!(kept(&store, handle.id()).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_question_is_answered_through_another_process() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let (one, other) = two(&store, &desk).await;
    let handle = one.run_plan(Plan::new([task("t", "ask")])).unwrap();
    asked(&handle, "t").await;
    let client = client(&other, false);
    let answer = || {
        let call = client.call_tool("answer_task");
        call.argument("plan", &**handle.id()).argument("task", "t")
    };
    let began = Instant::now();
    let status = client.call_tool("task_status").argument("until", "end");
    let status = status.argument("plan", &**handle.id()).await.unwrap();
    assert_eq!(
        structured(&status)["tasks"][0]["questions"][0]["key"],
        "color"
    );
    assert!(began.elapsed() < Duration::from_secs(2));
    let wrong = answer().argument("answer", json!({ "color": 3 })).await;
    let wrong = wrong.unwrap();
    assert!(text(&wrong).contains("/color"), "{}", text(&wrong));
    // Both come at once; the agent gets one of them.
    let (first, second) = join(
        answer().argument("answer", "blue").into_future(),
        answer().argument("answer", "red").into_future(),
    )
    .await;
    for result in [first.unwrap(), second.unwrap()] {
        assert!(structured(&result)["tasks"][0].get("questions").is_none());
    }
    let end = ended(&handle).await;
    let output = end.task("t").unwrap().output.clone().unwrap();
    assert!(
        output.answer == "\"blue\"" || output.answer == "\"red\"",
        "{end}"
    );
    assert_eq!(desk.attempts("t"), 2);
    let late = answer().argument("answer", "blue").await.unwrap();
    assert!(text(&late).contains("asks nothing"), "{}", text(&late));
}

#[tokio::test(start_paused = true)]
async fn tasks_of_the_extension_are_updated_and_cancelled_through_another_process() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let (one, other) = two(&store, &desk).await;
    let (here, there) = (client(&one, true), client(&other, true));
    let begin = async |description: &str| {
        let call = here.call_tool("delegate_task");
        match call.argument("description", description).once().await {
            Ok(CallToolResponse::Task(created)) => created.task.task_id,
            other => panic!("not a task: {other:?}"),
        }
    };
    let until = async |task: &str, is_there: fn(&TaskPayload) -> bool| {
        let began = Instant::now();
        loop {
            let payload = there.get_task(task).await.unwrap().task.payload;
            if is_there(&payload) {
                return payload;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "{payload:?}");
            sleep(Duration::from_millis(500)).await;
        }
    };
    let task = begin("ask").await;
    let asks = until(&task, |now| {
        matches!(now, TaskPayload::InputRequired { .. })
    })
    .await;
    let TaskPayload::InputRequired { input_requests } = asks else {
        panic!("{asks:?}")
    };
    let key = input_requests.keys().next().unwrap().clone();
    let answers = InputResponses::from([(key, blue().remove("color").unwrap())]);
    there.update_task(&*task, answers).await.unwrap();
    let end = until(&task, |now| matches!(now, TaskPayload::Completed { .. })).await;
    let TaskPayload::Completed { result } = end else {
        panic!("{end:?}")
    };
    assert_eq!(result["content"][0]["text"], "\"blue\"");

    let task = begin("gated").await;
    desk.events.until_times("begun task", 3).await;
    there.cancel_task(&*task).await.unwrap();
    desk.events.until("cancelled task").await;
    until(&task, |now| matches!(now, TaskPayload::Cancelled)).await;
}

#[tokio::test(start_paused = true)]
async fn another_round_of_a_call_may_reach_another_process() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let (one, other) = two(&store, &desk).await;
    let (here, there) = (client(&one, false), client(&other, false));
    let call = here
        .call_tool("delegate_task")
        .argument("description", "ask");
    let Ok(CallToolResponse::InputRequired(asked)) = call.once().await else {
        panic!("no question")
    };
    let keys = asked.input_requests.unwrap().into_keys();
    let answers = keys.map(|key| (key, blue().remove("color").unwrap()));
    let round = there
        .call_tool("delegate_task")
        .argument("description", "ask");
    let round = round.input(Some(answers.collect()), asked.request_state);
    let Ok(CallToolResponse::Complete(result)) = round.once().await else {
        panic!("no result")
    };
    assert_eq!(text(&result), "\"blue\"");
    assert_eq!(desk.attempts("task"), 2);
}

#[tokio::test(start_paused = true)]
async fn requests_for_a_plan_of_another_caller_are_refused() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let (one, other) = two(&store, &desk).await;
    let plan = Plan::new([task("t", "ask"), task("u", "gated")]);
    let handle = one.run_plan_for(plan, &by("ann")).unwrap();
    asked(&handle, "t").await;
    let (id, ann, ben) = (&**handle.id(), by("ann"), by("ben"));
    let is_unknown = |refused: Result<Delivery, RequestError>| {
        matches!(refused, Err(RequestError::UnknownPlan { .. }))
    };
    assert!(is_unknown(other.cancel_plan(&ben, id).await));
    assert!(is_unknown(other.cancel_task(&ben, id, "t").await));
    assert!(is_unknown(other.answer_task(&ben, id, "t", blue()).await));
    assert!(is_unknown(
        other.cancel_plan(&CallContext::background(), id).await
    ));
    let client = client(&other, false);
    for name in ["cancel_task", "answer_task"] {
        let call = client.call_tool(name).argument("plan", id);
        let call = match name {
            "answer_task" => call.argument("task", "t").argument("answer", "red"),
            _ => call,
        };
        let refused = call.principal(Principal::new("ben")).await.unwrap();
        assert!(text(&refused).contains("no plan"), "{}", text(&refused));
    }
    assert_eq!(kept(&store, id).await, None);
    // The key of another record in the store is the id of no plan.
    let records = [
        format!("{id}:task:0"),
        format!("{id}:stop"),
        format!("{id}:lease"),
    ];
    for other_record in &records {
        assert!(is_unknown(other.cancel_plan(&ann, other_record).await));
    }

    let unasked = other.answer_task(&ann, id, "u", blue()).await;
    assert!(
        matches!(unasked, Err(RequestError::Answer(_))),
        "{unasked:?}"
    );
    let stored = other.answer_task(&ann, id, "t", blue()).await.unwrap();
    assert_eq!(stored, Delivery::Stored);
    while handle.task("t").unwrap().status != Status::Complete {
        handle.changed(handle.snapshot().version).await;
    }
    let stored = other.cancel_plan(&ann, id).await.unwrap();
    assert_eq!(stored, Delivery::Stored);
    assert_eq!(statuses(&ended(&handle).await), "t complete, u cancelled");
    let late = other.cancel_plan(&ann, id).await.unwrap();
    assert_eq!(late, Delivery::Delivered);
}

#[tokio::test(start_paused = true)]
async fn the_process_that_takes_a_plan_over_cancels_what_it_was_told_of_before() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let (one, two) = (Connection::to(&store), Connection::to(&store));
    let first = over(&one, &[&desk]).await;
    let plan = Plan::new([
        task("a", "gated").idempotent(true),
        task("b", "gated").idempotent(true),
    ]);
    let handle = first.run_plan(plan).unwrap();
    desk.events.until("begun b").await;
    one.cut();
    ended(&handle).await;
    sleep(LEASE).await;

    let second = over(&two, &[&desk]).await;
    let client = client(&second, false);
    let cancel = || {
        client
            .call_tool("cancel_task")
            .argument("plan", &**handle.id())
    };
    let began = Instant::now();
    let result = cancel().argument("task", "a").await.unwrap();
    let said = structured(&result)["next"].as_str().unwrap();
    assert!(said.contains("No process runs the plan"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(1));
    let taken = taken_over(&second).await;
    desk.events.until_times("begun b", 2).await;
    assert_eq!(taken.task("a").unwrap().status, Status::Cancelled);
    desk.gate.send_replace(true);
    assert_eq!(statuses(&ended(&taken).await), "a cancelled, b complete");
    assert_eq!((desk.attempts("a"), desk.attempts("b")), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn work_at_an_agent_is_cancelled_by_the_process_that_takes_its_cancelled_plan_over() {
    let (store, worker) = (MemoryStore::new(), Worker::default());
    let handle = left_work(&store, &worker).await;
    let second = with_jobs(&Connection::to(&store), &worker).await;
    let context = CallContext::background();
    let waits = second.cancel_plan(&context, handle.id()).await.unwrap();
    assert_eq!(waits, Delivery::Waiting);
    let taken = second.resume().await.unwrap().pop().unwrap();
    assert_eq!(statuses(&ended(&taken).await), "t cancelled");
    worker.events.until("job cancelled").await;
    assert_eq!(worker.arguments("job_start").len(), 1);
    sleep(LEASE).await;
    assert_eq!(kept(&store, handle.id()).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_the_process_that_takes_its_plan_over() {
    // The agent asks in another round, and as the task that its call is.
    for (description, answer) in [("ask", "painted it \"red\""), ("task", "made it \"red\"")] {
        let (store, worker) = (MemoryStore::new(), Worker::default());
        let process = async |connection: &Connection| {
            let orchestrator = over(connection, &[]).await;
            let agent = Agent::builder("worker", piped(Upstream::builder(), &worker));
            orchestrator.register(agent.build().unwrap()).await.unwrap();
            orchestrator
        };
        let one = Connection::to(&store);
        let first = process(&one).await;
        let handle = first.run_plan(Plan::new([task("t", description)])).unwrap();
        asked(&handle, "t").await;
        one.cut();
        ended(&handle).await;
        sleep(LEASE).await;
        let second = process(&Connection::to(&store)).await;
        let red = json!({ "action": "accept", "content": { "name": "red" } });
        let red = InputResponses::from([("colour".to_owned(), red)]);
        let context = CallContext::background();
        let sent = second.answer_task(&context, handle.id(), "t", red).await;
        assert_eq!(sent.unwrap(), Delivery::Waiting);
        let taken = taken_over(&second).await;
        let end = ended(&taken).await;
        let output = end.task("t").unwrap().output.clone();
        assert_eq!(output.unwrap().answer, answer, "{end}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_has_lost_a_plan_leaves_the_requests_to_the_one_that_has_it() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let (one, other) = two(&store, &desk).await;
    let plan = Plan::new([task("a", "gated").idempotent(true)]);
    let handle = one.run_plan(plan).unwrap();
    desk.events.until("begun a").await;
    // As by a failover of the store.
    let lease = format!("delegate:default:plan:{}:lease", handle.id());
    store.remove(lease.as_bytes()).await.unwrap();
    let taken = other.resume().await.unwrap().pop().unwrap();
    desk.events.until_times("begun a", 2).await;
    let third = over(&Connection::to(&store), &[]).await;
    let context = CallContext::background();
    third.cancel_plan(&context, handle.id()).await.unwrap();
    assert_eq!(statuses(&ended(&taken).await), "a cancelled");
}

#[tokio::test(start_paused = true)]
async fn the_requests_that_wait_for_a_process_are_limited() {
    let (store, desk) = (MemoryStore::new(), Desk::new("a"));
    let one = Connection::to(&store);
    let first = over(&one, &[&desk]).await;
    let handle = first.run_plan(Plan::new([task("a", "gated")])).unwrap();
    desk.events.until("begun a").await;
    one.cut();
    let second = over(&Connection::to(&store), &[]).await;
    let context = CallContext::background();
    let cancel = async || second.cancel_task(&context, handle.id(), "a").await;
    for _ in 0..100 {
        assert_eq!(cancel().await.unwrap(), Delivery::Stored);
    }
    let refused = cancel().await.unwrap_err().to_string();
    assert!(
        refused.contains("100 requests") && refused.contains("try again"),
        "{refused}"
    );
    let tool = client(&second, false);
    let call = tool
        .call_tool("cancel_task")
        .argument("plan", &**handle.id())
        .argument("task", "a");
    let refused = call.await.unwrap();
    assert!(
        text(&refused).contains("100 requests"),
        "{}",
        text(&refused)
    );
}
