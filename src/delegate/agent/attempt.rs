//! One attempt of one task on one agent.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use rmcp::model::{InputRequests, InputResponses};
use serde::{Deserialize, Serialize};

use super::{AttemptFailure, TaskOutput};
use crate::{CallContext, Error, delegate::hops::Hops};

/// An attempt to be made. Dropping its future cancels it down to the agent.
#[derive(Clone, Debug)]
pub(in crate::delegate) struct Attempt {
    /// The id of the task, unique to the plan's owner.
    pub(in crate::delegate) task: Arc<str>,
    pub(in crate::delegate) description: Arc<str>,
    pub(in crate::delegate) context: Option<String>,
    /// The agent's thread of an earlier task, for a follow-up.
    pub(in crate::delegate) thread: Option<String>,
    /// The hops of the call to the agent, as they are sent.
    pub(in crate::delegate) hops: Hops,
    /// The context of the caller whose work it is: [`CallContext::to_background`] of its request,
    /// or [`CallContext::background`] with the principal, [introduced](super::introduced).
    pub(in crate::delegate) caller: Arc<CallContext>,
    /// The state of an attempt whose orchestrator is gone, to go on with.
    pub(in crate::delegate) resume: Option<Resume>,
}

/// The state that an attempt is resumed from. It is kept in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::delegate) enum Resume {
    /// The agent has given a handle, and is polled.
    Remote(RemoteTask),
    /// The agent waits for the answers to its questions, in another round of the call.
    Round {
        answers: InputResponses,
        request_state: Option<String>,
    },
}

/// An agent's handle of its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::delegate) enum RemoteTask {
    /// A task of the Tasks extension.
    Task {
        task_id: String,
        poll_interval: Option<Duration>,
    },
    /// The answer of a start tool: arguments of its status and cancel tools.
    Started(serde_json::Map<String, serde_json::Value>),
}

/// Questions of an agent, which all need an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::delegate) struct Question {
    /// A random number, which tells it from the same question asked again.
    #[serde(default)]
    pub(in crate::delegate) id: u64,
    pub(in crate::delegate) requests: InputRequests,
    pub(in crate::delegate) origin: QuestionOrigin,
}

impl Question {
    pub(in crate::delegate) fn new(requests: InputRequests, origin: QuestionOrigin) -> Self {
        Self {
            id: rand::random(),
            requests,
            origin,
        }
    }
}

/// The way that the answers to a question go to its agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::delegate) enum QuestionOrigin {
    /// In another round of the call (MRTR). After a restart: [`Resume::Round`] with the answers.
    Round { request_state: Option<String> },
    /// By `tasks/update`. After a restart: [`Resume::Remote`]; the agent asks again, under the same
    /// keys.
    Remote,
    /// As the response to a request of a legacy session. The question is lost with the process.
    Session,
}

/// A report of an agent on its work.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::delegate) struct AgentProgress {
    pub(in crate::delegate) done: f64,
    pub(in crate::delegate) total: Option<f64>,
    pub(in crate::delegate) message: Option<String>,
}

/// The orchestrator's side of a running attempt.
pub(in crate::delegate) trait AttemptReports: Send + Sync + 'static {
    /// Keeps the handle that the agent has given, before it is polled.
    fn remote(&self, remote: RemoteTask) -> BoxFuture<'_, Result<(), Error>>;

    /// Gets the answers to questions. Waits for as long as it takes; the attempt may be dropped
    /// meanwhile. An error ends the attempt.
    fn input_required(&self, question: Question) -> BoxFuture<'_, Result<InputResponses, Error>>;

    fn progress(&self, progress: AgentProgress);

    /// Returns `true` if another process may go on with the task. Work that the agent has given a
    /// handle of is not cancelled then.
    fn is_released(&self) -> bool;
}

/// The end of an attempt.
#[derive(Clone, Debug)]
pub(in crate::delegate) enum AttemptEnd {
    Complete(TaskOutput),
    /// The agent declines the task. It has not begun.
    Rejected {
        reason: String,
    },
    Failed(AttemptFailure),
}
