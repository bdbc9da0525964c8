//! Answers, read as the result type of their request's method.
//!
//! rmcp reads a result as the first type of a union that fits. A member that the method does not
//! define can make it another type: rmcp reads a tool's result with `"tools": []` beside its content
//! as a list of tools, without the content. Here the request is known, so its method decides.

use rmcp::model::{
    CallToolResult, ClientRequest, CompleteResult, CreateTaskResult, CustomResult, DiscoverResult,
    GetPromptResult, GetSkillResult, GetTaskResult, InitializeResult, InputRequiredResult,
    JsonRpcMessage, JsonRpcResponse, JsonRpcVersion2_0, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListSkillsResult, ListToolsResult,
    ReadResourceResult, RequestId, ServerJsonRpcMessage, ServerResult, SubscriptionsListenResult,
};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Map, Value, json};

use crate::caller::Era;

type Read<T> = serde_json::Result<T>;

/// The result type of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    short: Short,
    in_text: fn(&[u8]) -> Read<Answer<ServerResult>>,
    in_json: fn(Value) -> Read<ServerResult>,
}

/// The meaning of `null` and of an empty object in a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Short {
    /// The method's result, in which this member is empty.
    Member(&'static str),
    /// An empty object.
    Nothing,
    /// No meaning: such a result does not fit the method.
    Other,
    /// Its own meaning: any JSON is a result of a custom method.
    Custom,
}

impl Short {
    fn has_meaning(self) -> bool {
        matches!(self, Self::Member(_) | Self::Nothing)
    }
}

impl Expected {
    pub(super) fn of(request: &ClientRequest) -> Self {
        use Short::{Custom, Member, Nothing, Other};
        match request {
            ClientRequest::CallToolRequest(_) => Self::a::<CallToolResult>(Member("content")),
            ClientRequest::GetPromptRequest(_) => Self::a::<GetPromptResult>(Member("messages")),
            ClientRequest::ReadResourceRequest(_) => {
                Self::a::<ReadResourceResult>(Member("contents"))
            }
            ClientRequest::CompleteRequest(_) => Self::a::<CompleteResult>(Member("completion")),
            ClientRequest::ListToolsRequest(_) => Self::a::<ListToolsResult>(Member("tools")),
            ClientRequest::ListPromptsRequest(_) => Self::a::<ListPromptsResult>(Member("prompts")),
            ClientRequest::ListResourcesRequest(_)
            | ClientRequest::ReadResourceDirectoryRequest(_) => {
                Self::a::<ListResourcesResult>(Member("resources"))
            }
            ClientRequest::ListResourceTemplatesRequest(_) => {
                Self::a::<ListResourceTemplatesResult>(Member("resourceTemplates"))
            }
            ClientRequest::ListSkillsRequest(_) => Self::a::<ListSkillsResult>(Member("skills")),
            ClientRequest::InitializeRequest(_) => Self::a::<InitializeResult>(Other),
            ClientRequest::DiscoverRequest(_) => Self::a::<DiscoverResult>(Other),
            ClientRequest::SubscriptionsListenRequest(_) => {
                Self::a::<SubscriptionsListenResult>(Other)
            }
            ClientRequest::GetTaskRequest(_) => Self::a::<GetTaskResult>(Other),
            ClientRequest::GetSkillRequest(_) => Self::a::<GetSkillResult>(Other),
            ClientRequest::PingRequest(_)
            | ClientRequest::SetLevelRequest(_)
            | ClientRequest::SubscribeRequest(_)
            | ClientRequest::UnsubscribeRequest(_)
            | ClientRequest::UpdateTaskRequest(_)
            | ClientRequest::CancelTaskRequest(_) => Self::a::<CustomResult>(Nothing),
            _ => Self::a::<CustomResult>(Custom),
        }
    }

    fn a<R: DeserializeOwned + Into<ServerResult> + 'static>(short: Short) -> Self {
        Self {
            short,
            in_text: |text| {
                let answer: Answer<R> = serde_json::from_slice(text)?;
                Ok(answer.map(R::into))
            },
            in_json: |json| serde_json::from_value::<R>(json).map(R::into),
        }
    }

    /// Returns `true` if the protocol does not have the request's method.
    pub(super) fn is_custom(self) -> bool {
        self.short == Short::Custom
    }

    /// Reads an answer to the request. A result that does not fit the method is read as a custom
    /// result.
    pub(super) fn answer_in(self, text: &[u8]) -> Read<JsonRpcResponse<ServerResult>> {
        let is_typed = matches!(self.short, Short::Member(_) | Short::Other);
        if is_typed && let Ok(answer) = (self.in_text)(text) {
            return answer.into_response();
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
            ServerResult::EmptyResult(_) | ServerResult::TaskAckResult(_)
                if self.short.has_meaning() =>
            {
                match serde_json::to_value(&result) {
                    Ok(json) => self.read_short(json).unwrap_or(result),
                    Err(_) => result,
                }
            }
            ServerResult::CustomResult(CustomResult(json)) if self.short.has_meaning() => {
                match self.read_short(json.clone()) {
                    Some(result) => result,
                    None => ServerResult::CustomResult(CustomResult(json)),
                }
            }
            result => result,
        }
    }

    fn read_short(self, json: Value) -> Option<ServerResult> {
        let mut members = match json {
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
        match self.short {
            Short::Nothing => return is_empty.then(|| ServerResult::empty(())),
            Short::Member(name) if is_empty => {
                let value = match name {
                    "completion" => json!({ "values": [] }),
                    _ => json!([]),
                };
                members.insert(name.to_owned(), value);
            }
            Short::Member(_) | Short::Other | Short::Custom => {}
        }
        (self.in_json)(Value::Object(members)).ok()
    }
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

/// Reads a result that does not fit its method. Any method may ask for input or begin a task instead
/// (MCP 2026-07-28, basic, results).
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
