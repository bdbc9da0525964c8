//! Tools that outlive their call: tasks (the `io.modelcontextprotocol/tasks` extension), kept by
//! rmcp's own task manager.

use std::collections::BTreeMap;
use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::*;
use rmcp::task_manager::{TaskContext, TaskExit, TaskFuture, TaskManager, TaskOptions};
use serde_json::Value;

use super::ask::{form, one_field};
use super::rounds::{answered, elicitation, entered, name};
use super::{Answer, Call, said};

/// Long enough that a caller sees the task working before it ends.
const A_WHILE: Duration = Duration::from_millis(200);

pub async fn answer(tasks: &TaskManager, call: &Call<'_>) -> Option<Answer> {
    let can_follow = call.capabilities().supports_tasks();
    // These cannot do without a task: they wait in it for input, or exist to be one.
    let needs_task = matches!(
        call.name,
        "failing_job" | "confirm_delete" | "multi_input" | "test_tool_with_task"
    );
    if needs_task && !can_follow {
        let required = ClientCapabilities::builder().enable_tasks().build();
        return Some(Err(ErrorData::missing_required_client_capability(required)));
    }
    let work = match work(call)? {
        Ok(work) => work,
        Err(needs) => return Some(Ok(needs.into())),
    };
    if can_follow {
        let task = tasks.spawn(TaskOptions::default(), |context| work(Some(context)));
        return Some(Ok(CreateTaskResult::new(task).into()));
    }
    Some(match work(None).await {
        Ok(result) => Ok(result.into()),
        Err(TaskExit::Error(error)) => Err(error),
        Err(TaskExit::Cancelled) => Err(ErrorData::internal_error("cancelled", None)),
    })
}

/// A job: given its task, or nothing when the caller cannot follow one and waits instead.
type Work = Box<dyn FnOnce(Option<TaskContext>) -> TaskFuture + Send>;

fn work(call: &Call<'_>) -> Option<Result<Work, InputRequiredResult>> {
    let work: Work = match call.name {
        "slow_compute" => {
            let seconds = call.number("seconds", 1.0).clamp(0.0, 3600.0);
            let label = call.text("label", "it").to_owned();
            Box::new(move |task| Box::pin(compute(task, seconds, label)))
        }
        "failing_job" => Box::new(|_| Box::pin(fail())),
        "protocol_error_job" => Box::new(|_| Box::pin(break_down())),
        "confirm_delete" => {
            let file = call.text("filename", "the file").to_owned();
            Box::new(move |task| Box::pin(confirm_delete(task, file)))
        }
        "multi_input" => Box::new(|task| Box::pin(two_values(task))),
        "test_tool_with_task" => {
            let Some(answer) = answered(call, "user_name") else {
                let question = BTreeMap::from([name("user_name", "What is your name?")]);
                return Some(Err(InputRequiredResult::from_input_requests(question)));
            };
            let who = entered(answer, "name").to_owned();
            Box::new(move |_| Box::pin(greet(who)))
        }
        _ => return None,
    };
    Some(Ok(work))
}

async fn compute(
    task: Option<TaskContext>,
    seconds: f64,
    label: String,
) -> Result<CallToolResult, TaskExit> {
    let cancelled = async {
        match &task {
            Some(task) => task.cancelled().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = cancelled => Err(TaskExit::Cancelled),
        () = tokio::time::sleep(Duration::from_secs_f64(seconds)) => {
            Ok(said(format!("Computed {label} for {seconds} s.")))
        }
    }
}

async fn fail() -> Result<CallToolResult, TaskExit> {
    tokio::time::sleep(5 * A_WHILE).await;
    let why = ContentBlock::text("This job is meant to fail.");
    Ok(CallToolResult::error(vec![why]))
}

async fn break_down() -> Result<CallToolResult, TaskExit> {
    tokio::time::sleep(A_WHILE).await;
    Err(ErrorData::internal_error("This job is meant to break.", None).into())
}

async fn greet(who: String) -> Result<CallToolResult, TaskExit> {
    tokio::time::sleep(A_WHILE).await;
    Ok(said(format!("Hello, {who}, from a task!")))
}

async fn confirm_delete(
    task: Option<TaskContext>,
    file: String,
) -> Result<CallToolResult, TaskExit> {
    let task = only_as_task(task)?;
    let question = form(&format!("Delete {file}?"), one_field("confirm", "boolean"));
    let answer = task.request_input("confirm", elicitation(question)).await?;
    let confirmed = answer.pointer("/content/confirm").and_then(Value::as_bool);
    Ok(said(match confirmed {
        Some(true) => format!("Would have deleted {file}."),
        _ => format!("Kept {file}."),
    }))
}

/// Both questions are open at once, so that a client may answer one and leave the other.
async fn two_values(task: Option<TaskContext>) -> Result<CallToolResult, TaskExit> {
    let task = only_as_task(task)?;
    let ask = |key: &'static str| {
        let question = form(&format!("Value {key}?"), one_field("value", "string"));
        task.request_input(key, elicitation(question))
    };
    let (first, second) = tokio::try_join!(ask("first"), ask("second"))?;
    let text = |answer: &Value| {
        let value = answer.pointer("/content/value").and_then(Value::as_str);
        value.unwrap_or("(nothing)").to_owned()
    };
    Ok(said(format!("{} and {}", text(&first), text(&second))))
}

fn only_as_task(task: Option<TaskContext>) -> Result<TaskContext, TaskExit> {
    task.ok_or_else(|| ErrorData::internal_error("this job runs only as a task", None).into())
}
