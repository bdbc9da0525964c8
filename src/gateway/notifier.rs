//! Notification of callers' listens about changes of the gateway itself.

use tokio::sync::watch;

use super::members::changes::Change;

/// Counters of the changes that every caller is told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::gateway) struct ChangeCounts {
    pub(in crate::gateway) members: u64,
    pub(in crate::gateway) tools: u64,
    pub(in crate::gateway) prompts: u64,
    pub(in crate::gateway) resources: u64,
}

/// Notifies every open listen of the gateway's own changes.
#[derive(Clone)]
pub(in crate::gateway) struct ChangeNotifier(watch::Sender<ChangeCounts>);

impl ChangeNotifier {
    pub(in crate::gateway) fn new() -> Self {
        Self(watch::Sender::new(ChangeCounts::default()))
    }

    pub(in crate::gateway) fn members_changed(&self) {
        self.0.send_modify(|counts| counts.members += 1);
    }

    pub(in crate::gateway) fn changed(&self, change: Change) {
        self.0.send_modify(|counts| match change {
            Change::Tools => counts.tools += 1,
            Change::Prompts => counts.prompts += 1,
            Change::Resources => counts.resources += 1,
        });
    }

    pub(in crate::gateway) fn subscribe(&self) -> watch::Receiver<ChangeCounts> {
        self.0.subscribe()
    }
}
