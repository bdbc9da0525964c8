use std::{collections::VecDeque, fmt, sync::Arc};

use futures::{Stream, stream};
use rmcp::model::{InputRequest, InputRequests, InputResponses};
use tokio::sync::watch;

use super::{
    driver::Event,
    live_plan::{LivePlan, Reported},
};
use crate::delegate::plan::{PlanSnapshot, PlanState, TaskSnapshot};

/// The reason why a plan was stopped that was cancelled.
pub(in crate::delegate) const CANCELLED: &str = "the plan was cancelled";

/// A plan that was submitted to an [`Orchestrator`](super::Orchestrator).
///
/// Clones are of the same plan. The plan goes on if all of them are dropped; to end it, call
/// [`cancel`](Self::cancel).
///
/// A handle reaches the plan in this process only. A plan that another process runs, such as one that
/// was [released](crate::delegate::PlanState::Released), is reached by
/// [`Orchestrator::cancel_plan`](super::Orchestrator::cancel_plan),
/// [`cancel_task`](super::Orchestrator::cancel_task) and
/// [`answer_task`](super::Orchestrator::answer_task).
#[derive(Clone)]
pub struct PlanHandle {
    plan: Arc<LivePlan>,
}

/// The reason why an answer does not go to an agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The plan has no such task.
    #[error("the plan has no task `{task}`; use one of its ids")]
    UnknownTask {
        /// The id.
        task: String,
    },
    /// The task does not wait for an answer.
    #[error("task `{task}` does not wait for an answer; look at its status")]
    NotWaiting {
        /// The id.
        task: String,
    },
    /// A question has no answer.
    #[error("the question `{key}` of task `{task}` has no answer; answer all of them at once")]
    Incomplete {
        /// The id of the task.
        task: String,
        /// The key of the question.
        key: String,
    },
}

/// The end of an answer that has reached another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LateAnswer {
    Given,
    /// The task asks something else, or has its answer.
    Void,
    /// The agent has not asked this process yet.
    TooEarly,
}

impl PlanHandle {
    pub(super) fn new(plan: Arc<LivePlan>) -> Self {
        Self { plan }
    }

    /// Returns the id of the plan: 128 random bits as 32 hexadecimal digits.
    pub fn id(&self) -> &Arc<str> {
        &self.plan.id
    }

    /// Returns the state of the plan and its tasks.
    pub fn snapshot(&self) -> PlanSnapshot {
        self.plan.snapshot()
    }

    /// Returns the state of the task with this id.
    pub fn task(&self, id: &str) -> Option<TaskSnapshot> {
        let task = self.plan.graph.find(id)?;
        Some(self.plan.task(&self.plan.data(), task))
    }

    /// Returns `true` if nothing of the plan changes any more in this process.
    pub fn is_over(&self) -> bool {
        self.plan.is_over()
    }

