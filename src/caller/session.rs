use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use rmcp::model::LoggingLevel;
use tokio_util::sync::CancellationToken;

use crate::util::lock;

/// One connection of a caller, in the view of the end that serves it.
#[derive(Debug)]
pub(crate) struct Session {
    id: u64,
    closed: CancellationToken,
    log_level: Mutex<Option<LoggingLevel>>,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self::until(CancellationToken::new())
    }

    /// Creates a session that ends when `server` is cancelled, or before.
    pub(crate) fn within(server: &CancellationToken) -> Self {
        Self::until(server.child_token())
    }

    fn until(closed: CancellationToken) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            closed,
            log_level: Mutex::default(),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Returns the token that is cancelled when the session ends.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Returns the level that a legacy caller set with `logging/setLevel`.
    pub(crate) fn log_level(&self) -> Option<LoggingLevel> {
        *lock(&self.log_level)
    }

    pub(crate) fn set_log_level(&self, level: LoggingLevel) {
        *lock(&self.log_level) = Some(level);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}
