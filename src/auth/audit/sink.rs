use std::{io, time::Duration};

use super::{AuditError, AuditRecord};

/// Where records go that a thread of their own writes: a file, a socket, a database.
///
/// It may block, and nothing of the runtime waits for it but what [`WhenFull`] says. Records come one by one,
/// in the order in which their calls ended.
///
/// ```
/// use std::io;
///
/// use rmcp_layers::auth::audit::{AuditRecord, AuditSink};
///
/// struct Pager;
///
/// impl AuditSink for Pager {
///     fn write(&mut self, record: &AuditRecord) -> io::Result<()> {
///         // page somebody …
///         # let _ = record;
///         Ok(())
///     }
/// }
/// ```
pub trait AuditSink: Send + 'static {
    /// Writes one record. After an error it is given the same record again, unless the sink is to
    /// [drop](WhenFull::Drop) what it cannot write: so an error means that nothing of it stands.
    ///
    /// # Errors
    ///
    /// The record is not written.
    fn write(&mut self, record: &AuditRecord) -> io::Result<()>;

    /// Makes what was written durable. Called as [`Durability`] says. Does nothing by default.
    ///
    /// # Errors
    ///
    /// It may not be durable.
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What becomes of calls when a sink has no room for their records, or cannot write them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// A call waits, before it goes on, until there is room for its record. What cannot be written is tried
    /// again until it can.
    Block,
    /// The call goes on. Its record is dropped, and counted, and a warning says how many were, at most once a
    /// second.
    Drop,
    /// The call is refused (-31503, `audit`): nothing is done that is not on record. What cannot be written is
    /// tried again until it can, and calls are refused meanwhile. The default.
    #[default]
    Refuse,
}

/// How soon what is written survives a crash of the machine. A crash of the process alone loses no more than the
/// records that still wait for the sink's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// When the operating system sees fit.
    System,
    /// At most this long after it was written: one `fsync` for all records since the last. Default: 1 s.
    Within(Duration),
    /// As soon as no further record waits to be written: one `fsync` for all records that came at once.
    Always,
}

impl Default for Durability {
    fn default() -> Self {
        Self::Within(Duration::from_secs(1))
    }
}

/// How a sink with a thread of its own is fed.
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
    /// Every option at its default.
    pub fn new() -> Self {
        Self::default()
    }

    /// For how many records there is room: those of calls in flight, and those that wait to be written. Each call
    /// takes its place before it goes on, so what was let through can be written. A listen has one as long as it
    /// is open. Default: 8,192, some megabytes.
    #[must_use]
    pub fn capacity(mut self, records: usize) -> Self {
        self.capacity = records;
        self
    }

    /// What becomes of calls when there is no room, or records cannot be written. Default:
    /// [`WhenFull::Refuse`].
    #[must_use]
    pub fn when_full(mut self, choice: WhenFull) -> Self {
        self.when_full = choice;
        self
    }

    /// How soon records survive a crash of the machine. Default: within a second.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    pub(super) fn check(&self) -> Result<(), AuditError> {
        if self.capacity == 0 || self.capacity > tokio::sync::Semaphore::MAX_PERMITS {
            return Err(AuditError::option(
                "capacity",
                "there has to be room for a record, and not for more than memory holds",
            ));
        }
        Ok(())
    }
}
