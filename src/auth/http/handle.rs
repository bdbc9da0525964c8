use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use super::layer::Shared;

/// The statistics of an [`HttpAuthLayer`](super::HttpAuthLayer); see [`HttpAuthHandle::stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpAuthStats {
    /// The number of known sessions. Idle ones count until their place is needed.
    pub sessions: usize,
    /// The number of refused requests.
    pub refused: u64,
}

/// Reads the statistics of an [`HttpAuthLayer`](super::HttpAuthLayer). Cheap to clone.
#[derive(Clone)]
pub struct HttpAuthHandle {
    pub(super) shared: Arc<Shared>,
}

impl HttpAuthHandle {
    /// Returns the current statistics.
    pub fn stats(&self) -> HttpAuthStats {
        HttpAuthStats {
            sessions: self.shared.sessions.count(),
            refused: self.shared.refused.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for HttpAuthHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpAuthHandle")
            .field("stats", &self.stats())
            .finish()
    }
}
