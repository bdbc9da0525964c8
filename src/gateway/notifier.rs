//! Notification of callers' listens about changes of the gateway itself.

use tokio::sync::watch;

use super::members::changes::PerChange;
use crate::listen::change::Change;

/// Counters of the changes that every caller receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ChangeCounts {
    members: u64,
    lists: PerChange<u64>,
}

impl ChangeCounts {
    /// Returns `true` if a member was added or removed since `before`.
    pub(super) fn members_changed_since(&self, before: &Self) -> bool {
        self.members != before.members
    }

    /// Returns the lists that have changed since `before`: all if a member was added or removed.
    pub(super) fn lists_changed_since(&self, before: &Self) -> Vec<Change> {
        let all = self.members_changed_since(before);
        let changed = |change: &Change| all || self.lists.get(*change) != before.lists.get(*change);
        Change::ALL.into_iter().filter(changed).collect()
    }
}

/// Notifies every open listen of the gateway's own changes.
#[derive(Clone)]
pub(super) struct ChangeNotifier(watch::Sender<ChangeCounts>);

impl ChangeNotifier {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(ChangeCounts::default()))
    }

    pub(super) fn members_changed(&self) {
        self.0.send_modify(|counts| counts.members += 1);
    }

    pub(super) fn changed(&self, change: Change) {
        self.0
            .send_modify(|counts| *counts.lists.get_mut(change) += 1);
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<ChangeCounts> {
        self.0.subscribe()
    }
}
