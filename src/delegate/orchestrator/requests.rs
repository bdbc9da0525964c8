//! Requests for the plans of a caller, whichever process runs them.

use std::{collections::HashSet, sync::Arc};

use rmcp::model::{InputRequests, InputResponses};

use super::{AnswerError, Orchestrator, PlanHandle};
use crate::{
    CallContext,
    delegate::{
        PlanSnapshot, PlanState,
        task_store::{MAX_REQUESTS, NotKept, PlanAction, PlanRequest, TaskStore},
    },
    store::StoreError,
};

/// The way that a request for a plan takes; see [`Orchestrator::cancel_plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// It has reached the plan: this process runs it, or it has ended.
    Delivered,
    /// It is in the store. Another process runs the plan, and carries the request out within about
    /// a second.
    Stored,
    /// It is in the store. At the moment no process runs the plan; the one that takes it over
    /// carries the request out.
    Waiting,
}

/// The reason why a request for a plan is refused.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The caller has no such plan.
    #[error(
        "there is no plan `{plan}`; use the id of one that was submitted. Plans that have ended \
         are forgotten after a while"
    )]
    UnknownPlan {
        /// The id.
        plan: String,
    },
    /// The plan has no such task.
    #[error("the plan has no task `{task}`; use one of its ids")]
    UnknownTask {
        /// The id.
        task: String,
    },
    /// The answer does not go to an agent.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The process that runs the plan has not carried out earlier requests.
    #[error(
        "{max} requests wait for the process of the plan already, or 1 MiB of them; try again later"
    )]
    TooMany {
        /// Maximum number of requests.
        max: usize,
    },
    /// The request alone is larger than all that may wait.
    #[error("the answers have more than 1 MiB with their questions; shorten them")]
    TooLarge,
    /// The store has failed.
    #[error("the store of the plans does not answer; try again later: {0}")]
    Store(#[from] StoreError),
}

/// A request in the store.
pub(in crate::delegate) struct Kept {
    store: TaskStore,
    plan: Arc<str>,
    id: Arc<str>,
    pub(in crate::delegate) delivery: Delivery,
}

impl Kept {
    /// Returns `true` if the request has not been carried out yet.
    pub(in crate::delegate) async fn is_pending(&self) -> Result<bool, StoreError> {
        let kept = self.store.requests(&self.plan).await?;
        Ok(kept.requests.iter().any(|request| request.id == self.id))
    }

    /// Takes the request back, if it is still there. Its plan has ended.
    async fn withdraw(&self) -> Result<(), StoreError> {
        let own = HashSet::from([self.id.clone()]);
        self.store.remove_requests(&self.plan, &own).await
    }
}

impl Orchestrator {
    /// Cancels a plan of this caller, also one that another process with the same
    /// [store](super::OrchestratorBuilder::store) runs.
    ///
    /// # Errors
    ///
    /// Fails if the caller has no such plan, if too many requests wait for the process that runs
    /// it, or if the store fails.
    pub async fn cancel_plan(
        &self,
        context: &CallContext,
        plan: &str,
    ) -> Result<Delivery, RequestError> {
        if let Some(handle) = self.plan_here(context, plan) {
            handle.cancel();
            return Ok(Delivery::Delivered);
        }
        let stored = self.plan_elsewhere(context, plan).await?;
        self.send(&stored, PlanAction::CancelPlan).await
    }

    /// Cancels a task of a plan of this caller, also of one that another process runs.
    ///
    /// # Errors
    ///
    /// Fails as [`cancel_plan`](Self::cancel_plan) does, and if the plan has no such task.
    pub async fn cancel_task(
        &self,
        context: &CallContext,
        plan: &str,
        task: &str,
    ) -> Result<Delivery, RequestError> {
        let unknown = || RequestError::UnknownTask { task: task.into() };
        if let Some(handle) = self.plan_here(context, plan) {
            handle.task(task).ok_or_else(unknown)?;
            handle.cancel_task(task);
            return Ok(Delivery::Delivered);
        }
        let stored = self.plan_elsewhere(context, plan).await?;
        let found = stored.task(task).ok_or_else(unknown)?;
        if found.status.is_terminal() {
            return Ok(Delivery::Delivered);
        }
        self.send(&stored, PlanAction::CancelTask(found.id.clone()))
            .await
    }

