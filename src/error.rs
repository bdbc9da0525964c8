use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use rmcp::model::{ErrorCode, ErrorData};
use serde_json::{Value, json};
use tower::BoxError;

/// The JSON-RPC codes of errors that arise in the crate itself.
///
/// JSON-RPC reserves -32768 to -32000, and MCP assigns meanings inside that range, so the crate stays out
/// of it: a code is -31000 less the HTTP status that says the same. See the table on [`Error`].
pub mod code {
    use rmcp::model::ErrorCode;

    /// A layer does not let this caller do this.
    pub const FORBIDDEN: ErrorCode = ErrorCode(-31403);
    /// The call was cancelled before it ended.
    pub const CANCELLED: ErrorCode = ErrorCode(-31499);
    /// The connection to the upstream failed.
    pub const TRANSPORT: ErrorCode = ErrorCode(-31502);
    /// A layer or an upstream has no room for the call now.
    pub const UNAVAILABLE: ErrorCode = ErrorCode(-31503);
    /// The upstream did not answer in time.
    pub const TIMEOUT: ErrorCode = ErrorCode(-31504);
}

/// Why a request did not end with a result.
///
/// Errors stay typed inside a stack; only its top turns them into wire errors, by
/// [`ErrorData::from`], so the mapping is in one place:
///
/// | [`ErrorKind`] | JSON-RPC code | message and data |
/// |---|---|---|
/// | [`Protocol`](ErrorKind::Protocol) | the peer's own | the peer's own, unchanged |
/// | [`Transport`](ErrorKind::Transport) | -31502 | data: `kind`, `upstream`, `delivered` (`"no"` or `"unknown"`), `retryAfterMs` |
/// | [`Timeout`](ErrorKind::Timeout) | -31504 | data: `kind`, `afterMs` |
/// | [`Cancelled`](ErrorKind::Cancelled) | -31499 | data: `kind` |
/// | [`Refused`](ErrorKind::Refused) | the layer's own, -31403 or -31503 by default | data: `kind`, `layer`, `retryAfterMs`, and what the layer adds |
///
/// Fields without a value are left out. A layer that refuses picks a code by the same rule
/// (-31000 less the HTTP status).
///
/// Errors of tower's own layers become this type at the top by [`From<BoxError>`](#impl-From%3CBox%3Cdyn+Error+%2B+Send+%2B+Sync%3E%3E-for-Error):
/// `timeout::error::Elapsed` is a timeout, `load_shed::error::Overloaded` and `buffer::error::Closed`
/// are refusals, anything that wraps an [`Error`] is that error, and a foreign error is a refusal by the
/// layer it came from.
///
/// Cloning is cheap: a shared failure can be told to every caller that waits for it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The upstream, or the handler, answered with a JSON-RPC error. It arrives at the caller as it was.
    #[error("{0}")]
    Protocol(Box<ErrorData>),
    /// The connection failed before an answer came.
    #[error(transparent)]
    Transport(Box<TransportError>),
    /// No answer came in time.
    #[error(transparent)]
    Timeout(TimeoutError),
    /// The caller, or somebody on its behalf, cancelled the request.
    #[error("the request was cancelled{}", .reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default())]
    Cancelled {
        /// What the canceller said.
        reason: Option<Arc<str>>,
    },
    /// A layer did not let the request through.
    #[error(transparent)]
    Refused(Box<Refusal>),
}

/// The five ways a request can fail; see [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A JSON-RPC error from the peer.
    Protocol,
    /// The connection failed.
    Transport,
    /// No answer in time.
    Timeout,
    /// Cancelled.
    Cancelled,
    /// Refused by a layer.
    Refused,
}

impl ErrorKind {
    /// The kind's name, as it stands in the wire error's `data.kind`, in logs and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::Transport => "transport",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

type Source = Arc<dyn StdError + Send + Sync>;

/// A failed connection: to which upstream, and whether the request can have reached it.
#[derive(Clone, Debug)]
pub struct TransportError {
    upstream: Option<Arc<str>>,
    message: Cow<'static, str>,
    delivered: Delivered,
    retry_after: Option<Duration>,
    status: Option<u16>,
    source: Option<Source>,
}

/// Whether a failed request can have reached the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Delivered {
    /// It provably did not: the server has done nothing for it, and any method may be sent again.
    No,
    /// It may have: the server may have run it, wholly or in part.
    Unknown,
}

