//! Changes of a member's lists: how often each has changed, and which the member announces.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rmcp::model::ServerNotification;

use crate::caller::Era;

/// The kinds of lists whose changes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Change {
    Tools,
    Prompts,
    Resources,
}

impl Change {
    pub(in crate::gateway) const ALL: [Self; 3] = [Self::Tools, Self::Prompts, Self::Resources];

    pub(in crate::gateway) fn of(notification: &ServerNotification) -> Option<Self> {
        match notification {
            ServerNotification::ToolListChangedNotification(_) => Some(Self::Tools),
            ServerNotification::PromptListChangedNotification(_) => Some(Self::Prompts),
            ServerNotification::ResourceListChangedNotification(_) => Some(Self::Resources),
            _ => None,
        }
    }

    /// Returns the value for this change.
    fn of_three<'a, T>(self, tools: &'a T, prompts: &'a T, resources: &'a T) -> &'a T {
        match self {
            Self::Tools => tools,
            Self::Prompts => prompts,
            Self::Resources => resources,
        }
    }
}

/// The changes of one member's lists, as far as the gateway knows.
#[derive(Default)]
pub(in crate::gateway) struct Changes {
    counts: [AtomicU64; 3],
    /// The lists whose changes the member announces to the gateway, by the era of the gateway's own
    /// listen.
    announced: Mutex<HashMap<Era, [bool; 3]>>,
    watched: Mutex<HashSet<Era>>,
}

impl Changes {
    /// Returns how often these lists have changed.
    pub(in crate::gateway) fn get(&self, change: Change) -> u64 {
        let [tools, prompts, resources] = &self.counts;
        change
            .of_three(tools, prompts, resources)
            .load(Ordering::Acquire)
    }

    /// Counts a change: the cached lists of this kind are no longer current.
    pub(in crate::gateway) fn count(&self, change: Change) {
        let [tools, prompts, resources] = &self.counts;
        let count = change.of_three(tools, prompts, resources);
        count.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns `true` if the member announces to the gateway when these lists change.
    pub(in crate::gateway) fn are_announced(&self, era: Era, change: Change) -> bool {
        let announced = self
            .announced
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        announced
            .get(&era)
            .is_some_and(|[tools, prompts, resources]| *change.of_three(tools, prompts, resources))
    }

    /// Sets the lists whose changes the member announces: tools, prompts, resources.
    pub(in crate::gateway) fn set_announced(&self, era: Era, lists: [bool; 3]) {
        let mut announced = self
            .announced
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        announced.insert(era, lists);
    }

    /// Marks the member as watched in this era. Returns `true` if it was not watched before.
    pub(in crate::gateway) fn begin_watching(&self, era: Era) -> bool {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.insert(era)
    }
}
