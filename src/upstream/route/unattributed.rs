//! Answers that do not say which call they are for.

use rmcp::model::ErrorData;

use super::Order;
use crate::{code, lines::Why};

/// The number of such answers, and the newest call they may be for.
///
/// Each answers one of the calls that were in flight when it came. The call is known once the
/// others have been answered: no call fails for another's answer, and none waits for an answer that
/// has come.
#[derive(Default)]
pub(in crate::upstream) struct UnattributedAnswers {
    count: usize,
    /// The newest call that one of the answers may be for, and the last answer.
    last: Option<(Order, UnattributedAnswer)>,
}

/// An answer that does not say which call it is for.
#[derive(Clone)]
pub(in crate::upstream) enum UnattributedAnswer {
    Unreadable(Why),
    /// A JSON-RPC error without an `id`.
    Error(Box<ErrorData>),
}

impl UnattributedAnswer {
    /// Returns the error that rmcp gets in place of the answer. A call that finds an unreadable
    /// answer has an error text of its own.
    pub(in crate::upstream) fn into_error(self) -> ErrorData {
        match self {
            Self::Unreadable(why) => {
                let message = format!("the server's answer cannot be read: {why}");
                ErrorData::new(code::TRANSPORT, message, None)
            }
            Self::Error(error) => *error,
        }
    }
}

impl UnattributedAnswers {
    pub(in crate::upstream) fn add(&mut self, until: Order, answer: UnattributedAnswer) {
        self.count += 1;
        let answer = match answer {
            // The call of each is unknown, and its text may be meant for another caller.
            UnattributedAnswer::Error(_) if self.count > 1 => {
                UnattributedAnswer::Unreadable(Why::NoMessage)
            }
            answer => answer,
        };
        self.last = Some((until, answer));
    }

    /// Returns the newest call that one of the answers may be for, and the last answer, if there
    /// are any.
    pub(in crate::upstream) fn until(&self) -> Option<(Order, UnattributedAnswer)> {
        self.last.clone()
    }

    /// Returns `true` if the calls that are still unanswered are the calls that these answers were
    /// for.
    ///
    /// `left` is the number of unanswered calls, including cancelled calls. `over` is `true` if all
    /// of them are cancelled.
    pub(in crate::upstream) fn settle(&mut self, left: Option<usize>, over: bool) -> bool {
        let known = left.is_some_and(|left| left <= self.count);
        if known || over {
            *self = Self::default();
        }
        known
    }
}
