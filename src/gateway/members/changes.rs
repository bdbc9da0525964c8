//! Changes of a member's lists: how often each has changed, and which the member announces.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{caller::Era, listen::change::Change, util::lock};

/// A value for each kind of change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::gateway) struct PerChange<T> {
    tools: T,
    prompts: T,
    resources: T,
}

impl<T> PerChange<T> {
    pub(in crate::gateway) fn from_fn(value: impl Fn(Change) -> T) -> Self {
        Self {
            tools: value(Change::Tools),
            prompts: value(Change::Prompts),
            resources: value(Change::Resources),
        }
    }

    pub(in crate::gateway) fn get(&self, change: Change) -> &T {
        match change {
            Change::Tools => &self.tools,
            Change::Prompts => &self.prompts,
            Change::Resources => &self.resources,
        }
    }

    pub(in crate::gateway) fn get_mut(&mut self, change: Change) -> &mut T {
        match change {
            Change::Tools => &mut self.tools,
            Change::Prompts => &mut self.prompts,
            Change::Resources => &mut self.resources,
        }
    }
}

/// The changes of one member's lists, as far as the gateway knows.
#[derive(Default)]
pub(in crate::gateway) struct Changes {
    counts: PerChange<AtomicU64>,
    /// The lists whose changes the member announces to the gateway, by the era of the gateway's own
    /// listen.
    announced: Mutex<HashMap<Era, PerChange<bool>>>,
    watched: Mutex<HashSet<Era>>,
}

impl Changes {
    /// Returns how often these lists have changed.
    pub(in crate::gateway) fn get(&self, change: Change) -> u64 {
        self.counts.get(change).load(Ordering::Acquire)
    }

    /// Counts a change: the cached lists of this kind are no longer current.
    pub(in crate::gateway) fn count(&self, change: Change) {
        self.counts.get(change).fetch_add(1, Ordering::AcqRel);
    }

    /// Returns `true` if the member announces to the gateway when these lists change.
    pub(in crate::gateway) fn are_announced(&self, era: Era, change: Change) -> bool {
        let announced = lock(&self.announced);
        announced.get(&era).is_some_and(|lists| *lists.get(change))
    }

    /// Sets the lists whose changes the member announces.
    pub(in crate::gateway) fn set_announced(&self, era: Era, lists: PerChange<bool>) {
        lock(&self.announced).insert(era, lists);
    }

    /// Marks the member as watched in this era. Returns `true` if it was not watched before.
    pub(in crate::gateway) fn begin_watching(&self, era: Era) -> bool {
        lock(&self.watched).insert(era)
    }
}
