//! Plans as tasks of the Tasks extension (SEP-2663).

use std::sync::Arc;

use rmcp::model::{
    ClientRequest, CreateTaskResult, DetailedTask, ErrorData, GetTaskResult, JsonObject,
    ServerResult, Task, TaskAckResult, TaskPayload, TaskStatus,
};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tower::ServiceExt;

use super::{
    PlanHandle, PlanSnapshot, PlanState, RequestError, Status,
    layer::Shared,
    orchestrator::{CANCELLED, answer},
    questions,
    task_store::PlanAction,
    tools::{OwnTool, plan_result, task_result},
};
use crate::{
    CallContext, Error, McpRequest, McpResponse, Refusal, Stack, caller::Era, code,
    response::CallResult,
};

/// The interval at which callers are to ask for the status, in milliseconds.
const POLL_INTERVAL_MS: u64 = 1_000;

/// The start of the id of a task, by the tool that has made it. The id of the plan follows.
const PREFIXES: [(OwnTool, &str); 2] = [
    (OwnTool::DelegateTask, "delegated-task-"),
    (OwnTool::RunPlan, "delegated-plan-"),
];

/// Returns `true` if the caller of a tool takes a task in place of its result.
pub(super) fn is_declared(context: &CallContext) -> bool {
    let able = context.client_capabilities();
    context.era() == Era::Modern && able.is_some_and(|able| able.supports_tasks())
}

/// Returns the task that a plan is.
pub(super) fn created(handle: &PlanHandle, tool: OwnTool) -> ServerResult {
    let plan = handle.snapshot();
    CreateTaskResult::new(detailed(&plan, tool).task).into()
}

/// Answers a request for a plan as a task. Requests for other tasks go to the inner stack.
pub(super) async fn run<S: Stack>(
    shared: Arc<Shared>,
    inner: S,
    request: McpRequest,
) -> CallResult {
    let id = request.target().unwrap_or_default().to_owned();
    if let ClientRequest::GetTaskRequest(_) = &*request.message
        && let Some((tool, plan)) = named(&id)
    {
        // Also of a plan that another process runs.
        let orchestrator = &shared.orchestrator;
        let found = orchestrator.stored_snapshot(&request.context, plan).await;
        if let Some(plan) = found.map_err(|error| store_failure(error.into()))? {
            return Ok(private(GetTaskResult::new(detailed(&plan, tool)).into()));
        }
    }
    let is_own = match named(&id) {
        Some((_, plan)) => pass_on(&shared, &request, plan).await?,
        None => false,
    };
    if is_own {
        return Ok(private(ServerResult::TaskAckResult(TaskAckResult::new())));
    }
    match inner.oneshot(request).await.map_err(Into::into) {
        // The layer has declared the extension, and the inner stack has no tasks.
        Err(error) if error.is_method_not_found() => Err(unknown(&id)),
        answer => answer,
    }
}

/// Updates or cancels a plan of this caller, also one that another process runs. Returns `false` if
/// there is no such plan.
async fn pass_on(shared: &Shared, request: &McpRequest, plan: &str) -> Result<bool, Error> {
    let orchestrator = &shared.orchestrator;
    let answers = match &*request.message {
        ClientRequest::UpdateTaskRequest(update) => Some(update.params.input_responses.clone()),
        _ => None,
    };
    if let Some(handle) = orchestrator.plan_here(&request.context, plan) {
        match answers {
            Some(answers) => questions::answer(&handle, answers),
            None => handle.cancel(),
        }
        return Ok(true);
    }
    let stored = orchestrator.stored_snapshot(&request.context, plan).await;
    let Some(stored) = stored.map_err(|error| store_failure(error.into()))? else {
        return Ok(false);
    };
    let actions = match answers {
        _ if stored.state.is_over() => Vec::new(),
        None => vec![PlanAction::CancelPlan],
        Some(answers) => {
            let answers = questions::by_task(&stored, answers).into_iter();
            let actions = answers.filter_map(|(task, given)| answer(&stored, &task, given).ok());
            actions.collect()
        }
    };
    for action in actions {
        let kept = orchestrator.keep_request(&stored, action).await;
        kept.map_err(store_failure)?;
    }
    Ok(true)
}

/// Returns the plan that a task is by its id.
fn named(id: &str) -> Option<(OwnTool, &str)> {
    PREFIXES
        .iter()
        .find_map(|(tool, prefix)| Some((*tool, id.strip_prefix(prefix)?)))
}

fn private(result: ServerResult) -> McpResponse {
    let mut response = McpResponse::new(result);
    response.mark_session_private();
    response
}

fn store_failure(error: RequestError) -> Error {
    Refusal::new("delegate", error.to_string())
        .with_code(code::UNAVAILABLE)
        .with_source(error)
        .into()
}

fn detailed(plan: &PlanSnapshot, tool: OwnTool) -> DetailedTask {
    let prefix = PREFIXES.iter().find(|(known, _)| *known == tool);
    let prefix = prefix.map_or("", |(_, prefix)| prefix);
    let begun = plan.submitted_at;
    let changed = begun + plan.elapsed;
    let mut task = Task::new(
        format!("{prefix}{}", plan.id),
        TaskStatus::Working,
        timestamp(begun),
        timestamp(changed),
    )
    .with_poll_interval_ms(POLL_INTERVAL_MS)
    .with_status_message(format!("{} of {} tasks", plan.ended(), plan.tasks.len()));
    task.ttl_ms = None;
    DetailedTask::new(task, payload(plan, tool))
}

fn payload(plan: &PlanSnapshot, tool: OwnTool) -> TaskPayload {
    // Another process may go on with a plan that this one has released.
    if !plan.state.is_over() || matches!(plan.state, PlanState::Released(_)) {
        let input_requests = questions::open(plan);
        return match input_requests.is_empty() {
            true => TaskPayload::Working,
            false => TaskPayload::InputRequired { input_requests },
        };
    }
    if is_cancelled(plan, tool) {
        return TaskPayload::Cancelled;
    }
    let result = match tool {
        OwnTool::DelegateTask => task_result(plan),
        _ => plan_result(plan, None),
    };
    let result = match serde_json::to_value(result) {
        Ok(Value::Object(result)) => result,
        _ => JsonObject::new(),
    };
    TaskPayload::Completed { result }
}

/// Returns `true` if the caller has cancelled the work. A plan that was stopped at a limit is
/// completed: its result has what is done.
fn is_cancelled(plan: &PlanSnapshot, tool: OwnTool) -> bool {
    match &plan.state {
        PlanState::Stopped(reason) => &**reason == CANCELLED && !plan.is_complete(),
        _ => tool == OwnTool::DelegateTask && plan.count(Status::Cancelled) > 0,
    }
}

fn timestamp(at: std::time::SystemTime) -> String {
    let formatted = OffsetDateTime::from(at).format(&Rfc3339);
    formatted.unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}

fn unknown(id: &str) -> Error {
    let message =
        format!("there is no task `{id}`; tasks that have ended are forgotten after a while");
    ErrorData::invalid_params(message, None).into()
}
