//! An attempt, from its call to its end.

use std::{sync::Arc, time::Duration};

use rmcp::model::{
    CallToolResult, CancelTaskParams, CancelTaskRequest, ClientRequest, InputResponses, JsonObject,
};
use tokio::time::{Instant, sleep};

use super::{
    Agent, Attempt, AttemptEnd, AttemptFailure, AttemptReports, RemoteTask, Resume, Shared,
    call::{AgentCall, params, send, tool_call},
    failure::said,
    mapping::{Answered, State, StatusTool, TaskParts, TaskText, ToCall},
};
use crate::{
    CallContext, McpResponse, Refusal,
    long_call::{
        CANCEL_WITHIN, LONGEST_INTERVAL, LongCall, PollEnd, Rounds, ToolEnd, follow,
        polling_interval, run_rounds, run_rounds_of,
    },
    util::run_to_end::RunToEnd,
};

impl Agent {
    /// Makes an attempt of a task.
    pub(in crate::delegate) async fn attempt(
        &self,
        mut attempt: Attempt,
        reports: Arc<dyn AttemptReports>,
    ) -> AttemptEnd {
        let resume = attempt.resume.take();
        let (origin, hops) = (attempt.caller.clone(), std::mem::take(&mut attempt.hops));
        let call = AgentCall::new(self.shared.clone(), origin, hops, reports);
        let end = match resume {
            // In a box, as below: most attempts have no room for what few of them do.
            Some(Resume::Remote(remote)) => Box::pin(call.follow_remote(remote)).await,
            Some(Resume::Round {
                answers,
                request_state,
            }) => call.start(&attempt, Some((answers, request_state))).await,
            None => call.start(&attempt, None).await,
        };
        match end.unwrap_or_else(AttemptEnd::Failed) {
            AttemptEnd::Rejected { reason } => {
                let reason = said(&reason);
                AttemptEnd::Rejected { reason }
            }
            end => end,
        }
    }
}

impl Agent {
    /// Cancels work that the agent has given a handle of, and that no attempt follows. It returns at
    /// once.
    pub(in crate::delegate) fn cancel(&self, remote: &RemoteTask, caller: &CallContext) {
        let message = match remote {
            RemoteTask::Task { task_id, .. } => {
                CancelTaskRequest::new(CancelTaskParams::new(&**task_id)).into()
            }
            RemoteTask::Started(handle) => {
                let status = self.shared.mapping.status_tool();
                match status.and_then(|status| status.cancel_call(handle)) {
                    Some(call) => tool_call(call),
                    None => return,
                }
            }
        };
        let mut context = caller.to_background();
        if context.caller.session().is_none() {
            context.caller = context.caller.in_session(self.shared.session.clone());
        }
        let cancel = cancel(self.shared.clone(), message, context);
        drop(RunToEnd::new(cancel).within(CANCEL_WITHIN));
    }
}

async fn cancel(agent: Arc<Shared>, message: ClientRequest, context: CallContext) {
    if let Err(error) = send(&agent, message, context).await {
        tracing::debug!(%error, agent = &*agent.name, "work could not be cancelled");
    }
}

type Ended = Result<AttemptEnd, AttemptFailure>;

impl AgentCall {
    /// Calls the agent's tool, and follows the work to its end.
    async fn start(
        &self,
        attempt: &Attempt,
        answers: Option<(InputResponses, Option<String>)>,
    ) -> Ended {
        let mapping = &self.agent().mapping;
        let parts = TaskParts {
            id: &attempt.task,
            description: &attempt.description,
            context: attempt.context.as_deref(),
            thread: attempt.thread.as_deref(),
        };
        let call = mapping
            .call(parts)
            .map_err(|reason| self.definite(&reason))?;
        let mut first = params(call);
        if let Some((answers, state)) = answers {
            first.answer(Some(answers), state);
        }
        let again = || match mapping.call(parts) {
            Ok(call) => Ok(params(call)),
            Err(reason) => Err(Refusal::new("delegate", reason).into()),
        };
        match run_rounds_of(self, first, again).await {
            Ok(ToolEnd::Task(created)) => {
                let interval = created.task.poll_interval_ms;
                let interval = polling_interval(interval);
                Box::pin(self.follow_task(created.task.task_id, interval, true)).await
            }
            Ok(ToolEnd::Result(result)) => match mapping.status_tool() {
                Some(status) if result.is_error != Some(true) => {
                    Box::pin(self.started(status, result)).await
                }
                _ => self.read(result),
            },
            Err(error) => Err(self.failure(&error)),
        }
    }

    async fn follow_remote(&self, remote: RemoteTask) -> Ended {
        match remote {
            RemoteTask::Task {
                task_id,
                poll_interval,
            } => {
                let interval = poll_interval.unwrap_or_else(|| polling_interval(None));
                self.follow_task(task_id, interval, false).await
            }
            RemoteTask::Started(handle) => match self.agent().mapping.status_tool() {
                Some(status) => self.poll(status, handle, false).await,
                None => Err(self.ambiguous("its mapping has no status tool any more")),
            },
        }
    }

