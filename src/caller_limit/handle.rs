use std::sync::Arc;

use super::service::Callers;

/// Reads a [`CallerLimitLayer`](super::CallerLimitLayer) while it serves. Cloning is cheap, and every
/// clone reads the same layer.
#[derive(Clone, Debug)]
pub struct CallerLimitHandle {
    pub(super) callers: Arc<Callers>,
}

/// The activity of a [`CallerLimitLayer`](super::CallerLimitLayer).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallerLimitStats {
    /// The number of callers with calls in flight.
    pub callers: usize,
    /// The number of calls in flight, of all callers.
    pub in_flight: usize,
    /// The number of calls refused since the layer was created.
    pub refused: u64,
}

impl CallerLimitHandle {
    /// Returns the current activity. It takes time in proportion to the number of callers.
    pub fn stats(&self) -> CallerLimitStats {
        self.callers.stats()
    }
}
