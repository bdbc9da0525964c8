//! Answers that do not say which call they are for.

use rmcp::model::ErrorData;

use super::routes::Order;
use crate::{code, lines::Why};

/// How many there are, and since when.
///
/// Each answers one of the calls that were in flight when it came. Which one shows when the others have
/// been answered: no call fails for another's answer, and none waits for an answer that has come.
#[derive(Default)]
pub(super) struct Orphans {
    count: usize,
    /// The newest call that one of them may be for, and the last of them.
    last: Option<(Order, Orphan)>,
}

/// An answer that does not say which call it is for.
#[derive(Clone)]
pub(super) enum Orphan {
    Unreadable(Why),
    /// A JSON-RPC error without an `id`.
    Error(Box<ErrorData>),
}

impl Orphan {
    /// What rmcp is told in place of the answer. Of one that cannot be read, a call says so in its own words.
    pub(super) fn into_error(self) -> ErrorData {
        match self {
            Self::Unreadable(why) => {
                let message = format!("the server's answer cannot be read: {why}");
                ErrorData::new(code::TRANSPORT, message, None)
            }
            Self::Error(error) => *error,
        }
    }
}

impl Orphans {
    pub(super) fn add(&mut self, until: Order, orphan: Orphan) {
        self.count += 1;
        let orphan = match orphan {
            // It cannot be told which call each is for, and its text may be another caller's.
            Orphan::Error(_) if self.count > 1 => Orphan::Unreadable(Why::NoMessage),
            orphan => orphan,
        };
        self.last = Some((until, orphan));
    }

    /// The newest call that one of them may be for, if there are any.
    pub(super) fn until(&self) -> Option<(Order, Orphan)> {
        self.last.clone()
    }

    /// Whether the calls that are still unanswered are those that these answers were for. `left` is how
    /// many there are, those that nobody waits for included; `over` if nobody waits for any.
    pub(super) fn settle(&mut self, left: Option<usize>, over: bool) -> bool {
        let known = left.is_some_and(|left| left <= self.count);
        if known || over {
            *self = Self::default();
        }
        known
    }
}
