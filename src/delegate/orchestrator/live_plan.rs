//! A plan of this process: its state, which the driver changes and handles read.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use rmcp::model::{InputRequests, InputResponses};
use tokio::{
    sync::{mpsc::UnboundedSender, oneshot, watch},
    time::Instant,
};

use super::{changes::LastChanges, driver::Event, origin::Origin, spending::Spending};
use crate::{
    delegate::{
        TaskOutput,
        agent::Question,
        plan::{Graph, Plan, PlanSnapshot, PlanState, Status, Task, TaskProgress, TaskSnapshot},
        schedule::Schedule,
    },
    util::lock,
};

pub(in crate::delegate) struct LivePlan {
    pub(super) id: Arc<str>,
    pub(super) tasks: Vec<Task>,
    pub(super) graph: Arc<Graph>,
    pub(super) origin: Origin,
    pub(super) submitted: Instant,
    /// The same time, on the clock of the system.
    submitted_at: SystemTime,
    pub(super) events: UnboundedSender<Event>,
    /// The number of changes, for readers that wait for the next one.
    pub(super) version: watch::Sender<u64>,
    data: Mutex<PlanData>,
}

pub(super) struct PlanData {
    pub(super) schedule: Schedule,
    pub(super) tasks: Vec<TaskData>,
    pub(super) state: PlanState,
    /// `true` if the store is still to get the plan, so other processes do not know it.
    pub(super) is_unknown: bool,
    pub(super) ended: Option<Instant>,
    pub(super) spending: Spending,
    pub(super) changes: LastChanges,
}

#[derive(Default)]
pub(super) struct TaskData {
    pub(super) agent: Option<Arc<str>>,
    pub(super) attempts: u32,
    pub(super) ready: Option<Instant>,
    pub(super) started: Option<Instant>,
    pub(super) ended: Option<Instant>,
    pub(super) result: TaskResult,
    /// The reports of an attempt while it runs.
    pub(super) reported: Option<Box<Reported>>,
}

/// The result of a task, or the reason why its last attempt failed.
#[derive(Clone, Default)]
pub(super) enum TaskResult {
    #[default]
    None,
    Output(Arc<TaskOutput>),
    Error(Arc<str>),
}

#[derive(Default)]
pub(super) struct Reported {
    pub(super) question: Option<Question>,
    /// `true` if there has been a question, and the next one is not being written to the store.
    pub(super) has_asked: bool,
    /// `true` if the question is answered, and the store does not say so yet.
    pub(super) is_answer_unrecorded: bool,
    /// The answers so far, while others are missing.
    pub(super) given: InputResponses,
    /// The attempt that waits for the answer. There is none after a restart.
    pub(super) reply: Option<oneshot::Sender<InputResponses>>,
    pub(super) progress: Option<TaskProgress>,
}

impl Reported {
    /// Returns the questions that have no answer yet.
    fn open_questions(&self) -> Option<InputRequests> {
        let mut open = self.question.as_ref()?.requests.clone();
        open.retain(|key, _| !self.given.contains_key(key));
        Some(open)
    }
}

impl LivePlan {
    pub(super) fn new(
        id: Arc<str>,
        plan: Plan,
        graph: Arc<Graph>,
        origin: Origin,
        submitted: Instant,
        events: UnboundedSender<Event>,
    ) -> Self {
        let policies = plan.tasks.iter().map(|task| task.on_failure);
        let schedule = Schedule::new(graph.clone(), policies);
        let handed_down = origin.hops.remaining_tokens;
        let spending = Spending::new(&plan.limits, handed_down, &plan.tasks);
        let count = plan.tasks.len();
        let mut tasks = Vec::new();
        tasks.resize_with(count, TaskData::default);
        for task in schedule.with(Status::Ready) {
            tasks[task as usize].ready = Some(submitted);
        }
        Self {
            id,
            tasks: plan.tasks,
            graph,
            origin,
            submitted,
            submitted_at: on_system_clock(submitted),
            events,
            version: watch::Sender::new(0),
            data: Mutex::new(PlanData {
                schedule,
                tasks,
                state: PlanState::Running,
                is_unknown: false,
                ended: None,
                spending,
                changes: LastChanges::new(count),
            }),
        }
    }

