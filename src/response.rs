use std::ops::{Deref, DerefMut};

use rmcp::model::{Extensions, ServerResult};

use crate::error::retry_after_in;

/// One answer on its way up through a stack.
///
/// It dereferences to its [`ResponseParts`], so `response.result` is rmcp's own [`ServerResult`] and
/// `response.extensions` what inner layers want outer ones to know (whom it is for, a count of attempts). The
/// parts are boxed: rmcp's result is several hundred bytes, and a stack passes a response through many
/// futures.
///
/// ```
/// use rmcp::model::{CallToolResult, ContentBlock};
/// use rmcp_layers::McpResponse;
///
/// let response = McpResponse::new(CallToolResult::success(vec![ContentBlock::text("4")]));
/// assert_eq!(response.as_tool_result().and_then(|tool| tool.is_error), Some(false));
/// ```
#[derive(Clone, Debug)]
pub struct McpResponse(Box<ResponseParts>);

/// The parts of an [`McpResponse`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ResponseParts {
    /// The answer, as the upstream or the handler gave it.
    pub result: ServerResult,
    /// Facts for outer layers. They never reach the wire. A cache keeps them with the answer, but not those that tell
    /// how it was fetched: how many attempts that took.
    pub extensions: Extensions,
    /// How a cache came by the answer. A place of its own, because each hit has one: in the extensions it takes three
    /// allocations, a fifth of what a hit takes.
    #[cfg(feature = "cache")]
    pub(crate) cache_status: Option<crate::cache_status::CacheStatus>,
}

impl McpResponse {
    /// A response with this result and no extensions.
    pub fn new(result: impl Into<ServerResult>) -> Self {
        Self(Box::new(ResponseParts {
            result: result.into(),
            extensions: Extensions::new(),
            #[cfg(feature = "cache")]
            cache_status: None,
        }))
    }

    /// Takes the response apart.
    pub fn into_parts(self) -> ResponseParts {
        *self.0
    }

    /// The result alone, without the extensions.
    pub fn into_result(self) -> ServerResult {
        self.0.result
    }

    /// The result of a finished `tools/call`, if this is one.
    pub fn as_tool_result(&self) -> Option<&rmcp::model::CallToolResult> {
        match &self.0.result {
            ServerResult::CallToolResult(result) => Some(result),
            _ => None,
        }
    }

    /// How long to wait before it is worth trying again, where a tool that failed (`isError`) says so: the
    /// `retryAfterMs` or `retryAfter` (seconds) entry of its result's `_meta`.
    pub fn retry_after(&self) -> Option<std::time::Duration> {
        let failed = self.as_tool_result()?;
        (failed.is_error == Some(true))
            .then(|| retry_after_in(failed.meta.as_ref()?))
            .flatten()
    }
}

#[cfg(feature = "cache")]
impl ResponseParts {
    /// The extensions, without what tells of the call that fetched the answer: for whoever gives it again, without
    /// that call. (Who served it is not among them: that is in the request, and without a call stays empty.)
    pub(crate) fn facts_of_the_answer(&self) -> Extensions {
        let mut facts = self.extensions.clone();
        facts.remove::<crate::attempts::Attempts>();
        facts
    }
}

impl From<ServerResult> for McpResponse {
    fn from(result: ServerResult) -> Self {
        Self::new(result)
    }
}

impl From<ResponseParts> for McpResponse {
    fn from(parts: ResponseParts) -> Self {
        Self(Box::new(parts))
    }
}

impl Deref for McpResponse {
    type Target = ResponseParts;

    fn deref(&self) -> &ResponseParts {
        &self.0
    }
}

impl DerefMut for McpResponse {
    fn deref_mut(&mut self) -> &mut ResponseParts {
        &mut self.0
    }
}
