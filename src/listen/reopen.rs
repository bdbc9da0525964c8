//! The delays before a lost listen is opened again.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Error, util::backoff::Backoff};

const DELAYS: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// The limit on a delay that an error asks for.
const LONGEST: Duration = Duration::from_secs(60);
/// The lifetime after which the delays begin anew. A shorter listen was probably ended by a layer
/// (tower's `timeout`), which will end the next one too.
const LONG_LIVED: Duration = Duration::from_secs(30);

/// The state of a listen that is opened again whenever it is lost.
#[derive(Debug, Default)]
pub(crate) struct Reopen {
    failures: u32,
    opened: Option<Instant>,
}

impl Reopen {
    /// Records that the listen is open. A listen that replaces an open one counts as the same.
    pub(crate) fn opened(&mut self, at: Instant) {
        self.opened.get_or_insert(at);
    }

    /// Records that the listen was lost or could not be opened. Returns the wait before the next
    /// attempt.
    pub(crate) fn lost(&mut self, error: Option<&Error>) -> Duration {
        let opened = self.opened.take();
        if opened.is_some_and(|opened| opened.elapsed() >= LONG_LIVED) {
            self.failures = 0;
        }
        let asked = error.and_then(Error::retry_after).unwrap_or_default();
        let delay = DELAYS.delay(self.failures).max(asked.min(LONGEST));
        self.failures = self.failures.saturating_add(1);
        delay
    }
}
