//! Calls that were cancelled, and that the server may still be at work on.

use std::{collections::HashMap, time::Duration};

use rmcp::model::RequestId;
use tokio::time::Instant;

/// Calls that nobody waits for any more, by the session they were of.
///
/// Cancelling is advice, and a server may take its time to follow it, or not follow it at all. What it
/// sends meanwhile belongs to the caller that left, so nobody else is taken to be alone.
#[derive(Default)]
pub(super) struct Abandoned {
    calls: HashMap<RequestId, (Option<u64>, Instant)>,
    /// Until when there are more of them than can be told apart.
    too_many_until: Option<Instant>,
}

/// How long a server may be at work on a call that it was told to cancel.
const ABANDONED_FOR: Duration = Duration::from_secs(60);
/// How many such calls are told apart. While there are more, nobody is taken to be alone.
const MAX_ABANDONED: usize = 1_024;

impl Abandoned {
    pub(super) fn insert(&mut self, id: RequestId, session: Option<u64>) {
        let until = Instant::now() + ABANDONED_FOR;
        if self.calls.len() >= MAX_ABANDONED {
            self.expire();
        }
        if self.calls.len() >= MAX_ABANDONED {
            self.too_many_until = Some(until);
        } else {
            self.calls.insert(id, (session, until));
        }
    }

    pub(super) fn remove(&mut self, id: &RequestId) {
        self.calls.remove(id);
    }

    /// How many there are, unless there are too many to be counted.
    pub(super) fn len(&self) -> Option<usize> {
        self.too_many_until.is_none().then_some(self.calls.len())
    }

    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        self.calls.retain(|_, (_, until)| *until > now);
        self.too_many_until = self.too_many_until.filter(|until| *until > now);
    }

    pub(super) fn are_all_of(&self, session: Option<u64>) -> bool {
        let mut sessions = self.calls.values().map(|(session, _)| session);
        self.too_many_until.is_none() && sessions.all(|other| other.is_some() && *other == session)
    }
}
