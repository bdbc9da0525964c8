//! The results of the tools.

use std::{collections::HashSet, fmt::Write};

use rmcp::model::{CallToolResult, ContentBlock, ElicitRequestParams, InputRequest};
use serde_json::{Map, Value, json};

use super::{ANSWER_TASK, TASK_STATUS};
use crate::{
    delegate::{AgentStatus, PlanSnapshot, PlanState, Status, TaskProgress, TaskSnapshot},
    util::text::boundary,
};

/// Maximum length of an answer in the result of a plan, in bytes, if another task has had it as
/// context. [`TASK_STATUS`] with its task returns the whole answer.
const MAX_INNER_ANSWER: usize = 500;

/// Returns a failure of a tool's call. A model sees results, and mostly not JSON-RPC errors.
pub(in crate::delegate) fn tool_error(text: impl Into<String>) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text.into())])
}

/// Returns the state of a plan with a single task.
pub(in crate::delegate) fn task_result(plan: &PlanSnapshot) -> CallToolResult {
    let Some(task) = plan.tasks.first() else {
        return plan_result(plan, None);
    };
    let mut structured = Map::new();
    structured.insert("plan".to_owned(), (&*plan.id).into());
    structured.extend(task_facts(task, usize::MAX));
    let next = next(plan, false);
    let text = match (task.status, &task.output) {
        (Status::Complete, Some(output)) => output.answer.clone(),
        (status, _) => {
            let mut text = format!("Task `{}` of plan {}: {status}.", task.id, plan.id);
            if let Some(error) = &task.error {
                let _ = write!(text, " {error}");
            }
            push_questions(&mut text, task);
            if let Some(next) = &next {
                let _ = write!(text, "\n{next}");
            }
            text
        }
    };
    if let Some(next) = next {
        structured.insert("next".to_owned(), next.into());
    }
    let failed = task.status.is_terminal() && task.status != Status::Complete;
    result(text, structured, failed)
}

/// Returns the state of a plan, or of one of its tasks.
pub(in crate::delegate) fn plan_result(plan: &PlanSnapshot, only: Option<&str>) -> CallToolResult {
    let waited_for: HashSet<&str> = plan
        .tasks
        .iter()
        .flat_map(|task| task.after.iter().map(|id| &**id))
        .collect();
    let shown = plan
        .tasks
        .iter()
        .filter(|task| only.is_none_or(|only| &*task.id == only));
    let shown: Vec<_> = shown.collect();
    let most = |task: &TaskSnapshot| match only.is_none() && waited_for.contains(&*task.id) {
        true => MAX_INNER_ANSWER,
        false => usize::MAX,
    };
    let is_cut = shown.iter().any(|task| {
        let length = task.output.as_ref().map_or(0, |output| output.answer.len());
        length > most(task)
    });
    let tasks = shown.iter().map(|task| task_facts(task, most(task)).into());
    let tasks: Vec<Value> = tasks.collect();
    let (state, reason) = state(plan);
    let mut structured = Map::new();
    let mut add = |name: &str, value: Value| structured.insert(name.to_owned(), value);
    add("plan", (&*plan.id).into());
    add("state", state.into());
    if let Some(reason) = reason {
        add("reason", reason.into());
    }
    add("done", plan.ended().into());
    add("total", plan.tasks.len().into());
    add("tokens", plan.tokens.into());
    add("cost", plan.cost.into());
    add("tasks", tasks.into());
    let next = next(plan, is_cut);
    if let Some(next) = &next {
        add("next", next.clone().into());
    }
    let mut text = plan.to_string();
    for task in &shown {
        if let Some(output) = task.output.as_ref().filter(|_| most(task) == usize::MAX) {
            let _ = write!(text, "\n\nAnswer of `{}`:\n{}", task.id, output.answer);
        }
        push_questions(&mut text, task);
    }
    if let Some(next) = next {
        let _ = write!(text, "\n\n{next}");
    }
    result(text, structured, false)
}

/// Replaces the advice to the caller in the result of a plan, if there is other advice.
pub(in crate::delegate) fn with_next(
    mut result: CallToolResult,
    next: Option<String>,
) -> CallToolResult {
    let Some(next) = next else {
        return result;
    };
    result.content.push(ContentBlock::text(next.clone()));
    if let Some(Value::Object(structured)) = &mut result.structured_content {
        structured.insert("next".to_owned(), next.into());
    }
    result
}

fn result(text: String, structured: Map<String, Value>, is_error: bool) -> CallToolResult {
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    result.structured_content = Some(Value::Object(structured));
    result.is_error = Some(is_error);
    result
}

/// Returns the registered agents.
pub(in crate::delegate) fn agents(agents: &[AgentStatus]) -> CallToolResult {
    let mut text = String::new();
    for agent in agents {
        let capabilities = match &agent.capabilities[..] {
            [] => "no capability in particular".to_owned(),
            names => names.join(", "),
        };
        let (name, running, most) = (&agent.name, agent.in_flight, agent.max_concurrent);
        let _ = writeln!(
            text,
            "{name}: {capabilities}; works on {running} of {most} tasks"
        );
    }
    if agents.is_empty() {
        text.push_str("There are no agents.");
    }
    let facts = agents.iter().map(|agent| {
        json!({
            "name": agent.name, "capabilities": agent.capabilities, "running": agent.in_flight,
            "max_concurrent": agent.max_concurrent, "cost": agent.cost,
            "priority": agent.priority,
        })
    });
    let agents: Vec<_> = facts.collect();
    let structured = Map::from_iter([("agents".to_owned(), agents.into())]);
    result(text, structured, false)
}

