//! Calls that were cancelled, and that the server may still answer.

use std::{collections::HashMap, time::Duration};

use rmcp::model::RequestId;
use tokio::time::Instant;

/// Cancelled calls. An answer that names no call may belong to one of them.
#[derive(Default)]
pub(super) struct Abandoned {
    calls: HashMap<RequestId, Instant>,
    /// The time until which there are more cancelled calls than are kept.
    too_many_until: Option<Instant>,
}

/// The time a server may take to answer a call that it was told to cancel.
const ABANDONED_FOR: Duration = Duration::from_secs(60);
/// Limit of cancelled calls that are kept.
const MAX_ABANDONED: usize = 1_024;

impl Abandoned {
    pub(super) fn insert(&mut self, id: RequestId) {
        let since = Instant::now();
        if self.calls.len() >= MAX_ABANDONED {
            self.expire();
        }
        if self.calls.len() >= MAX_ABANDONED {
            self.too_many_until = Some(since + ABANDONED_FOR);
        } else {
            self.calls.insert(id, since);
        }
    }

    pub(super) fn remove(&mut self, id: &RequestId) {
        self.calls.remove(id);
    }

    /// Returns the number of cancelled calls, or `None` if there are more than are kept.
    pub(super) fn len(&self) -> Option<usize> {
        self.too_many_until.is_none().then_some(self.calls.len())
    }

    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        self.calls
            .retain(|_, since| now.duration_since(*since) < ABANDONED_FOR);
        self.too_many_until = self.too_many_until.filter(|until| *until > now);
    }
}
