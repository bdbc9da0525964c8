//! Translates the failures of rmcp to errors of a call.

use std::{
    error::Error as StdError,
    sync::{Arc, LazyLock},
    time::Duration,
};

use rmcp::{
    model::ErrorData,
    service::{ClientInitializeError, ServiceError},
};

#[cfg(feature = "http-client")]
use super::connect::{Failure, HttpError};
#[cfg(feature = "child-process")]
use super::end::Ended;
use crate::{Error, TransportError, code, lines::Why};

/// Returns the error for a failed call.
pub(super) fn of_call(upstream: &Arc<str>, error: ServiceError) -> Error {
    match error {
        ServiceError::McpError(error) if StandIn::of(&error).is_some() => {
            TransportError::new(error.message)
                .with_upstream(upstream.clone())
                .into()
        }
        ServiceError::McpError(error) => error.into(),
        ServiceError::Timeout { timeout } => Error::timeout(timeout),
        ServiceError::Cancelled { reason } => Error::Cancelled {
            reason: reason.map(Into::into),
        },
        ServiceError::TransportClosed => lost(upstream),
        other => {
            let message = match &other {
                ServiceError::TransportSend(error) => summary(&*error.error),
                other => summary(other),
            };
            classify(TransportBuilder::of(&other), message)
                .with_upstream(upstream.clone())
                .with_source(other)
                .into()
        }
    }
}

/// The reason why an answer is not passed on as the server gave it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StandIn {
    /// The answer is for another request.
    Stray,
    Unreadable,
}

/// The marker of errors that replace an answer. It is random, so that a server cannot know it.
static STAND_IN: LazyLock<String> = LazyLock::new(|| format!("{:032x}", rand::random::<u128>()));

/// Returns an error that replaces an answer on its way through rmcp's client, which knows no other
/// kind.
#[cfg(feature = "http-client")]
pub(super) fn stand_in(
    kind: StandIn,
    message: impl Into<std::borrow::Cow<'static, str>>,
) -> ErrorData {
    let is_stray = serde_json::Value::from(kind == StandIn::Stray);
    let data = serde_json::Map::from_iter([(STAND_IN.clone(), is_stray)]);
    ErrorData::new(code::TRANSPORT, message, Some(data.into()))
}

impl StandIn {
    fn of(error: &ErrorData) -> Option<Self> {
        let is_stray = error.data.as_ref()?.get(STAND_IN.as_str())?.as_bool()?;
        Some(if is_stray {
            Self::Stray
        } else {
            Self::Unreadable
        })
    }
}

/// Returns `true` if the connection must not serve another call: the server has forgotten the
/// session, or has answered another request than it was asked.
pub(super) fn ends_connection(error: &ServiceError) -> bool {
    match error {
        ServiceError::McpError(error) => StandIn::of(error) == Some(StandIn::Stray),
        error => is_forgotten_session(error),
    }
}

