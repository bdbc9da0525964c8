use std::{
    fmt,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Rules, layer::Shared};
use crate::Decision;

/// The number of requests by the decision on them; see [`AuthHandle::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthStats {
    /// The requests that were let through.
    pub allowed: u64,
    /// The requests of a known caller that were refused.
    pub denied: u64,
    /// The requests that were answered as if their target did not exist.
    pub concealed: u64,
    /// The requests of callers that are not authenticated.
    pub unauthenticated: u64,
}

/// Counters of the decisions of a layer.
#[derive(Default)]
pub(super) struct Decisions {
    allowed: AtomicU64,
    denied: AtomicU64,
    concealed: AtomicU64,
    unauthenticated: AtomicU64,
}

impl Decisions {
    pub(super) fn count(&self, decision: Decision) {
        let counter = match decision {
            Decision::Allowed => &self.allowed,
            Decision::Denied => &self.denied,
            Decision::Concealed => &self.concealed,
            Decision::Unauthenticated => &self.unauthenticated,
            Decision::Undecided => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn stats(&self) -> AuthStats {
        AuthStats {
            allowed: self.allowed.load(Ordering::Relaxed),
            denied: self.denied.load(Ordering::Relaxed),
            concealed: self.concealed.load(Ordering::Relaxed),
            unauthenticated: self.unauthenticated.load(Ordering::Relaxed),
        }
    }
}

/// Reads and changes the rules of an [`AuthLayer`](super::AuthLayer), and counts its decisions.
/// Cheap to clone.
#[derive(Clone)]
pub struct AuthHandle {
    pub(super) shared: Arc<Shared>,
}

impl AuthHandle {
    /// Returns the current rules.
    pub fn rules(&self) -> Arc<Rules> {
        self.shared.rules()
    }

    /// Replaces the rules for all later requests, and for later notifications of open listens.
    /// Requests in flight were decided before, but the lists that they return are filtered by the
    /// new rules.
    pub fn set_rules(&self, rules: Rules) {
        *self
            .shared
            .rules
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// Returns the number of decisions so far, of each kind.
    pub fn stats(&self) -> AuthStats {
        self.shared.decisions.stats()
    }
}

impl fmt::Debug for AuthHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthHandle")
            .field("rules", &self.rules())
            .finish()
    }
}
