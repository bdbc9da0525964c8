//! Waiting for a plan on behalf of a caller.

use std::time::Duration;

use rmcp::model::{ProgressNotification, ProgressNotificationParam, ServerNotification};
use tokio::time::Instant;

use super::{PlanHandle, PlanSnapshot, Status, TaskSnapshot, tools::Until};
use crate::{
    CallContext, MonotonicProgress,
    util::deadline::{end_of, reached},
};

/// The shortest time between two looks at a plan that changes all the time.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// The wait of one call.
pub(super) struct Wait<'a> {
    handle: &'a PlanHandle,
    context: &'a CallContext,
    deadline: Option<Instant>,
    /// `true` if questions of agents do not end the wait.
    passes_questions: bool,
    sent: MonotonicProgress,
}

/// The reason why a wait has ended.
#[derive(Clone, Debug)]
pub(super) enum Waited {
    /// The plan, or the task that was waited for, has ended.
    Over(PlanSnapshot),
    /// A task asks for input.
    Asked(PlanSnapshot),
    /// The status of a task has changed.
    Changed(PlanSnapshot),
    /// The time is over.
    Elapsed(PlanSnapshot),
}

impl Waited {
    pub(super) fn snapshot(&self) -> &PlanSnapshot {
        match self {
            Self::Over(plan) | Self::Asked(plan) | Self::Changed(plan) | Self::Elapsed(plan) => {
                plan
            }
        }
    }
}

impl<'a> Wait<'a> {
    pub(super) fn new(handle: &'a PlanHandle, context: &'a CallContext, limit: Duration) -> Self {
        Self {
            handle,
            context,
            deadline: end_of(Some(limit)),
            passes_questions: false,
            sent: MonotonicProgress::default(),
        }
    }

    /// Waits past questions of agents.
    pub(super) fn past_questions(mut self) -> Self {
        self.passes_questions = true;
        self
    }

    /// Waits for an event of a plan, or of one of its tasks.
    pub(super) async fn run(&self, until: Until, only: Option<&str>) -> Waited {
        let mut first: Option<Vec<Status>> = None;
        loop {
            let plan = self.handle.snapshot();
            let mut shown = plan.tasks.iter().filter(|task| is_shown(task, only));
            let is_over =
                plan.state.is_over() || shown.clone().all(|task| task.status.is_terminal());
            if is_over {
                return Waited::Over(plan);
            }
            if !self.passes_questions && shown.any(|task| task.questions.is_some()) {
                return Waited::Asked(plan);
            }
            let shown = plan.tasks.iter().filter(|task| is_shown(task, only));
            let statuses: Vec<_> = shown.map(|task| task.status).collect();
            match &first {
                None => first = Some(statuses),
                Some(first) if until == Until::Change && *first != statuses => {
                    return Waited::Changed(plan);
                }
                Some(_) => {}
            }
            self.report(&plan).await;
            tokio::select! {
                biased;
                // First, because a plan may change all the time.
                () = self.elapsed() => return Waited::Elapsed(self.handle.snapshot()),
                () = self.handle.changed(plan.version) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Waits for the end of the time.
    pub(super) async fn elapsed(&self) {
        reached(self.deadline).await;
    }

    /// Notifies the caller of the progress of a plan, if it has asked for it.
    async fn report(&self, plan: &PlanSnapshot) {
        let Some(token) = self.context.progress_token() else {
            return;
        };
        let (ended, total) = (plan.ended(), plan.tasks.len());
        let parts: f64 = plan.tasks.iter().map(part_of).sum();
        let done = as_f64(ended) + parts;
        if !self.sent.advance(done) {
            return;
        }
        let progress = ProgressNotificationParam::new(token, done)
            .with_total(as_f64(total))
            .with_message(message(plan, ended, total));
        let notification = ProgressNotification::new(progress);
        let notification = ServerNotification::ProgressNotification(notification);
        if let Err(error) = self.context.caller.notify(notification).await {
            tracing::debug!(%error, "the progress of a plan did not reach its caller");
        }
    }
}

fn is_shown(task: &TaskSnapshot, only: Option<&str>) -> bool {
    only.is_none_or(|only| &*task.id == only)
}

/// Returns the part of a running task that is done, less than 1.
fn part_of(task: &TaskSnapshot) -> f64 {
    let running = task
        .progress
        .as_ref()
        .filter(|_| !task.status.is_terminal());
    let part = running.and_then(|progress| Some(progress.done / progress.total?));
    match part {
        Some(part) if part.is_finite() => part.clamp(0.0, 0.99),
        _ => 0.0,
    }
}

fn message(plan: &PlanSnapshot, ended: usize, total: usize) -> String {
    if let [task] = &plan.tasks[..]
        && let Some(progress) = &task.progress
    {
        return super::tools::progress_text(progress);
    }
    let noun = if total == 1 { "task" } else { "tasks" };
    format!("{ended} of {total} {noun}")
}

#[expect(clippy::cast_precision_loss, reason = "a plan has fewer tasks")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
