//! The rules of the cache for one request.

use std::time::Duration;

use tokio::time::Instant;

use super::{entry::Entry, status::Directives};
use crate::{CacheStatus, McpRequest, protocol::methods::Method};

/// The rules for one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub method: Method,
    pub directives: Directives,
    /// The time to live without cache hints of the server.
    pub ttl: Option<Duration>,
    /// The version of the hints by which the tool is safe.
    pub checked: u64,
}

/// Stands for hints that came with the request and have no version.
pub(super) const UNVERSIONED: u64 = u64::MAX;

impl Plan {
    /// Returns the plan by the request's own directives. Its time to live is
    /// [set](Core::set_time_to_live) later.
    pub(super) fn of(method: Method, request: &McpRequest) -> Self {
        Self {
            method,
            directives: Directives::of(&request.context.meta),
            ttl: None,
            checked: UNVERSIONED,
        }
    }

    /// Returns the status of a hit if the entry is usable for this request.
    pub(super) fn accepts(&self, entry: &Entry, now: Instant) -> Option<CacheStatus> {
        let status = entry.status(now)?;
        (self.is_within_max_age(entry, now) && !self.directives.no_cache).then_some(status)
    }

    /// Returns `true` if the entry is within the request's `max-age`.
    pub(super) fn is_within_max_age(&self, entry: &Entry, now: Instant) -> bool {
        let most = self.directives.max_age;
        most.is_none_or(|most| entry.age(now) <= most)
    }

    /// Returns `true` if an entry that expired less than `grace` ago is usable for this request.
    pub(super) fn accepts_stale(&self, entry: &Entry, now: Instant, grace: Duration) -> bool {
        let Directives {
            no_cache, max_age, ..
        } = self.directives;
        !no_cache && max_age.is_none() && entry.age(now) < entry.fresh_for.saturating_add(grace)
    }
}
