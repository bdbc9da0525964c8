//! Tool calls that the server turned into a task (Tasks extension, SEP-2663).

use std::{collections::HashSet, time::Duration};

use rmcp::model::{
    CallToolResult, CreateTaskResult, ErrorData, GetTaskParams, GetTaskRequest, GetTaskResult,
    InputRequests, JsonObject, TaskPayload, UpdateTaskParams, UpdateTaskRequest,
};
use serde_json::Value;

use super::call::ClientCall;
use crate::protocol::mrtr::too_many_rounds;
use crate::{Delivered, Error, Refusal, Stack, TransportError, code, protocol::results};

/// The minimum interval between polls of a task, whatever interval its server names.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// The maximum interval between polls of a task.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
/// The interval between polls of a task whose server names none.
const USUAL_INTERVAL: Duration = Duration::from_secs(1);
/// The number of consecutive failed polls after which the task is given up. A poll changes nothing,
/// and a lost connection does not end a task.
const FAILED_POLLS: usize = 3;
/// The time limit for cancelling an abandoned task at its server.
const CANCEL_WITHIN: Duration = Duration::from_secs(10);

impl<S: Stack> ClientCall<'_, S> {
    /// Polls the task to its end. The task is cancelled if this future is dropped before the end.
    pub(super) async fn follow(&self, created: CreateTaskResult) -> Result<CallToolResult, Error> {
        let task_id = created.task.task_id;
        let abandoned = self.cancel_if_dropped(task_id.clone());
        if !self.client.shared.supports_tasks {
            let message = format!(
                "the server made the call a task ({task_id}), but this client does not declare the Tasks \
                 extension: declare it (`McpClient::builder(..).capabilities(..)`)"
            );
            return Err(Refusal::new("tasks", message)
                .with_code(code::FORBIDDEN)
                .with_delivered(Delivered::Unknown)
                .into());
        }
        let result = self
            .poll(&task_id, interval(created.task.poll_interval_ms))
            .await;
        match result {
            Ok(result) => {
                abandoned.disarm();
                Ok(result)
            }
            Err(PollEnd::Ended(error)) => {
                abandoned.disarm();
                Err(error)
            }
            Err(PollEnd::Left(error)) => Err(error),
        }
    }

    async fn poll(&self, task_id: &str, mut wait: Duration) -> Result<CallToolResult, PollEnd> {
        let mut failed = 0;
        let mut rounds = 0;
        let mut answered = HashSet::new();
        loop {
            tokio::time::sleep(wait).await;
            let polled = self
                .request(GetTaskRequest::new(GetTaskParams::new(task_id)))
                .await;
            let task = match polled {
                Ok(result) => {
                    let read = results::expect::<GetTaskResult>(result);
                    read.map_err(PollEnd::Left)?.task
                }
                Err(error) if may_pass(&error) && failed + 1 < FAILED_POLLS => {
                    failed += 1;
                    wait = wait
                        .max(error.retry_after().unwrap_or_default())
                        .min(LONGEST_INTERVAL);
                    tracing::debug!(%error, task_id, "a poll of a task failed");
                    continue;
                }
                // A server that answers with an error no longer knows the task, or never ran it.
                Err(error) if error.is_protocol() => return Err(PollEnd::Ended(error)),
                Err(error) => return Err(PollEnd::Left(error)),
            };
            failed = 0;
            wait = interval(task.task.poll_interval_ms);
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
                    if rounds == self.client.shared.mrtr_max_rounds {
                        return Err(PollEnd::Left(too_many_rounds(rounds)));
                    }
                    rounds += 1;
                    answered.extend(input_requests.keys().cloned());
                    self.answer_task(task_id, input_requests)
                        .await
                        .map_err(PollEnd::Left)?;
                }
                _ => {}
            }
        }
    }

    async fn answer_task(&self, task_id: &str, requests: InputRequests) -> Result<(), Error> {
        let responses = self.client.answers(requests).await?;
        let params = UpdateTaskParams::new(task_id, responses);
        self.request(UpdateTaskRequest::new(params)).await?;
        Ok(())
    }

    fn cancel_if_dropped(&self, task_id: String) -> OnDrop {
        let client = self.client.clone();
        OnDrop(Some(Box::new(move || {
            // Without a runtime, the server cannot be notified.
            let Ok(runtime) = tokio::runtime::Handle::try_current() else {
                return;
            };
            runtime.spawn(async move {
                let told = tokio::time::timeout(CANCEL_WITHIN, client.cancel_task(&task_id)).await;
                if !matches!(told, Ok(Ok(()))) {
                    tracing::debug!(?told, task_id, "an abandoned task could not be cancelled");
                }
            });
        })))
    }
}

fn interval(named: Option<u64>) -> Duration {
    named
        .map_or(USUAL_INTERVAL, Duration::from_millis)
        .clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
}

/// Returns `true` if the next poll may succeed.
fn may_pass(error: &Error) -> bool {
    error.is_transport() || error.is_timeout() || error.is_refused()
}

/// The reason why polling stopped without a result.
enum PollEnd {
    /// The task has ended with this error.
    Ended(Error),
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

struct OnDrop(Option<Box<dyn FnOnce() + Send>>);

impl OnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}