    pub(super) fn data(&self) -> MutexGuard<'_, PlanData> {
        lock(&self.data)
    }

    /// Wakes the readers that wait for a change.
    pub(super) fn publish(&self) {
        let version = self.data().changes.version();
        self.version.send_if_modified(|known| {
            let is_new = *known != version;
            *known = version;
            is_new
        });
    }

    /// Marks that the store has the plan.
    pub(super) fn make_known(&self) {
        {
            let mut data = self.data();
            data.is_unknown = false;
            data.changes.count();
        }
        self.publish();
    }

    pub(super) fn is_over(&self) -> bool {
        self.data().state.is_over()
    }

    pub(super) fn snapshot(&self) -> PlanSnapshot {
        let data = self.data();
        let tasks = (0..self.tasks.len() as u32).map(|task| self.task(&data, task));
        let end = data.ended.unwrap_or_else(Instant::now);
        PlanSnapshot {
            id: self.id.clone(),
            state: data.state.clone(),
            version: data.changes.version(),
            submitted_at: self.submitted_at,
            elapsed: end.saturating_duration_since(self.submitted),
            tokens: data.spending.tokens(),
            cost: data.spending.cost(),
            tasks: tasks.collect(),
        }
    }

    pub(super) fn task(&self, data: &PlanData, number: u32) -> TaskSnapshot {
        let (task, own) = (&self.tasks[number as usize], &data.tasks[number as usize]);
        let after = |time: Option<Instant>| -> Option<Duration> {
            Some(time?.saturating_duration_since(self.submitted))
        };
        let (output, error) = match &own.result {
            TaskResult::None => (None, None),
            TaskResult::Output(output) => (Some(output.clone()), None),
            TaskResult::Error(error) => (None, Some(error.clone())),
        };
        let reported = own.reported.as_deref();
        TaskSnapshot {
            id: task.id.clone(),
            description: task.description.clone(),
            after: task.dependencies().cloned().collect(),
            status: data.schedule.status(number),
            agent: own.agent.clone(),
            attempts: own.attempts,
            ready_after: after(own.ready),
            started_after: after(own.started),
            ended_after: after(own.ended),
            output,
            error,
            questions: reported.and_then(Reported::open_questions),
            question_id: reported.and_then(|reported| Some(reported.question.as_ref()?.id)),
            progress: reported.and_then(|reported| reported.progress.clone()),
        }
    }
}

fn on_system_clock(time: Instant) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(time.elapsed()).unwrap_or(now)
}

impl PlanData {
    /// Returns the reports of a task that runs.
    pub(super) fn reported(&mut self, task: u32) -> &mut Reported {
        let reported = &mut self.tasks[task as usize].reported;
        reported.get_or_insert_default()
    }

    /// Sets the question of a task that waits for input.
    pub(super) fn set_question(
        &mut self,
        task: u32,
        question: Question,
        reply: Option<oneshot::Sender<InputResponses>>,
    ) {
        let reported = self.reported(task);
        (reported.question, reported.reply) = (Some(question), reply);
        (reported.has_asked, reported.is_answer_unrecorded) = (true, false);
    }

    /// Marks that the store has the question of a task before this process asks it.
    pub(super) fn expect_question(&mut self, task: u32) {
        self.reported(task).has_asked = false;
    }

    /// Marks that the store says that the question of a task is answered.
    pub(super) fn record_answer(&mut self, task: u32) {
        if let Some(reported) = &mut self.tasks[task as usize].reported {
            reported.is_answer_unrecorded = false;
        }
    }

    /// Drops the question of a task whose attempt no longer waits for the answer.
    pub(super) fn drop_question(&mut self, task: u32) {
        if let Some(reported) = &mut self.tasks[task as usize].reported {
            (reported.question, reported.reply) = (None, None);
            reported.given.clear();
        }
    }
}
