//! Answers of a server, read as the result type of their request's method.
//!
//! rmcp reads a result as the first type of a union that fits. A member that the method does not
//! define can make it another type: rmcp reads a tool's result with `"tools": []` beside its
//! content as a list of tools, without the content. Here the request is known, so its method
//! decides.

use std::borrow::Cow;

use rmcp::model::{
    ClientRequest, CreateTaskResult, CustomResult, InputRequiredResult, NumberOrString, RequestId,
    ServerJsonRpcMessage, ServerResult,
};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use tokio_util::bytes::Bytes;

use super::{
    apply::apply,
    envelope::{Envelope, Outcome, typed_in},
    lists::{self, ReadList},
    lossless::{Lossless, Reading, Source},
    members::{self, Members},
    numbers, partial, usual,
};
use crate::{
    caller::Era,
    protocol::{
        methods::Method,
        results::{self, Empty},
        unreadable_items::UnreadableItem,
    },
};

type Read<T> = serde_json::Result<T>;

/// The result type of a request. A custom request has none: any JSON is its result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected(Option<Method>);

/// The result of a call, with its text.
#[derive(Clone, Debug)]
pub(crate) struct ReadAnswer {
    pub(crate) result: ServerResult,
    /// The text of the result. `None` if rmcp has read it.
    pub(crate) text: Option<Bytes>,
    /// The items that a list was read without.
    pub(crate) left_out: Vec<UnreadableItem>,
}

impl From<ServerResult> for ReadAnswer {
    fn from(result: ServerResult) -> Self {
        Self {
            result,
            text: None,
            left_out: Vec::new(),
        }
    }
}

/// The way in which a result is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadResult {
    pub(crate) expected: Expected,
    /// The era of the server.
    pub(crate) era: Era,
}

impl ReadResult {
    /// Reads a result from its text.
    pub(crate) fn read(self, text: &[u8]) -> Read<ServerResult> {
        let (result, _) = self.expected.result_in(text)?;
        Ok(self.adapted(result))
    }

    /// Returns the result of an answer, and the items that a list was read without.
    pub(crate) fn lossless(
        self,
        mut answer: ReadAnswer,
    ) -> (Lossless<ServerResult>, Vec<UnreadableItem>) {
        if let ServerResult::CustomResult(CustomResult(json)) = &answer.result
            && answer.text.is_none()
            && let Some(list) = self.expected.list_in(json)
        {
            (answer.result, answer.left_out) = (list.result, list.left_out);
        }
        let (mut result, is_repaired) = self.expected.read(answer.result, self.era);
        let text = match answer.text {
            Some(text) if is_repaired || self.has_null_members(&text) => repaired(&text, &result),
            text => text,
        };
        self.mark(&mut result);
        let source = text.map(|text| Source::new(text, Reading::Result(self)));
        (Lossless::from_source(result, source), answer.left_out)
    }

    fn adapted(self, result: ServerResult) -> ServerResult {
        let (mut result, _) = self.expected.read(result, self.era);
        self.mark(&mut result);
        result
    }

    /// Returns `true` if a member that the protocol has is `null`, which is not a value of any.
    fn has_null_members(self, text: &[u8]) -> bool {
        if self.expected.is_custom() || memchr::memmem::find(text, b"null").is_none() {
            return false;
        }
        let members: Members<'_> = serde_json::from_slice(text).unwrap_or_default();
        let mut null = members.0.iter().filter(|(_, value)| value.get() == "null");
        null.any(|(name, _)| NULL_IS_ABSENT.contains(&&**name))
    }

    fn mark(self, result: &mut ServerResult) {
        if self.era == Era::Legacy && !self.expected.is_custom() {
            results::mark_complete(result);
        }
    }
}

/// The members of results that are absent if they are `null`. `structuredContent` is one of them
/// before 2026-07-28.
const NULL_IS_ABSENT: &[&str] = &[
    "_meta",
    "cacheScope",
    "capabilities",
    "completion",
    "content",
    "contents",
    "description",
    "instructions",
    "isError",
    "messages",
    "nextCursor",
    "prompts",
    "resourceTemplates",
    "resources",
    "resultType",
    "skills",
    "tools",
    "ttlMs",
];

