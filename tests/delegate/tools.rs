//! The tools of the layer, called over a pipe.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use rmcp::model::*;
use rmcp_layers::{
    McpClient, Principal, ServiceBuilderExt, Upstream,
    delegate::{Agent, DelegateLayer, Orchestrator},
    store::MemoryStore,
};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceBuilder;

use crate::{
    common::{self, Client, Heard, demo::Demo, piped, soon, text, tool},
    worker::Worker,
};

const TOOLS: [&str; 6] = [
    "delegate_task",
    "run_plan",
    "task_status",
    "cancel_task",
    "answer_task",
    "list_agents",
];

/// An orchestrator with two agents, which are the same worker.
async fn orchestrator(worker: &Worker) -> Orchestrator {
    let orchestrator = Orchestrator::builder().build().unwrap();
    for (name, capability) in [("digger", "dig"), ("painter", "paint")] {
        let upstream = piped(Upstream::builder(), worker);
        let agent = Agent::builder(name, upstream).capability(capability);
        orchestrator.register(agent.build().unwrap()).await.unwrap();
    }
    orchestrator
}

async fn stack(worker: &Worker) -> impl common::Stack {
    let layer = DelegateLayer::new(orchestrator(worker).await);
    let inner = piped(Upstream::builder(), &Demo::default());
    ServiceBuilder::new().delegate(layer).service(inner)
}

fn structured(result: &CallToolResult) -> &Value {
    result.structured_content.as_ref().unwrap()
}

/// Checks a result against the output schema of its tool.
async fn check(client: &Client, name: &str, result: &CallToolResult) {
    let tools = client.peer.list_all_tools().await.unwrap();
    let tool = tools.iter().find(|tool| tool.name == name).unwrap();
    let schema = Value::Object((**tool.output_schema.as_ref().unwrap()).clone());
    if let Err(error) = jsonschema::validate(&schema, structured(result)) {
        panic!("{name}: {error}\n{}", structured(result));
    }
}

#[tokio::test]
async fn the_tools_are_at_the_end_of_the_list_and_hide_those_of_their_names() {
    let worker = Worker::default();
    for client in [
        Client::modern("user", stack(&worker).await).await,
        Client::legacy("user", stack(&worker).await).await,
    ] {
        let tools = client.peer.list_all_tools().await.unwrap();
        let names: Vec<_> = tools.iter().map(|tool| &*tool.name).collect();
        assert!(names.len() > TOOLS.len());
        assert_eq!(names[names.len() - TOOLS.len()..], TOOLS);
        // The tools of the inner stack work as before.
        let sum = client.call(tool("add", json!({ "a": 1, "b": 2 }))).await;
        assert!(sum.is_error != Some(true), "{sum:?}");
    }
    // An orchestrator over an agent of another one: the same tools twice.
    let outer = DelegateLayer::new(orchestrator(&worker).await);
    let twice = ServiceBuilder::new()
        .delegate(outer)
        .service(stack(&worker).await);
    let client = Client::modern("user", twice).await;
    let tools = client.peer.list_all_tools().await.unwrap();
    let own = tools.iter().filter(|tool| tool.name == "run_plan");
    assert_eq!(own.count(), 1);
}

#[tokio::test]
async fn a_delegated_task_is_answered_with_the_agents_answer() {
    let worker = Worker::default();
    let client = Client::legacy("user", stack(&worker).await).await;
    let call = json!({ "description": "a hole", "id": "hole", "capability": "dig" });
    let result = client.call(tool("delegate_task", call)).await;
    check(&client, "delegate_task", &result).await;
    assert!(text(&result).ends_with("hole: a hole"), "{}", text(&result));
    let facts = structured(&result);
    assert_eq!(
        (&facts["agent"], &facts["status"]),
        (&json!("digger"), &json!("complete"))
    );

    let call = json!({ "description": "fail", "capability": "dig", "retries": 0 });
    let failed = client.call(tool("delegate_task", call)).await;
    check(&client, "delegate_task", &failed).await;
    assert_eq!(failed.is_error, Some(true));
    assert!(
        text(&failed).contains("the disk is full"),
        "{}",
        text(&failed)
    );

    let call = json!({ "description": "fly", "capability": "fly" });
    let impossible = client.call(tool("delegate_task", call)).await;
    assert_eq!(impossible.is_error, Some(true));
    assert!(text(&impossible).contains("fly"), "{}", text(&impossible));
}

