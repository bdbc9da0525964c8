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
    calls: HashMap<RequestId, One>,
    /// Until when there are more of them than can be told apart.
    too_many_until: Option<Instant>,
}

struct One {
    session: Option<u64>,
    lists: bool,
    since: Instant,
}

/// How long a server may be at work on a call that it was told to cancel.
const ABANDONED_FOR: Duration = Duration::from_secs(60);
/// How long it may be at work on a list, or on what is as quickly done. For one it asks nobody anything, but for
/// roots.
const LISTS_FOR: Duration = Duration::from_secs(5);
/// How many such calls are told apart. While there are more, nobody is taken to be alone.
const MAX_ABANDONED: usize = 1_024;

impl Abandoned {
    /// `lists` is what is quickly done, and no work.
    pub(super) fn insert(&mut self, id: RequestId, session: Option<u64>, lists: bool) {
        let since = Instant::now();
        if self.calls.len() >= MAX_ABANDONED {
            self.expire();
        }
        if self.calls.len() >= MAX_ABANDONED {
            self.too_many_until = Some(since + ABANDONED_FOR);
        } else {
            let one = One {
                session,
                lists,
                since,
            };
            self.calls.insert(id, one);
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
        self.calls
            .retain(|_, one| now.duration_since(one.since) < ABANDONED_FOR);
        self.too_many_until = self.too_many_until.filter(|until| *until > now);
    }

    /// Whether a question of the server can be for nobody but this session, as far as these calls go.
    pub(super) fn ask_only(&self, session: Option<u64>) -> bool {
        self.are_all_of(session, |one| !one.lists)
    }

    /// Whether a notification of the server, or a request for roots, can be for nobody but this session, as far as
    /// these calls go.
    pub(super) fn tell_only(&self, session: Option<u64>) -> bool {
        let now = Instant::now();
        self.are_all_of(session, |one| {
            !one.lists || now.duration_since(one.since) < LISTS_FOR
        })
    }

    fn are_all_of(&self, session: Option<u64>, counts: impl Fn(&One) -> bool) -> bool {
        let mut counted = self.calls.values().filter(|one| counts(one));
        self.too_many_until.is_none()
            && counted.all(|one| one.session.is_some() && one.session == session)
    }
}
