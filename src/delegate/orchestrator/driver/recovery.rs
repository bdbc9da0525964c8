//! A plan that another process has left.

use std::sync::Arc;

use rmcp::model::InputResponses;
use tokio::time::Instant;

use super::{Done, Driver, End};
use crate::delegate::{
    agent::{Question, QuestionOrigin, Resume},
    orchestrator::live_plan::TaskResult,
    plan::Status,
    task_store::{PlanRecord, Records, StoredPlan, TaskRecord},
};

/// The reason why a task is not tried again.
const AMBIGUOUS: &str = "the orchestrator ended while an agent worked on it; the agent may have done \
                         the task, so it is not tried again";

impl Driver {
    /// Puts a plan into the state that its records say.
    pub(in crate::delegate::orchestrator) fn recover(
        &mut self,
        stored: StoredPlan,
        records: &Arc<Records>,
    ) {
        let StoredPlan {
            record,
            stop,
            tasks,
        } = stored;
        let found = (0_u32..).zip(tasks);
        let found = found.filter_map(|(task, stored)| Some((task, stored?)));
        let (mut ended, mut open) = (Vec::new(), Vec::new());
        for (task, (found, bytes)) in found {
            let mut data = self.plan.data();
            data.spending.add(found.tokens, found.cost);
            let own = &mut data.tasks[task as usize];
            (own.agent, own.attempts) = (found.agent.clone(), found.attempts);
            match found.end {
                Some(_) => ended.push((task, found)),
                None => open.push((task, found, bytes)),
            }
        }
        // A task that ended because of another has no record, unless it had ended before.
        ended.sort_by_key(|(_, found)| found.end.as_ref().map(|end| end.at));
        for (task, found) in ended {
            self.recover_end(task, found, &record);
        }
        if let Some(reason) = stop {
            // Its orchestrator may have died before it told the agents.
            for (task, found, _) in open {
                let remote = found.remote.filter(|_| found.is_running);
                self.runs[task as usize].resume =
                    remote.map(|remote| Box::new(Resume::Remote(remote)));
            }
            self.stop_starting(reason.into());
            return;
        }
        for (task, found, bytes) in open {
            records.adopt(task, found.clone(), bytes);
            self.recover_open(task, found, records);
        }
    }

    /// Puts a plan into the state that its records say, only to be looked at. If it is stopped, its
    /// running tasks are cancelled, unless they go on.
    pub(in crate::delegate::orchestrator) fn show(&mut self, stored: StoredPlan, goes_on: bool) {
        let StoredPlan {
            record,
            stop,
            tasks,
        } = stored;
        let found = (0_u32..).zip(tasks);
        for (task, (found, _)) in found.filter_map(|(task, found)| Some((task, found?))) {
            {
                let mut data = self.plan.data();
                data.spending.add(found.tokens, found.cost);
                let own = &mut data.tasks[task as usize];
                (own.agent, own.attempts) = (found.agent.clone(), found.attempts);
                if found.is_running && data.schedule.start(task) {
                    self.runs[task as usize].is_ending = goes_on;
                    if let Some(question) = found.question.clone() {
                        let waits = data.schedule.wait_for_input(task);
                        debug_assert!(waits);
                        data.set_question(task, question, None);
                    }
                }
            }
            self.recover_end(task, found, &record);
        }
        if let Some(reason) = stop {
            self.stop_starting(reason.into());
        }
    }

    fn recover_end(&mut self, task: u32, found: TaskRecord, record: &PlanRecord) {
        let Some(end) = found.end else { return };
        let at = record.elapsed(end.at);
        let error = || "its record has no reason".into();
        let end = match (end.status, end.output) {
            (Status::Complete, Some(output)) => End::Complete(output),
            (Status::Complete, None) => End::Error(Status::Failed, error()),
            (status, _) => {
                let reason = end.error.unwrap_or_else(error);
                End::Error(status, reason)
            }
        };
        if !end.status().is_terminal() {
            return;
        }
        self.apply(task, end);
        let ended = self.plan.submitted.checked_add(at);
        self.plan.data().tasks[task as usize].ended = ended.map(|at| at.min(Instant::now()));
    }

    fn recover_open(&mut self, task: u32, found: TaskRecord, records: &Arc<Records>) {
        if !found.is_running || self.plan.data().schedule.status(task) != Status::Ready {
            return;
        }
        let is_round =
            |question: &Question| matches!(question.origin, QuestionOrigin::Round { .. });
        if let Some(question) = found.question.filter(is_round) {
            let mut data = self.plan.data();
            let waits = data.schedule.start(task) && data.schedule.wait_for_input(task);
            debug_assert!(waits);
            data.set_question(task, question, None);
            data.changes.add(task);
            drop(data);
            self.claim(task, records);
        } else if let Some(remote) = found.remote {
            self.runs[task as usize].resume = Some(Box::new(Resume::Remote(remote)));
        } else if !self.plan.tasks[task as usize].idempotent {
            self.end(task, End::Error(Status::Failed, AMBIGUOUS.into()));
        } else {
            self.plan.data().tasks[task as usize].result =
                TaskResult::Error("the orchestrator ended while an agent worked on it".into());
        }
    }

    /// Writes a record again, so that it names the lease of this process.
    fn claim(&mut self, task: u32, records: &Arc<Records>) {
        let records = records.clone();
        self.work.push(Box::pin(async move {
            match records.change(task, |_| ()).await {
                Ok(()) => Done::Written,
                Err(lost) => Done::Lost(lost),
            }
        }));
    }

    /// Goes on with a task whose question was kept over a restart.
    pub(super) fn resume_round(&mut self, task: u32, question: Question, answers: InputResponses) {
        let run = &mut self.runs[task as usize];
        let QuestionOrigin::Round { request_state } = question.origin else {
            return;
        };
        if run.abort.is_some() || run.is_ending {
            return;
        }
        let round = Resume::Round {
            answers,
            request_state,
        };
        run.resume = Some(Box::new(round));
        let mut data = self.plan.data();
        data.drop_question(task);
        if data.schedule.put_back(task) {
            data.changes.add(task);
            self.to_request.push(task);
        }
    }
}
