//! Answers, read as the result type of their request's method.
//!
//! rmcp reads a result as the first type of a union that fits. A member that the method does not
//! define can make it another type: rmcp reads a tool's result with `"tools": []` beside its
//! content as a list of tools, without the content. Here the request is known, so its method
//! decides.

use rmcp::model::{
    ClientRequest, CreateTaskResult, CustomResult, InputRequiredResult, JsonRpcMessage,
    JsonRpcResponse, JsonRpcVersion2_0, NumberOrString, RequestId, ServerJsonRpcMessage,
    ServerResult,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};

use super::lenient_lists;
use crate::{
    caller::Era,
    protocol::{
        methods::{Method, WithResult},
        results::{Empty, ResultRow},
    },
};

type Read<T> = serde_json::Result<T>;

/// The result type of a request. A custom request has none: any JSON is its result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected(Option<Method>);

/// Reads an answer from its text, with a result of one type.
struct InText<'a>(&'a [u8]);

impl WithResult for InText<'_> {
    type Output = Read<JsonRpcResponse<ServerResult>>;
    fn call<R: ResultRow>(self) -> Self::Output {
        let answer: Answer<R> = serde_json::from_slice(self.0)?;
        answer.map(R::into).into_response()
    }
}

impl Expected {
    pub(super) fn of(request: &ClientRequest) -> Self {
        Self(Method::of(request))
    }

    /// Returns the result that rmcp gets in place of this one. rmcp's client looks into lists of
    /// tools only, for the arguments that also go in headers (MCP 2026-07-28, SEP-2243).
    pub(super) fn result_for_rmcp(self, result: &ServerResult) -> ServerResult {
        let tools = match result {
            _ if self.0 != Some(Method::ListTools) => None,
            ServerResult::ListToolsResult(_) => Some(result.clone()),
            ServerResult::CustomResult(list) => lenient_lists::readable_tools(&list.0),
            _ => None,
        };
        tools.unwrap_or_else(|| ServerResult::empty(()))
    }

    /// Returns `true` if the protocol does not have the request's method.
    pub(super) fn is_custom(self) -> bool {
        self.0.is_none()
    }

    /// Reads an answer to the request. A result that does not fit the method is read as a custom
    /// result.
    pub(super) fn answer_in(self, text: &[u8]) -> Read<JsonRpcResponse<ServerResult>> {
        // An empty object is read below, because it may have members of its own.
        if let Some(method) = self.0
            && !matches!(method.empty_result(), Empty::Object)
            && let Ok(answer) = method.with_result(InText(text))
        {
            return Ok(answer);
        }
        let answer: Answer<Value> = serde_json::from_slice(text)?;
        answer.map(other_result).into_response()
    }

    /// Reads a result leniently: `null` and an empty object are the method's empty result, and a
    /// member that is `null` is absent. Structured content may be `null` since 2026-07-28.
    pub(super) fn read(self, result: ServerResult, era: Era) -> ServerResult {
        match result {
            ServerResult::CallToolResult(mut result) if era == Era::Legacy => {
                result
                    .structured_content
                    .take_if(|content| content.is_null());
                ServerResult::CallToolResult(result)
            }
            ServerResult::EmptyResult(_) | ServerResult::TaskAckResult(_) => {
                let json = || serde_json::to_value(&result).ok();
                self.read_empty(json).unwrap_or(result)
            }
            ServerResult::CustomResult(CustomResult(json)) => self
                .read_empty(|| Some(json.clone()))
                .unwrap_or(ServerResult::CustomResult(CustomResult(json))),
            result => result,
        }
    }

    /// Reads a result that is the method's empty result. Returns `None` if the method has none, or
    /// if the result does not fit it.
    fn read_empty(self, json: impl FnOnce() -> Option<Value>) -> Option<ServerResult> {
        let method = self.0?;
        let empty = match method.empty_result() {
            Empty::Misfit => return None,
            Empty::Object => None,
            Empty::Result(empty) => Some(empty),
        };
        let mut members = match json()? {
            Value::Null => Map::new(),
            Value::Object(members) => members,
            _ => return None,
        };
        members.retain(|_, member| !member.is_null());
        let mut names = members.keys().map(String::as_str);
        let is_empty = names.all(|name| matches!(name, "_meta" | "resultType"))
            && members
                .get("resultType")
                .is_none_or(|kind| kind == "complete");
        match empty {
            None => return is_empty.then(|| ServerResult::empty(())),
            Some(empty) if is_empty => {
                if let Value::Object(empty) = empty() {
                    members.extend(empty);
                }
            }
            Some(_) => {}
        }
        method.read_result(Value::Object(members)).ok()
    }
}

/// Returns the number of a request of this side in the `id` of an answer. Requests are counted from
/// zero. Some servers return the number as a text, which rmcp takes for the same. Any other `id`
/// names no request.
pub(super) fn number_in(id: &RequestId) -> Option<i64> {
    let number = match id {
        NumberOrString::Number(number) => *number,
        NumberOrString::String(text) => text.parse().ok()?,
    };
    (number >= 0).then_some(number)
}

/// Reads a message of a server. An answer is read as what `expected` finds by its id.
pub(super) fn message_in(
    text: &[u8],
    expected: impl FnOnce(&RequestId) -> Option<Expected>,
) -> Read<ServerJsonRpcMessage> {
    match answer_in(text, expected) {
        Some(answer) => answer.map(JsonRpcMessage::Response),
        None => serde_json::from_slice(text),
    }
}

/// Reads an answer with a result. Returns `None` if the text is not an answer to a known request.
pub(super) fn answer_in(
    text: &[u8],
    expected: impl FnOnce(&RequestId) -> Option<Expected>,
) -> Option<Read<JsonRpcResponse<ServerResult>>> {
    let answer: Answer<IgnoredAny> = serde_json::from_slice(text).ok()?;
    let expected = expected(&answer.id).filter(|_| answer.is_one())?;
    Some(expected.answer_in(text))
}

/// Reads a result that does not fit its method. Any method may ask for input or begin a task
/// instead (MCP 2026-07-28, basic, results).
fn other_result(json: Value) -> ServerResult {
    let read = match json.get("resultType").and_then(Value::as_str) {
        Some("input_required") => InputRequiredResult::deserialize(&json).map(Into::into).ok(),
        Some("task") => CreateTaskResult::deserialize(&json).map(Into::into).ok(),
        _ => None,
    };
    read.unwrap_or_else(|| CustomResult(json).into())
}

/// The members of an answer with a result. It has neither `error` nor `method`.
#[derive(Deserialize)]
struct Answer<R> {
    jsonrpc: JsonRpcVersion2_0,
    id: RequestId,
    result: R,
    error: Option<IgnoredAny>,
    method: Option<IgnoredAny>,
}

impl<R> Answer<R> {
    fn is_one(&self) -> bool {
        self.error.is_none() && self.method.is_none()
    }

    fn map<T>(self, of: impl FnOnce(R) -> T) -> Answer<T> {
        Answer {
            jsonrpc: self.jsonrpc,
            id: self.id,
            result: of(self.result),
            error: self.error,
            method: self.method,
        }
    }

    fn into_response(self) -> Read<JsonRpcResponse<R>> {
        if !self.is_one() {
            return Err(serde::de::Error::custom(
                "it is not an answer with a result",
            ));
        }
        Ok(JsonRpcResponse {
            jsonrpc: self.jsonrpc,
            id: self.id,
            result: self.result,
        })
    }
}
