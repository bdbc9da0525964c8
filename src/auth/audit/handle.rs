use std::{fmt, io, sync::Arc};

use super::{AuditRecord, log::Shared};

/// Reads an audit, and empties its queues; see [`Audit::handle`](super::Audit::handle). Cloning is cheap.
#[derive(Clone)]
pub struct AuditHandle {
    pub(super) shared: Arc<Shared>,
}

/// How a sink with a thread of its own is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkCounts {
    /// The sink's name; a file's is its path.
    pub sink: Arc<str>,
    /// How many records it has written.
    pub written: u64,
    /// How many it lost: there was no room, or they could not be written.
    pub dropped: u64,
    /// How many attempts to write, or to make durable, failed.
    pub failed: u64,
    /// Whether the last one did.
    pub failing: bool,
}

impl AuditHandle {
    /// The latest records in memory, the newest first, at most `limit`. None if the audit keeps none
    /// ([`memory`](super::AuditBuilder::memory)).
    pub fn recent(&self, limit: usize) -> Vec<Arc<AuditRecord>> {
        self.shared
            .ring
            .as_ref()
            .map(|ring| ring.recent(limit))
            .unwrap_or_default()
    }

    /// How the sinks are doing that have a thread of their own, in the order in which they were added.
    pub fn counts(&self) -> Vec<SinkCounts> {
        let queues = self.shared.queues.iter();
        queues.map(super::queue::Queue::counts).collect()
    }

    /// Waits until all that was recorded so far is written and durable, in every sink. Do so before the process
    /// ends: what waits to be written is lost with it.
    ///
    /// While a sink cannot write, and is not to drop what it cannot, this waits too.
    ///
    /// # Errors
    ///
    /// The first error of a sink that cannot be made durable, or has ended.
    pub async fn flush(&self) -> io::Result<()> {
        let flushing = self.shared.queues.iter().map(super::queue::Queue::flush);
        let flushed = futures::future::join_all(flushing).await;
        flushed.into_iter().collect()
    }
}

impl fmt::Debug for AuditHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditHandle")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