/// Returns `true` if the server answered that it does not know the session any more (MCP
/// 2025-11-25, basic/transports, session management). It has done nothing then.
fn is_forgotten_session(error: &(dyn StdError + 'static)) -> bool {
    #[cfg(feature = "http-client")]
    {
        use rmcp::transport::streamable_http_client::StreamableHttpError;
        let mut next = Some(error);
        while let Some(current) = next {
            if matches!(
                current.downcast_ref(),
                Some(
                    HttpError::SessionExpired | HttpError::Client(Failure::ForgottenSession { .. })
                )
            ) || matches!(
                current.downcast_ref(),
                Some(StreamableHttpError::<reqwest::Error>::SessionExpired)
            ) {
                return true;
            }
            next = cause(current);
        }
    }
    #[cfg(not(feature = "http-client"))]
    let _ = error;
    false
}

/// Returns the server's own error, if it has forgotten a session that was just begun. A new session
/// does not help then.
pub(super) fn forgotten_again(error: Error) -> Error {
    #[cfg(feature = "http-client")]
    {
        let mut next = error.source();
        while let Some(current) = next {
            if let Some(HttpError::Client(Failure::ForgottenSession {
                error: Some(said), ..
            })) = current.downcast_ref()
            {
                return (**said).clone().into();
            }
            next = cause(current);
        }
    }
    error
}

/// Returns the error for a connection that was lost while a call was in flight.
pub(super) fn lost(upstream: &Arc<str>) -> Error {
    TransportError::new("the connection was lost before the answer came")
        .with_upstream(upstream.clone())
        .into()
}

/// Returns the error for a request to an upstream that takes no more.
pub(super) fn closed(upstream: &Arc<str>) -> Error {
    TransportError::not_delivered("it has been closed")
        .with_upstream(upstream.clone())
        .into()
}

/// Returns the error for an answer that cannot be read.
pub(super) fn unreadable(upstream: &Arc<str>, why: Why) -> Error {
    TransportError::new(format!("the server's answer cannot be read: {why}"))
        .with_upstream(upstream.clone())
        .into()
}

/// Returns the error for a lost connection of a client that its owner made: there is no other
/// connection.
pub(super) fn lost_for_good(upstream: &Arc<str>) -> Error {
    TransportError::not_delivered("the client it was made with has ended")
        .with_upstream(upstream.clone())
        .into()
}

/// Returns the error for a connection that could not be made.
pub(super) fn of_connect(upstream: &Arc<str>, error: ClientInitializeError) -> Error {
    let why = match &error {
        ClientInitializeError::TransportError { error, context } => {
            format!("{} ({context})", summary(&*error.error))
        }
        other => summary(other),
    };
    let message = format!("cannot connect: {why}");
    let found = TransportBuilder::of(&error);
    let mut transport = TransportError::not_delivered(message).with_upstream(upstream.clone());
    if let Some(status) = found.status {
        transport = transport.with_status(status);
    }
    if let Some(after) = found.retry_after {
        transport = transport.with_retry_after(after);
    }
    transport.with_source(error).into()
}

/// Adds to a failed attempt to connect how the other side ended.
#[cfg(feature = "child-process")]
pub(super) fn of_ended_connect(error: Error, ended: Option<&Ended>) -> Error {
    match (error, ended) {
        (Error::Transport(error), Some(ended)) => {
            let message = format!("cannot connect: {}", ended.how);
            ended.explain(error.with_message(message)).into()
        }
        (error, _) => error,
    }
}

/// Returns `true` if the server answered a handshake with a refusal.
pub(super) fn is_refused_handshake(error: &Error) -> bool {
    let cause = error
        .source()
        .and_then(|source| source.downcast_ref::<ClientInitializeError>());
    match cause {
        // An answer that cannot be read does not say whether the server refused.
        Some(ClientInitializeError::JsonRpcError(error)) => error.code != code::TRANSPORT,
        Some(
            ClientInitializeError::NoCompatibleProtocolVersion { .. }
            | ClientInitializeError::ExpectedInitResult(_),
        ) => true,
        _ => false,
    }
}

/// Returns the error for a transport that could not be made.
pub(super) fn of_spawn(
    upstream: &Arc<str>,
    what: &str,
    error: impl StdError + Send + Sync + 'static,
) -> Error {
    TransportError::not_delivered(format!("{what}: {error}"))
        .with_upstream(upstream.clone())
        .with_source(error)
        .into()
}

/// Returns the cause of an error. For some of its own errors, rmcp does not give it.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref() {
        Some(ClientInitializeError::TransportError { error, .. }) => Some(error),
        Some(ClientInitializeError::LegacyFallbackFailed { fallback, .. }) => Some(&**fallback),
        _ => error.source(),
    }
}

/// Returns the cause of an error of the HTTP client, which rmcp does not give either. It is meant
/// for readers only: the I/O errors of an HTTP connection do not tell whether a request was
/// delivered.
#[cfg(feature = "http-client")]
fn http_client<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    use rmcp::transport::streamable_http_client::StreamableHttpError;
    if let Some(HttpError::Client(Failure::Http(http))) = error.downcast_ref() {
        return Some(http);
    }
    match error.downcast_ref() {
        Some(StreamableHttpError::<reqwest::Error>::Client(http)) => Some(http),
        _ => None,
    }
}

#[cfg(not(feature = "http-client"))]
fn http_client<'a>(_error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    None
}

/// The facts that a chain of errors gives about a failed exchange.
struct TransportBuilder {
    status: Option<u16>,
    retry_after: Option<Duration>,
    not_delivered: bool,
}

