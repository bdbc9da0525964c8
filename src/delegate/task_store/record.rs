use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::principal::PrincipalRecord;
use crate::{
    CallContext, Principal,
    delegate::{
        TaskOutput,
        agent::{Question, RemoteTask, introduced},
        hops::Hops,
        orchestrator::{Origin, Owner},
        plan::{Plan, Status},
    },
    store::StoreError,
};

/// A plan as it was submitted.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::delegate) struct PlanRecord {
    pub(in crate::delegate) plan: Plan,
    owner: Arc<[u8]>,
    #[serde(default)]
    is_process: bool,
    principal: Option<PrincipalRecord>,
    hops: Hops,
    /// The time of the submission, in milliseconds since 1970. Clocks of the processes that share a
    /// store are expected to agree within a second or so.
    submitted: u64,
}

/// The state of a task from its first attempt on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::delegate) struct TaskRecord {
    /// The token of the lease of the process that has written it.
    pub(in crate::delegate) lease: Arc<str>,
    pub(in crate::delegate) agent: Option<Arc<str>>,
    pub(in crate::delegate) attempts: u32,
    /// The agent's handle, once it has given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::delegate) remote: Option<RemoteTask>,
    /// The question that the agent waits for an answer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::delegate) question: Option<Question>,
    /// The question of before a restart, which the agent is to ask again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::delegate) earlier_question: Option<Question>,
    /// `true` if an attempt has begun whose end is not known.
    pub(in crate::delegate) is_running: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::delegate) end: Option<EndRecord>,
    /// The tokens and the cost of all attempts so far.
    #[serde(default)]
    pub(in crate::delegate) tokens: u64,
    #[serde(default)]
    pub(in crate::delegate) cost: f64,
}

/// The end of a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::delegate) struct EndRecord {
    pub(in crate::delegate) status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::delegate) output: Option<Arc<TaskOutput>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::delegate) error: Option<Arc<str>>,
    /// The time of the end, in milliseconds since 1970.
    pub(in crate::delegate) at: u64,
}

impl PlanRecord {
    pub(in crate::delegate) fn of(plan: &Plan, origin: &Origin) -> Self {
        Self {
            plan: plan.clone(),
            owner: origin.owner.0.clone(),
            is_process: origin.is_process,
            principal: origin.caller.principal().map(PrincipalRecord::from),
            hops: origin.hops.clone(),
            submitted: now_ms(),
        }
    }

    /// Returns the origin of the plan. Its caller has gone: a background context remains.
    pub(in crate::delegate) fn origin(&self) -> Origin {
        let mut caller = CallContext::background();
        if let Some(principal) = self.principal.clone() {
            caller.set_principal(Principal::from(principal));
        }
        Origin {
            caller: Arc::new(introduced(caller)),
            owner: self.owner(),
            is_process: self.is_process,
            hops: self.hops.clone(),
            asker: None,
        }
    }

    pub(in crate::delegate) fn owner(&self) -> Owner {
        Owner(self.owner.clone())
    }

    /// Returns the time from the submission until a time in milliseconds since 1970.
    pub(in crate::delegate) fn elapsed(&self, at: u64) -> Duration {
        Duration::from_millis(at.saturating_sub(self.submitted))
    }
}

pub(in crate::delegate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or_default().as_millis();
    u64::try_from(since).unwrap_or(u64::MAX)
}

pub(super) fn to_bytes<T: Serialize>(record: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(record)
        .map_err(|error| StoreError::new("a record cannot be written").with_source(error))
}

pub(super) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes)
        .map_err(|error| StoreError::new("a record of a plan cannot be read").with_source(error))
}