impl TransportError {
    /// A failure that may have happened after the request was delivered.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            upstream: None,
            message: message.into(),
            delivered: Delivered::Unknown,
            retry_after: None,
            status: None,
            source: None,
        }
    }

    /// A failure that happened before anything was delivered.
    pub fn not_delivered(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            delivered: Delivered::No,
            ..Self::new(message)
        }
    }

    /// Names the upstream.
    #[must_use]
    pub fn with_upstream(mut self, upstream: impl Into<Arc<str>>) -> Self {
        self.upstream = Some(upstream.into());
        self
    }

    /// Says when it is worth trying again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Says with which HTTP status the upstream answered.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Keeps what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// The upstream's name, if it has one.
    pub fn upstream(&self) -> Option<&str> {
        self.upstream.as_deref()
    }

    /// Whether the request can have reached the server.
    pub fn delivered(&self) -> Delivered {
        self.delivered
    }

    /// The HTTP status the upstream answered with, where it answered over HTTP.
    pub fn status(&self) -> Option<u16> {
        self.status
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.upstream {
            Some(upstream) => write!(f, "upstream `{upstream}`: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl StdError for TransportError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// No answer within a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutError {
    after: Option<Duration>,
}

impl TimeoutError {
    /// The limit that passed.
    pub fn after(&self) -> Option<Duration> {
        self.after
    }
}

impl fmt::Display for TimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.after {
            Some(after) => write!(f, "no answer within {after:?}"),
            None => f.write_str("no answer in time"),
        }
    }
}

impl StdError for TimeoutError {}

/// A layer's refusal: which layer, why, and when it may be different.
#[derive(Clone, Debug)]
pub struct Refusal {
    layer: &'static str,
    code: ErrorCode,
    message: Cow<'static, str>,
    data: Option<Value>,
    retry_after: Option<Duration>,
    delivered: Delivered,
    source: Option<Source>,
}

impl Refusal {
    /// A refusal by `layer` (its name in lower case: `auth`, `breaker`), as [`code::UNAVAILABLE`].
    pub fn new(layer: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            layer,
            code: code::UNAVAILABLE,
            message: message.into(),
            data: None,
            retry_after: None,
            delivered: Delivered::No,
            source: None,
        }
    }

    /// Sets the JSON-RPC code. Stay outside -32768 to -32000: -31000 less an HTTP status is the rule here.
    #[must_use]
    pub fn with_code(mut self, code: ErrorCode) -> Self {
        self.code = code;
        self
    }

    /// Adds to the wire error's data. An object's members are merged with the crate's own; any other
    /// value stands under `detail`.
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// Says when it is worth trying again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Says that a server had already been asked when the layer refused to go on.
    #[must_use]
    pub fn with_delivered(mut self, delivered: Delivered) -> Self {
        self.delivered = delivered;
        self
    }

    /// Keeps what caused it. A source is for logs: it never reaches the wire.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// The layer that refused.
    pub fn layer(&self) -> &'static str {
        self.layer
    }

    /// The JSON-RPC code the caller sees.
    pub fn code(&self) -> ErrorCode {
        self.code
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused by {}: {}", self.layer, self.message)
    }
}

impl StdError for Refusal {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl Error {
    /// A JSON-RPC error that reaches the caller as it is.
    pub fn protocol(error: ErrorData) -> Self {
        Self::Protocol(Box::new(error))
    }

    /// No answer within `after`.
    pub fn timeout(after: Duration) -> Self {
        Self::Timeout(TimeoutError { after: Some(after) })
    }

    /// Cancelled, for `reason`.
    pub fn cancelled(reason: impl Into<Arc<str>>) -> Self {
        Self::Cancelled {
            reason: Some(reason.into()),
        }
    }

