//! Tool calls that the server turned into a task (Tasks extension, SEP-2663).

use rmcp::model::{CallToolResult, ClientRequest, CreateTaskResult, InputResponses, ServerResult};

use super::call::ClientCall;
use crate::{
    Delivered, Error, Refusal, Stack, code,
    long_call::{self, CANCEL_WITHIN, LongCall, PollEnd, Wanted, polling_interval},
    util::run_to_end::RunToEnd,
};

/// The number of consecutive failed polls after which a task is given up.
const FAILED_POLLS: usize = 3;

impl<S: Stack> LongCall for ClientCall<'_, S> {
    async fn request(&self, message: ClientRequest) -> Result<ServerResult, Error> {
        ClientCall::request(self, message).await
    }

    async fn answers(&self, wanted: Wanted) -> Result<InputResponses, Error> {
        self.client.answers(wanted.requests).await
    }

    fn max_rounds(&self) -> usize {
        self.client.shared.mrtr_max_rounds
    }

    fn max_failed_polls(&self) -> usize {
        FAILED_POLLS
    }
}

impl<S: Stack> ClientCall<'_, S> {
    /// Polls the task to its end. The task is cancelled if this future is dropped before the end.
    pub(super) async fn follow(&self, created: CreateTaskResult) -> Result<CallToolResult, Error> {
        let task_id = created.task.task_id;
        let abandoned = RunToEnd::new(self.cancel(task_id.clone())).within(CANCEL_WITHIN);
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
        let wait = polling_interval(created.task.poll_interval_ms);
        match long_call::follow(self, &task_id, wait).await {
            Ok(result) => {
                abandoned.disarm();
                Ok(result)
            }
            Err(PollEnd::Ended(error) | PollEnd::Forgotten(error)) => {
                abandoned.disarm();
                Err(error)
            }
            Err(PollEnd::Left(error)) => Err(error),
        }
    }

    /// Cancels a task at its server.
    fn cancel(&self, task_id: String) -> impl Future<Output = ()> + Send + use<S> {
        let client = self.client.clone();
        async move {
            if let Err(error) = client.cancel_task(&task_id).await {
                tracing::debug!(%error, task_id, "an abandoned task could not be cancelled");
            }
        }
    }
}
