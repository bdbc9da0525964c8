//! Calls of tools for plans that other processes run.

use std::time::Duration;

use rmcp::model::InputRequiredResult;
use tokio::time::Instant;

use super::{Answered, Call, NotAnswered, check_task};
use crate::{
    delegate::{
        Delivery, PlanSnapshot, Status, TaskSnapshot,
        orchestrator::{Kept, answer},
        questions,
        task_store::PlanAction,
        tools::{
            self, ANSWER_TASK, AnswerArguments, CANCEL_TASK, OwnTool, TASK_STATUS, Until, with_next,
        },
    },
    util::deadline::{end_of, reached},
};

/// The interval between two looks at a plan that another process runs.
const INTERVAL: Duration = Duration::from_secs(1);
/// The time that a call waits for another process to carry out a request.
const PATIENCE: Duration = Duration::from_secs(5);

impl Call<'_> {
    /// Returns a plan as it is in the store.
    pub(super) async fn stored(&self, id: &str) -> Result<PlanSnapshot, NotAnswered> {
        let found = self
            .shared
            .orchestrator
            .stored_snapshot(self.context, id)
            .await;
        let found = found.map_err(|error| {
            format!("the store of the plans does not answer; try again later: {error}")
        })?;
        found.ok_or_else(|| {
            let reason = format!(
                "there is no plan `{id}`; give the `plan` of an earlier result. Plans that have \
                 ended are forgotten after a while"
            );
            NotAnswered::Misread(reason)
        })
    }

    /// Looks at a plan, or one of its tasks, until it changes, ends, or asks for input.
    pub(super) async fn follow_stored(
        &self,
        mut plan: PlanSnapshot,
        limit: Duration,
        until: Until,
        only: Option<&str>,
    ) -> Result<PlanSnapshot, NotAnswered> {
        let is_shown = |task: &&TaskSnapshot| only.is_none_or(|only| &*task.id == only);
        let statuses = |plan: &PlanSnapshot| -> Vec<Status> {
            let shown = plan.tasks.iter().filter(is_shown);
            shown.map(|task| task.status).collect()
        };
        let (end, first) = (end_of(Some(limit)), statuses(&plan));
        let goes_on = |plan: &PlanSnapshot| {
            let mut shown = plan.tasks.iter().filter(is_shown);
            let is_ended = shown.clone().all(|task| task.status.is_terminal());
            let asks = shown.any(|task| task.questions.is_some());
            !plan.state.is_over() && !is_ended && !asks
        };
        while goes_on(&plan) && (until == Until::End || statuses(&plan) == first) {
            tokio::select! {
                biased;
                () = reached(end) => break,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            plan = self.stored(&plan.id).await?;
        }
        Ok(plan)
    }

    /// Has a plan cancelled, or one task of it.
    pub(super) async fn cancel_elsewhere(
        &self,
        plan: PlanSnapshot,
        task: Option<&str>,
    ) -> Answered {
        check_task(&plan, task)?;
        let is_done = |plan: &PlanSnapshot| {
            let task = task.and_then(|task| plan.task(task));
            plan.state.is_over() || task.is_some_and(|task| task.status.is_terminal())
        };
        if is_done(&plan) {
            return Ok(tools::plan_result(&plan, None).into());
        }
        let action = task.map_or(PlanAction::CancelPlan, |task| {
            PlanAction::CancelTask(task.into())
        });
        let (plan, next) = self.request(plan, action, CANCEL_TASK, is_done).await?;
        Ok(with_next(tools::plan_result(&plan, None), next).into())
    }

    /// Has the answers to the questions of a task passed on to its agent.
    pub(super) async fn answer_elsewhere(
        &self,
        plan: PlanSnapshot,
        arguments: AnswerArguments,
    ) -> Answered {
        check_task(&plan, Some(&arguments.task))?;
        let task = arguments.task.clone();
        let questions = plan.task(&task).and_then(|task| task.questions.as_ref());
        let questions = questions.ok_or_else(|| super::asks_nothing(&task))?;
        let responses = tools::responses(questions, arguments)?;
        let action = answer(&plan, &task, responses).map_err(|error| error.to_string())?;
        let is_done = |plan: &PlanSnapshot| asks_nothing_of(plan, &task);
        let (plan, next) = self.request(plan, action, ANSWER_TASK, is_done).await?;
        Ok(with_next(tools::plan_result(&plan, None), next).into())
    }

    /// Goes on with a call whose earlier round another process has answered with questions.
    pub(super) async fn go_on_elsewhere(
        &self,
        tool: OwnTool,
        id: &str,
        limit: Duration,
    ) -> Answered {
        let (mut plan, end) = (self.stored(id).await?, end_of(Some(limit)));
        let (mut next, given) = (None, self.params.input_responses.clone());
        let mut sent = Vec::new();
        for (task, answers) in questions::by_task(&plan, given.unwrap_or_default()) {
            // Another call may have answered it meanwhile.
            let Ok(action) = answer(&plan, &task, answers) else {
                continue;
            };
            sent.push((task, self.keep(&plan, action).await?));
        }
        let patience = end_of(Some(limit.min(PATIENCE)));
        for (task, kept) in sent {
            let is_done = |plan: &PlanSnapshot| asks_nothing_of(plan, &task);
            let carried_out = self.carried_out(id, kept, ANSWER_TASK, patience, is_done);
            let advice;
            (plan, advice) = carried_out.await?;
            next = next.or(advice);
        }
        while !plan.state.is_over() && next.is_none() {
            let open = questions::open(&plan);
            if !open.is_empty() {
                if !questions::can_answer(self.context, &open) {
                    // They are kept for `answer_task`.
                    break;
                }
                let state = plan.id.to_string();
                return Ok(InputRequiredResult::new(Some(open), Some(state)).into());
            }
            tokio::select! {
                biased;
                () = reached(end) => break,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            plan = self.stored(id).await?;
        }
        Ok(with_next(self.result(tool, &plan, None), next).into())
    }

    /// Keeps a request for the process that runs a plan, and waits for it to be carried out.
    async fn request(
        &self,
        plan: PlanSnapshot,
        action: PlanAction,
        tool: &str,
        is_done: impl Fn(&PlanSnapshot) -> bool,
    ) -> Result<(PlanSnapshot, Option<String>), NotAnswered> {
        let kept = self.keep(&plan, action).await?;
        let end = end_of(Some(PATIENCE));
        self.carried_out(&plan.id, kept, tool, end, is_done).await
    }

    /// Keeps a request for the process that runs a plan, unless the plan has ended.
    async fn keep(
        &self,
        plan: &PlanSnapshot,
        action: PlanAction,
    ) -> Result<Option<Kept>, NotAnswered> {
        let kept = self.shared.orchestrator.keep_request(plan, action).await;
        kept.map_err(|error| NotAnswered::Misread(error.to_string()))
    }

    /// Waits for a request to be carried out. Returns the plan then, and the advice to the caller
    /// if the request still waits.
    async fn carried_out(
        &self,
        id: &str,
        kept: Option<Kept>,
        tool: &str,
        end: Option<Instant>,
        is_done: impl Fn(&PlanSnapshot) -> bool,
    ) -> Result<(PlanSnapshot, Option<String>), NotAnswered> {
        loop {
            let plan = self.stored(id).await?;
            let Some(kept) = kept.as_ref().filter(|_| !is_done(&plan)) else {
                return Ok((plan, None));
            };
            let is_pending = kept.is_pending().await;
            let is_pending = is_pending.map_err(|error| error.to_string())?;
            if !is_pending && tool == ANSWER_TASK {
                // Its effect is in the store by now.
                return Ok((self.stored(&plan.id).await?, None));
            }
            let holder = match kept.delivery {
                Delivery::Waiting => {
                    "No process runs the plan at the moment: the request is kept \
                                      for the one that takes it over."
                }
                _ => {
                    "The request is kept for the process that runs the plan, which has not \
                      carried it out yet."
                }
            };
            let next = || {
                let id = &plan.id;
                format!("{holder} Call {TASK_STATUS} with plan `{id}` to look again.")
            };
            if kept.delivery == Delivery::Waiting {
                let next = next();
                return Ok((plan, Some(next)));
            }
            tokio::select! {
                biased;
                () = reached(end) => {
                    let next = is_pending.then(next);
                    return Ok((plan, next));
                }
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }
}

/// Returns `true` if a task does not wait for answers.
fn asks_nothing_of(plan: &PlanSnapshot, task: &str) -> bool {
    plan.task(task).is_none_or(|task| task.questions.is_none())
}
