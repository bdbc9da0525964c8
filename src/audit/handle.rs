use std::{fmt, io, sync::Arc};

use super::{AuditRecord, log::Shared};

/// Reads an audit log and flushes its queues; see [`AuditLog::handle`](super::AuditLog::handle).
/// Cloning is cheap.
#[derive(Clone)]
pub struct AuditHandle {
    pub(super) shared: Arc<Shared>,
}

/// The state of an audit log; see [`AuditHandle::stats`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditStats {
    /// The sinks that have their own thread, in the order in which they were added.
    pub sinks: Vec<SinkStats>,
}

/// Counters of a sink with its own thread.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkStats {
    /// The sink's name; for a file, its path.
    pub sink: Arc<str>,
    /// The number of records written.
    pub written: u64,
    /// The number of records lost: the queue was full, or they could not be written.
    pub dropped: u64,
    /// The number of failed attempts to write or to sync.
    pub failed: u64,
    /// `true` if the last attempt failed.
    pub failing: bool,
}

impl AuditHandle {
    /// Returns the latest records in memory, newest first, at most `limit`. Returns none if the
    /// log has no [`memory`](super::AuditLogBuilder::memory) sink.
    pub fn recent(&self, limit: usize) -> Vec<Arc<AuditRecord>> {
        self.shared
            .ring
            .as_ref()
            .map(|ring| ring.recent(limit))
            .unwrap_or_default()
    }

    /// Returns the counters of the sinks.
    pub fn stats(&self) -> AuditStats {
        let queues = self.shared.queues.iter();
        AuditStats {
            sinks: queues.map(super::queue::Queue::stats).collect(),
        }
    }

    /// Waits until every sink has written all records so far and made them durable. Call this
    /// before the process ends, because queued records are lost with the process.
    ///
    /// If a sink cannot write and is not set to drop records, this waits until it can.
    ///
    /// # Errors
    ///
    /// The first error of a sink that cannot sync, or whose thread has ended.
    pub async fn flush(&self) -> io::Result<()> {
        let flushing = self.shared.queues.iter().map(super::queue::Queue::flush);
        let flushed = futures::future::join_all(flushing).await;
        flushed.into_iter().collect()
    }
}

impl fmt::Debug for AuditHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditHandle")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