    /// Answers the questions of a task's agent in a plan of this caller, also in one that another
    /// process runs.
    ///
    /// # Errors
    ///
    /// Fails as [`cancel_plan`](Self::cancel_plan) does, if the task does not wait for answers, or
    /// if one of its questions has none.
    pub async fn answer_task(
        &self,
        context: &CallContext,
        plan: &str,
        task: &str,
        answers: InputResponses,
    ) -> Result<Delivery, RequestError> {
        if let Some(handle) = self.plan_here(context, plan) {
            handle.answer(task, answers)?;
            return Ok(Delivery::Delivered);
        }
        let stored = self.plan_elsewhere(context, plan).await?;
        let questions = open_questions(&stored, task)?;
        if let Some(key) = questions.keys().find(|key| !answers.contains_key(*key)) {
            let (task, key) = (task.to_owned(), key.clone());
            return Err(AnswerError::Incomplete { task, key }.into());
        }
        self.send(&stored, answer(&stored, task, answers)?).await
    }

    async fn send(
        &self,
        plan: &PlanSnapshot,
        action: PlanAction,
    ) -> Result<Delivery, RequestError> {
        if plan.state.is_over() {
            return Ok(Delivery::Delivered);
        }
        let kept = self.keep_request(plan, action).await?;
        Ok(kept.map_or(Delivery::Delivered, |kept| kept.delivery))
    }

    /// Returns the plan of this caller, if this process runs it or has run it to its end.
    pub(in crate::delegate) fn plan_here(
        &self,
        context: &CallContext,
        plan: &str,
    ) -> Option<PlanHandle> {
        let here = self.find_plan(context, plan)?;
        let is_released = matches!(here.snapshot().state, PlanState::Released(_));
        (!is_released).then_some(here)
    }

    async fn plan_elsewhere(
        &self,
        context: &CallContext,
        plan: &str,
    ) -> Result<PlanSnapshot, RequestError> {
        let stored = self.stored_snapshot(context, plan).await?;
        stored.ok_or_else(|| RequestError::UnknownPlan { plan: plan.into() })
    }

    /// Keeps a request for the process that runs a plan. The plan is that of the request's caller,
    /// as it was in the store. Returns `None` if it has ended since.
    pub(in crate::delegate) async fn keep_request(
        &self,
        plan: &PlanSnapshot,
        action: PlanAction,
    ) -> Result<Option<Kept>, RequestError> {
        // Without a store only this process can have run it.
        let Some(store) = &self.settings.store else {
            return Ok(None);
        };
        let id: Arc<str> = format!("{:032x}", rand::random::<u128>()).into();
        let request = PlanRequest {
            id: id.clone(),
            action,
        };
        let added = store.add_request(&plan.id, &request).await;
        added.map_err(|error| match error {
            NotKept::TooMany => RequestError::TooMany { max: MAX_REQUESTS },
            NotKept::TooLarge => RequestError::TooLarge,
            NotKept::Store(error) => error.into(),
        })?;
        let mut kept = Kept {
            store: store.clone(),
            plan: plan.id.clone(),
            id,
            delivery: Delivery::Stored,
        };
        // Its process removes the requests after the plan has ceased to be active, and releases the
        // lease last: a plan that is active now has them removed at its end.
        if !store.is_active(&plan.id).await? {
            kept.withdraw().await?;
            return Ok(None);
        }
        if store.requests(&plan.id).await?.lease.is_none() {
            kept.delivery = Delivery::Waiting;
        }
        Ok(Some(kept))
    }
}

/// Returns the questions of a task that wait for answers.
fn open_questions<'a>(
    plan: &'a PlanSnapshot,
    task: &str,
) -> Result<&'a InputRequests, RequestError> {
    let found = plan.task(task);
    let found = found.ok_or_else(|| AnswerError::UnknownTask { task: task.into() })?;
    let not_waiting = || AnswerError::NotWaiting { task: task.into() };
    Ok(found.questions.as_ref().ok_or_else(not_waiting)?)
}

/// Returns the request that brings answers to the questions of a task.
pub(in crate::delegate) fn answer(
    plan: &PlanSnapshot,
    task: &str,
    mut answers: InputResponses,
) -> Result<PlanAction, RequestError> {
    let mut questions = open_questions(plan, task)?.clone();
    questions.retain(|key, _| answers.contains_key(key));
    answers.retain(|key, _| questions.contains_key(key));
    Ok(PlanAction::Answer {
        task: task.into(),
        question_id: plan.task(task).and_then(|task| task.question_id),
        questions,
        answers,
    })
}
