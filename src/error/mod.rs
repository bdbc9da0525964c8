//! Errors of requests, and their form on the wire.

mod config;
mod failure;
mod http_refusal;
mod refusal;
mod wire;

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

pub use config::ConfigError;
pub use failure::{Delivered, TimeoutError, TransportError};
pub use http_refusal::{HttpRefusal, OnHttpRefusal};
pub use refusal::Refusal;
use rmcp::{
    ServiceError,
    model::{ErrorCode, ErrorData},
};
use tower::BoxError;
pub use wire::code;
pub(crate) use wire::retry_after_in;

/// An error that ended a request without a result.
///
/// Errors stay typed inside a stack. Only the top of the stack converts them into wire errors, by
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
/// Fields without a value are left out. A layer that refuses chooses its code by the same rule
/// (-31000 less the HTTP status).
///
/// Errors of tower's own layers are converted at the top by
/// [`From<BoxError>`](#impl-From%3CBox%3Cdyn+Error+%2B+Send+%2B+Sync%3E%3E-for-Error):
///
/// - `timeout::error::Elapsed` becomes a timeout.
/// - `load_shed::error::Overloaded` and `buffer::error::Closed` become refusals.
/// - A [`Refusal`], a [`TransportError`], a [`TimeoutError`] and rmcp's [`ErrorData`] become the
///   matching kind.
/// - A type that wraps one of these or an [`Error`] becomes that error.
/// - Any other error becomes a refusal by `layer`, with code -31403.
///
/// Cloning is cheap, so that all callers that wait for a shared call can receive its error.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The upstream or the handler returned a JSON-RPC error. The caller receives it unchanged.
    #[error("{0}")]
    Protocol(Box<ErrorData>),
    /// The connection failed before a response came.
    #[error(transparent)]
    Transport(Box<TransportError>),
    /// No response came in time.
    #[error(transparent)]
    Timeout(TimeoutError),
    /// The caller cancelled the request, or another component did so on its behalf.
    #[error("the request was cancelled{}", .reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default())]
    Cancelled {
        /// The given reason.
        reason: Option<Arc<str>>,
    },
    /// A layer refused the request.
    #[error(transparent)]
    Refused(Box<Refusal>),
}

/// The five kinds of errors; see [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A JSON-RPC error from the peer.
    Protocol,
    /// The connection failed.
    Transport,
    /// No response in time.
    Timeout,
    /// Cancelled.
    Cancelled,
    /// Refused by a layer.
    Refused,
}

impl ErrorKind {
    /// Returns the kind's name in the wire error's `data.kind`, in logs and in metrics.
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
    /// Creates an error from a JSON-RPC error, which the caller receives unchanged.
    pub fn protocol(error: ErrorData) -> Self {
        Self::Protocol(Box::new(error))
    }

    /// Creates a timeout error: no response within `after`.
    pub fn timeout(after: Duration) -> Self {
        Self::Timeout(TimeoutError { after: Some(after) })
    }

    /// Creates a cancellation error with this reason.
    pub fn cancelled(reason: impl Into<Arc<str>>) -> Self {
        Self::Cancelled {
            reason: Some(reason.into()),
        }
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Protocol(_) => ErrorKind::Protocol,
            Self::Transport(_) => ErrorKind::Transport,
            Self::Timeout(_) => ErrorKind::Timeout,
            Self::Cancelled { .. } => ErrorKind::Cancelled,
            Self::Refused(_) => ErrorKind::Refused,
        }
    }

    /// Returns `true` if the peer returned a JSON-RPC error.
    pub fn is_protocol(&self) -> bool {
        self.kind() == ErrorKind::Protocol
    }

    /// Returns `true` if the connection failed.
    pub fn is_transport(&self) -> bool {
        self.kind() == ErrorKind::Transport
    }

    /// Returns `true` if no response came in time.
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    /// Returns `true` if the request was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.kind() == ErrorKind::Cancelled
    }

    /// Returns `true` if a layer refused the request.
    pub fn is_refused(&self) -> bool {
        self.kind() == ErrorKind::Refused
    }

    /// Returns `true` if the failure proves that no server has done anything for the request.
    pub fn is_not_delivered(&self) -> bool {
        match self {
            Self::Transport(error) => error.delivered == Delivered::No,
            Self::Refused(refusal) => refusal.delivered == Delivered::No,
            _ => false,
        }
    }

    /// Returns the peer's JSON-RPC error, if this is one.
    pub fn as_protocol(&self) -> Option<&ErrorData> {
        match self {
            Self::Protocol(error) => Some(error),
            _ => None,
        }
    }

    /// Returns `true` if the peer does not support the method: its JSON-RPC error is "method not
    /// found" (-32601).
    pub fn is_method_not_found(&self) -> bool {
        self.as_protocol()
            .is_some_and(|error| error.code == ErrorCode::METHOD_NOT_FOUND)
    }

    /// Returns the time after which a retry is useful, if it is known. It comes from the HTTP
    /// `Retry-After` header, from `retryAfterMs` or `retryAfter` (seconds) in a JSON-RPC error's
    /// data, or from a layer.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Transport(error) => error.retry_after,
            Self::Refused(refusal) => refusal.retry_after,
            Self::Protocol(error) => retry_after_in(error.data.as_ref()?.as_object()?),
            _ => None,
        }
    }

    /// Converts an error of one of this crate's error types, or rmcp's JSON-RPC error.
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
        if let Some(config) = typed::<ConfigError>(error) {
            return Some(config.clone().into());
        }
        #[cfg(feature = "auth")]
        if let Some(auth) = typed::<crate::auth::AuthError>(error) {
            return Some(auth.clone().into());
        }
        None
    }

    /// Returns the message with the [detail](TransportError::detail), for the operator and not for
    /// callers.
    pub(crate) fn in_full(&self) -> String {
        match self {
            Self::Transport(error) => match error.detail() {
                Some(detail) => format!("{error}; {detail}"),
                None => error.to_string(),
            },
            other => other.to_string(),
        }
    }

    /// Adds the [detail](TransportError::detail) to the message.
    pub(crate) fn with_detail_shown(self) -> Self {
        match self {
            Self::Transport(error) => error.with_detail_shown().into(),
            other => other,
        }
    }

    /// Converts the first error in a chain of sources that is [one of the own types](Self::own),
    /// else an error of tower's own layers.
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

/// Returns the error that this one wraps. The source of an `io::Error` and of a shared error is that
/// of the wrapped error.
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