impl TransportBuilder {
    fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut found = Self {
            status: None,
            retry_after: None,
            not_delivered: false,
        };
        let mut next = Some(error);
        while let Some(current) = next {
            found.look_at(current);
            next = cause(current);
        }
        found
    }

    fn look_at(&mut self, error: &(dyn StdError + 'static)) {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{BrokenPipe, ConnectionRefused, NotFound};
            // The server does not take a line that was not written whole for a message.
            self.not_delivered |= matches!(io.kind(), BrokenPipe | ConnectionRefused | NotFound);
        }
        #[cfg(feature = "http-client")]
        self.look_at_http(error);
    }

    #[cfg(feature = "http-client")]
    fn look_at_http(&mut self, error: &(dyn StdError + 'static)) {
        use rmcp::transport::streamable_http_client::{
            AuthRequiredError, InsufficientScopeError, StreamableHttpError,
        };
        if let Some(error) = error.downcast_ref::<HttpError>() {
            self.look_at_exchange(error);
            match error {
                HttpError::Client(Failure::Http(http)) => self.look_at_client(http),
                HttpError::Client(Failure::ForgottenSession { status, .. }) => {
                    (self.status, self.not_delivered) = (Some(*status), true);
                }
                _ => {}
            }
        }
        // The HTTP client may be one that the operator set.
        if let Some(error) = error.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
            self.look_at_exchange(error);
            if let StreamableHttpError::Client(http) = error {
                self.look_at_client(http);
            }
        }
        if error.is::<AuthRequiredError>() {
            (self.status, self.not_delivered) = (Some(401), true);
        }
        if error.is::<InsufficientScopeError>() {
            (self.status, self.not_delivered) = (Some(403), true);
        }
    }

    #[cfg(feature = "http-client")]
    fn look_at_exchange<E: StdError + Send + Sync + 'static>(
        &mut self,
        error: &rmcp::transport::streamable_http_client::StreamableHttpError<E>,
    ) {
        use rmcp::transport::streamable_http_client::StreamableHttpError;
        match error {
            StreamableHttpError::HttpStatus(http) => {
                self.status = Some(http.status);
                self.retry_after = http.retry_after.as_deref().and_then(retry_after);
                // With "too many requests" the server says that it did not take the request. A 503
                // does not say so: a proxy may send it for a request that it has passed on.
                self.not_delivered |= http.status == 429;
            }
            StreamableHttpError::UnexpectedServerResponse(said) => {
                self.status = self.status.or(status_in(said));
            }
            StreamableHttpError::SessionExpired => {
                (self.status, self.not_delivered) = (Some(404), true);
            }
            _ => {}
        }
    }

    #[cfg(feature = "http-client")]
    fn look_at_client(&mut self, error: &reqwest::Error) {
        self.not_delivered |= error.is_connect() || error.is_builder();
    }
}

/// Returns the status in rmcp's text for an answer that it has no type for:
/// `HTTP 413 Payload Too Large: …`.
#[cfg(feature = "http-client")]
fn status_in(said: &str) -> Option<u16> {
    let status = said.strip_prefix("HTTP ")?.get(..3)?.parse().ok()?;
    (400..600).contains(&status).then_some(status)
}

/// Parses `Retry-After`, a number of seconds or a date (RFC 9110, section 10.2.3). A date is
/// compared with this machine's clock once, and only the time left is kept.
#[cfg(feature = "http-client")]
pub(super) fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let left = date.duration_since(std::time::SystemTime::now());
    // The date may have passed while the answer was on its way.
    Some(left.unwrap_or_default())
}

fn classify(found: TransportBuilder, message: String) -> TransportError {
    let mut error = if found.not_delivered {
        TransportError::not_delivered(message)
    } else {
        TransportError::new(message)
    };
    if let Some(status) = found.status {
        error = error.with_status(status);
    }
    if let Some(after) = found.retry_after {
        error = error.with_retry_after(after);
    }
    error
}

/// Returns an error and its causes in one line, without repetitions.
fn summary(error: &(dyn StdError + 'static)) -> String {
    let mut line = own_words(error).unwrap_or_else(|| without_url(error.to_string()));
    let mut next = cause(error).or_else(|| http_client(error));
    while let Some(current) = next {
        let text = without_url(current.to_string());
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        next = cause(current).or_else(|| http_client(current));
    }
    line
}

/// Returns this crate's own text about a failed exchange. rmcp calls it an error of the client.
#[cfg(feature = "http-client")]
fn own_words(error: &(dyn StdError + 'static)) -> Option<String> {
    match error.downcast_ref() {
        Some(HttpError::Client(Failure::Http(_))) => None,
        Some(HttpError::Client(failure)) => Some(failure.to_string()),
        _ => None,
    }
}

#[cfg(not(feature = "http-client"))]
fn own_words(_error: &(dyn StdError + 'static)) -> Option<String> {
    None
}

/// Removes the URL that reqwest appends to its errors: it may hold secrets, and the line goes to
/// callers.
fn without_url(mut text: String) -> String {
    if let Some(at) = text.find(" for url (") {
        text.truncate(at);
    }
    text
}