    /// Polls a task of the Tasks extension to its end. It is cancelled if this future is dropped.
    async fn follow_task(&self, task_id: String, interval: Duration, is_new: bool) -> Ended {
        let cancel = CancelTaskRequest::new(CancelTaskParams::new(&*task_id));
        let abandoned = self.when_dropped(cancel.into());
        if is_new {
            let remote = RemoteTask::Task {
                task_id: task_id.clone(),
                poll_interval: Some(interval),
            };
            self.report(remote).await?;
        }
        match follow(self, &task_id, interval).await {
            Ok(result) => {
                abandoned.disarm();
                self.read(result)
            }
            Err(PollEnd::Ended(error)) => {
                abandoned.disarm();
                Err(self.reported(&error))
            }
            Err(PollEnd::Forgotten(error)) => {
                abandoned.disarm();
                Err(self.ambiguous(&error.to_string()))
            }
            Err(PollEnd::Left(error)) => Err(self.ambiguous(&error.to_string())),
        }
    }

    /// Reads the handle of work that has been started, and asks for its status to its end.
    async fn started(&self, status: &StatusTool, result: CallToolResult) -> Ended {
        let result = TaskText::of(result);
        if let Answered::Rejected(reason) = self.agent().mapping.read(result.clone()) {
            return Ok(AttemptEnd::Rejected { reason });
        }
        let handle = status.read_handle(result.json.as_ref());
        let handle = handle.map_err(|reason| self.ambiguous(&reason))?;
        self.poll(status, handle, true).await
    }

    /// Asks for the status of started work to its end. The work is cancelled if this future is
    /// dropped.
    async fn poll(&self, status: &StatusTool, handle: JsonObject, is_new: bool) -> Ended {
        let cancel = status.cancel_call(&handle);
        let abandoned = cancel.map(|call| self.when_dropped(tool_call(call)));
        if is_new {
            self.report(RemoteTask::Started(handle.clone())).await?;
        }
        let (interval, limit) = status.polling();
        let begun = Instant::now();
        let mut failed = 0;
        let end = loop {
            let text = match self.status(status.status_call(&handle)).await {
                Ok(text) => text,
                Err(failure) if failed + 1 < self.max_failed_polls() && failure.may_retry => {
                    failed += 1;
                    let asked_for = failure.retry_after.unwrap_or_default();
                    sleep(asked_for.min(LONGEST_INTERVAL).max(interval)).await;
                    continue;
                }
                Err(failure) => {
                    return Err(AttemptFailure {
                        ambiguous: true,
                        ..failure
                    });
                }
            };
            failed = 0;
            let json = text.json.as_ref();
            let Some(state) = json.and_then(|json| status.read_state(json)) else {
                return Err(self.ambiguous("the result of its status tool has no state"));
            };
            let error = || json.and_then(|json| status.read_error(json));
            match state {
                State::Running if begun.elapsed() >= limit => {
                    let reason = format!("its work has not ended within {limit:?}");
                    return Err(self.ambiguous(&reason));
                }
                State::Running => sleep(interval).await,
                State::Done => break Ok(self.ended(text)),
                State::Failed => {
                    let reason = error().unwrap_or_else(|| "the work failed".to_owned());
                    break Err(AttemptFailure {
                        may_retry: true,
                        ..self.definite(&reason)
                    });
                }
                State::Cancelled => break Err(self.definite("the agent cancelled the work")),
                State::Rejected => {
                    let reason = error().unwrap_or_else(|| text.text.clone());
                    break Ok(AttemptEnd::Rejected { reason });
                }
            }
        };
        if let Some(abandoned) = abandoned {
            abandoned.disarm();
        }
        end
    }

    async fn status(&self, call: ToCall) -> Result<TaskText, AttemptFailure> {
        match run_rounds(self, params(call)).await {
            Ok(ToolEnd::Result(result)) if result.is_error == Some(true) => {
                Err(self.tool_failure(result))
            }
            Ok(ToolEnd::Result(result)) => Ok(TaskText::of(result)),
            Ok(ToolEnd::Task(_)) => Err(self.ambiguous("its status tool has made a task")),
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// Has the handle kept. A handle that cannot be kept ends the attempt.
    async fn report(&self, remote: RemoteTask) -> Result<(), AttemptFailure> {
        let kept = self.reports().remote(remote).await;
        kept.map_err(|error| self.ambiguous(&error.to_string()))
    }

    /// Reads the result that ends the task. An agent may mark that it declines as an error.
    fn read(&self, result: CallToolResult) -> Ended {
        if result.is_error != Some(true) {
            return Ok(self.ended(TaskText::of(result)));
        }
        match self.ended(TaskText::of(result.clone())) {
            rejected @ AttemptEnd::Rejected { .. } => Ok(rejected),
            _ => Err(self.tool_failure(result)),
        }
    }

    fn ended(&self, text: TaskText) -> AttemptEnd {
        match self.agent().mapping.read(text) {
            Answered::Output(output) => AttemptEnd::Complete(output),
            Answered::Rejected(reason) => AttemptEnd::Rejected { reason },
        }
    }

    fn tool_failure(&self, result: CallToolResult) -> AttemptFailure {
        let response = McpResponse::new(result);
        let retry_after = response.retry_after();
        let text = match response.as_tool_result() {
            Some(result) => TaskText::of(result.clone()).into_text(),
            None => String::new(),
        };
        AttemptFailure {
            may_retry: true,
            retry_after,
            ..self.definite(&text)
        }
    }

    /// Returns a guard that sends a request when it is dropped, unless another process goes on with
    /// the work.
    fn when_dropped(
        &self,
        message: ClientRequest,
    ) -> RunToEnd<impl Future<Output = ()> + Send + use<>> {
        let (agent, context) = (self.agent().clone(), self.background());
        let reports = self.reports().clone();
        let cancel = async move {
            if reports.is_released() {
                return;
            }
            self::cancel(agent, message, context).await;
        };
        RunToEnd::new(cancel).within(CANCEL_WITHIN)
    }
}
