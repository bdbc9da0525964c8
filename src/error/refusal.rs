use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use rmcp::model::ErrorCode;
use serde_json::Value;
use tower::BoxError;

use super::{Delivered, Source, code};

/// A layer's refusal, with the layer, the reason and the time after which a retry is useful.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub(super) layer: &'static str,
    pub(super) code: ErrorCode,
    pub(super) message: Cow<'static, str>,
    pub(super) data: Option<Box<Value>>,
    pub(super) retry_after: Option<Duration>,
    pub(super) delivered: Delivered,
    source: Option<Source>,
}

impl Refusal {
    /// Creates a refusal by `layer` (its name in lower case: `auth`, `breaker`), with
    /// [`code::UNAVAILABLE`].
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

    /// Sets the JSON-RPC code. Default: [`code::UNAVAILABLE`]. Codes from -32768 to -32000 are
    /// reserved; use -31000 less an HTTP status.
    #[must_use]
    pub fn with_code(mut self, code: ErrorCode) -> Self {
        self.code = code;
        self
    }

    /// Adds to the wire error's data. The members of an object are merged with the crate's own; any
    /// other value is put under `detail`.
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = Some(Box::new(data));
        self
    }

    /// Sets the time after which a retry is useful. A retry after exactly this time should succeed,
    /// so round it up. On the wire it is rounded up to milliseconds. Default: none.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Sets whether a server can have received the request before the layer refused it. Default:
    /// [`Delivered::No`].
    #[must_use]
    pub fn with_delivered(mut self, delivered: Delivered) -> Self {
        self.delivered = delivered;
        self
    }

    /// Sets the cause of the refusal. It is for logs and never reaches the wire.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Returns the layer that refused.
    pub fn layer(&self) -> &'static str {
        self.layer
    }

    /// Returns the JSON-RPC code that the caller receives.
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
