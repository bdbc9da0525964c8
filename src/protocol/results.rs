use rmcp::model::{
    CallToolResponse, CompleteResult, CustomResult, DiscoverResult, GetPromptResponse,
    GetSkillResult, GetTaskResult, ListPromptsResult, ListResourceTemplatesResult,
    ListResourcesResult, ListSkillsResult, ListToolsResult, ReadResourceResponse, ServerResult,
};
use serde::de::DeserializeOwned;

use crate::{Error, TransportError};

/// The result type of one method.
pub(crate) trait MethodResult: Sized {
    /// Extracts the result from the union, or returns the union.
    fn take(result: ServerResult) -> Result<Self, Box<ServerResult>>;
    /// Parses the result from its JSON.
    fn read(json: serde_json::Value) -> Result<Self, serde_json::Error>;
}

/// Returns the result as the type of its method.
///
/// rmcp parses an upstream's response without knowing the method, as the first type of a union that
/// fits. This is sometimes the wrong type: a tool result without content is parsed as an empty
/// result. The response is then parsed again as the right type.
pub(crate) fn expect<T: MethodResult>(result: ServerResult) -> Result<T, Error> {
    T::take(result).or_else(|other| {
        serde_json::to_value(&other)
            .and_then(T::read)
            .map_err(|error| {
                TransportError::new("unreadable answer: it does not fit the method")
                    .with_source(error)
                    .into()
            })
    })
}

fn read<T: DeserializeOwned>(json: serde_json::Value) -> Result<T, serde_json::Error> {
    serde_json::from_value(json)
}

macro_rules! method_result {
    ($($Result:ident)*) => {$(
        impl MethodResult for $Result {
            fn take(result: ServerResult) -> Result<Self, Box<ServerResult>> {
                match result {
                    ServerResult::$Result(result) => Ok(result),
                    other => Err(Box::new(other)),
                }
            }
            fn read(json: serde_json::Value) -> Result<Self, serde_json::Error> {
                read(json)
            }
        }
    )*};
}

method_result! {
    DiscoverResult CompleteResult ListPromptsResult ListResourcesResult ListResourceTemplatesResult
    ListToolsResult GetTaskResult ListSkillsResult GetSkillResult CustomResult
}

macro_rules! method_response {
    ($($Response:ident: $Result:ident $(| $Task:ident => $Variant:ident)?;)*) => {$(
        impl MethodResult for $Response {
            fn take(result: ServerResult) -> Result<Self, Box<ServerResult>> {
                match result {
                    ServerResult::$Result(result) => Ok(Self::Complete(result)),
                    ServerResult::InputRequiredResult(result) => Ok(Self::InputRequired(result)),
                    $(ServerResult::$Task(result) => Ok(Self::$Variant(result)),)?
                    other => Err(Box::new(other)),
                }
            }
            fn read(json: serde_json::Value) -> Result<Self, serde_json::Error> {
                read(json).map(Self::Complete)
            }
        }
    )*};
}

method_response! {
    CallToolResponse: CallToolResult | CreateTaskResult => Task;
    GetPromptResponse: GetPromptResult;
    ReadResourceResponse: ReadResourceResult;
}
