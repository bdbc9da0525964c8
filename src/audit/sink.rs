use std::{io, time::Duration};

use super::{AuditError, AuditRecord};

/// A destination for audit records with its own thread: a file, a socket, a database.
///
/// A sink may block. Calls wait for it only if [`WhenFull`] says so. Records arrive one by one, in
/// the order in which their calls ended.
///
/// ```
/// use std::io;
///
/// use rmcp_layers::audit::{AuditRecord, AuditSink};
///
/// struct Pager;
///
/// impl AuditSink for Pager {
///     fn write(&mut self, record: &AuditRecord) -> io::Result<()> {
///         // page the operator …
///         # let _ = record;
///         Ok(())
///     }
/// }
/// ```
pub trait AuditSink: Send + 'static {
    /// Writes one record. After an error the same record is passed again, unless the sink is set to
    /// [drop](WhenFull::Drop) records that it cannot write. An error must therefore mean that no
    /// part of the record was written.
    ///
    /// # Errors
    ///
    /// The record was not written.
    fn write(&mut self, record: &AuditRecord) -> io::Result<()>;

    /// Makes the written records durable. [`Durability`] decides when this is called. The default
    /// implementation does nothing.
    ///
    /// # Errors
    ///
    /// The records may not be durable.
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The effect on calls when a sink's queue is full, or when the sink cannot write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// A call waits until there is room for its record before it goes on. A record that cannot be
    /// written is retried until it can.
    Block,
    /// The call goes on. Its record is dropped and counted. A warning with the count is logged at
    /// most once a second.
    Drop,
    /// The call is refused (-31503, `audit`), so that every executed call is on record, unless the
    /// process is killed before. A record that cannot be written is retried until it can, and calls
    /// are refused meanwhile. This is the default.
    #[default]
    Refuse,
}

/// The time until written records survive a crash of the machine. A crash of the process alone
/// loses only the records that are still queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// The operating system decides when records are written to disk.
    System,
    /// At most this long after a write: one `fsync` for all records since the last. Default: 1 s.
    Within(Duration),
    /// As soon as the queue is empty: one `fsync` for all records that arrived together.
    Always,
}

impl Default for Durability {
    fn default() -> Self {
        Self::Within(Duration::from_secs(1))
    }
}

/// Options of a sink with its own thread: queue capacity, overflow and durability.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SinkOptions {
    pub(super) capacity: usize,
    pub(super) when_full: WhenFull,
    pub(super) durability: Durability,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self {
            capacity: 8_192,
            when_full: WhenFull::default(),
            durability: Durability::default(),
        }
    }
}

impl SinkOptions {
    /// Creates options with every default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of records that the queue can hold: those of calls in flight, and those that
    /// wait to be written. Each call reserves its place before it goes on, so that a call that was
    /// let through can be recorded. A listen holds one place while it is open. Default: 8,192 (some
    /// megabytes).
    #[must_use]
    pub fn capacity(mut self, records: usize) -> Self {
        self.capacity = records;
        self
    }

    /// Sets the effect on calls when the queue is full, or when records cannot be written. Default:
    /// [`WhenFull::Refuse`].
    #[must_use]
    pub fn when_full(mut self, choice: WhenFull) -> Self {
        self.when_full = choice;
        self
    }

    /// Sets the time until records survive a crash of the machine. Default: 1 s.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    pub(super) fn check(&self) -> Result<(), AuditError> {
        if self.capacity == 0 || self.capacity > tokio::sync::Semaphore::MAX_PERMITS {
            return Err(AuditError::option(
                "capacity",
                "it is zero, or more than memory holds; give at least 1",
            ));
        }
        Ok(())
    }
}
