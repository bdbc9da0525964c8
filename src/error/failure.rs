use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use tower::BoxError;

use super::Source;

/// A failed connection, with the upstream and whether the request can have reached it.
#[derive(Clone, Debug)]
pub struct TransportError {
    pub(super) upstream: Option<Arc<str>>,
    pub(super) message: Cow<'static, str>,
    pub(super) delivered: Delivered,
    pub(super) retry_after: Option<Duration>,
    pub(super) status: Option<u16>,
    detail: Option<Arc<str>>,
    source: Option<Source>,
}

/// The knowledge about whether a failed request has reached the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Delivered {
    /// It provably did not reach the server. The server has done nothing for it, so any method may
    /// be repeated.
    No,
    /// It may have reached the server, which may have run it wholly or in part.
    Unknown,
    /// The server has answered it, but the answer cannot be read.
    Yes,
}

impl TransportError {
    /// Creates a failure after which the request may have been delivered.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            upstream: None,
            message: message.into(),
            delivered: Delivered::Unknown,
            retry_after: None,
            status: None,
            detail: None,
            source: None,
        }
    }

    /// Creates a failure that happened before anything was delivered.
    pub fn not_delivered(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            delivered: Delivered::No,
            ..Self::new(message)
        }
    }

    /// Sets the name of the upstream.
    #[must_use]
    pub fn with_upstream(mut self, upstream: impl Into<Arc<str>>) -> Self {
        self.upstream = Some(upstream.into());
        self
    }

    /// Creates the failure of a request whose answer cannot be read.
    pub(crate) fn unreadable_answer(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            delivered: Delivered::Yes,
            ..Self::new(message)
        }
    }

    /// Sets the time after which a retry is useful.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Sets the HTTP status of the upstream's response.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Sets the cause of the error.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Adds details for the operator. Callers never see them, because they may contain secrets.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Arc<str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Replaces the message.
    pub(crate) fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = message.into();
        self
    }

    /// Appends the reason to the message.
    pub(crate) fn with_reason(self, reason: &str) -> Self {
        let message = format!("{}: {reason}", self.message);
        self.with_message(message)
    }

    pub(super) fn with_detail_shown(self) -> Self {
        match self.detail() {
            Some(detail) => {
                let message = format!("{}; {detail}", self.message);
                self.with_message(message)
            }
            None => self,
        }
    }

    /// Returns the details for the operator, in several lines. For a child process that ended,
    /// these are the last lines of its standard error. They never reach the wire.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// Returns the upstream's name, if it has one.
    pub fn upstream(&self) -> Option<&str> {
        self.upstream.as_deref()
    }

    /// Returns whether the request can have reached the server.
    pub fn delivered(&self) -> Delivered {
        self.delivered
    }

    /// Returns the HTTP status of the upstream's response, if there was one.
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

/// No response within a time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutError {
    pub(super) after: Option<Duration>,
}

impl TimeoutError {
    /// Returns the time limit that passed.
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
