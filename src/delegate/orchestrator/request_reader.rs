//! The requests for a plan that have reached other processes, as its own process carries them out.

use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use super::{
    PlanHandle,
    live_plan::LivePlan,
    plan_handle::{CANCELLED, LateAnswer},
};
use crate::delegate::task_store::{NotWritten, PlanAction, PlanRequest, Records};

/// The interval between two looks into the store.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct RequestReader {
    plan: PlanHandle,
    records: Arc<Records>,
    /// The ids of requests that are carried out, and may still be in the store.
    done: HashSet<Arc<str>>,
    /// The ids of answers that are given here.
    given: HashSet<Arc<str>>,
}

impl RequestReader {
    pub(super) fn new(plan: Arc<LivePlan>, records: Arc<Records>) -> Self {
        Self {
            plan: PlanHandle::new(plan),
            records,
            done: HashSet::new(),
            given: HashSet::new(),
        }
    }

    /// Carries requests out as they come.
    pub(super) async fn run(&mut self) -> Infallible {
        loop {
            tokio::time::sleep(INTERVAL).await;
            if let Err(error) = self.read().await {
                let plan = &**self.plan.id();
                tracing::debug!(%error, plan, "the requests for a plan cannot be read");
            }
        }
    }

    /// Carries out the requests that are in the store. If it fails, they are still there.
    pub(super) async fn read(&mut self) -> Result<(), NotWritten> {
        let Some(kept) = self.records.requests().await? else {
            return Ok(());
        };
        if kept.stop.as_deref() == Some(CANCELLED.as_bytes()) && self.plan.is_running() {
            // By a process that ran the plan before, and did not know that it had lost it.
            self.plan.cancel();
        }
        let requests = kept.requests;
        for request in &requests {
            if !self.done.contains(&request.id) && self.carry_out(request).await? {
                self.done.insert(request.id.clone());
            }
        }
        if !requests.is_empty() && !self.done.is_empty() {
            self.records.remove_requests(&self.done).await?;
        }
        self.done.clear();
        let is_kept = |id: &Arc<str>| requests.iter().any(|request| request.id == *id);
        self.given.retain(is_kept);
        Ok(())
    }

    /// Does what a request says. Returns `true` if that is done, or cannot be done any more.
    async fn carry_out(&mut self, request: &PlanRequest) -> Result<bool, NotWritten> {
        match &request.action {
            PlanAction::CancelPlan => {
                // First in the store: the process that takes the plan over does not start it again.
                self.records.stop(CANCELLED).await?;
                self.plan.cancel();
                Ok(true)
            }
            // Done when its end is recorded.
            PlanAction::CancelTask(task) => Ok(!self.plan.cancel_task(task)),
            PlanAction::Answer {
                task,
                question_id,
                questions,
                answers,
            } => {
                if !self.given.contains(&request.id) {
                    let (id, answers) = (*question_id, answers.clone());
                    match self.plan.answer_asked(task, id, questions, answers) {
                        LateAnswer::Given => drop(self.given.insert(request.id.clone())),
                        LateAnswer::Void => return Ok(true),
                        LateAnswer::TooEarly => return Ok(false),
                    }
                }
                // Until it is recorded, a process that takes the plan over has to give it again.
                Ok(self.plan.is_answer_recorded(task))
            }
        }
    }
}
