//! The idle and the total timeout of a call.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The time of the server's last message while a call runs.
#[derive(Debug)]
pub(super) struct Activity {
    heard: Mutex<Instant>,
    /// The number of the server's messages that the client is still handling. Until it is zero, the
    /// server waits for the client, so the idle timeout is suspended.
    at_work: AtomicUsize,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            heard: Mutex::new(Instant::now()),
            at_work: AtomicUsize::new(0),
        }
    }

    /// Records a message of the server, or a new request to it.
    pub(super) fn heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Records a message of the server, and suspends the idle timeout until the guard is dropped.
    pub(super) fn at_work(&self) -> AtWork<'_> {
        self.at_work.fetch_add(1, Ordering::AcqRel);
        self.heard();
        AtWork(self)
    }

    /// Completes when the server has been silent for `limit`; never without a limit.
    pub(super) async fn silent_for(&self, limit: Option<Duration>) {
        let Some(limit) = limit else {
            return std::future::pending().await;
        };
        loop {
            let now = Instant::now();
            let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            let since = if self.at_work.load(Ordering::Acquire) > 0 {
                now
            } else {
                heard
            };
            match since.checked_add(limit) {
                Some(end) if end <= now => return,
                Some(end) => tokio::time::sleep_until(end).await,
                // The end is beyond the range of the clock.
                None => std::future::pending().await,
            }
        }
    }
}

/// See [`Activity::at_work`].
pub(super) struct AtWork<'a>(&'a Activity);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.heard();
        self.0.at_work.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Returns the end of a call that may take `limit`. Returns `None` without a limit, and if the end
/// is beyond the range of the clock.
pub(super) fn end_of(limit: Option<Duration>) -> Option<Instant> {
    Instant::now().checked_add(limit?)
}

/// Completes at `end`; never without one.
pub(super) async fn reached(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}
