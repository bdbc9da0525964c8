use std::{fmt, sync::Arc};

use super::{counters::Event, entry::Selection, key::message, rules::cacheable, state::Shared};
use crate::{Audience, McpRequest, Principal};

/// Reads the statistics of a cache and invalidates its entries, from anywhere in the program.
/// Cloning is one reference count.
///
/// An invalidation also covers fetches that are under way: their responses are not cached, and
/// later callers do not receive them.
#[derive(Clone)]
pub struct CacheHandle {
    pub(super) shared: Arc<Shared>,
}

/// Counters since the cache was made, and its current size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Responses from memory or the shared store.
    pub hits: u64,
    /// Expired responses from memory.
    pub stale_hits: u64,
    /// Responses of a fetch that another caller made at the same time.
    pub shared: u64,
    /// Calls to the inner stack whose responses could have been cached.
    pub misses: u64,
    /// Calls of known methods that went past the cache.
    pub bypasses: u64,
    /// Entries removed for lack of room or because they had expired.
    pub evictions: u64,
    /// Entries removed because of a change notification or through this handle.
    pub invalidations: u64,
    /// Hits that came from the shared store.
    pub store_hits: u64,
    /// Failures of the shared store.
    pub store_failures: u64,
    /// Entries in the cache now.
    pub entries: usize,
    /// Bytes in the cache now, as [`max_bytes`](super::CacheLayerBuilder::max_bytes) counts them.
    pub bytes: usize,
    /// Fetches under way now.
    pub in_flight: usize,
}

impl CacheHandle {
    /// Returns the counters so far and the current size.
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
            in_flight: self.shared.single_flight.len(),
        }
    }

    /// Invalidates the entries of all tools that this name or glob matches. Returns their number.
    pub fn invalidate_tool(&self, tool: &str) -> u64 {
        self.shared.invalidate(&Selection::Tool(tool))
    }

    /// Invalidates the entries of this resource and of the resources that it is a part of. Returns
    /// their number.
    pub fn invalidate_resource(&self, uri: &str) -> u64 {
        self.shared
            .invalidate(&Selection::Resource { stack: None, uri })
    }

    /// Invalidates the entries that are private to this principal. Returns their number.
    pub fn invalidate_principal(&self, principal: &Principal) -> u64 {
        self.invalidate_audience(&Audience::principal(principal))
    }

    /// Invalidates the entries that are private to this audience. Returns their number.
    pub fn invalidate_audience(&self, audience: &Audience) -> u64 {
        self.shared.invalidate(&Selection::Audience(audience))
    }

    /// Invalidates the entries for this message (method, name and arguments). Returns their number.
    ///
    /// This covers the entries of the request's caller and the public ones, in all stacks under the
    /// layer. It ignores differences in client capabilities, token rights, `_meta` and
    /// [`vary_by`](super::CacheLayerBuilder::vary_by).
    pub fn invalidate_request(&self, request: &McpRequest) -> u64 {
        let Some(method) = cacheable(request) else {
            return 0;
        };
        self.shared.invalidate(&Selection::Request {
            message: &message(method, request),
            audience: &Audience::of(&request.context),
        })
    }

    /// Invalidates all entries. Returns their number.
    pub fn clear(&self) -> u64 {
        self.shared.invalidate(&Selection::All)
    }
}

impl fmt::Debug for CacheHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheHandle")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
