//! Plans as tasks of the Tasks extension.

use std::time::Duration;

use rmcp::model::*;
use rmcp_layers::{
    McpClient, Principal, ServiceBuilderExt, Upstream,
    delegate::{Agent, DelegateLayer, Orchestrator},
};
use serde_json::{Value, json};
use tower::ServiceBuilder;

use crate::{
    common::{self, piped, soon, text},
    worker::Worker,
};

async fn client(worker: &Worker) -> McpClient<impl common::Stack> {
    let orchestrator = Orchestrator::builder().build().unwrap();
    let agent = Agent::builder("worker", piped(Upstream::builder(), worker));
    orchestrator.register(agent.build().unwrap()).await.unwrap();
    // The inner stack is an agent too, with tasks of its own.
    let stack = ServiceBuilder::new()
        .delegate(DelegateLayer::new(orchestrator))
        .service(piped(Upstream::builder(), worker));
    let able = ClientCapabilities::builder().enable_tasks().build();
    McpClient::builder(stack).capabilities(able).build()
}

fn task_of(response: CallToolResponse) -> Task {
    match response {
        CallToolResponse::Task(created) => created.task,
        other => panic!("not a task: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_delegation_of_a_caller_with_the_extension_is_a_task() {
    let worker = Worker::default();
    let client = client(&worker).await;
    let call = || {
        client
            .call_tool("delegate_task")
            .argument("description", "dig")
    };
    let task = task_of(call().once().await.unwrap());
    assert_eq!(task.status, TaskStatus::Working);
    assert!(task.poll_interval_ms.is_some());
    // The client polls it to its end.
    let result = soon("the end", call()).await.unwrap();
    assert!(text(&result).ends_with("task: dig"), "{}", text(&result));

    let tasks = json!([{ "id": "a", "description": "one" }, { "id": "b", "description": "two" }]);
    let plan = client.call_tool("run_plan").argument("tasks", tasks);
    let result = soon("the end", plan).await.unwrap();
    assert_eq!(result.structured_content.unwrap()["state"], "complete");
}

#[tokio::test(start_paused = true)]
async fn a_question_is_answered_by_an_update_of_the_task() {
    let worker = Worker::default();
    let client = client(&worker).await;
    let call = client
        .call_tool("delegate_task")
        .argument("description", "ask");
    let task = task_of(call.once().await.unwrap());
    let asked = loop {
        let got = client.get_task(&task.task_id).await.unwrap();
        if let TaskPayload::InputRequired { input_requests } = got.task.payload {
            break input_requests;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    let key = asked.keys().next().unwrap().clone();
    let answer = json!({ "action": "accept", "content": { "name": "red" } });
    let answers = InputResponses::from([(key, answer)]);
    client.update_task(&task.task_id, answers).await.unwrap();
    let ended = loop {
        let got = client.get_task(&task.task_id).await.unwrap();
        if let TaskPayload::Completed { result } = got.task.payload {
            break Value::Object(result);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    assert_eq!(ended["content"][0]["text"], "painted it \"red\"");
}

#[tokio::test]
async fn a_cancelled_task_is_cancelled_down_to_the_agent() {
    let worker = Worker::default();
    let client = client(&worker).await;
    let call = client
        .call_tool("delegate_task")
        .argument("description", "hang");
    let task = task_of(call.once().await.unwrap());
    worker.events.until("hanging").await;
    client.cancel_task(&task.task_id).await.unwrap();
    worker.events.until("cancelled").await;
    let ended = loop {
        let got = client.get_task(&task.task_id).await.unwrap();
        if got.task.status().is_terminal() {
            break got.task;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(ended.status(), TaskStatus::Cancelled);
    assert_eq!(ended.task.created_at, task.created_at);
}

#[tokio::test]
async fn tasks_of_others_and_of_the_inner_stack_are_left_to_it() {
    let worker = Worker::default();
    let client = client(&worker).await;
    let call = client
        .call_tool("delegate_task")
        .argument("description", "hang");
    let task = task_of(call.once().await.unwrap());
    worker.events.until("hanging").await;

    // A task of the inner stack.
    client.cancel_task("remote-1").await.unwrap();
    worker.events.until("task cancelled").await;

    // The inner stack knows no task of alice, and bob cannot cancel it.
    let mut cancel = rmcp_layers::McpRequest::new(ClientRequest::from(CancelTaskRequest::new(
        CancelTaskParams::new(&*task.task_id),
    )));
    cancel.context.set_principal(Principal::new("bob"));
    let _ = client.send(cancel).await;
    tokio::task::yield_now().await;
    assert_eq!(worker.events.count("cancelled"), 0);
    client.cancel_task(&task.task_id).await.unwrap();
    worker.events.until("cancelled").await;
}
