use std::{fmt, sync::Arc, time::SystemTime};

use futures::future::BoxFuture;

use super::{
    ArgumentRules, AuditError, AuditFile, AuditHandle, AuditLayer, AuditRecord, AuditSink,
    entry::blank,
    memory::{self, Ring},
    queue::{Place, Queue},
    record::{AuditPrincipal, MAX_SHORT, MAX_TEXT},
    sink::SinkOptions,
};
use crate::{Ended, HttpRefusal, OnHttpRefusal, Outcome, context::bounded_id, util::text::cut};

/// An audit log: sets what is recorded and which sinks receive it. Layers write to it.
///
/// A clone costs one reference count, and every clone writes to the same sinks. When the last clone
/// and the last call are gone, the queued records are written and the sinks' threads end.
#[derive(Clone)]
pub struct AuditLog {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) ring: Option<Ring>,
    pub(super) tracing: bool,
    pub(super) queues: Vec<Queue>,
    pub(super) hash: bool,
    pub(super) keep: Option<ArgumentRules>,
}

impl Shared {
    /// Passes a record to every sink. `places` are the reserved places in the queues, in their
    /// order. For a queue without one, a place is reserved now.
    pub(super) fn write(&self, record: AuditRecord, places: Vec<Place>) {
        let record = Arc::new(record);
        if self.tracing {
            memory::trace(&record);
        }
        let mut places = places.into_iter();
        for queue in &self.queues {
            let place = places.next().unwrap_or_else(|| queue.take_now());
            queue.send(&record, place);
        }
        if let Some(ring) = &self.ring {
            ring.push(record);
        }
    }
}

impl AuditLog {
    /// Creates a builder without sinks.
    pub fn builder() -> AuditLogBuilder {
        AuditLogBuilder::default()
    }

    /// Returns the handle that reads the log.
    pub fn handle(&self) -> AuditHandle {
        AuditHandle {
            shared: self.shared.clone(),
        }
    }

    /// Creates a layer that records every call of a stack; see [`AuditLayer`].
    pub fn layer(&self) -> AuditLayer {
        AuditLayer::new(self.clone())
    }
}

/// Records the refused request. Like a call, it waits for room if the operator chose so, so that a
/// flood of such requests is slowed down instead of lost.
impl OnHttpRefusal for AuditLog {
    fn on_http_refusal<'a>(&'a self, refusal: HttpRefusal<'a>) -> BoxFuture<'a, ()> {
        let method = match refusal.method {
            Some(method) => cut(method, MAX_SHORT),
            None => cut(&format!("http:{}", refusal.http_method), MAX_SHORT),
        };
        let mut record = blank(method, refusal.decision, SystemTime::now());
        record.name = refusal.name.map(|name| cut(name, MAX_TEXT));
        record.request_id = refusal.id.map(|id| bounded_id(id, MAX_SHORT));
        record.principal = refusal.principal.map(AuditPrincipal::of);
        record.reason = Some(cut(refusal.reason, MAX_TEXT));
        record.ended = Ended::With(Outcome::Refused {
            layer: refusal.layer,
            not_delivered: true,
            code: refusal.code.0,
        });
        record.code = Some(refusal.code.0);
        record.http_status = Some(refusal.status.as_u16());
        Box::pin(async move {
            let mut places = Vec::with_capacity(self.shared.queues.len());
            for queue in &self.shared.queues {
                // The request is refused either way, so a full queue does not add an error.
                places.push(queue.take().await.unwrap_or(Place::None));
            }
            record.duration = refusal.since.elapsed();
            self.shared.write(record, places);
        })
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").finish_non_exhaustive()
    }
}

/// Builds an [`AuditLog`].
#[must_use = "call `build` to make the log"]
pub struct AuditLogBuilder {
    memory: Option<usize>,
    tracing: bool,
    hash: bool,
    keep: Option<ArgumentRules>,
    sinks: Vec<Start>,
}

/// A function that starts a sink's thread.
type Start = Box<dyn FnOnce() -> Result<Queue, AuditError> + Send>;

impl Default for AuditLogBuilder {
    fn default() -> Self {
        Self {
            memory: None,
            tracing: false,
            hash: true,
            keep: None,
            sinks: Vec::new(),
        }
    }
}

impl AuditLogBuilder {
    /// Keeps this many of the latest records in memory, for [`AuditHandle::recent`]. A newer record
    /// evicts the oldest. Default: no records in memory.
    pub fn memory(mut self, records: usize) -> Self {
        self.memory = Some(records);
        self
    }

    /// Emits each record as a `tracing` event with the target `rmcp_layers::audit`. Refused
    /// requests are logged as `WARN`, other requests as `INFO`. The subscriber runs on the thread
    /// that runs the call.
    pub fn tracing(mut self) -> Self {
        self.tracing = true;
        self
    }

    /// Writes each record to a file; see [`AuditFile`].
    pub fn file(mut self, file: AuditFile) -> Self {
        self.sinks.push(Box::new(move || {
            let name = file.path.display().to_string();
            Queue::start(name.into(), file.open()?, &file.options)
        }));
        self
    }

    /// Adds a custom sink, which runs on its own thread.
    pub fn sink(
        mut self,
        name: impl Into<Arc<str>>,
        sink: impl AuditSink,
        options: SinkOptions,
    ) -> Self {
        let name = name.into();
        self.sinks
            .push(Box::new(move || Queue::start(name, sink, &options)));
        self
    }

    /// Sets whether records contain the hash of a call's arguments. Arguments larger than 256 KiB
    /// are hashed on another thread. Default: `true`.
    pub fn hash_arguments(mut self, hash: bool) -> Self {
        self.hash = hash;
        self
    }

    /// Records the arguments of a call, redacted and bounded. Default: arguments are not recorded.
    pub fn keep_arguments(mut self, rules: ArgumentRules) -> Self {
        self.keep = Some(rules);
        self
    }

    /// Opens the files, starts the sinks and creates the log. Opening a file blocks.
    ///
    /// # Errors
    ///
    /// The log has no sink, a sink has no room, an option is invalid, or a file cannot be opened
    /// or does not end with a record.
    pub fn build(self) -> Result<AuditLog, AuditError> {
        if self.memory == Some(0) {
            return Err(AuditError::option("memory", "it is zero; give at least 1"));
        }
        if self.memory.is_none() && !self.tracing && self.sinks.is_empty() {
            return Err(AuditError::option(
                "sink",
                "the log has no sink; add `memory`, `tracing`, a `file` or a `sink`",
            ));
        }
        if let Some(reason) = self.keep.as_ref().and_then(ArgumentRules::invalid) {
            return Err(AuditError::option("keep_arguments", reason));
        }
        let started = self.sinks.into_iter().map(|start| start());
        Ok(AuditLog {
            shared: Arc::new(Shared {
                queues: started.collect::<Result<_, _>>()?,
                ring: self.memory.map(Ring::new),
                tracing: self.tracing,
                hash: self.hash,
                keep: self.keep,
            }),
        })
    }
}

impl fmt::Debug for AuditLogBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLogBuilder")
            .field("memory", &self.memory)
            .field("tracing", &self.tracing)
            .field("sinks", &self.sinks.len())
            .finish_non_exhaustive()
    }
}
