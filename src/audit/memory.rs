//! Sinks that need no thread: a ring buffer in memory, and `tracing`.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use super::AuditRecord;

use crate::util::lock;

/// A ring buffer of the latest records.
pub(super) struct Ring {
    capacity: usize,
    records: Mutex<VecDeque<Arc<AuditRecord>>>,
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            records: Mutex::default(),
        }
    }

    pub(super) fn push(&self, record: Arc<AuditRecord>) {
        let mut records = lock(&self.records);
        let oldest = if records.len() >= self.capacity {
            records.pop_front()
        } else {
            None
        };
        records.push_back(record);
        drop(records);
        drop(oldest);
    }

    pub(super) fn recent(&self, limit: usize) -> Vec<Arc<AuditRecord>> {
        let records = lock(&self.records);
        records.iter().rev().take(limit).cloned().collect()
    }
}

/// Emits a record as a `tracing` event. Texts are written in `Debug` form, so that they cannot end
/// the line or move a terminal's cursor.
pub(super) fn trace(record: &AuditRecord) {
    macro_rules! say {
        ($level:ident) => {
            tracing::$level!(
                decision = record.decision.as_str(),
                ended = record.ended.as_str(),
                method = ?record.method,
                name = record.name.as_deref().map(tracing::field::debug),
                issuer = record.principal.as_ref().and_then(|who| who.issuer.as_deref()).map(tracing::field::debug),
                subject = record.principal.as_ref().map(|who| tracing::field::debug(&who.subject)),
                request_id = record.request_id.as_ref().map(tracing::field::debug),
                upstream = record.upstream.as_deref().map(tracing::field::debug),
                reason = record.reason.as_deref().map(tracing::field::debug),
                code = record.code,
                http_status = record.http_status,
                duration_us = u64::try_from(record.duration.as_micros()).unwrap_or(u64::MAX),
                argument_hash = record.argument_hash.as_deref(),
                arguments = record.arguments.as_ref().map(tracing::field::debug),
            )
        };
    }
    if record.decision.is_refusal() {
        say!(warn);
    } else {
        say!(info);
    }
}
