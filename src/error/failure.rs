use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use tower::BoxError;

use super::Source;

/// A failed connection: to which upstream, and whether the request can have reached it.
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
            detail: None,
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

    /// Adds what the operator may read and callers must not, because it may hold secrets.
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

    /// Says in the message what it came from.
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

    /// What the operator may read beside the message, in several lines: of a child process that ended, the
    /// last lines of its standard error. It never reaches the wire.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
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
    pub(super) after: Option<Duration>,
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
