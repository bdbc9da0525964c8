//! Counts of messages that an upstream withheld from its callers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rmcp::model::ErrorData;

use crate::{lines::LineError, util::log_limit::LogLimit};

/// Counts of the messages that an [`Upstream`](super::Upstream) has withheld since it was made,
/// over all of its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamStats {
    /// Notifications that name no call or subscription, and were dropped because their connection
    /// has had several callers, or no caller took them.
    pub unattributed_notifications: u64,
    /// Requests of the server that were refused. They name no call and the connection has had
    /// several callers, no session came for them, or too many of them waited for an answer.
    pub refused_requests: u64,
    /// Requests of the server that were dropped without an answer, because the server did not read
    /// the refusals of earlier requests, or the answers to its pings.
    pub unanswered_requests: u64,
    /// Notifications for a call or a listen that were dropped, because its caller takes them more
    /// slowly than the server sends them.
    pub overflowed_notifications: u64,
    /// Messages that could not be read, on transports with one message a line.
    pub unreadable_messages: u64,
}

/// The running counts, with the log lines of each.
#[derive(Debug, Default)]
pub(super) struct UpstreamCounters {
    upstream: Arc<str>,
    unattributed: Counter,
    refused: Counter,
    unanswered: Counter,
    overflowed: Counter,
    unreadable: Counter,
}

#[derive(Debug, Default)]
struct Counter {
    total: AtomicU64,
    log: LogLimit,
}

impl Counter {
    fn add(&self, events: u64) -> Option<u64> {
        self.total.fetch_add(events, Ordering::Relaxed);
        self.log.count(events)
    }

    fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

impl UpstreamCounters {
    pub(super) fn new(upstream: Arc<str>) -> Self {
        Self {
            upstream,
            ..Self::default()
        }
    }

    pub(super) fn stats(&self) -> UpstreamStats {
        UpstreamStats {
            unattributed_notifications: self.unattributed.total(),
            refused_requests: self.refused.total(),
            unanswered_requests: self.unanswered.total(),
            overflowed_notifications: self.overflowed.total(),
            unreadable_messages: self.unreadable.total(),
        }
    }

    /// Counts dropped notifications that could be for more than one caller.
    pub(super) fn unattributed(&self, notifications: u64) {
        if let Some(dropped) = self.unattributed.add(notifications) {
            tracing::warn!(
                upstream = %self.upstream,
                dropped,
                "notifications that name no call are dropped: the connection has had several \
                 callers, or its only one takes none; give each session a connection of its own"
            );
        }
    }

    /// Counts a refused request of the server.
    pub(super) fn refused(&self, method: &str, error: &ErrorData) {
        if let Some(refused) = self.refused.add(1) {
            tracing::warn!(
                upstream = %self.upstream,
                method,
                %error,
                refused,
                "a server's request is refused"
            );
        }
    }

    /// Counts a request of the server that was dropped without an answer.
    pub(super) fn unanswered(&self) {
        if let Some(dropped) = self.unanswered.add(1) {
            tracing::warn!(
                upstream = %self.upstream,
                dropped,
                "requests of a server are dropped: it does not read the answers to those before"
            );
        }
    }

    /// Counts a message of the server that could not be read.
    pub(super) fn unreadable(&self, why: &LineError) {
        if let Some(messages) = self.unreadable.add(1) {
            tracing::warn!(
                upstream = %self.upstream,
                reason = %why,
                messages,
                "a message of the server cannot be read"
            );
        }
    }

    /// Counts a notification that was dropped because a mailbox was full.
    pub(super) fn overflowed(&self) {
        if let Some(dropped) = self.overflowed.add(1) {
            tracing::warn!(
                upstream = %self.upstream,
                dropped,
                "a caller does not keep up; notifications for it are dropped"
            );
        }
    }
}
