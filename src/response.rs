use std::ops::{Deref, DerefMut};

use rmcp::model::{Extensions, ServerResult};

use crate::{CallReport, Error, Lossless, error::retry_after_in};

/// A response on its way up through a stack.
///
/// It dereferences to its [`ResponseParts`]. `response.result` is rmcp's own [`ServerResult`], with
/// the text that it was read from.
/// `response.report` has facts from the crate's layers for outer ones, and `response.extensions`
/// has those of foreign layers. The parts are boxed, because rmcp's result has several hundred bytes
/// and a stack passes a response through many futures.
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

/// The result of a call down a stack.
pub(crate) type CallResult = Result<McpResponse, Error>;

/// The parts of an [`McpResponse`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ResponseParts {
    /// The result from the upstream or the handler.
    pub result: Lossless<ServerResult>,
    /// Facts for outer layers, by type. They never reach the wire. A cache keeps them with the
    /// response.
    pub extensions: Extensions,
    /// Facts about the call. They never reach the wire. A cache keeps
    /// [part of them](CallReport::for_cached_response) with the response.
    pub report: CallReport,
}

impl McpResponse {
    /// Creates a response with this result, no extensions and an empty report.
    pub fn new(result: impl Into<ServerResult>) -> Self {
        Self::lossless(Lossless::new(result.into()))
    }

    pub(crate) fn lossless(result: Lossless<ServerResult>) -> Self {
        Self(Box::new(ResponseParts {
            result,
            extensions: Extensions::new(),
            report: CallReport::new(),
        }))
    }

    /// Splits the response into its parts.
    pub fn into_parts(self) -> ResponseParts {
        *self.0
    }

    /// Returns the result without its text and the extensions.
    pub fn into_result(self) -> ServerResult {
        self.0.result.into_inner()
    }

    /// Returns the result as the type of its request's method, such as `ListToolsResult`.
    ///
    /// rmcp reads a server's answer without its method, as the first type that fits. Sometimes this
    /// is another type: a tool result without content is read as an empty result. Such a result is
    /// read again as the given type.
    ///
    /// ```
    /// use rmcp::model::{CallToolResponse, CallToolResult, ContentBlock};
    /// use rmcp_layers::{Error, McpResponse};
    ///
    /// let response = McpResponse::new(CallToolResult::success(vec![ContentBlock::text("4")]));
    /// let result: CallToolResponse = response.into_typed_result()?;
    /// assert!(matches!(result, CallToolResponse::Complete(_)));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails with a transport error if the result does not fit the type.
    pub fn into_typed_result<T: TypedResult>(self) -> Result<T, Error> {
        T::typed(self.into_result())
    }

    /// Returns the result of a finished `tools/call`, if this is one.
    pub fn as_tool_result(&self) -> Option<&rmcp::model::CallToolResult> {
        match &*self.0.result {
            ServerResult::CallToolResult(result) => Some(result),
            _ => None,
        }
    }

    /// Returns the time after which a retry is useful, if a failed tool (`isError`) names one. It
    /// is `retryAfterMs` or `retryAfter` (seconds) in the result's `_meta`.
    pub fn retry_after(&self) -> Option<std::time::Duration> {
        let failed = self.as_tool_result()?;
        (failed.is_error == Some(true))
            .then(|| retry_after_in(failed.meta.as_ref()?))
            .flatten()
    }
}

/// The result type of a method; see [`McpResponse::into_typed_result`].
///
/// It is implemented for rmcp's result types, and for `CallToolResponse`, `GetPromptResponse` and
/// `ReadResourceResponse`, which have a variant for each result of a multi-round (MRTR) method. It
/// cannot be implemented for other types.
pub trait TypedResult: sealed::Sealed {}

impl<T: sealed::Sealed> TypedResult for T {}

mod sealed {
    use rmcp::model::ServerResult;

    use crate::{
        Error,
        protocol::results::{self, MethodResult},
    };

    pub trait Sealed: Sized {
        fn typed(result: ServerResult) -> Result<Self, Error>;
    }

    impl<T: MethodResult> Sealed for T {
        fn typed(result: ServerResult) -> Result<Self, Error> {
            results::expect(result)
        }
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
