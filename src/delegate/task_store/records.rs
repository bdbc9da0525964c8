use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{KeptRequests, TaskRecord, TaskStore, record};
use crate::{
    delegate::agent::{Question, QuestionOrigin},
    store::StoreError,
    util::{backoff::Backoff, lock},
};

/// The delays between two tries while the store fails.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
/// The time after which a failing store is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// The records of the tasks of one plan, as the process writes them that holds its lease.
pub(in crate::delegate) struct Records {
    store: TaskStore,
    plan: Arc<str>,
    lease: Arc<str>,
    /// The records that may change, with their bytes in the store.
    known: Mutex<HashMap<u32, (TaskRecord, Vec<u8>)>>,
}

/// The reason why a record was not written. The plan cannot go on here.
#[derive(Clone, Debug, thiserror::Error)]
pub(in crate::delegate) enum NotWritten {
    #[error("another process has taken the plan over")]
    TakenOver,
    #[error("the store of plans fails: {0}")]
    Store(#[from] StoreError),
}

/// The beginning of an attempt in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::delegate) enum Begun {
    Yes,
    /// A process that has lost the plan has begun an attempt before it noticed.
    ByAnother,
}

enum Written {
    Yes,
    /// The store has another record now.
    Other(Box<TaskRecord>, Vec<u8>),
}

impl Records {
    pub(in crate::delegate) fn new(store: TaskStore, plan: Arc<str>, lease: &str) -> Self {
        Self {
            store,
            plan,
            lease: lease.into(),
            known: Mutex::default(),
        }
    }

    /// Takes over the record of another process.
    pub(in crate::delegate) fn adopt(&self, task: u32, record: TaskRecord, bytes: Vec<u8>) {
        lock(&self.known).insert(task, (record, bytes));
    }

    /// Writes that an attempt begins, before it does.
    ///
    /// # Errors
    ///
    /// Fails if the plan has been taken over by another process, or the store fails for long.
    pub(in crate::delegate) async fn begin(
        &self,
        task: u32,
        agent: &Arc<str>,
        attempts: u32,
        is_resumed: bool,
    ) -> Result<Begun, NotWritten> {
        let (mut next, before) = self.known(task);
        next.agent = Some(agent.clone());
        next.attempts = attempts;
        next.is_running = true;
        let asked = next.question.take();
        let is_asked_again = |question: &Question| question.origin == QuestionOrigin::Remote;
        next.earlier_question = asked.filter(is_asked_again).or(next.earlier_question);
        if !is_resumed {
            (next.remote, next.earlier_question) = (None, None);
        }
        match self.write(task, next, before).await? {
            Written::Yes => Ok(Begun::Yes),
            Written::Other(record, bytes) => {
                if !self.holds_lease().await? {
                    return Err(NotWritten::TakenOver);
                }
                self.adopt(task, *record, bytes);
                Ok(Begun::ByAnother)
            }
        }
    }

    /// Writes the question of a task's agent, before others learn of it. A question that the agent
    /// asks again after a restart gets its id of before, so that an answer to it still counts.
    ///
    /// # Errors
    ///
    /// Fails as [`change`](Self::change) does.
    pub(in crate::delegate) async fn ask(
        &self,
        task: u32,
        question: &mut Question,
    ) -> Result<(), NotWritten> {
        self.change(task, |record| {
            let earlier = record.earlier_question.take();
            if let Some(same) = earlier.filter(|same| same.requests == question.requests) {
                question.id = same.id;
            }
            record.question = Some(question.clone());
        })
        .await
    }

    /// Changes the record of a task.
    ///
    /// # Errors
    ///
    /// Fails if the plan has been taken over by another process, or the store fails for long.
    pub(in crate::delegate) async fn change(
        &self,
        task: u32,
        change: impl FnOnce(&mut TaskRecord),
    ) -> Result<(), NotWritten> {
        let (mut next, before) = self.known(task);
        change(&mut next);
        match self.write(task, next, before).await? {
            Written::Yes => Ok(()),
            Written::Other(..) => Err(NotWritten::TakenOver),
        }
    }

