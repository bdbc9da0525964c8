//! The callers that a connection has had.

use crate::{Audience, CallContext};

/// The callers that a connection has had in its whole life.
///
/// A server may go on with the work of a call that it has answered. So the calls in flight do not
/// tell which caller a message is for; that is known only if the connection has never had another
/// caller.
#[derive(Debug, Default)]
pub(super) enum Callers {
    #[default]
    None,
    One(CallerKey),
    Several,
}

/// A caller: a session and its identity.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CallerKey {
    audience: Audience,
    session: Option<u64>,
}

impl CallerKey {
    pub(super) fn of(context: &CallContext) -> Self {
        Self {
            audience: Audience::of(context),
            session: context.caller.session_id(),
        }
    }

    /// Returns `true` if both are the same caller. Each request without a session is a separate
    /// caller.
    fn is(&self, other: &Self) -> bool {
        self.session.is_some() && self == other
    }
}

impl Callers {
    /// Records a caller. Returns `true` if there are several from now on.
    pub(super) fn record(&mut self, caller: CallerKey) -> bool {
        match self {
            Self::None => *self = Self::One(caller),
            Self::One(known) if known.is(&caller) => {}
            Self::One(_) => {
                *self = Self::Several;
                return true;
            }
            Self::Several => {}
        }
        false
    }

    pub(super) fn are_several(&self) -> bool {
        matches!(self, Self::Several)
    }

    pub(super) fn is_one(&self) -> bool {
        matches!(self, Self::One(_))
    }
}
