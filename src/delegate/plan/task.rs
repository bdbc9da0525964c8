use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::Retries;

/// Maximum length of the id of a task in bytes.
pub(in crate::delegate) const MAX_ID_BYTES: usize = 128;

/// The treatment of the tasks that depend on a task that was not completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnFailure {
    /// They fail. If the task was cancelled, they are cancelled.
    #[default]
    FailDependents,
    /// They are skipped.
    SkipDependents,
    /// They start, with the error in place of the result as their context.
    Continue,
}

/// A task for an agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    pub(in crate::delegate) id: Arc<str>,
    pub(in crate::delegate) description: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::delegate) capability: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::delegate) assigned_to: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::delegate) after: Vec<Arc<str>>,
    #[serde(default)]
    pub(in crate::delegate) priority: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::delegate) deadline: Option<Duration>,
    #[serde(default)]
    pub(in crate::delegate) retries: Retries,
    #[serde(default)]
    pub(in crate::delegate) on_failure: OnFailure,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::delegate) budget_share: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::delegate) context: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::delegate) thread: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::delegate) follows: Option<Arc<str>>,
    #[serde(default)]
    pub(in crate::delegate) idempotent: bool,
}

impl Task {
    /// Creates a task with this id, which is unique to its plan, and this description, which the
    /// agent receives.
    pub fn new(id: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            id: id.into().into(),
            description: description.into().into(),
            capability: None,
            assigned_to: None,
            after: Vec::new(),
            priority: 0,
            deadline: None,
            retries: Retries::default(),
            on_failure: OnFailure::default(),
            budget_share: None,
            context: None,
            thread: None,
            follows: None,
            idempotent: false,
        }
    }

    /// Sets the capability that an agent of the task must have. Default: none, which any agent has.
    #[must_use]
    pub fn capability(mut self, capability: impl Into<String>) -> Self {
        self.capability = Some(capability.into().into());
        self
    }

    /// Sets the only agent that the task may go to, by its name. Its capabilities do not matter
    /// then.
    #[must_use]
    pub fn assigned_to(mut self, agent: impl Into<String>) -> Self {
        self.assigned_to = Some(agent.into().into());
        self
    }

    /// Adds tasks of the plan that must end before this one starts. Their results are its context.
    #[must_use]
    pub fn after(mut self, tasks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let tasks = tasks.into_iter().map(|task| task.into().into());
        self.after.extend(tasks);
        self
    }

    /// Sets the priority. Of the tasks that wait for an agent, the one with the highest priority
    /// starts first, and of several the oldest. Default: 0.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the time from the submission of the plan until which the task must have ended. After
    /// it, the task fails, and its attempt is cancelled. Default: none.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets the retries after failed attempts. Default: 2.
    #[must_use]
    pub fn retries(mut self, retries: Retries) -> Self {
        self.retries = retries;
        self
    }

    /// Sets the treatment of dependent tasks if this one is not completed. Default: they fail.
    #[must_use]
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// Sets the share of the plan's tokens that the task may use, more than 0 and at most 1.
    /// Default: an equal part of the tokens that no other task has.
    #[must_use]
    pub fn budget_share(mut self, share: f64) -> Self {
        self.budget_share = Some(share);
        self
    }

    /// Sets the context that the agent receives, before the results of the dependencies.
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.context = Some(context.into().into());
        self
    }

    /// Sets the thread of the agent that the task belongs to, from the
    /// [output](super::super::TaskOutput::thread) of a task of an earlier plan. A thread exists at
    /// one agent only, so also call [`assigned_to`](Self::assigned_to).
    #[must_use]
    pub fn thread(mut self, thread: impl Into<String>) -> Self {
        self.thread = Some(thread.into().into());
        self
    }

    /// Makes the task a follow-up of another task of the plan: it starts after that task, and goes
    /// to the same agent, in the same thread.
    #[must_use]
    pub fn follow_up_of(mut self, task: impl Into<String>) -> Self {
        self.follows = Some(task.into().into());
        self
    }

    /// Sets whether the task may be done twice. Default: `false`.
    ///
    /// If `true`, an attempt is also repeated after failures that leave open whether the agent has
    /// done the task: a lost connection, a timeout, the death of the orchestrator.
    #[must_use]
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Returns the id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Returns the description.
    pub fn description(&self) -> &Arc<str> {
        &self.description
    }

    /// Returns the ids of the tasks that must end before this one starts.
    pub fn dependencies(&self) -> impl Iterator<Item = &Arc<str>> {
        let follows = self.follows.iter();
        self.after.iter().chain(follows)
    }
}
