use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rmcp::model::InputRequests;

use super::{Status, tree};
use crate::delegate::TaskOutput;

/// The state of a task at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskSnapshot {
    /// The id.
    pub id: Arc<str>,
    /// The description.
    pub description: Arc<str>,
    /// The ids of its dependencies.
    pub after: Vec<Arc<str>>,
    /// The status.
    pub status: Status,
    /// The agent of the last attempt.
    pub agent: Option<Arc<str>>,
    /// Number of attempts.
    pub attempts: u32,
    /// The time from the submission of the plan until the task was ready.
    pub ready_after: Option<Duration>,
    /// The time from the submission of the plan until the last attempt started.
    pub started_after: Option<Duration>,
    /// The time from the submission of the plan until the task ended.
    pub ended_after: Option<Duration>,
    /// The output of a complete task.
    pub output: Option<Arc<TaskOutput>>,
    /// The reason why the task was not completed, or why its last attempt failed.
    pub error: Option<Arc<str>>,
    /// The questions that the agent asks, by their keys. Answer them by
    /// [`PlanHandle::answer`](crate::delegate::PlanHandle::answer).
    pub questions: Option<InputRequests>,
    /// The id of the question that has them, which is another one if the agent asks them again.
    pub(in crate::delegate) question_id: Option<u64>,
    /// The last progress that the agent has reported.
    pub progress: Option<TaskProgress>,
}

/// The progress that an agent reports on its task.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TaskProgress {
    /// The part that is done.
    pub done: f64,
    /// The whole, if it is known.
    pub total: Option<f64>,
    /// The agent's own words.
    pub message: Option<Arc<str>>,
}

/// The state of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanState {
    /// It runs.
    Running,
    /// It runs to its end without further starts, because a limit was reached.
    Stopping(Arc<str>),
    /// All tasks have ended.
    Ended,
    /// All tasks have ended, some of them because the plan was stopped: it was cancelled, or a limit
    /// was reached.
    Stopped(Arc<str>),
    /// This process no longer runs it, for this reason. Another process may.
    Released(Arc<str>),
}

impl PlanState {
    /// Returns `true` if nothing of the plan changes any more in this process.
    pub fn is_over(&self) -> bool {
        !matches!(self, Self::Running | Self::Stopping(_))
    }
}

/// The state of a plan and its tasks at one moment. `Display` prints the tasks as a tree.
///
/// In the tree, a task is below the last of its dependencies, and names the others.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlanSnapshot {
    /// The id of the plan.
    pub id: Arc<str>,
    /// The state of the plan.
    pub state: PlanState,
    /// The number of changes so far, for [`PlanHandle::changed`](crate::delegate::PlanHandle::changed).
    pub version: u64,
    /// The time of the submission of the plan.
    pub submitted_at: SystemTime,
    /// The time since the submission of the plan, until its end.
    pub elapsed: Duration,
    /// The tokens that its tasks have used.
    pub tokens: u64,
    /// The cost of its attempts.
    pub cost: f64,
    /// The tasks, in the order of the plan.
    pub tasks: Vec<TaskSnapshot>,
}

impl PlanSnapshot {
    /// Returns the task with this id.
    pub fn task(&self, id: &str) -> Option<&TaskSnapshot> {
        self.tasks.iter().find(|task| &*task.id == id)
    }

    /// Returns the number of tasks with this status.
    pub fn count(&self, status: Status) -> usize {
        self.tasks
            .iter()
            .filter(|task| task.status == status)
            .count()
    }

    /// Returns the number of tasks that have ended.
    pub fn ended(&self) -> usize {
        let ended = self.tasks.iter().filter(|task| task.status.is_terminal());
        ended.count()
    }

    /// Returns `true` if all tasks are complete.
    pub fn is_complete(&self) -> bool {
        self.count(Status::Complete) == self.tasks.len()
    }
}

impl std::fmt::Display for PlanSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        tree::print(self, f)
    }
}
