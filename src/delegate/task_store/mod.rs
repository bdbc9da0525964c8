//! Plans in a [`Store`], from which another process takes them over.
//!
//! | key | value |
//! |---|---|
//! | `delegate:NAME:plan:ID` | the plan as it was submitted ([`PlanRecord`]) |
//! | `delegate:NAME:plan:ID:task:N` | the state of its task N, from its first attempt on ([`TaskRecord`]) |
//! | `delegate:NAME:plan:ID:stop` | the reason why it was stopped, if it was |
//! | `delegate:NAME:plan:ID:requests` | requests of its caller that reached another process ([`PlanRequest`]) |
//! | `delegate:NAME:plan:ID:lease` | the lease of the process that runs it |
//! | `delegate:NAME:active:SHARD` | the ids of plans that have not ended |
//!
//! A task's record is only written by a conditional change of the one that its writer knows, and
//! names the lease of its writer. So of two processes that both believe they hold the lease, one
//! starts an attempt, and the other finds its record.

mod active;
mod principal;
mod record;
mod records;
mod requests;

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

pub(super) use self::{
    record::{EndRecord, PlanRecord, TaskRecord, now_ms},
    records::{Begun, NotWritten, Records},
    requests::{KeptRequests, MAX_REQUESTS, NotKept, PlanAction, PlanRequest},
};
use crate::store::{Lease, Store, StoreError, Stored};

/// Number of records that are read at once.
const READ_AT_ONCE: usize = 256;
/// Number of times that a change is tried while other processes change the same record.
const MAX_TRIES: usize = 64;

/// The settings of plans in a store.
#[derive(Clone)]
pub(super) struct TaskStore {
    pub(super) store: Arc<dyn Store>,
    /// The name of the orchestrators that share their plans.
    pub(super) name: Arc<str>,
    /// Maximum time for a reply.
    pub(super) patience: Duration,
    /// The time that the records are kept after their last change.
    pub(super) keep: Duration,
    pub(super) lease: Duration,
}

/// A plan and the records of its tasks, as another process has left them.
pub(super) struct StoredPlan {
    pub(super) record: PlanRecord,
    pub(super) stop: Option<String>,
    /// The records with their bytes, by the index of the task.
    pub(super) tasks: Vec<Option<(TaskRecord, Vec<u8>)>>,
}

impl TaskStore {
    async fn ask<T>(
        &self,
        ask: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let patience = self.patience;
        timeout(patience, ask)
            .await
            .unwrap_or_else(|_| Err(StoreError::new(format!("no answer within {patience:?}"))))
    }

    fn key(&self, plan: &str, part: &str) -> Vec<u8> {
        let name = &self.name;
        format!("delegate:{name}:plan:{plan}{part}").into_bytes()
    }

    fn task_key(&self, plan: &str, task: u32) -> Vec<u8> {
        self.key(plan, &format!(":task:{task}"))
    }

    /// Changes a record that processes change in turn. Without a value it is removed.
    async fn change_in_turn<E: From<StoreError>>(
        &self,
        key: &[u8],
        change: impl Fn(Option<&[u8]>) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<(), E> {
        let keys = [key.to_vec()];
        for _ in 0..MAX_TRIES {
            let found = self.ask(self.store.get(&keys)).await?;
            let now = found.into_iter().next().flatten().map(|found| found.value);
            let next = change(now.as_deref())?;
            if next == now {
                return Ok(());
            }
            let set = self
                .store
                .compare_and_set(key, now.as_deref(), next, Some(self.keep));
            if self.ask(set).await? {
                return Ok(());
            }
        }
        Err(StoreError::new("other processes keep changing the same record").into())
    }

    /// Takes the lease of a plan. Returns `None` if another process runs it.
    pub(super) async fn lease(&self, plan: &str) -> Result<Option<Lease>, StoreError> {
        let key = self.key(plan, ":lease");
        self.ask(Lease::acquire(&self.store, key, self.lease)).await
    }

    /// Writes a plan that begins, so that it can be taken over.
    pub(super) async fn open(&self, plan: &str, record: &PlanRecord) -> Result<(), StoreError> {
        let (key, bytes) = (self.key(plan, ""), record::to_bytes(record)?);
        let added = self
            .ask(self.store.add(&key, bytes, Some(self.keep)))
            .await?;
        if !added {
            return Err(StoreError::new("the store has a plan of this id already"));
        }
        self.add_active(plan).await
    }

    /// Writes why a plan was stopped: its tasks do not start again.
    pub(super) async fn stop(&self, plan: &str, reason: &str) -> Result<(), StoreError> {
        let (key, reason) = (self.key(plan, ":stop"), reason.as_bytes().to_vec());
        let added = self.store.add(&key, reason, Some(self.keep));
        self.ask(added).await.map(drop)
    }

    /// Marks a plan as ended: it is not taken over, and requests for it are void.
    pub(super) async fn close(&self, plan: &str) -> Result<(), StoreError> {
        self.remove_active(plan).await?;
        self.ask(self.store.remove(&self.requests_key(plan))).await
    }

    /// Reads a plan with the records of its tasks.
    pub(super) async fn read(&self, plan: &str) -> Result<Option<StoredPlan>, StoreError> {
        let keys = [self.key(plan, ""), self.key(plan, ":stop")];
        let mut found = self.ask(self.store.get(&keys)).await?.into_iter();
        let (stored, stop) = (found.next().flatten(), found.next().flatten());
        let Some(stored) = stored else {
            return Ok(None);
        };
        let record: PlanRecord = record::from_bytes(&stored.value)?;
        let count = u32::try_from(record.plan.tasks.len()).unwrap_or(u32::MAX);
        let keys: Vec<_> = (0..count).map(|task| self.task_key(plan, task)).collect();
        let mut tasks = Vec::with_capacity(keys.len());
        for keys in keys.chunks(READ_AT_ONCE) {
            for stored in self.ask(self.store.get(keys)).await? {
                tasks.push(read_task(stored)?);
            }
        }
        let stop = stop.map(|stop| String::from_utf8_lossy(&stop.value).into_owned());
        Ok(Some(StoredPlan {
            record,
            stop,
            tasks,
        }))
    }
}

fn read_task(stored: Option<Stored>) -> Result<Option<(TaskRecord, Vec<u8>)>, StoreError> {
    let Some(stored) = stored else {
        return Ok(None);
    };
    let record = record::from_bytes(&stored.value)?;
    Ok(Some((record, stored.value)))
}