    /// Writes that a plan was stopped.
    pub(in crate::delegate) async fn stop(&self, reason: &str) -> Result<(), NotWritten> {
        self.until_done(|| self.store.stop(&self.plan, reason))
            .await
    }

    /// Writes that the plan has ended.
    ///
    /// # Errors
    ///
    /// Fails if another process has taken the plan over, or the store fails for long.
    pub(in crate::delegate) async fn close(&self) -> Result<(), NotWritten> {
        if !self.holds_lease().await? {
            return Err(NotWritten::TakenOver);
        }
        self.until_done(|| self.store.close(&self.plan)).await
    }

    /// Returns the requests for the plan that have reached other processes. Returns `None` if
    /// another process holds the lease.
    pub(in crate::delegate) async fn requests(&self) -> Result<Option<KeptRequests>, StoreError> {
        let kept = self.store.requests(&self.plan).await?;
        let lease = kept.lease.as_deref();
        let is_own = lease.is_some_and(|lease| lease == self.lease.as_bytes());
        Ok(is_own.then_some(kept))
    }

    pub(in crate::delegate) async fn remove_requests(
        &self,
        done: &HashSet<Arc<str>>,
    ) -> Result<(), StoreError> {
        self.store.remove_requests(&self.plan, done).await
    }

    fn known(&self, task: u32) -> (TaskRecord, Option<Vec<u8>>) {
        match lock(&self.known).get(&task) {
            Some((record, bytes)) => (record.clone(), Some(bytes.clone())),
            None => (TaskRecord::default(), None),
        }
    }

    async fn write(
        &self,
        task: u32,
        mut next: TaskRecord,
        mut before: Option<Vec<u8>>,
    ) -> Result<Written, NotWritten> {
        next.lease = self.lease.clone();
        let bytes = record::to_bytes(&next)?;
        let key = self.store.task_key(&self.plan, task);
        loop {
            let is_written = self
                .until_done(|| async {
                    let (set, keep) = (Some(bytes.clone()), Some(self.store.keep));
                    let store = &self.store.store;
                    let set = store.compare_and_set(&key, before.as_deref(), set, keep);
                    self.store.ask(set).await
                })
                .await?;
            if is_written {
                break;
            }
            // An earlier try may have written it, although its reply was lost.
            let found = self
                .until_done(|| {
                    self.store
                        .ask(self.store.store.get(std::slice::from_ref(&key)))
                })
                .await?;
            let Some(found) = found.into_iter().next().flatten().map(|found| found.value) else {
                // It has expired, or was removed.
                before = None;
                continue;
            };
            if found == bytes {
                break;
            }
            let other: TaskRecord = record::from_bytes(&found)?;
            if other.lease != self.lease {
                return Ok(Written::Other(Box::new(other), found));
            }
            before = Some(found);
        }
        match next.end.is_some() {
            true => drop(lock(&self.known).remove(&task)),
            false => drop(lock(&self.known).insert(task, (next, bytes))),
        }
        Ok(Written::Yes)
    }

    async fn holds_lease(&self) -> Result<bool, NotWritten> {
        let key = self.store.key(&self.plan, ":lease");
        let found = self
            .until_done(|| {
                self.store
                    .ask(self.store.store.get(std::slice::from_ref(&key)))
            })
            .await?;
        let holder = found.into_iter().next().flatten();
        Ok(holder.is_some_and(|holder| holder.value == self.lease.as_bytes()))
    }

    /// Repeats a request to the store until it succeeds, or has failed for long.
    async fn until_done<T, F>(&self, mut ask: impl FnMut() -> F) -> Result<T, NotWritten>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let (mut failures, began) = (0, Instant::now());
        loop {
            match ask().await {
                Ok(done) => return Ok(done),
                Err(error) if began.elapsed() > GIVE_UP_AFTER => return Err(error.into()),
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(%error, plan = %self.plan, "the store of plans failed");
                    }
                    tokio::time::sleep(BACKOFF.delay(failures)).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }
}