#[tokio::test]
async fn a_plan_hands_answers_on_and_reports_its_progress() {
    let worker = Worker::default();
    let mut client = Client::legacy("user", stack(&worker).await).await;
    let call = json!({ "tasks": [
        { "id": "a", "description": "first", "capability": "dig" },
        { "id": "b", "description": "second", "capability": "dig" },
        { "id": "c", "description": "third", "after": ["a", "b"], "agent": "painter" },
    ] });
    let mut call = tool("run_plan", call);
    call.set_progress_token(common::token("p"));
    let result = client.call(call).await;
    check(&client, "run_plan", &result).await;
    let facts = structured(&result);
    assert_eq!(
        (&facts["state"], &facts["done"]),
        (&json!("complete"), &json!(3))
    );
    assert_eq!(facts["tasks"][2]["agent"], "painter");
    let third = worker.arguments("execute_task").pop().unwrap();
    let context = third["context"].as_str().unwrap();
    assert!(
        context.contains("first") && context.contains("second"),
        "{context}"
    );
    let mut last = -1.0;
    while let Ok(heard) = client.heard.try_recv() {
        let Heard::Progress(_, progress) = heard else {
            continue;
        };
        assert!(progress > last);
        last = progress;
    }
    assert!(last >= 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_call_hands_the_plan_back_after_its_wait_and_task_status_waits_for_the_end() {
    let worker = Worker::default();
    let client = Client::legacy("user", stack(&worker).await).await;
    let begun = Instant::now();
    let call = tool("delegate_task", json!({ "description": "report" }));
    let result = client.peer.call_tool(call).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 45);
    assert_ne!(result.is_error, Some(true));
    check(&client, "delegate_task", &result).await;
    let plan = structured(&result)["plan"].as_str().unwrap().to_owned();
    assert_eq!(structured(&result)["status"], "running");
    assert!(text(&result).contains("task_status") && text(&result).contains(&plan));
    assert_eq!(structured(&result)["progress"], "2 of 4: halfway");

    let waiting = tool("task_status", json!({ "plan": plan, "wait_s": 3 }));
    let result = client.call(waiting).await;
    check(&client, "task_status", &result).await;
    assert_eq!(begun.elapsed().as_secs(), 48);
    worker.events.note("go on");
    let result = client
        .call(tool("task_status", json!({ "plan": plan, "until": "end" })))
        .await;
    assert_eq!(structured(&result)["state"], "complete");
    assert!(text(&result).contains("reported"), "{}", text(&result));
    // An ended plan is answered at once.
    client
        .call(tool("task_status", json!({ "plan": plan })))
        .await;
    assert!(begun.elapsed() < Duration::from_secs(50));
}

#[tokio::test]
async fn a_plan_and_a_task_of_it_can_be_cancelled() {
    let worker = Worker::default();
    let client = Client::legacy("user", stack(&worker).await).await;
    let tasks = json!([
        { "id": "a", "description": "hang" }, { "id": "b", "description": "hang" },
        { "id": "c", "description": "third", "after": ["b"] },
    ]);
    let call = json!({ "tasks": tasks, "wait_s": 0 });
    let result = client.call(tool("run_plan", call)).await;
    let plan = structured(&result)["plan"].clone();
    worker.events.until_times("hanging", 2).await;
    let call = json!({ "plan": plan, "task": "a" });
    let result = client.call(tool("cancel_task", call)).await;
    check(&client, "cancel_task", &result).await;
    assert_eq!(structured(&result)["tasks"][0]["status"], "cancelled");
    assert_eq!(structured(&result)["state"], "running");
    let result = client
        .call(tool("cancel_task", json!({ "plan": plan })))
        .await;
    assert_eq!(structured(&result)["state"], "incomplete");
    assert_eq!(structured(&result)["tasks"][2]["status"], "cancelled");
    worker.events.until_times("cancelled", 2).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_while_it_waits_cancels_its_plan() {
    let worker = Worker::default();
    let client = McpClient::new(stack(&worker).await);
    let call = client
        .call_tool("delegate_task")
        .argument("description", "hang");
    let call = tokio::spawn(async move { call.await });
    worker.events.until("hanging").await;
    call.abort();
    worker.events.until("cancelled").await;
}

#[tokio::test]
async fn wrong_arguments_are_named_with_the_remedy() {
    let worker = Worker::default();
    let client = Client::legacy("user", stack(&worker).await).await;
    for (name, arguments, says) in [
        ("delegate_task", json!({}), "missing field `description`"),
        (
            "delegate_task",
            json!({ "description": "a", "who": 1 }),
            "unknown field `who`",
        ),
        (
            "delegate_task",
            json!({ "description": "a", "wait_s": -1 }),
            "`wait_s`",
        ),
        (
            "delegate_task",
            json!({ "description": "a", "wait_s": 1e9 }),
            "at most 3600",
        ),
        ("run_plan", json!({ "tasks": [] }), "no tasks"),
        (
            "run_plan",
            json!({ "tasks": [{ "id": "a" }] }),
            "`tasks[0]`: missing field `description`",
        ),
        (
            "run_plan",
            json!({ "tasks": [
                { "id": "a", "description": "a", "after": ["b"] },
                { "id": "b", "description": "b", "after": ["a"] },
            ] }),
            "`a`, `b`",
        ),
        ("task_status", json!({ "plan": "x" }), "no plan `x`"),
        ("cancel_task", json!({ "plan": "x" }), "no plan `x`"),
        (
            "answer_task",
            json!({ "plan": "x", "task": "t" }),
            "no plan `x`",
        ),
        ("list_agents", json!({ "all": true }), "unknown field `all`"),
    ] {
        let result = client.call(tool(name, arguments.clone())).await;
        assert_eq!(result.is_error, Some(true), "{name} {arguments}");
        assert!(text(&result).contains(says), "{}", text(&result));
        assert!(text(&result).starts_with(name), "{}", text(&result));
    }
}

#[tokio::test]
async fn agents_are_listed_with_their_capabilities() {
    let worker = Worker::default();
    let client = Client::legacy("user", stack(&worker).await).await;
    let result = client.call(tool("list_agents", json!({}))).await;
    check(&client, "list_agents", &result).await;
    let agents = &structured(&result)["agents"];
    assert_eq!(agents[0]["name"], "digger");
    assert_eq!(agents[1]["capabilities"], json!(["paint"]));
    assert!(
        text(&result).contains("painter: paint"),
        "{}",
        text(&result)
    );
}

#[tokio::test]
async fn a_question_goes_to_a_caller_that_can_answer_it() {
    let worker = Worker::default();
    let mut client = Client::legacy("red", stack(&worker).await).await;
    let result = client
        .call(tool("delegate_task", json!({ "description": "ask" })))
        .await;
    assert_eq!(text(&result), "painted it \"red\"");
    while client.hear("a question").await != Heard::Asked("elicitation") {}

    // Since 2026-07-28, it is asked in the result.
    let client = Client::modern("blue", stack(&worker).await).await;
    let call = tool("delegate_task", json!({ "description": "ask" }));
    let result = soon("the answer", client.peer.call_tool(call))
        .await
        .unwrap();
    assert_eq!(text(&result), "painted it \"blue\"");
    assert_eq!(worker.arguments("execute_task").len(), 4);
}

#[tokio::test]
async fn a_question_that_the_caller_cannot_answer_is_kept_for_answer_task() {
    let worker = Worker::default();
    let client = McpClient::new(stack(&worker).await);
    let result = client
        .call_tool("delegate_task")
        .argument("description", "ask")
        .await
        .unwrap();
    let facts = structured(&result);
    assert_eq!(facts["status"], "input_required");
    assert_eq!(facts["questions"][0]["message"], "Which colour?");
    assert!(text(&result).contains("answer_task"), "{}", text(&result));
    let plan = facts["plan"].clone();
    let answer = |answer: Value| {
        let call = client
            .call_tool("answer_task")
            .argument("plan", plan.clone());
        call.argument("task", "task").argument("answer", answer)
    };
    let wrong = answer(json!({ "name": 3 })).await.unwrap();
    assert_eq!(wrong.is_error, Some(true));
    assert!(text(&wrong).contains("/name"), "{}", text(&wrong));
    let right = answer(json!("green")).await.unwrap();
    assert_ne!(right.is_error, Some(true), "{}", text(&right));
    let status = client
        .call_tool("task_status")
        .argument("plan", plan.clone());
    let ended = status.argument("until", "end").await.unwrap();
    assert_eq!(
        structured(&ended)["tasks"][0]["answer"],
        "painted it \"green\""
    );
    let late = answer(json!("blue")).await.unwrap();
    assert!(text(&late).contains("asks nothing"), "{}", text(&late));
}

#[tokio::test]
async fn a_plan_is_its_callers_and_unknown_to_others() {
    let worker = Worker::default();
    let client = McpClient::new(stack(&worker).await);
    let as_user = |user: &'static str, name: &'static str, arguments: Value| {
        let call = client.call_tool(name).principal(Principal::new(user));
        call.arguments(arguments.as_object().unwrap().clone())
    };
    let call = json!({ "description": "hang", "wait_s": 0 });
    let begun = as_user("alice", "delegate_task", call).await.unwrap();
    let plan = structured(&begun)["plan"].clone();
    for name in ["task_status", "cancel_task"] {
        let asked = json!({ "plan": plan });
        let foreign = as_user("bob", name, asked).await.unwrap();
        let unknown = as_user("bob", name, json!({ "plan": "x" })).await.unwrap();
        let text = text(&foreign).replace(plan.as_str().unwrap(), "x");
        assert_eq!(text, common::text(&unknown));
    }
    assert_eq!(worker.events.count("cancelled"), 0);
    let own = as_user("alice", "cancel_task", json!({ "plan": plan }))
        .await
        .unwrap();
    assert_eq!(structured(&own)["state"], "incomplete");
}

#[tokio::test]
async fn a_chain_of_delegations_that_is_too_long_or_unreadable_is_refused() {
    let worker = Worker::default();
    let client = McpClient::new(stack(&worker).await);
    let call = |delegation: Value| {
        let call = client
            .call_tool("delegate_task")
            .argument("description", "dig");
        call.meta("rmcp-layers/delegation", delegation)
    };
    let deep = call(json!({ "depth": 5 })).await.unwrap();
    assert_eq!(deep.is_error, Some(true));
    assert!(text(&deep).contains("5 delegations"), "{}", text(&deep));
    let error = call(json!({ "depth": "deep" })).await.unwrap_err();
    assert!(
        error.to_string().contains("rmcp-layers/delegation"),
        "{error}"
    );
    // An agent that has been visited does not get the task again.
    let visited = call(json!({ "depth": 1, "visited": ["digger"] }))
        .await
        .unwrap();
    assert_eq!(structured(&visited)["agent"], "painter");
    let all = call(json!({ "depth": 2, "visited": ["digger", "painter"] }))
        .await
        .unwrap();
    assert_eq!(all.is_error, Some(true), "{}", text(&all));
    let passed_on = worker.delegations.lock().unwrap().pop().unwrap();
    assert_eq!(passed_on["depth"], 2);
    assert_eq!(passed_on["visited"], json!(["digger", "painter"]));
}

#[tokio::test(start_paused = true)]
async fn the_state_of_a_plan_is_there_for_all_processes_that_share_a_store() {
    let worker = Worker::default();
    let store = Arc::new(MemoryStore::new());
    let process = async || {
        let orchestrator = Orchestrator::builder()
            .store(store.clone())
            .build()
            .unwrap();
        let agent = Agent::builder("worker", piped(Upstream::builder(), &worker));
        orchestrator.register(agent.build().unwrap()).await.unwrap();
        let layer = DelegateLayer::new(orchestrator);
        let stack = ServiceBuilder::new().delegate(layer);
        McpClient::new(stack.service(Upstream::in_process(Demo::default())))
    };
    let (one, two) = (process().await, process().await);
    let call = one
        .call_tool("delegate_task")
        .argument("description", "report");
    let begun = call.argument("wait_s", 5).await.unwrap();
    let plan = structured(&begun)["plan"].clone();
    let status = || two.call_tool("task_status").argument("plan", plan.clone());
    let seen = status().argument("wait_s", 3).await.unwrap();
    assert_eq!(structured(&seen)["tasks"][0]["status"], "running");
    worker.events.note("go on");
    let ended = status().argument("until", "end").await.unwrap();
    assert_eq!(structured(&ended)["tasks"][0]["answer"], "reported");
    let foreign = status().principal(Principal::new("bob")).await.unwrap();
    assert!(text(&foreign).contains("no plan"), "{}", text(&foreign));
}

#[tokio::test]
async fn a_caller_with_many_plans_leaves_places_for_others() {
    let worker = Worker::default();
    let builder = Orchestrator::builder().max_plans(3);
    let orchestrator = builder.max_plans_per_caller(2).build().unwrap();
    let agent = Agent::builder("worker", piped(Upstream::builder(), &worker));
    orchestrator.register(agent.build().unwrap()).await.unwrap();
    let layer = ServiceBuilder::new().delegate(DelegateLayer::new(orchestrator.clone()));
    let client = McpClient::new(layer.service(Upstream::in_process(Demo::default())));
    let begin = async |user: &'static str| {
        let call = client.call_tool("delegate_task").argument("wait_s", 0);
        let call = call.argument("description", "hang");
        call.principal(Principal::new(user)).await.unwrap()
    };
    let first = begin("ann").await;
    assert_ne!(begin("ann").await.is_error, Some(true));
    let refused = begin("ann").await;
    assert_eq!(refused.is_error, Some(true));
    let said = text(&refused);
    assert!(
        said.contains("2 plans of this caller") && said.contains("cancel one"),
        "{said}"
    );
    assert_ne!(begin("ben").await.is_error, Some(true));
    let full = begin("ben").await;
    assert!(
        text(&full).contains("3 plans are running"),
        "{}",
        text(&full)
    );

    let cancel = client.call_tool("cancel_task");
    let cancel = cancel.argument("plan", structured(&first)["plan"].clone());
    cancel.principal(Principal::new("ann")).await.unwrap();
    soon("a place", async {
        // The place of a plan is free just after its end is told.
        while begin("ann").await.is_error == Some(true) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(begin("ann").await.is_error, Some(true));
}

#[tokio::test]
async fn progress_says_how_many_tasks_have_ended() {
    let worker = Worker::default();
    let client = McpClient::new(stack(&worker).await);
    let tasks = json!([
        { "id": "a", "description": "first" },
        { "id": "b", "description": "report", "after": ["a"] },
    ]);
    let call = client.call_tool("run_plan").argument("tasks", tasks);
    let mut call = call.with_progress();
    let mut messages = Vec::new();
    while let Some(progress) = soon("progress", call.next()).await {
        assert_eq!(progress.total, Some(2.0));
        messages.extend(progress.message);
        if progress.progress > 1.0 {
            worker.events.note("go on");
        }
    }
    let result = call.await.unwrap();
    assert_eq!(structured(&result)["state"], "complete");
    assert_eq!(messages[0], "0 of 2 tasks");
    assert!(
        messages.contains(&"1 of 2 tasks".to_owned()),
        "{messages:?}"
    );
}
