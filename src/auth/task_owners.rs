//! The owners of tasks.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use lru::LruCache;
use sha2::{Digest, Sha256};

use crate::{Audience, Principal, util::lock};

/// Limit of tasks of all principals.
const MAX_TASKS: usize = 10_000;

/// The SHA-256 of a task's id, because servers choose the length of ids.
type Id = [u8; 32];

fn id_of(task: &str) -> Id {
    Sha256::digest(task).into()
}

/// The principals that began tasks (SEP-2663). A server accepts a task's id from any caller, so
/// this map keeps principals from reading or ending each other's tasks.
///
/// Above the limit, the principal with the most tasks loses its least recently used one, so that no
/// principal can evict the tasks of one with fewer. Among principals with equally many tasks, the
/// least recently used task is evicted. An evicted task is unknown.
pub(super) struct TaskOwners {
    state: Mutex<State>,
    /// `true` if a caller with the id may use a task without a known owner.
    allows_unknown: bool,
}

#[derive(Default)]
struct State {
    by_task: HashMap<Id, Audience>,
    /// The tasks of each principal in order of last use, with a counter of that use.
    by_owner: HashMap<Audience, LruCache<Id, u64>>,
    /// The counter of uses.
    uses: u64,
}

impl TaskOwners {
    pub(super) fn new(allows_unknown: bool) -> Self {
        Self {
            state: Mutex::default(),
            allows_unknown,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn add(&self, task: &str, by: &Principal) {
        let (task, by) = (id_of(task), Audience::principal(by));
        let mut state = self.state();
        state.remove(&task);
        state.by_task.insert(task, by.clone());
        let now = state.next_use();
        let own = state.by_owner.entry(by);
        own.or_insert_with(LruCache::unbounded).put(task, now);
        if state.by_task.len() > MAX_TASKS {
            state.evict_one();
        }
    }

    /// Returns `true` if this principal is known to have begun the task.
    pub(super) fn is_owned_by(&self, task: &str, principal: &Principal) -> bool {
        let state = self.state();
        let owner = state.by_task.get(&id_of(task));
        owner.is_some_and(|owner| *owner == Audience::principal(principal))
    }

    /// Returns `true` if the task may be on a list for this principal.
    pub(super) fn lists(&self, task: &str, principal: &Principal) -> bool {
        match self.state().by_task.get(&id_of(task)) {
            Some(owner) => *owner == Audience::principal(principal),
            None => self.allows_unknown,
        }
    }

    /// Records a use of the task by this principal. Returns `false` if the principal may not use
    /// it.
    pub(super) fn record_use(&self, task: &str, by: &Principal) -> bool {
        let (task, by) = (id_of(task), Audience::principal(by));
        let mut state = self.state();
        match state.by_task.get(&task) {
            Some(owner) if *owner == by => {
                let now = state.next_use();
                let own = state.by_owner.get_mut(&by);
                if let Some(last_used) = own.and_then(|own| own.get_mut(&task)) {
                    *last_used = now;
                }
                true
            }
            Some(_) => false,
            None => self.allows_unknown,
        }
    }
}

impl State {
    fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    fn remove(&mut self, task: &Id) {
        let Some(owner) = self.by_task.remove(task) else {
            return;
        };
        if let Some(own) = self.by_owner.get_mut(&owner) {
            own.pop(task);
            if own.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
    }

    fn evict_one(&mut self) {
        let oldest =
            |own: &LruCache<Id, u64>| own.peek_lru().map(|(task, last_used)| (*last_used, *task));
        let most = self
            .by_owner
            .values()
            .max_by_key(|own| (own.len(), Reverse(oldest(own))));
        if let Some((_, task)) = most.and_then(oldest) {
            self.remove(&task);
        }
    }
}
