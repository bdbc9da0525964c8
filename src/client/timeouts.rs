//! How long a call may take: in silence, and at all.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// When the server was last heard of, while a call runs.
#[derive(Debug)]
pub(super) struct Activity {
    heard: Mutex<Instant>,
    /// How many messages of the server this side is still dealing with. As long as it does, the server
    /// waits for us and not we for the server.
    at_work: AtomicUsize,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            heard: Mutex::new(Instant::now()),
            at_work: AtomicUsize::new(0),
        }
    }

    /// The server has just been heard of, or asked something new.
    pub(super) fn heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The server has just been heard of, and waits for this side until the guard is dropped.
    pub(super) fn at_work(&self) -> AtWork<'_> {
        self.at_work.fetch_add(1, Ordering::AcqRel);
        self.heard();
        AtWork(self)
    }

    /// Ends when the server has been silent for `limit`; never, if there is none.
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
                // Further away than the clock can say.
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

/// The end of a call that may take `limit`, if there is one and the clock reaches that far.
pub(super) fn end_of(limit: Option<Duration>) -> Option<Instant> {
    Instant::now().checked_add(limit?)
}

/// Ends at `end`; never, if there is none.
pub(super) async fn reached(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}
