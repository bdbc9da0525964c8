//! Deadlines that may be missing.

use std::time::Duration;

use tokio::time::Instant;

/// Returns the end of a wait of `limit` from now on. Returns `None` without a limit, and if the
/// deadline is beyond the range of the clock.
pub(crate) fn end_of(limit: Option<Duration>) -> Option<Instant> {
    Instant::now().checked_add(limit?)
}

/// Completes at the deadline; never without one.
pub(crate) async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
