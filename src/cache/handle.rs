use std::{fmt, sync::Arc};

use super::{counters::Event, entry::Concerned, key::message, rules::Kind, state::Shared};
use crate::{Audience, McpRequest, Principal};

/// Reads what a cache does, and empties it, from anywhere in the program. Cloning is one reference count.
///
/// What is invalidated is not kept either if it is being fetched at that moment, and whoever asks afterwards does
/// not get it.
#[derive(Clone)]
pub struct CacheHandle {
    pub(super) shared: Arc<Shared>,
}

/// What a cache has done since it was made, and what is in it now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Answers from memory or the shared store.
    pub hits: u64,
    /// Answers from memory that had expired.
    pub stale_hits: u64,
    /// Answers that were fetched for somebody else who asked at the same time.
    pub shared: u64,
    /// Calls of the inner stack for answers that might be kept.
    pub misses: u64,
    /// Calls that the cache had nothing to do with, of methods that it knows.
    pub bypasses: u64,
    /// Answers that went for want of room, or because they had expired.
    pub evictions: u64,
    /// Answers that went because they were said to have changed, or by this handle.
    pub invalidations: u64,
    /// Hits that came from the shared store.
    pub store_hits: u64,
    /// Times that the shared store failed.
    pub store_failures: u64,
    /// Answers that are kept now.
    pub entries: usize,
    /// How many bytes they take, as [`max_bytes`](super::CacheLayerBuilder::max_bytes) counts them.
    pub bytes: usize,
    /// Calls that fetch now.
    pub in_flight: usize,
}

impl CacheHandle {
    /// What the cache has done so far, and what is in it.
    pub fn stats(&self) -> CacheStats {
        let of = |event| self.shared.counters.get(event);
        let (entries, bytes) = self.shared.memory.usage();
        CacheStats {
            hits: of(Event::Hit),
            stale_hits: of(Event::Stale),
            shared: of(Event::Shared),
            misses: of(Event::Miss),
            bypasses: of(Event::Bypass),
            evictions: of(Event::Eviction),
            invalidations: of(Event::Invalidation),
            store_hits: of(Event::StoreHit),
            store_failures: self
                .shared
                .remote
                .as_ref()
                .map_or(0, |remote| remote.failures()),
            entries,
            bytes,
            in_flight: self.shared.flights.len(),
        }
    }

    /// Forgets the answers of the tools that this name or glob matches, and says how many they were.
    pub fn invalidate_tool(&self, tool: &str) -> u64 {
        self.shared.invalidate(&Concerned::Tool(tool))
    }

    /// Forgets what was read from this resource, and from those that it is a part of.
    pub fn invalidate_resource(&self, uri: &str) -> u64 {
        self.shared
            .invalidate(&Concerned::Resource { stack: None, uri })
    }

    /// Forgets what is kept for this principal alone.
    pub fn invalidate_principal(&self, principal: &Principal) -> u64 {
        self.invalidate_audience(&Audience::principal(principal))
    }

    /// Forgets what is kept for this audience alone.
    pub fn invalidate_audience(&self, audience: &Audience) -> u64 {
        self.shared.invalidate(&Concerned::Audience(audience))
    }

    /// Forgets the answers to this message (method, name and arguments) of the caller that the request names, and
    /// those that are everybody's: in all stacks under the layer, and whatever its client and its token can do, its
    /// `_meta` says, or [`vary_by`](super::CacheLayerBuilder::vary_by) adds.
    pub fn invalidate_request(&self, request: &McpRequest) -> u64 {
        let Some(kind) = Kind::of(request) else {
            return 0;
        };
        self.shared.invalidate(&Concerned::Request {
            message: &message(kind, request),
            audience: &Audience::of(&request.context),
        })
    }

    /// Forgets everything.
    pub fn clear(&self) -> u64 {
        self.shared.invalidate(&Concerned::All)
    }
}

impl fmt::Debug for CacheHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheHandle")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
