use rmcp::model::CallToolResult;

/// Bytes of a text that are searched: services name a rate limit at the beginning.
const LOOKED_AT: usize = 2_048;

/// Phrases of services at a rate limit, in lower case.
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

/// Returns `true` if a result with `isError` looks like a rate limit.
///
/// Its text mentions one ("rate limit", "too many requests", "throttled", "slow down") or HTTP 429,
/// or its `_meta` has a time for the next try (`retryAfterMs`, `retryAfter`). Limit: the first
/// 2,048 bytes of each text are searched.
///
/// This is a guess by words: a tool may mention rate limits for another reason. The guess is used
/// only if the operator asks for it, with
/// [`RetryPolicy::retry_rate_limits`](super::RetryPolicy::retry_rate_limits) or in a
/// [custom rule](super::RetryPolicy::retry_tool_errors).
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