    /// Returns `true` if the plan goes on: it is not over, and is not being stopped.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.plan.data().state, PlanState::Running)
    }

    /// Waits until the plan is over. Returns its last state.
    pub async fn wait(&self) -> PlanSnapshot {
        let mut version = self.plan.version.subscribe();
        loop {
            version.borrow_and_update();
            // The sender is in the plan, so it is there.
            if self.plan.is_over() || version.changed().await.is_err() {
                return self.snapshot();
            }
        }
    }

    /// Waits until other processes know the plan, if it is to be in a store, or is over.
    pub(in crate::delegate) async fn known(&self) {
        let mut version = self.plan.version.subscribe();
        loop {
            version.borrow_and_update();
            let is_waiting = {
                let data = self.plan.data();
                data.is_unknown && !data.state.is_over()
            };
            if !is_waiting || version.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until the plan has [changed](PlanSnapshot::version) after this version, or is over.
    pub async fn changed(&self, version: u64) {
        let mut latest = self.plan.version.subscribe();
        while *latest.borrow_and_update() <= version
            && !self.plan.is_over()
            && latest.changed().await.is_ok()
        {}
    }

    /// Returns the tasks as they change, from the submission of the plan on. The stream ends when
    /// the plan is over.
    ///
    /// A reader that is slow gets the latest state of each task, and never misses its last one.
    pub fn changes(&self) -> impl Stream<Item = TaskSnapshot> + Send + use<> {
        let changes = Changes {
            version: self.plan.version.subscribe(),
            plan: self.plan.clone(),
            known: 0,
            next: VecDeque::new(),
        };
        stream::unfold(changes, |mut changes| async move {
            let task = changes.next().await?;
            Some((task, changes))
        })
    }

    /// Cancels all tasks that have not ended. Their agents are told.
    pub fn cancel(&self) {
        let _ = self.plan.events.send(Event::Stop(CANCELLED.into()));
    }

    /// Cancels a task. Returns `false` if there is none with this id that has not ended.
    pub fn cancel_task(&self, id: &str) -> bool {
        let Some(task) = self.plan.graph.find(id) else {
            return false;
        };
        let is_open = !self.plan.data().schedule.status(task).is_terminal();
        is_open && self.plan.events.send(Event::Cancel(task)).is_ok()
    }

    /// Answers the questions of a task's agent, by their keys.
    ///
    /// # Errors
    ///
    /// Fails if the task does not wait for answers, or if one of its
    /// [questions](TaskSnapshot::questions) has none.
    pub fn answer(&self, id: &str, answers: InputResponses) -> Result<(), AnswerError> {
        self.give(id, answers, false)
    }

    /// Answers some of the questions of a task's agent. The agent gets the answers when there are
    /// all of them.
    pub(in crate::delegate) fn answer_some(
        &self,
        id: &str,
        answers: InputResponses,
    ) -> Result<(), AnswerError> {
        self.give(id, answers, true)
    }

    /// Answers some of the questions of a task's agent, if these questions are open, and of the
    /// [`Question`](crate::delegate::agent::Question) of this id.
    pub(super) fn answer_asked(
        &self,
        id: &str,
        question_id: Option<u64>,
        questions: &InputRequests,
        answers: InputResponses,
    ) -> LateAnswer {
        let Some(number) = self.plan.graph.find(id) else {
            return LateAnswer::Void;
        };
        {
            let data = self.plan.data();
            if data.schedule.status(number).is_terminal() {
                return LateAnswer::Void;
            }
            let reported = data.tasks[number as usize].reported.as_deref();
            match reported.and_then(|reported| reported.question.as_ref()) {
                Some(open) => {
                    let is_same = question_id.is_none_or(|id| id == open.id);
                    if !is_same || !has_all(&open.requests, questions) {
                        return LateAnswer::Void;
                    }
                }
                None if reported.is_some_and(|reported| reported.has_asked) => {
                    return LateAnswer::Void;
                }
                None => return LateAnswer::TooEarly,
            }
        }
        match self.answer_some(id, answers) {
            Ok(()) => LateAnswer::Given,
            Err(_) => LateAnswer::Void,
        }
    }

    /// Returns `false` if the answers to a task's last question would be lost with the process.
    pub(super) fn is_answer_recorded(&self, id: &str) -> bool {
        let Some(number) = self.plan.graph.find(id) else {
            return true;
        };
        let data = self.plan.data();
        let reported = data.tasks[number as usize].reported.as_deref();
        !reported.is_some_and(|reported| reported.is_answer_unrecorded)
    }

    fn give(&self, id: &str, given: InputResponses, in_part: bool) -> Result<(), AnswerError> {
        let task = || id.to_owned();
        let Some(number) = self.plan.graph.find(id) else {
            return Err(AnswerError::UnknownTask { task: task() });
        };
        let not_waiting = || AnswerError::NotWaiting { task: task() };
        let mut data = self.plan.data();
        let own = &mut data.tasks[number as usize];
        let reported: &mut Reported = own.reported.as_deref_mut().ok_or_else(not_waiting)?;
        let question = reported.question.as_ref().ok_or_else(not_waiting)?;
        let is_missing =
            |key: &&String| !given.contains_key(*key) && !reported.given.contains_key(*key);
        if let Some(key) = question.requests.keys().find(is_missing) {
            if !in_part {
                let key = key.to_string();
                return Err(AnswerError::Incomplete { task: task(), key });
            }
            reported.given.extend(given);
            data.changes.add(number);
            drop(data);
            self.plan.publish();
            return Ok(());
        }
        let mut answers = std::mem::take(&mut reported.given);
        answers.extend(given);
        let question = reported.question.take().ok_or_else(not_waiting)?;
        reported.is_answer_unrecorded = true;
        let is_sent = match reported.reply.take() {
            Some(reply) => reply.send(answers).is_ok(),
            None => {
                let answered = Event::Answered(number, Box::new(question), answers);
                self.plan.events.send(answered).is_ok()
            }
        };
        is_sent.then_some(()).ok_or_else(not_waiting)
    }
}

impl fmt::Debug for PlanHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlanHandle")
            .field("id", &self.plan.id)
            .finish_non_exhaustive()
    }
}

/// Returns `true` if these questions are among the open ones.
fn has_all(open: &InputRequests, questions: &InputRequests) -> bool {
    let json =
        |question: Option<&InputRequest>| question.and_then(|all| serde_json::to_value(all).ok());
    questions
        .iter()
        .all(|(key, question)| json(open.get(key)) == json(Some(question)))
}

/// A reader of a plan's changes.
struct Changes {
    plan: Arc<LivePlan>,
    version: watch::Receiver<u64>,
    /// The version up to which changes are in `next` or were read.
    known: u64,
    next: VecDeque<u32>,
}

impl Changes {
    async fn next(&mut self) -> Option<TaskSnapshot> {
        loop {
            if let Some(task) = self.next.pop_front() {
                return Some(self.plan.task(&self.plan.data(), task));
            }
            self.version.borrow_and_update();
            let is_over = {
                let data = self.plan.data();
                self.next.extend(data.changes.since(self.known));
                self.known = data.changes.version();
                data.state.is_over()
            };
            if self.next.is_empty() && (is_over || self.version.changed().await.is_err()) {
                return None;
            }
        }
    }
}
