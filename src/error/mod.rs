//! How requests fail, and what the wire hears of it.

mod failure;
mod refusal;
mod wire;

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

pub use failure::{Delivered, TimeoutError, TransportError};
pub use refusal::Refusal;
use rmcp::{ServiceError, model::ErrorData};
use tower::BoxError;
pub use wire::code;
pub(crate) use wire::retry_after_in;

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
/// are refusals. A [`Refusal`], a [`TransportError`], a [`TimeoutError`] and rmcp's [`ErrorData`] are what they
/// say, anything that wraps one of them or an [`Error`] is that error, and a foreign error is a refusal by
/// `layer`, with code -31403.
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
    /// header, the `retryAfterMs` or `retryAfter` (seconds) member of a JSON-RPC error's data,
    /// or a layer.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Transport(error) => error.retry_after,
            Self::Refused(refusal) => refusal.retry_after,
            Self::Protocol(error) => retry_after_in(error.data.as_ref()?.as_object()?),
            _ => None,
        }
    }

    /// Reads an error that stands for one of the five ways by its type: one of this crate's, or rmcp's for a
    /// JSON-RPC error.
    fn own(error: &(dyn StdError + 'static)) -> Option<Self> {
        if let Some(own) = typed::<Self>(error) {
            return Some(own.clone());
        }
        if let Some(refusal) = typed::<Refusal>(error) {
            return Some(refusal.clone().into());
        }
        if let Some(transport) = typed::<TransportError>(error) {
            return Some(transport.clone().into());
        }
        if let Some(timeout) = typed::<TimeoutError>(error) {
            return Some(Self::Timeout(*timeout));
        }
        if let Some(protocol) = typed::<ErrorData>(error) {
            return Some(protocol.clone().into());
        }
        if let Some(ServiceError::McpError(protocol)) = typed(error) {
            return Some(protocol.clone().into());
        }
        #[cfg(feature = "auth")]
        if let Some(auth) = typed::<crate::auth::AuthError>(error) {
            return Some(auth.clone().into());
        }
        None
    }

    /// The message and the [detail](TransportError::detail): for the operator, not for callers.
    pub(crate) fn in_full(&self) -> String {
        match self {
            Self::Transport(error) => match error.detail() {
                Some(detail) => format!("{error}; {detail}"),
                None => error.to_string(),
            },
            other => other.to_string(),
        }
    }

    /// The same error with its [detail](TransportError::detail) in the message.
    pub(crate) fn with_detail_shown(self) -> Self {
        match self {
            Self::Transport(error) => error.with_detail_shown().into(),
            other => other,
        }
    }

    /// Finds an error of [its own kind](Self::own) in a chain of sources, else reads what tower's own layers
    /// say.
    fn from_chain(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(current) = next {
            if let Some(own) = Self::own(current) {
                return Some(own);
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
            next = inner(current);
        }
        None
    }
}

/// Reads an error as this type, also in a box or shared.
fn typed<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let boxed = || error.downcast_ref::<Box<T>>().map(AsRef::as_ref);
    let shared = || error.downcast_ref::<Arc<T>>().map(AsRef::as_ref);
    error.downcast_ref().or_else(boxed).or_else(shared)
}

/// Returns the error that this one is around. An `io::Error` and a shared error name as their source only what
/// comes after it.
fn inner<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    if let Some(shared) = error.downcast_ref::<Source>() {
        return Some(&**shared);
    }
    match error.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|custom| custom as _),
        None => error.source(),
    }
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

impl From<TimeoutError> for Error {
    fn from(error: TimeoutError) -> Self {
        Self::Timeout(error)
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
