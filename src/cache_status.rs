use std::time::Duration;

use crate::McpResponse;

/// The cache status of a response.
///
/// ```
/// use rmcp::model::CallToolResult;
/// use rmcp_layers::{McpResponse, cache::CacheStatus};
///
/// let response = McpResponse::new(CallToolResult::success(vec![]));
/// assert_eq!(CacheStatus::of(&response), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheStatus {
    /// Returned from memory or the shared store.
    Hit {
        /// Time since the response was cached.
        age: Duration,
        /// Remaining time for which the entry is fresh.
        ttl: Duration,
    },
    /// Returned from memory after it has expired: while a new response is fetched, or because that
    /// failed.
    Stale {
        /// Time since the response was cached.
        age: Duration,
    },
    /// Fetched by another caller that sent the same request at the same time.
    Shared,
    /// Fetched for this request.
    Miss,
}

impl CacheStatus {
    /// Returns the cache status of a response. If several caches in a stack have handled the
    /// request, it is the status of the innermost one.
    ///
    /// Returns `None` if no cache applied: the method or tool is not cached, or the request had
    /// `no-store`.
    pub fn of(response: &McpResponse) -> Option<Self> {
        response.cache_status
    }

    /// Returns the status in one word: `hit`, `stale`, `shared` or `miss`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit { .. } => "hit",
            Self::Stale { .. } => "stale",
            Self::Shared => "shared",
            Self::Miss => "miss",
        }
    }
}