    /// Which of the five ways this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Protocol(_) => ErrorKind::Protocol,
            Self::Transport(_) => ErrorKind::Transport,
            Self::Timeout(_) => ErrorKind::Timeout,
            Self::Cancelled { .. } => ErrorKind::Cancelled,
            Self::Refused(_) => ErrorKind::Refused,
        }
    }

    /// Whether the peer answered with a JSON-RPC error.
    pub fn is_protocol(&self) -> bool {
        self.kind() == ErrorKind::Protocol
    }

    /// Whether the connection failed.
    pub fn is_transport(&self) -> bool {
        self.kind() == ErrorKind::Transport
    }

    /// Whether no answer came in time.
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    /// Whether the request was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.kind() == ErrorKind::Cancelled
    }

    /// Whether a layer refused the request.
    pub fn is_refused(&self) -> bool {
        self.kind() == ErrorKind::Refused
    }

    /// Whether the failure proves that no server has done anything for the request.
    pub fn is_not_delivered(&self) -> bool {
        match self {
            Self::Transport(error) => error.delivered == Delivered::No,
            Self::Refused(refusal) => refusal.delivered == Delivered::No,
            _ => false,
        }
    }

    /// The peer's JSON-RPC error, if that is what this is.
    pub fn as_protocol(&self) -> Option<&ErrorData> {
        match self {
            Self::Protocol(error) => Some(error),
            _ => None,
        }
    }

    /// How long to wait before it is worth trying again, where somebody said so: the HTTP `Retry-After`
    /// header in seconds, the `retryAfterMs` or `retryAfter` (seconds) member of a JSON-RPC error's data,
    /// or a layer.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Transport(error) => error.retry_after,
            Self::Refused(refusal) => refusal.retry_after,
            Self::Protocol(error) => retry_after_in(error.data.as_ref()?),
            _ => None,
        }
    }

    /// Finds an [`Error`] of this crate in a chain of sources, else reads what tower's own layers say.
    fn from_chain(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(current) = next {
            if let Some(own) = current.downcast_ref::<Self>() {
                return Some(own.clone());
            }
            if current.is::<tower::timeout::error::Elapsed>() {
                return Some(Self::Timeout(TimeoutError { after: None }));
            }
            if current.is::<tower::load_shed::error::Overloaded>() {
                let refusal =
                    Refusal::new("load_shed", "too many calls are in flight; try again later");
                return Some(refusal.into());
            }
            if current.is::<tower::buffer::error::Closed>() {
                return Some(Refusal::new("buffer", "the buffered stack has ended").into());
            }
            next = current.source();
        }
        None
    }
}

fn retry_after_in(data: &Value) -> Option<Duration> {
    if let Some(millis) = data.get("retryAfterMs").and_then(Value::as_u64) {
        return Some(Duration::from_millis(millis));
    }
    let seconds = data.get("retryAfter").and_then(Value::as_f64)?;
    Duration::try_from_secs_f64(seconds).ok()
}

impl From<ErrorData> for Error {
    fn from(error: ErrorData) -> Self {
        Self::protocol(error)
    }
}

impl From<TransportError> for Error {
    fn from(error: TransportError) -> Self {
        Self::Transport(Box::new(error))
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl From<BoxError> for Error {
    fn from(error: BoxError) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(own) => return *own,
            Err(error) => error,
        };
        Self::from_chain(&*error).unwrap_or_else(|| {
            Refusal::new("layer", error.to_string())
                .with_code(code::FORBIDDEN)
                .with_source(error)
                .into()
        })
    }
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
    };
    json!({ "upstream": error.upstream.as_deref(), "delivered": delivered, "status": error.status })
}

fn refusal_data(refusal: Refusal) -> Value {
    let mut data = match refusal.data {
        Some(Value::Object(fields)) => Value::Object(fields),
        Some(detail) => json!({ "detail": detail }),
        None => json!({}),
    };
    data["layer"] = refusal.layer.into();
    data
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
