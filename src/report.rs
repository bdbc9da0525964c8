use std::time::Duration;

/// Facts about a call that layers state for the layers outside of them.
///
/// Each fact is one field of the [response](crate::ResponseParts::report). A layer sets it on the
/// response on its way up, and any outer layer or the program reads it. The report never reaches
/// the wire. A fact of a foreign layer belongs in the response's
/// [`extensions`](crate::ResponseParts::extensions).
///
/// ```
/// use rmcp::model::CallToolResult;
/// use rmcp_layers::McpResponse;
///
/// let mut response = McpResponse::new(CallToolResult::success(vec![]));
/// assert_eq!((response.report.attempts, response.report.cache_status), (1, None));
///
/// // In a layer that has sent the call a second time:
/// response.report.attempts += 1;
/// ```
// It is inline in the response and `Copy`: each cache hit has a report, which in the extensions
// would take three allocations, a fifth of the cost of a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallReport {
    /// The number of attempts, including the last one: 1 if the call was not repeated.
    pub attempts: u32,
    /// The cache status. If several caches in a stack have handled the request, it is the status of
    /// the innermost one.
    ///
    /// It is `None` if no cache applied: the method or tool is not cached, or the request had
    /// `no-store`.
    pub cache_status: Option<CacheStatus>,
    /// The tokens of the response, by the outermost budget of a stack. It is `None` if no budget has
    /// charged for the response.
    pub budget: Option<BudgetReport>,
}

impl CallReport {
    /// Creates the report of a call that no layer has reported on: one attempt, no cache, no budget.
    pub fn new() -> Self {
        Self {
            attempts: 1,
            cache_status: None,
            budget: None,
        }
    }

    /// Returns the report that a cache keeps with the response.
    ///
    /// It has the facts about the response. Facts about the call that fetched it (the attempts, the
    /// cache status and the tokens) are dropped, because they do not hold for the callers of a later
    /// hit.
    #[must_use]
    pub fn for_cached_response(&self) -> Self {
        // Without `..`, so that a new fact does not compile before it is kept or dropped here.
        let Self {
            attempts: _,
            cache_status: _,
            budget: _,
        } = self;
        Self::new()
    }
}

impl Default for CallReport {
    fn default() -> Self {
        Self::new()
    }
}

/// The tokens of a response, in its [report](CallReport::budget).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetReport {
    /// The tokens that the conversation was charged for the response.
    pub charged: u64,
    /// The tokens that a cut of the response has saved. It is 0 if the response was not cut.
    pub saved: u64,
    /// The tokens that are left to the conversation after it.
    pub left: u64,
}

impl BudgetReport {
    /// Creates the report of a response.
    pub fn new(charged: u64, saved: u64, left: u64) -> Self {
        Self {
            charged,
            saved,
            left,
        }
    }
}

/// The cache status of a response, in its [report](CallReport::cache_status).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_response_has_no_facts_about_the_call_that_fetched_it() {
        let mut report = CallReport::new();
        report.attempts = 3;
        report.cache_status = Some(CacheStatus::Miss);
        report.budget = Some(BudgetReport::new(10, 0, 90));
        assert_eq!(report.for_cached_response(), CallReport::new());
    }
}
