//! Results of tools in this process.

use std::future::Future;

use rmcp::{
    handler::server::{tool::IntoCallToolResult, wrapper::Json},
    model::{CallToolResponse, CallToolResult, ContentBlock, InputRequiredResult, ServerResult},
    schemars::JsonSchema,
};
use serde::Serialize;
use tower::BoxError;

use crate::{Error, McpResponse};

/// A value that a tool's [handler](super::RegisteredToolBuilder::handler) returns:
///
/// - a `String`, a `&'static str`, or `()` for a result without content;
/// - a `ContentBlock`;
/// - `rmcp::Json` for structured content;
/// - a `CallToolResult` or a `CallToolResponse`;
/// - an `InputRequiredResult` (a round of MRTR, SEP-2322). In the next round, the context's
///   extensions hold the `CallToolRequestParams` with the caller's input;
/// - a `Result` of any type that rmcp converts into a tool result, with any error.
pub trait IntoToolResult {
    /// Converts the value. The message of an error becomes the text of a result with `isError`.
    fn into_tool_result(self) -> Result<CallToolResponse, BoxError>;
}

impl<R, E> IntoToolResult for Result<R, E>
where
    R: IntoCallToolResult,
    E: Into<BoxError>,
{
    fn into_tool_result(self) -> Result<CallToolResponse, BoxError> {
        let converted = self.map_err(Into::into)?.into_call_tool_result();
        converted.map_err(|error| error.message.into())
    }
}

impl IntoToolResult for &'static str {
    fn into_tool_result(self) -> Result<CallToolResponse, BoxError> {
        self.to_owned().into_tool_result()
    }
}

macro_rules! into_tool_result {
    ($($Type:ty)*) => {$(
        impl IntoToolResult for $Type {
            fn into_tool_result(self) -> Result<CallToolResponse, BoxError> {
                Ok::<_, BoxError>(self).into_tool_result()
            }
        }
    )*};
}

into_tool_result! { () CallToolResponse CallToolResult ContentBlock InputRequiredResult String }

impl<T: Serialize + JsonSchema + 'static> IntoToolResult for Json<T> {
    fn into_tool_result(self) -> Result<CallToolResponse, BoxError> {
        Ok::<_, BoxError>(self).into_tool_result()
    }
}

/// Returns the response of a tool whose handler answers so.
pub(super) async fn finish(
    answer: impl Future<Output: IntoToolResult>,
) -> Result<McpResponse, Error> {
    Ok(match answer.await.into_tool_result() {
        Ok(CallToolResponse::Complete(result)) => McpResponse::new(result),
        Ok(CallToolResponse::InputRequired(result)) => {
            McpResponse::new(ServerResult::InputRequiredResult(result))
        }
        Ok(CallToolResponse::Task(result)) => {
            McpResponse::new(ServerResult::CreateTaskResult(result))
        }
        Ok(_) => tool_error("the handler's answer is of a kind that is not known here"),
        Err(error) => tool_error(error.to_string()),
    })
}

/// Returns a result that tells the model about a failure, so that it can correct its call.
pub(super) fn tool_error(message: impl Into<String>) -> McpResponse {
    McpResponse::new(CallToolResult::error(vec![ContentBlock::text(message)]))
}
