//! Answers that cannot be read and do not say which call they are for.

use super::routes::Order;
use crate::lines::Why;

/// How many there are, and since when.
///
/// Each answers one of the calls that were in flight when it came. Which one shows when the others have
/// been answered: nobody's call fails for another's answer, and nobody waits for what has come already.
#[derive(Default)]
pub(super) struct Orphans {
    count: usize,
    /// The newest call that one of them may be for, and what is wrong with the last of them.
    last: Option<(Order, Why)>,
}

impl Orphans {
    pub(super) fn add(&mut self, until: Order, why: Why) {
        self.count += 1;
        self.last = Some((until, why));
    }

    /// The newest call that one of them may be for, if there are any.
    pub(super) fn until(&self) -> Option<(Order, Why)> {
        self.last
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
