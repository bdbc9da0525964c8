use std::time::Duration;

use crate::{Error, Outcome};

/// The `_meta` key of a request that identifies all attempts of one call to the server.
///
/// The value is 128 random bits in hexadecimal, the same from the first attempt on. A server that
/// stores its results under this key can answer a repeated call without running it again. A value
/// that the caller has set is kept.
///
/// Methods that only read have no key.
pub const IDEMPOTENCY_META_KEY: &str = "rmcp-layers/idempotency-key";

/// The `_meta` key of a request by which its caller asks for fewer retries: `{"maxRetries": 0}` for
/// none. The operator's policy remains the upper limit.
pub const RETRY_META_KEY: &str = "rmcp-layers/retry";

/// A retry that is about to happen; see
/// [`RetryLayerBuilder::on_retry`](super::RetryLayerBuilder::on_retry).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RetryEvent<'a> {
    /// The JSON-RPC method.
    pub method: &'a str,
    /// The target of the request, such as the tool's name or the resource's URI.
    pub target: Option<&'a str>,
    /// The number of the failed attempt: 1 for the first.
    pub attempt: u32,
    /// The delay before the next attempt.
    pub delay: Duration,
    /// The outcome of the failed attempt.
    pub outcome: Outcome,
    /// The error, unless the attempt returned a result with `isError`.
    pub error: Option<&'a Error>,
}
