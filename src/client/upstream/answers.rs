//! Results that leave out what their method's type requires.

use rmcp::model::{ClientRequest, CustomResult, ServerResult};
use serde_json::{Map, Value, json};

use crate::caller::Era;

/// The result type of a request, as far as it is needed to read a short result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// An object with this member.
    Member(&'static str),
    /// An empty object.
    Nothing,
    /// A result without a form that means "nothing".
    Other,
    /// Any JSON.
    Custom,
}

impl Expected {
    pub(super) fn of(request: &ClientRequest) -> Self {
        match request {
            ClientRequest::CallToolRequest(_) => Self::Member("content"),
            ClientRequest::GetPromptRequest(_) => Self::Member("messages"),
            ClientRequest::ReadResourceRequest(_) => Self::Member("contents"),
            ClientRequest::CompleteRequest(_) => Self::Member("completion"),
            ClientRequest::ListToolsRequest(_) => Self::Member("tools"),
            ClientRequest::ListPromptsRequest(_) => Self::Member("prompts"),
            ClientRequest::ListResourcesRequest(_)
            | ClientRequest::ReadResourceDirectoryRequest(_) => Self::Member("resources"),
            ClientRequest::ListResourceTemplatesRequest(_) => Self::Member("resourceTemplates"),
            ClientRequest::ListSkillsRequest(_) => Self::Member("skills"),
            ClientRequest::PingRequest(_)
            | ClientRequest::SetLevelRequest(_)
            | ClientRequest::SubscribeRequest(_)
            | ClientRequest::UnsubscribeRequest(_)
            | ClientRequest::UpdateTaskRequest(_)
            | ClientRequest::CancelTaskRequest(_) => Self::Nothing,
            ClientRequest::CustomRequest(_) => Self::Custom,
            _ => Self::Other,
        }
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
                match serde_json::to_value(&result) {
                    Ok(json) => self.read_short(json).unwrap_or(result),
                    Err(_) => result,
                }
            }
            ServerResult::CustomResult(CustomResult(json)) => match self.read_short(json.clone()) {
                Some(result) => result,
                None => ServerResult::CustomResult(CustomResult(json)),
            },
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
        match self {
            Self::Other | Self::Custom => return None,
            Self::Nothing if is_empty => return Some(ServerResult::empty(())),
            Self::Member(name) if is_empty => {
                let value = match name {
                    "completion" => json!({ "values": [] }),
                    _ => json!([]),
                };
                members.insert(name.to_owned(), value);
            }
            Self::Nothing | Self::Member(_) => {}
        }
        match serde_json::from_value(Value::Object(members)) {
            Ok(ServerResult::CustomResult(_)) | Err(_) => None,
            Ok(result) => Some(result),
        }
    }
}
