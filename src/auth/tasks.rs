//! Whose a task is.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;

use crate::{Audience, Principal};

/// How many tasks are remembered, of all principals.
const REMEMBERED: usize = 10_000;

/// Who began which task (SEP-2663). A task's id is all that a server asks for; what one principal began is not
/// another's to read or to end.
///
/// When there are too many, whoever has the most loses the one that was asked for least recently: nobody's tasks push
/// out those of a principal who has fewer. One that is forgotten is nobody's.
pub(super) struct Tasks {
    owners: Mutex<Owners>,
    /// Whether a task that is nobody's is everybody's, by its id.
    opens_unknown: bool,
}

#[derive(Default)]
struct Owners {
    by_task: HashMap<Arc<str>, Audience>,
    /// In the order in which they were asked for.
    by_owner: HashMap<Audience, LruCache<Arc<str>, ()>>,
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
        let (task, by) = (Arc::<str>::from(task), Audience::principal(by));
        let mut owners = self.owners();
        owners.forget(&task);
        owners.by_task.insert(task.clone(), by.clone());
        let own = owners.by_owner.entry(by);
        own.or_insert_with(LruCache::unbounded).put(task, ());
        if owners.by_task.len() > REMEMBERED {
            owners.forget_one();
        }
    }

    /// Whether the task is not this principal's.
    pub(super) fn is_anothers(&self, task: &str, than: &Principal) -> bool {
        let than = Audience::principal(than);
        let mut owners = self.owners();
        match owners.by_task.get(task) {
            Some(owner) if *owner == than => {
                if let Some(own) = owners.by_owner.get_mut(&than) {
                    own.promote(task);
                }
                false
            }
            Some(_) => true,
            None => !self.opens_unknown,
        }
    }
}

impl Owners {
    fn forget(&mut self, task: &str) {
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
        let most = self.by_owner.values().max_by_key(|own| own.len());
        let oldest = most.and_then(|own| own.peek_lru().map(|(task, ())| task.clone()));
        if let Some(task) = oldest {
            self.forget(&task);
        }
    }
}
