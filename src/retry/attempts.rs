use std::time::Duration;

use crate::{Error, Outcome};

/// The key in a request's `_meta` by which all attempts of one call are known to the server as one: the same
/// random 128 bits, in hexadecimal, from the first attempt on. A server that keeps what it has done under it can
/// answer a repeated call without running it again. A caller's own value is kept.
///
/// Methods that only read have none.
pub const IDEMPOTENCY_META_KEY: &str = "rmcp-layers/idempotency-key";

/// The key in a request's `_meta` by which its caller asks for fewer retries: `{"maxRetries": 0}` for none. A
/// caller cannot have more than the operator's policy allows.
pub const RETRY_META_KEY: &str = "rmcp-layers/retry";

/// A retry that is about to happen; see [`RetryLayerBuilder::on_retry`](super::RetryLayerBuilder::on_retry).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RetryEvent<'a> {
    /// The JSON-RPC method.
    pub method: &'a str,
    /// What the request is about: the tool's name, the resource's URI.
    pub target: Option<&'a str>,
    /// Which attempt has failed: 1 for the first.
    pub attempt: u32,
    /// How long is waited before the next.
    pub delay: Duration,
    /// How it failed.
    pub outcome: Outcome,
    /// The error, unless it was a result with `isError`.
    pub error: Option<&'a Error>,
}
