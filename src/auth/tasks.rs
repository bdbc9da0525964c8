//! Whose a task is.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;

use crate::{Audience, Principal};

/// How many tasks are remembered. The one that was asked for least recently is forgotten first, and then known by
/// its id alone, as it is to the server that made it.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Who began which task (SEP-2663). A task's id is all that a server asks for; what one principal began is not
/// another's to read or to end.
pub(super) struct Tasks(Mutex<LruCache<String, Audience>>);

impl Default for Tasks {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED)))
    }
}

impl Tasks {
    fn owners(&self) -> MutexGuard<'_, LruCache<String, Audience>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn began(&self, task: &str, by: &Principal) {
        self.owners().put(task.to_owned(), Audience::principal(by));
    }

    /// Whether somebody else began the task.
    pub(super) fn is_anothers(&self, task: &str, than: &Principal) -> bool {
        let owner = self.owners().get(task).cloned();
        owner.is_some_and(|owner| owner != Audience::principal(than))
    }
}
