//! Requests for plans that other processes run.

use std::{collections::HashSet, sync::Arc};

use rmcp::model::{InputRequests, InputResponses};
use serde::{Deserialize, Serialize};

use super::{TaskStore, record};
use crate::store::StoreError;

/// Maximum number of requests that wait for the process of one plan.
pub(in crate::delegate) const MAX_REQUESTS: usize = 100;
/// Maximum length of their record.
const MAX_BYTES: usize = 1024 * 1024;

/// A request of a plan's caller that has reached a process which does not run the plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::delegate) struct PlanRequest {
    pub(in crate::delegate) id: Arc<str>,
    pub(in crate::delegate) action: PlanAction,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::delegate) enum PlanAction {
    CancelPlan,
    CancelTask(Arc<str>),
    /// The answers to these questions of a task, and to no others under the same keys.
    Answer {
        task: Arc<str>,
        /// The id of the [`Question`](crate::delegate::agent::Question) that has the questions.
        question_id: Option<u64>,
        questions: InputRequests,
        answers: InputResponses,
    },
}

/// The requests for a plan, as they are in the store.
pub(in crate::delegate) struct KeptRequests {
    pub(in crate::delegate) requests: Vec<PlanRequest>,
    /// The token of the lease of the process that runs the plan.
    pub(in crate::delegate) lease: Option<Vec<u8>>,
    /// The reason why the plan was stopped, if it was.
    pub(in crate::delegate) stop: Option<Vec<u8>>,
}

/// The reason why a request is not kept.
#[derive(Clone, Debug, thiserror::Error)]
pub(in crate::delegate) enum NotKept {
    #[error("too many requests wait for the process of the plan")]
    TooMany,
    #[error("the request is too large")]
    TooLarge,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TaskStore {
    pub(super) fn requests_key(&self, plan: &str) -> Vec<u8> {
        self.key(plan, ":requests")
    }

    /// Keeps a request for the process that runs the plan.
    pub(in crate::delegate) async fn add_request(
        &self,
        plan: &str,
        request: &PlanRequest,
    ) -> Result<(), NotKept> {
        let key = self.requests_key(plan);
        self.change_in_turn(&key, |now| {
            let mut requests = read(now)?;
            if matches!(request.action, PlanAction::CancelPlan) {
                // The others are void then, however many they are.
                requests.clear();
            }
            requests.push(request.clone());
            let bytes = record::to_bytes(&requests)?;
            match requests.len() {
                1 if bytes.len() > MAX_BYTES => Err(NotKept::TooLarge),
                count if count > MAX_REQUESTS || bytes.len() > MAX_BYTES => Err(NotKept::TooMany),
                _ => Ok(Some(bytes)),
            }
        })
        .await
    }

    /// Removes requests that have been carried out.
    pub(in crate::delegate) async fn remove_requests(
        &self,
        plan: &str,
        done: &HashSet<Arc<str>>,
    ) -> Result<(), StoreError> {
        let key = self.requests_key(plan);
        self.change_in_turn(&key, |now| {
            let mut requests = read(now)?;
            requests.retain(|request| !done.contains(&request.id));
            match requests.is_empty() {
                true => Ok(None),
                false => record::to_bytes(&requests).map(Some),
            }
        })
        .await
    }

    /// Returns the requests for a plan.
    pub(in crate::delegate) async fn requests(
        &self,
        plan: &str,
    ) -> Result<KeptRequests, StoreError> {
        let keys = [
            self.requests_key(plan),
            self.key(plan, ":lease"),
            self.key(plan, ":stop"),
        ];
        let mut found = self.ask(self.store.get(&keys)).await?.into_iter();
        let mut next = || found.next().flatten().map(|stored| stored.value);
        let (requests, lease, stop) = (next(), next(), next());
        let requests = read(requests.as_deref())?;
        Ok(KeptRequests {
            requests,
            lease,
            stop,
        })
    }
}

fn read(bytes: Option<&[u8]>) -> Result<Vec<PlanRequest>, StoreError> {
    bytes.map_or_else(|| Ok(Vec::new()), record::from_bytes)
}
