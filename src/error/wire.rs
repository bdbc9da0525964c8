//! The mapping between errors and JSON-RPC.

use std::time::Duration;

use rmcp::model::ErrorData;
use serde_json::{Map, Value, json};

use super::{Delivered, Error, Refusal, TransportError};

/// JSON-RPC codes of errors that originate in this crate.
///
/// JSON-RPC reserves -32768 to -32000, and MCP assigns meanings within that range. The crate's
/// codes are therefore outside of it: -31000 less the HTTP status of the same meaning. See the
/// table on [`Error`].
pub mod code {
    use rmcp::model::ErrorCode;

    /// The caller is not authenticated, and the request needs a principal.
    pub const UNAUTHENTICATED: ErrorCode = ErrorCode(-31401);
    /// A layer does not allow this request for this caller.
    pub const FORBIDDEN: ErrorCode = ErrorCode(-31403);
    /// The answer is too large for what is left of the caller's context window.
    pub const TOO_LARGE: ErrorCode = ErrorCode(-31413);
    /// The caller has sent too many requests, and may retry later.
    pub const TOO_MANY: ErrorCode = ErrorCode(-31429);
    /// The call was cancelled before it ended.
    pub const CANCELLED: ErrorCode = ErrorCode(-31499);
    /// The connection to the upstream failed.
    pub const TRANSPORT: ErrorCode = ErrorCode(-31502);
    /// A layer or an upstream has no room for the call now.
    pub const UNAVAILABLE: ErrorCode = ErrorCode(-31503);
    /// The upstream did not respond in time.
    pub const TIMEOUT: ErrorCode = ErrorCode(-31504);
}

/// Returns the retry delay in a JSON-RPC error's data or a result's `_meta`.
pub(crate) fn retry_after_in(fields: &Map<String, Value>) -> Option<Duration> {
    if let Some(millis) = fields.get("retryAfterMs").and_then(Value::as_u64) {
        return Some(Duration::from_millis(millis));
    }
    let seconds = fields.get("retryAfter").and_then(Value::as_f64)?;
    Duration::try_from_secs_f64(seconds).ok()
}

impl From<Error> for ErrorData {
    fn from(error: Error) -> Self {
        let kind = error.kind().as_str();
        let message = error.to_string();
        let retry_after = error.retry_after();
        let (code, mut data) = match error {
            Error::Protocol(error) => return *error,
            Error::Transport(error) => (code::TRANSPORT, transport_data(&error)),
            Error::Timeout(error) => (code::TIMEOUT, json!({ "afterMs": error.after.map(millis) })),
            Error::Cancelled { .. } => (code::CANCELLED, json!({})),
            Error::Refused(refusal) => (refusal.code, refusal_data(*refusal)),
        };
        if let Some(fields) = data.as_object_mut() {
            fields.insert("kind".to_owned(), kind.into());
            if let Some(after) = retry_after {
                fields.insert("retryAfterMs".to_owned(), millis(after).into());
            }
            fields.retain(|_, value| !value.is_null());
        }
        ErrorData::new(code, message, Some(data))
    }
}

fn transport_data(error: &TransportError) -> Value {
    let delivered = match error.delivered {
        Delivered::No => "no",
        Delivered::Unknown => "unknown",
        Delivered::Yes => "yes",
    };
    json!({ "upstream": error.upstream.as_deref(), "delivered": delivered, "status": error.status })
}

fn refusal_data(refusal: Refusal) -> Value {
    let mut data = match refusal.data.map(|data| *data) {
        Some(Value::Object(fields)) => Value::Object(fields),
        Some(detail) => json!({ "detail": detail }),
        None => json!({}),
    };
    data["layer"] = refusal.layer.into();
    data
}

/// Rounds up, so that a retry after exactly this time is not too early.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
