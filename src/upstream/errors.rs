//! Translates the failures of rmcp to errors of a call.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use rmcp::{
    model::ErrorData,
    service::{ClientInitializeError, ServiceError},
};

#[cfg(feature = "http-client")]
use super::http::error_facts::facts_of;
use crate::{Error, TransportError, code, lines::LineError};

/// The facts that one error in a chain of errors gives about a failed exchange.
#[derive(Default)]
pub(super) struct ErrorFacts<'a> {
    /// The HTTP status of the response.
    pub(super) status: Option<u16>,
    pub(super) retry_after: Option<Duration>,
    pub(super) not_delivered: bool,
    /// The server has forgotten the session (MCP 2025-11-25, basic/transports, session management).
    /// It has done nothing then.
    pub(super) session_forgotten: bool,
    /// The server's own error about the session.
    pub(super) session_error: Option<&'a ErrorData>,
    /// The error replaces an answer that cannot be used.
    pub(super) replaces_answer: bool,
    /// The answer that it replaces is for another request.
    pub(super) other_request: bool,
    /// This crate's own text, where the text of the error itself does not help a reader.
    pub(super) text: Option<String>,
    /// A cause that the error does not give as its source. It is meant for readers only: the I/O
    /// errors of an HTTP connection do not tell whether a request was delivered.
    pub(super) hidden_cause: Option<&'a (dyn StdError + 'static)>,
}

/// Returns no facts: only the errors of an HTTP client have any.
#[cfg(not(feature = "http-client"))]
fn facts_of<'a>(_error: &'a (dyn StdError + 'static)) -> ErrorFacts<'a> {
    ErrorFacts::default()
}

/// Returns the error for a failed call of this method.
pub(super) fn of_call(upstream: &Arc<str>, method: &str, error: ServiceError) -> Error {
    match error {
        ServiceError::McpError(error) if facts_of(&error).replaces_answer => {
            let is_other = facts_of(&error).other_request;
            let message = match error.message.strip_prefix(THE_ANSWER) {
                Some(rest) => format!("{THE_ANSWER} to `{method}`{rest}").into(),
                None => error.message,
            };
            let error = match is_other {
                true => TransportError::new(message),
                false => TransportError::unreadable_answer(message),
            };
            error.with_upstream(upstream.clone()).into()
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
            classify(&facts_of_chain(&other), message)
                .with_upstream(upstream.clone())
                .with_source(other)
                .into()
        }
    }
}

/// Returns `true` if the connection must not serve another call: the server has forgotten the
/// session, or has answered another request than it was asked.
pub(super) fn ends_connection(error: &ServiceError) -> bool {
    match error {
        ServiceError::McpError(error) => facts_of(error).other_request,
        error => chain(error).any(|error| facts_of(error).session_forgotten),
    }
}

/// Returns the server's own error, if it has forgotten a session that was just begun. A new session
/// does not help then.
pub(super) fn forgotten_again(error: Error) -> Error {
    let said = chain(&error).find_map(|error| facts_of(error).session_error);
    match said {
        Some(said) => said.clone().into(),
        None => error,
    }
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

/// The start of the text about an answer that is not passed on.
const THE_ANSWER: &str = "the server's answer";

/// Returns the error for an answer to this method that cannot be read.
pub(super) fn unreadable(upstream: &Arc<str>, method: &str, why: LineError) -> Error {
    TransportError::unreadable_answer(format!("{THE_ANSWER} to `{method}` cannot be read: {why}"))
        .with_upstream(upstream.clone())
        .into()
}

/// Returns the error for a call whose server waits for an answer that was lost.
pub(super) fn reply_lost(upstream: &Arc<str>, why: &str) -> Error {
    TransportError::new(format!(
        "the caller's answer to a request of the server has not reached it: {why}"
    ))
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
    let found = facts_of_chain(&error);
    let mut transport = TransportError::not_delivered(message).with_upstream(upstream.clone());
    if let Some(status) = found.status {
        transport = transport.with_status(status);
    }
    if let Some(after) = found.retry_after {
        transport = transport.with_retry_after(after);
    }
    transport.with_source(error).into()
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

/// Returns an error and its causes.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error))
}

/// Returns the facts that a chain of errors gives.
fn facts_of_chain<'a>(error: &'a (dyn StdError + 'static)) -> ErrorFacts<'a> {
    let mut all = ErrorFacts::default();
    for error in chain(error) {
        let facts = facts_of(error);
        all.status = facts.status.or(all.status);
        all.retry_after = facts.retry_after.or(all.retry_after);
        all.not_delivered |= facts.not_delivered;
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{BrokenPipe, ConnectionRefused, NotFound};
            // The server does not take a line that was not written whole for a message.
            all.not_delivered |= matches!(io.kind(), BrokenPipe | ConnectionRefused | NotFound);
        }
    }
    all
}

fn classify(found: &ErrorFacts<'_>, message: String) -> TransportError {
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
pub(super) fn summary(error: &(dyn StdError + 'static)) -> String {
    let facts = facts_of(error);
    let mut line = facts.text.unwrap_or_else(|| without_url(error.to_string()));
    let mut next = cause(error).or(facts.hidden_cause);
    while let Some(current) = next {
        let text = without_url(current.to_string());
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        next = cause(current).or_else(|| facts_of(current).hidden_cause);
    }
    line
}

/// Removes the URL that reqwest appends to its errors: it may hold secrets, and the line goes to
/// callers.
fn without_url(mut text: String) -> String {
    if let Some(at) = text.find(" for url (") {
        text.truncate(at);
    }
    text
}
