//! The owners of tasks.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use sha2::{Digest, Sha256};

use crate::{Audience, Principal};

/// Limit of remembered tasks of all principals.
const REMEMBERED: usize = 10_000;

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
pub(super) struct Tasks {
    owners: Mutex<Owners>,
    /// `true` if a caller with the id may use a task without a known owner.
    opens_unknown: bool,
}

#[derive(Default)]
struct Owners {
    by_task: HashMap<Id, Audience>,
    /// The tasks of each principal in order of last use, with a counter of that use.
    by_owner: HashMap<Audience, LruCache<Id, u64>>,
    /// The counter of uses.
    asked: u64,
}

impl Tasks {
    pub(super) fn new(opens_unknown: bool) -> Self {
        Self {
            owners: Mutex::default(),
            opens_unknown,
        }
    }

    fn owners(&self) -> MutexGuard<'_, Owners> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn began(&self, task: &str, by: &Principal) {
        let (task, by) = (id_of(task), Audience::principal(by));
        let mut owners = self.owners();
        owners.forget(&task);
        owners.by_task.insert(task, by.clone());
        let now = owners.now();
        let own = owners.by_owner.entry(by);
        own.or_insert_with(LruCache::unbounded).put(task, now);
        if owners.by_task.len() > REMEMBERED {
            owners.forget_one();
        }
    }

    /// Returns `true` if this principal is known to have begun the task.
    pub(super) fn is_known_as(&self, task: &str, of: &Principal) -> bool {
        let owners = self.owners();
        let owner = owners.by_task.get(&id_of(task));
        owner.is_some_and(|owner| *owner == Audience::principal(of))
    }

    /// Returns `true` if this principal may not use the task.
    pub(super) fn is_anothers(&self, task: &str, than: &Principal) -> bool {
        let (task, than) = (id_of(task), Audience::principal(than));
        let mut owners = self.owners();
        match owners.by_task.get(&task) {
            Some(owner) if *owner == than => {
                let now = owners.now();
                let own = owners.by_owner.get_mut(&than);
                if let Some(asked) = own.and_then(|own| own.get_mut(&task)) {
                    *asked = now;
                }
                false
            }
            Some(_) => true,
            None => !self.opens_unknown,
        }
    }
}

impl Owners {
    fn now(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    fn forget(&mut self, task: &Id) {
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

    fn forget_one(&mut self) {
        let oldest = |own: &LruCache<Id, u64>| own.peek_lru().map(|(task, asked)| (*asked, *task));
        let most = self
            .by_owner
            .values()
            .max_by_key(|own| (own.len(), Reverse(oldest(own))));
        if let Some((_, task)) = most.and_then(oldest) {
            self.forget(&task);
        }
    }
}
