use std::sync::Arc;

use tokio::time::Instant;

use super::{Done, Driver};
use crate::{
    delegate::{
        TaskOutput,
        agent::Resume,
        orchestrator::live_plan::TaskResult,
        plan::{PlanState, Status},
        task_store::{EndRecord, TaskRecord, now_ms},
    },
    util::metrics::count,
};

/// The end of a task.
#[derive(Clone)]
pub(super) enum End {
    Complete(Arc<TaskOutput>),
    /// Another terminal status, and the reason.
    Error(Status, Arc<str>),
}

impl End {
    pub(super) fn status(&self) -> Status {
        match self {
            Self::Complete(_) => Status::Complete,
            Self::Error(status, _) => *status,
        }
    }

    fn to_record(&self) -> EndRecord {
        let (output, error) = match self {
            Self::Complete(output) => (Some(output.clone()), None),
            Self::Error(_, error) => (None, Some(error.clone())),
        };
        EndRecord {
            status: self.status(),
            output,
            error,
            at: now_ms(),
        }
    }
}

impl Driver {
    /// Ends a task that no attempt is running for: first in the store, then here.
    pub(super) fn end(&mut self, task: u32, end: End) {
        let run = &mut self.runs[task as usize];
        let is_stopping = !matches!(self.plan.data().state, PlanState::Running);
        let records = self.records.as_ref().filter(|_| !is_stopping);
        let Some(records) = records.cloned() else {
            return self.apply(task, end);
        };
        if std::mem::replace(&mut run.is_ending, true) {
            return;
        }
        let record = end.to_record();
        self.work.push(Box::pin(async move {
            let change = |task: &mut TaskRecord| {
                task.is_running = false;
                (task.remote, task.question) = (None, None);
                task.end = Some(record);
            };
            match records.change(task, change).await {
                Ok(()) => Done::Recorded(task, end),
                Err(lost) => Done::Lost(lost),
            }
        }));
    }

    /// Ends a task in this process, with the tasks whose ends follow from it.
    pub(super) fn apply(&mut self, task: u32, end: End) {
        let mut changes = std::mem::take(&mut self.changes);
        changes.clear();
        let plan = self.plan.clone();
        let mut data = plan.data();
        if data.schedule.end(task, end.status(), &mut changes) {
            let now = Instant::now();
            count!(delegate.tasks, 1_u64, status = end.status().as_str());
            let own = &mut data.tasks[task as usize];
            own.ended = Some(now);
            own.reported = None;
            own.result = match end {
                End::Complete(output) => TaskResult::Output(output),
                End::Error(_, error) => TaskResult::Error(error),
            };
            data.changes.add(task);
            for change in &changes {
                let own = &mut data.tasks[change.task as usize];
                match change.to {
                    Status::Ready => {
                        own.ready = Some(now);
                        self.to_request.push(change.task);
                    }
                    status => {
                        count!(delegate.tasks, 1_u64, status = status.as_str());
                        let cause = &plan.tasks[change.because as usize].id;
                        own.ended = Some(now);
                        let reason =
                            format!("task `{cause}`, which it depends on, is not complete");
                        own.result = TaskResult::Error(reason.into());
                    }
                }
                data.changes.add(change.task);
            }
        }
        drop(data);
        self.changes = changes;
        self.cancel_remote(task);
    }

    /// Cancels the work of a task that has ended before an attempt went on with it, at the agent that
    /// has given a handle of it.
    fn cancel_remote(&mut self, task: u32) {
        let resume = self.runs[task as usize].resume.take();
        let Some(Resume::Remote(remote)) = resume.map(|resume| *resume) else {
            return;
        };
        let name = self.plan.data().tasks[task as usize].agent.clone();
        if let Some(agent) = name.and_then(|name| self.dispatcher.agent(&name)) {
            agent.cancel(&remote, &self.plan.origin.caller);
        }
    }

    /// Ends a task before its time. A running attempt is aborted first.
    pub(super) fn end_early(&mut self, task: u32, end: End) {
        let status = self.plan.data().schedule.status(task);
        let run = &mut self.runs[task as usize];
        if status.is_terminal() || run.is_ending {
            return;
        }
        if run.abort.is_some() {
            run.abort_as(end);
        } else {
            self.withdraw(task);
            self.end(task, end);
        }
    }

    /// Stops the plan with its running attempts.
    pub(in crate::delegate::orchestrator) fn stop(&mut self, reason: Arc<str>) {
        self.stop_starting(reason.clone());
        for run in &mut self.runs {
            run.abort_as(End::Error(Status::Cancelled, reason.clone()));
        }
    }

    /// Lets running attempts go on, and cancels all other tasks.
    pub(super) fn stop_starting(&mut self, reason: Arc<str>) {
        {
            let mut data = self.plan.data();
            if !matches!(data.state, PlanState::Running) {
                return;
            }
            data.state = PlanState::Stopping(reason.clone());
            data.changes.count();
        }
        if let Some(records) = self.records.clone() {
            let reason = reason.clone();
            self.work.push(Box::pin(async move {
                match records.stop(&reason).await {
                    Ok(()) => Done::Written,
                    Err(lost) => Done::Lost(lost),
                }
            }));
        }
        for task in 0..self.runs.len() as u32 {
            let run = &self.runs[task as usize];
            if run.abort.is_none() && !run.is_ending {
                self.withdraw(task);
                self.apply(task, End::Error(Status::Cancelled, reason.clone()));
            }
        }
    }

    /// Marks the plan as ended.
    pub(in crate::delegate::orchestrator) fn close(&mut self) {
        {
            let mut data = self.plan.data();
            data.state = match std::mem::replace(&mut data.state, PlanState::Ended) {
                PlanState::Stopping(reason) => PlanState::Stopped(reason),
                _ => PlanState::Ended,
            };
            data.ended = Some(Instant::now());
            data.changes.count();
        }
        self.plan.publish();
    }
}