impl Expected {
    pub(crate) fn of(request: &ClientRequest) -> Self {
        Self(Method::of(request))
    }

    /// Returns the result type of a method's requests.
    pub(crate) fn result_of(method: Method) -> Self {
        Self(Some(method))
    }

    pub(crate) fn method(self) -> Option<Method> {
        self.0
    }

    /// Returns `true` if the protocol does not have the request's method.
    pub(crate) fn is_custom(self) -> bool {
        self.0.is_none()
    }

    /// Reads the answer whose result is a part of `text`.
    pub(crate) fn answer_in(self, text: &Bytes, result: &RawValue) -> Read<ReadAnswer> {
        let text = text.slice_ref(result.get().as_bytes());
        let (result, list) = self.result_in(&text)?;
        let (text, left_out) = match list {
            Some(list) => (list.text(&text).unwrap_or(text), list.left_out),
            None => (text, Vec::new()),
        };
        Ok(ReadAnswer {
            result,
            text: Some(text),
            left_out,
        })
    }

    /// Reads the answer in a message of the usual form. Returns `None` if the message is to be read
    /// by its envelope.
    fn usual_answer_in(self, text: &Bytes, result: &str) -> Option<ReadAnswer> {
        let method = self.0?;
        if matches!(method.empty_result(), Empty::Object) {
            return None;
        }
        let mut from = serde_json::Deserializer::from_str(result);
        let read = method.read_result(&mut from).ok()?;
        from.end().ok()?;
        Some(ReadAnswer {
            result: read,
            text: Some(text.slice_ref(result.as_bytes())),
            left_out: Vec::new(),
        })
    }

    fn list_in(self, json: &Value) -> Option<ReadList> {
        self.0
            .filter(|_| is_complete(json))
            .and_then(|method| lists::read(method, json))
    }

    /// Reads a result. One that does not fit the method is read in part, or else as a custom
    /// result.
    fn result_in(self, text: &[u8]) -> Read<(ServerResult, Option<ReadList>)> {
        // An empty object is read later, because it may have members of its own.
        if let Some(method) = self.0
            && !matches!(method.empty_result(), Empty::Object)
        {
            let mut from = serde_json::Deserializer::from_slice(text);
            if let Ok(result) = method.read_result(&mut from)
                && from.end().is_ok()
            {
                return Ok((result, None));
            }
        }
        let text = std::str::from_utf8(text).map_err(serde::de::Error::custom)?;
        let json: Value = match serde_json::from_str(text) {
            Ok(json) => json,
            Err(error) => match numbers::within_range(text) {
                Cow::Owned(text) => return self.result_in(text.as_bytes()),
                Cow::Borrowed(_) => return Err(error),
            },
        };
        if self.0.is_some() && !json.is_object() && !json.is_null() {
            return Err(serde::de::Error::custom("the result is not an object"));
        }
        if let Some(mut list) = self.list_in(&json) {
            let result = std::mem::replace(&mut list.result, ServerResult::empty(()));
            return Ok((result, Some(list)));
        }
        if let Some(method) = self.0
            && is_complete(&json)
            && let Some(readable) = partial::readable(method, &json)
            && let Ok(result) = method.read_result(readable)
        {
            return Ok((result, None));
        }
        Ok((other_result(json), None))
    }

