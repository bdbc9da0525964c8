use std::time::Duration;

use crate::McpResponse;

/// How a cache came by an answer.
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
    /// From memory, or the shared store.
    Hit {
        /// For how long it has been kept.
        age: Duration,
        /// For how long it still will be.
        ttl: Duration,
    },
    /// From memory, though it has expired: while a fresh one is fetched, or because that failed.
    Stale {
        /// For how long it has been kept.
        age: Duration,
    },
    /// Fetched for somebody else who asked the same at the same time.
    Shared,
    /// Fetched.
    Miss,
}

impl CacheStatus {
    /// How a cache came by this answer: of several in a stack, the innermost that was asked. `None` if it concerned
    /// none, because its method or tool is not kept, or the request said `no-store`.
    pub fn of(response: &McpResponse) -> Option<Self> {
        response.cache_status
    }

    /// The status in one word: `hit`, `stale`, `shared` or `miss`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit { .. } => "hit",
            Self::Stale { .. } => "stale",
            Self::Shared => "shared",
            Self::Miss => "miss",
        }
    }
}
