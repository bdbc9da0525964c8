//! Questions of agents that go to the caller of a tool.

use std::sync::Arc;

use rmcp::model::{ClientCapabilities, InputRequest, InputRequests, InputResponses};

use super::{PlanHandle, PlanSnapshot, waiting::PAUSE};
use crate::{CallContext, Error, long_call::into_server_request};

/// Returns the open questions of a plan, under keys that are unique to the plan.
pub(super) fn open(plan: &PlanSnapshot) -> InputRequests {
    let tasks = plan.tasks.iter();
    let asking = tasks.filter_map(|task| Some((&task.id, task.questions.as_ref()?)));
    asking
        .flat_map(|(id, questions)| {
            let keyed = questions.iter();
            keyed.map(move |(key, question)| (key_of(id, key), question.clone()))
        })
        .collect()
}

/// Returns the key of a question of a plan. The id of the task is escaped as in a JSON pointer, so
/// an agent cannot ask under the key of another task.
fn key_of(task: &str, key: &str) -> String {
    let task = task.replace('~', "~0").replace('/', "~1");
    format!("{task}/{key}")
}

/// Returns the answers to open questions of a plan, by the tasks that ask. Others are left out.
pub(super) fn by_task(
    plan: &PlanSnapshot,
    mut given: InputResponses,
) -> Vec<(Arc<str>, InputResponses)> {
    let asking = plan.tasks.iter();
    let asking = asking.filter_map(|task| Some((&task.id, task.questions.as_ref()?)));
    let mut answered = Vec::new();
    for (task, questions) in asking {
        let answers = questions.keys().filter_map(|key| {
            let answer = given.remove(&key_of(task, key))?;
            Some((key.clone(), answer))
        });
        let answers: InputResponses = answers.collect();
        if !answers.is_empty() {
            answered.push((task.clone(), answers));
        }
    }
    answered
}

/// Gives answers to the tasks of a plan that ask for them. A task goes on when all of its questions
/// are answered.
pub(super) fn answer(handle: &PlanHandle, given: InputResponses) {
    for (task, answers) in by_task(&handle.snapshot(), given) {
        if let Err(error) = handle.answer_some(&task, answers) {
            tracing::debug!(%error, task = &*task, "an answer came too late");
        }
    }
}

/// Waits until one of these questions is not open any more: it was answered elsewhere, or its task
/// has ended.
pub(super) async fn closed(handle: &PlanHandle, questions: &InputRequests) {
    loop {
        let plan = handle.snapshot();
        let now = open(&plan);
        if plan.state.is_over() || !questions.keys().all(|key| now.contains_key(key)) {
            return;
        }
        handle.changed(plan.version).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns `true` if the caller has declared that it can answer all of these questions.
pub(super) fn can_answer(context: &CallContext, questions: &InputRequests) -> bool {
    let able = context.client_capabilities().unwrap_or_default();
    questions.values().all(|question| is_able(&able, question))
}

fn is_able(able: &ClientCapabilities, question: &InputRequest) -> bool {
    match question {
        InputRequest::Elicitation(_) => able.elicitation.is_some(),
        InputRequest::CreateMessage(_) => able.sampling.is_some(),
        InputRequest::ListRoots(_) => able.roots.is_some(),
        _ => false,
    }
}

/// Asks a caller of a revision before 2026-07-28, by requests of its session.
pub(super) async fn ask(
    context: &CallContext,
    questions: InputRequests,
) -> Result<InputResponses, Error> {
    let mut answers = InputResponses::new();
    for (key, question) in questions {
        let Some(request) = into_server_request(question) else {
            continue;
        };
        let answer = context.caller.request(request).await?;
        answers.insert(key, serde_json::to_value(answer).unwrap_or_default());
    }
    Ok(answers)
}