    /// Reads a result leniently: `null` and an empty object are the method's empty result, and a
    /// member that is `null` is absent. Structured content may be `null` since 2026-07-28. Returns
    /// `true` if that made a difference.
    fn read(self, result: ServerResult, era: Era) -> (ServerResult, bool) {
        match result {
            ServerResult::CallToolResult(mut result) if era == Era::Legacy => {
                let content = &mut result.structured_content;
                let is_null = content.take_if(|content| content.is_null()).is_some();
                (ServerResult::CallToolResult(result), is_null)
            }
            ServerResult::EmptyResult(_) | ServerResult::TaskAckResult(_) => {
                let json = || serde_json::to_value(&result).ok();
                let empty = self.read_empty(json);
                let is_repaired = empty.is_some();
                (empty.unwrap_or(result), is_repaired)
            }
            ServerResult::CustomResult(CustomResult(json)) => {
                match self.read_empty(|| Some(json.clone())) {
                    Some(empty) => (empty, true),
                    None => (ServerResult::CustomResult(CustomResult(json)), false),
                }
            }
            result => (result, false),
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
pub(crate) fn number_in(id: &RequestId) -> Option<i64> {
    let number = match id {
        NumberOrString::Number(number) => *number,
        NumberOrString::String(text) => text.parse().ok()?,
    };
    (number >= 0).then_some(number)
}

/// A message of a server, read from its text.
#[derive(Debug)]
pub(crate) enum FromServer {
    /// An answer with a result, to the request of this id.
    Answer(RequestId, Box<ReadAnswer>),
    Other(Box<ServerJsonRpcMessage>),
}

/// Reads a message of a server. An answer is read as the result type that `expected` finds by its
/// id.
///
/// # Errors
///
/// Fails if the text is not JSON, or not a message.
pub(crate) fn message_in(
    text: &Bytes,
    expected: impl Fn(&RequestId) -> Option<Expected>,
) -> Read<FromServer> {
    if let Some(usual) = usual::answer(text) {
        let id = RequestId::Number(usual.id);
        let read = expected(&id).and_then(|it| it.usual_answer_in(text, usual.result));
        if let Some(answer) = read {
            return Ok(FromServer::Answer(id, Box::new(answer)));
        }
    }
    let envelope = match Envelope::of(text) {
        Ok(envelope) => envelope,
        Err(_) => return typed_in(text).map(|message| FromServer::Other(Box::new(message))),
    };
    if let Some(Outcome::Result(result)) = envelope.outcome()
        && let Some(id) = envelope.id()
        && let Some(expected) = expected(&id)
    {
        let answer = expected.answer_in(text, result)?;
        return Ok(FromServer::Answer(id, Box::new(answer)));
    }
    let other = envelope.other_in(text)?;
    Ok(FromServer::Other(Box::new(other)))
}

/// Reads the answer to this request in a message of the usual form. Returns `None` if the message is
/// to be read by its [`Envelope`].
pub(crate) fn usual_answer_in(
    text: &Bytes,
    id: &RequestId,
    expected: Expected,
) -> Option<ReadAnswer> {
    let usual = usual::answer(text)?;
    let is_own = *id == RequestId::Number(usual.id);
    is_own.then(|| expected.usual_answer_in(text, usual.result))?
}

/// Returns the messages of a batch (MCP 2025-03-26, basic, batching). Returns `None` for any other
/// text.
pub(crate) fn batch_in(text: &Bytes) -> Option<Vec<Bytes>> {
    if !text.trim_ascii_start().starts_with(b"[") {
        return None;
    }
    let messages: Vec<&RawValue> = serde_json::from_slice(text).ok()?;
    let messages = messages.iter();
    Some(
        messages
            .map(|message| text.slice_ref(message.get().as_bytes()))
            .collect(),
    )
}

/// Returns the text of a result that was read leniently: without members that are `null`, and with
/// those that the method's result has.
fn repaired(text: &[u8], result: &ServerResult) -> Option<Bytes> {
    let now = serde_json::to_value(result).ok()?;
    let members: Members<'_> = serde_json::from_slice(text).unwrap_or_default();
    let is_absent = |name: &str| {
        let no_content = name == "structuredContent" && now.get(name).is_none();
        no_content || NULL_IS_ABSENT.contains(&name)
    };
    let given = members
        .0
        .iter()
        .filter(|(name, value)| value.get() != "null" || !is_absent(name));
    let given: Vec<_> = given.map(|(name, value)| (&**name, *value)).collect();
    let mut out = Vec::with_capacity(text.len());
    members::write(&mut out, given.iter().copied()).ok()?;
    let read = now.as_object()?.iter();
    let read = read.filter(|(name, _)| given.iter().any(|(given, _)| given == name));
    let read = read.map(|(name, value)| (name.clone(), value.clone()));
    let came: &RawValue = serde_json::from_slice(&out).ok()?;
    let text = apply(came, &Value::Object(read.collect()), &now).ok()?;
    Some(text.into())
}

/// Returns `true` if a result is the final one of its method.
fn is_complete(json: &Value) -> bool {
    json.get("resultType").is_none_or(|kind| kind == "complete")
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
