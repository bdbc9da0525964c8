//! Tool calls that the server turned into a task (Tasks extension, SEP-2663).

use std::{collections::HashSet, time::Duration};

use rmcp::model::{
    CallToolResult, ErrorData, GetTaskParams, GetTaskRequest, GetTaskResult, InputRequests,
    JsonObject, TaskPayload, UpdateTaskParams, UpdateTaskRequest,
};
use serde_json::Value;

use super::{LongCall, Wanted, WantedBy, rounds::answers};
use crate::{
    Error, TransportError,
    protocol::{mrtr::too_many_rounds, results},
};

/// The minimum interval between polls of a task, whatever interval its server names.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// The maximum interval between polls of a task.
pub(crate) const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
/// The interval between polls of a task whose server names none.
const USUAL_INTERVAL: Duration = Duration::from_secs(1);
/// The time limit for cancelling an abandoned task at its server.
pub(crate) const CANCEL_WITHIN: Duration = Duration::from_secs(10);

/// Polls the task to its end.
pub(crate) async fn follow(
    call: &impl LongCall,
    task_id: &str,
    mut wait: Duration,
) -> Result<CallToolResult, PollEnd> {
    let mut failed = 0;
    let mut rounds = 0;
    let mut answered = HashSet::new();
    loop {
        tokio::time::sleep(wait).await;
        let polled = call
            .request(GetTaskRequest::new(GetTaskParams::new(task_id)).into())
            .await;
        let task = match polled {
            Ok(result) => {
                let read = results::expect::<GetTaskResult>(result);
                read.map_err(PollEnd::Left)?.task
            }
            Err(error) if may_pass(&error) && failed + 1 < call.max_failed_polls() => {
                failed += 1;
                wait = wait
                    .max(error.retry_after().unwrap_or_default())
                    .min(LONGEST_INTERVAL);
                tracing::debug!(%error, task_id, "a poll of a task failed");
                continue;
            }
            Err(error) if error.is_protocol() => return Err(PollEnd::Forgotten(error)),
            Err(error) => return Err(PollEnd::Left(error)),
        };
        failed = 0;
        wait = polling_interval(task.task.poll_interval_ms);
        match task.payload {
            TaskPayload::Completed { result } => {
                return read_result(result).map_err(PollEnd::Ended);
            }
            TaskPayload::Failed { error } => return Err(PollEnd::Ended(read_error(error))),
            TaskPayload::Cancelled => {
                let said = task.task.status_message;
                let reason = said.unwrap_or_else(|| "the server cancelled the task".to_owned());
                return Err(PollEnd::Ended(Error::cancelled(reason)));
            }
            TaskPayload::InputRequired { mut input_requests } => {
                // The server repeats its requests until it has processed the answers.
                input_requests.retain(|key, _| !answered.contains(key));
                if input_requests.is_empty() {
                    continue;
                }
                if rounds == call.max_rounds() {
                    return Err(PollEnd::Left(too_many_rounds(rounds)));
                }
                rounds += 1;
                answered.extend(input_requests.keys().cloned());
                answer(call, task_id, input_requests)
                    .await
                    .map_err(PollEnd::Left)?;
            }
            _ => {}
        }
    }
}

/// Answers a task's requests for input.
async fn answer(call: &impl LongCall, task_id: &str, requests: InputRequests) -> Result<(), Error> {
    let by = WantedBy::Task;
    let responses = answers(call, Wanted { requests, by }).await?;
    let params = UpdateTaskParams::new(task_id, responses);
    call.request(UpdateTaskRequest::new(params).into()).await?;
    Ok(())
}

/// Returns the interval between polls of a task, whose server names this one.
pub(crate) fn polling_interval(named: Option<u64>) -> Duration {
    named
        .map_or(USUAL_INTERVAL, Duration::from_millis)
        .clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
}

/// Returns `true` if the next poll may succeed.
fn may_pass(error: &Error) -> bool {
    error.is_transport() || error.is_timeout() || error.is_refused()
}

/// The reason why polling stopped without a result.
pub(crate) enum PollEnd {
    /// The task has ended with this error.
    Ended(Error),
    /// The server does not know the task any more, or never ran it.
    Forgotten(Error),
    /// The task may still be running.
    Left(Error),
}

fn read_result(result: JsonObject) -> Result<CallToolResult, Error> {
    serde_json::from_value(Value::Object(result)).map_err(|error| {
        TransportError::new("unreadable answer: the task's result is not one of a tool")
            .with_source(error)
            .into()
    })
}

fn read_error(error: JsonObject) -> Error {
    let error = Value::Object(error);
    serde_json::from_value::<ErrorData>(error.clone())
        .unwrap_or_else(|_| ErrorData::internal_error("the task failed", Some(error)))
        .into()
}