/// Returns the name of a plan's state, and the reason of it.
fn state(plan: &PlanSnapshot) -> (&'static str, Option<&str>) {
    let ended = match plan.is_complete() {
        true => "complete",
        false => "incomplete",
    };
    match &plan.state {
        PlanState::Running => ("running", None),
        PlanState::Stopping(reason) => ("stopping", Some(reason)),
        PlanState::Ended => (ended, None),
        PlanState::Stopped(reason) => (ended, Some(reason)),
        PlanState::Released(reason) => ("released", Some(reason)),
    }
}

/// Returns what the caller can do next.
fn next(plan: &PlanSnapshot, is_cut: bool) -> Option<String> {
    let id = &plan.id;
    let asks = plan.tasks.iter().find(|task| task.questions.is_some());
    if let Some(task) = asks.filter(|_| !plan.state.is_over()) {
        return Some(format!(
            "Answer the question of task `{}` by {ANSWER_TASK} with plan `{id}`, then call \
             {TASK_STATUS}.",
            task.id
        ));
    }
    if !plan.state.is_over() {
        return Some(format!(
            "It goes on. Call {TASK_STATUS} with plan `{id}` to wait for it."
        ));
    }
    if let PlanState::Released(_) = plan.state {
        return Some(format!(
            "Another process may go on with it. Call {TASK_STATUS} with plan `{id}` to look again."
        ));
    }
    is_cut.then(|| {
        format!(
            "Some answers are cut. Call {TASK_STATUS} with plan `{id}` and a `task` for all of one."
        )
    })
}

/// Returns the facts about a task, with at most this number of bytes of its answer.
fn task_facts(task: &TaskSnapshot, most: usize) -> Map<String, Value> {
    let mut facts = Map::new();
    let mut add = |name: &str, value: Value| facts.insert(name.to_owned(), value);
    add("id", (&*task.id).into());
    add("status", task.status.as_str().into());
    if let Some(agent) = &task.agent {
        add("agent", (&**agent).into());
        add("attempts", task.attempts.into());
    }
    if let Some(output) = &task.output {
        let answer = &output.answer;
        add("answer", answer[..boundary(answer, most)].into());
        if answer.len() > most {
            add("answer_bytes", answer.len().into());
        }
        if let Some(structured) = output.structured.as_ref().filter(|_| most == usize::MAX) {
            add("structured", structured.clone());
        }
        if let Some(thread) = &output.thread {
            add("thread", thread.clone().into());
        }
    }
    if let Some(error) = task.error.as_ref().filter(|_| task.output.is_none()) {
        add("error", (&**error).into());
    }
    if let Some(progress) = task
        .progress
        .as_ref()
        .filter(|_| task.status == Status::Running)
    {
        add("progress", progress_text(progress).into());
    }
    if let (Some(started), Some(ended)) = (task.started_after, task.ended_after) {
        let seconds = ended.saturating_sub(started).as_secs_f64();
        add("seconds", ((seconds * 1_000.0).round() / 1_000.0).into());
    }
    if let Some(questions) = &task.questions {
        let questions = questions
            .iter()
            .map(|(key, question)| facts_of(key, question));
        add("questions", questions.collect());
    }
    facts
}

pub(in crate::delegate) fn progress_text(progress: &TaskProgress) -> String {
    let mut text = match progress.total {
        Some(total) => format!("{} of {total}", progress.done),
        None => progress.done.to_string(),
    };
    if let Some(message) = &progress.message {
        let _ = write!(text, ": {message}");
    }
    text
}

fn facts_of(key: &str, question: &InputRequest) -> Value {
    match question {
        InputRequest::Elicitation(elicitation) => match &elicitation.params {
            ElicitRequestParams::FormElicitationParams {
                message,
                requested_schema,
                ..
            } => json!({
                "key": key, "kind": "form", "message": message, "schema": requested_schema,
            }),
            ElicitRequestParams::UrlElicitationParams { message, url, .. } => {
                json!({ "key": key, "kind": "url", "message": message, "url": url })
            }
            _ => json!({ "key": key, "kind": "unknown" }),
        },
        InputRequest::CreateMessage(sampling) => {
            let messages = serde_json::to_string(&sampling.params.messages).unwrap_or_default();
            json!({ "key": key, "kind": "sampling", "message": messages })
        }
        InputRequest::ListRoots(_) => json!({ "key": key, "kind": "roots" }),
        _ => json!({ "key": key, "kind": "unknown" }),
    }
}

fn push_questions(text: &mut String, task: &TaskSnapshot) {
    for (key, question) in task.questions.iter().flatten() {
        let facts = facts_of(key, question);
        let message = facts["message"].as_str().unwrap_or_default();
        let _ = write!(text, "\n\nTask `{}` asks (`{key}`): {message}", task.id);
        if let Some(schema) = facts.get("schema") {
            let _ = write!(text, "\nSchema of the answer: {schema}");
        }
        if let Some(url) = facts.get("url").and_then(Value::as_str) {
            let _ = write!(text, "\nAt: {url}");
        }
    }
}
