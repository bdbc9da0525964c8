//! The request timeout and the total timeout of a call.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::util::lock;

/// The time of the server's last message while a call runs.
#[derive(Debug)]
pub(super) struct Activity {
    last_message: Mutex<Instant>,
    /// The number of the server's messages that the client is still handling. Until it is zero, the
    /// server waits for the client, so the request timeout is suspended.
    handling: AtomicUsize,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            last_message: Mutex::new(Instant::now()),
            handling: AtomicUsize::new(0),
        }
    }

    /// Records a message of the server, or a new request to it.
    pub(super) fn record(&self) {
        *lock(&self.last_message) = Instant::now();
    }

    /// Records a message of the server, and suspends the request timeout until the guard is
    /// dropped.
    pub(super) fn handling(&self) -> HandlingGuard<'_> {
        self.handling.fetch_add(1, Ordering::AcqRel);
        self.record();
        HandlingGuard(self)
    }

    /// Completes when the server has been silent for `limit`; never without a limit.
    pub(super) async fn silent_for(&self, limit: Option<Duration>) {
        let Some(limit) = limit else {
            return std::future::pending().await;
        };
        loop {
            let now = Instant::now();
            let last_message = *lock(&self.last_message);
            let since = if self.handling.load(Ordering::Acquire) > 0 {
                now
            } else {
                last_message
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

/// See [`Activity::handling`].
pub(super) struct HandlingGuard<'a>(&'a Activity);

impl Drop for HandlingGuard<'_> {
    fn drop(&mut self) {
        self.0.record();
        self.0.handling.fetch_sub(1, Ordering::AcqRel);
    }
}
