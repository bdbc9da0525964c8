use rmcp::model::CallToolResult;

/// How much of a text is looked at: a rate limit is said at once.
const LOOKED_AT: usize = 2_048;

/// What services say at a rate limit, in lower case.
const PHRASES: [&str; 9] = [
    "rate limit",
    "rate-limit",
    "ratelimit",
    "rate_limit",
    "too many requests",
    "throttl",
    "overloaded_error",
    "retry later",
    "slow down",
];

/// Whether a result with `isError` reads like that of a rate limit: its text speaks of one ("rate limit", "too many
/// requests", "throttled", "slow down") or of HTTP 429, or its `_meta` says when to come back (`retryAfterMs`,
/// `retryAfter`). Only the first two thousand bytes of each text are looked at.
///
/// A guess from words: a tool may speak of rate limits and mean something else. It is used only where the operator
/// asks for it, by [`RetryPolicy::retry_rate_limits`](super::RetryPolicy::retry_rate_limits) or in a
/// [rule of their own](super::RetryPolicy::retry_tool_errors).
///
/// ```
/// use rmcp::model::{CallToolResult, ContentBlock};
/// use rmcp_layers::retry::is_rate_limited;
///
/// let failed = |text: &str| CallToolResult::error(vec![ContentBlock::text(text)]);
/// assert!(is_rate_limited(&failed("HTTP 429: Too Many Requests")));
/// assert!(!is_rate_limited(&failed("no such file: report-4291.txt")));
/// ```
pub fn is_rate_limited(result: &CallToolResult) -> bool {
    if result.is_error != Some(true) {
        return false;
    }
    let asks = |key| {
        result
            .meta
            .as_ref()
            .is_some_and(|meta| meta.contains_key(key))
    };
    if asks("retryAfterMs") || asks("retryAfter") {
        return true;
    }
    let texts = result.content.iter().filter_map(|block| block.as_text());
    texts.into_iter().any(|text| speaks_of_limit(&text.text))
}

fn speaks_of_limit(text: &str) -> bool {
    let looked_at = &text.as_bytes()[..text.len().min(LOOKED_AT)];
    let text = String::from_utf8_lossy(looked_at).to_ascii_lowercase();
    PHRASES.iter().any(|phrase| text.contains(phrase))
        || text
            .split(|c: char| !c.is_ascii_alphanumeric())
            .any(|word| word == "429")
}
