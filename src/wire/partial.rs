//! Results that can be read in part.
//!
//! A server of a later revision, or with an error, sends values that rmcp's types do not know: a
//! kind of content, a value of an enumeration, a member of another type. The typed result then has
//! what can be read. The rest leaves with the text of the result.

use rmcp::model::{
    CompletionInfo, ContentBlock, Implementation, PromptMessage, ResourceContents,
    ServerCapabilities,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json, value::RawValue};

use super::{lenient, numbers};
use crate::protocol::methods::{Method, WithResult};

/// Members of an element that it can be read without.
const OPTIONAL: &[&str] = &[
    "annotations",
    "_meta",
    "icons",
    "size",
    "mimeType",
    "title",
    "description",
];

/// The maximum number of elements of a result that is read in part. A stand-in takes many times the
/// memory of an element that is a few bytes of JSON. A result with more is a custom result.
const MAX_ELEMENTS: usize = 4_096;

/// Returns a result of this method with stand-ins for what cannot be read. Returns `None` if the
/// rest is not a result of the method.
pub(super) fn readable(method: Method, result: &Value) -> Option<Value> {
    let members = result.as_object()?;
    let lists = members.values().filter_map(Value::as_array);
    if lists.map(Vec::len).any(|elements| elements > MAX_ELEMENTS) {
        return None;
    }
    let mut result = members.clone();
    match method {
        Method::CallTool => each(&mut result, "content", block),
        Method::GetPrompt => each(&mut result, "messages", message),
        Method::ReadResource => each(&mut result, "contents", contents),
        Method::Complete => completion(&mut result),
        Method::Initialize => describe(&mut result),
        Method::Discover => {
            describe(&mut result);
            for (name, value) in [
                ("resultType", json!("complete")),
                ("ttlMs", json!(0)),
                ("cacheScope", json!("private")),
            ] {
                result.entry(name).or_insert(value);
            }
        }
        _ => return None,
    }
    let mut result = Value::Object(result);
    without_misfits(method, &mut result).then_some(result)
}

/// The values of a completion are texts (MCP 2025-11-25, server/utilities/completion).
fn completion(result: &mut Map<String, Value>) {
    let Some(Value::Object(completion)) = result.get_mut("completion") else {
        return;
    };
    if let Some(Value::Array(values)) = completion.get_mut("values") {
        for value in values.iter_mut().filter(|value| !value.is_string()) {
            *value = Value::String(value.to_string());
        }
    }
    let is_list = completion.get("values").is_some_and(Value::is_array);
    if is_list && !fits::<CompletionInfo>(&Value::Object(completion.clone())) {
        completion.retain(|name, _| name == "values");
    }
}

/// A server may be reached whatever it says of itself.
fn describe(result: &mut Map<String, Value>) {
    let capabilities = result.entry("capabilities").or_insert(Value::Null);
    if !capabilities.is_object() {
        *capabilities = Value::Object(Map::new());
    }
    let read = lenient::read_without_all::<ServerCapabilities>(capabilities);
    match read {
        Ok((_, left_out)) if left_out.is_empty() => {}
        Ok((_, left_out)) => {
            tracing::warn!(members = ?left_out, "capabilities of a server are not read");
        }
        Err(error) => {
            tracing::warn!(%error, "the capabilities of a server are not read");
            *capabilities = Value::Object(Map::new());
        }
    }
    if let Some(info) = result.get_mut("serverInfo")
        && !fits::<Implementation>(info)
    {
        tracing::warn!("the `serverInfo` of a server is read in part");
        let text = |name: &str| info.get(name).and_then(Value::as_str).unwrap_or_default();
        *info = json!({ "name": text("name"), "version": text("version") });
    }
}

fn each(result: &mut Map<String, Value>, member: &str, readable: fn(&mut Value)) {
    match result.get_mut(member) {
        Some(Value::Array(elements)) => elements.iter_mut().for_each(readable),
        None | Some(Value::Null) => {}
        // A layer that removes the elements must not miss the one in the place of a list.
        Some(element) => {
            readable(element);
            *element = Value::Array(vec![element.take()]);
        }
    }
}

/// Reads a block of content. A block of an unknown kind is a text with the block's JSON.
fn block(block: &mut Value) {
    if !fits::<ContentBlock>(block) && !fits_without_optional::<ContentBlock>(block) {
        *block = json!({ "type": "text", "text": block.to_string() });
    }
}

fn message(message: &mut Value) {
    if fits::<PromptMessage>(message) {
        return;
    }
    let text = message.to_string();
    if let Some(content) = message.get_mut("content") {
        block(content);
    }
    if !fits::<PromptMessage>(message) {
        *message = json!({ "role": "user", "content": { "type": "text", "text": text } });
    }
}

fn contents(contents: &mut Value) {
    if !fits::<ResourceContents>(contents) && !fits_without_optional::<ResourceContents>(contents) {
        let uri = contents.get("uri").and_then(Value::as_str);
        *contents = json!({ "uri": uri.unwrap_or_default(), "text": contents.to_string() });
    }
}

/// Returns `true` if `read` stands for an element that cannot be read, and `now` says something
/// else. The text of a stand-in is the element's JSON.
pub(super) fn is_replaced_stand_in(came: &RawValue, read: &Value, now: &Value) -> bool {
    fn text(value: &Value) -> Option<&str> {
        let content = || value.get("content")?.get("text");
        value.get("text").or_else(content)?.as_str()
    }
    let Some(stands_for) = text(read).filter(|text| text.starts_with('{')) else {
        return false;
    };
    if text(now) == Some(stands_for) {
        return false;
    }
    let came = serde_json::from_str::<Value>(&numbers::within_range(came.get()));
    came.is_ok_and(|came| stands_for == came.to_string().as_str())
}

fn fits<T: DeserializeOwned>(value: &Value) -> bool {
    T::deserialize(value).is_ok()
}

/// Removes optional members until the rest fits. Returns `false`, and removes none, if it does not.
fn fits_without_optional<T: DeserializeOwned>(value: &mut Value) -> bool {
    let mut less = value.clone();
    for name in OPTIONAL {
        let members = less.as_object_mut();
        let removed = members.and_then(|members| members.shift_remove(*name));
        if removed.is_some() && fits::<T>(&less) {
            *value = less;
            return true;
        }
    }
    false
}

/// Removes the members of a result that do not fit. Returns `false` if the rest is not a result.
fn without_misfits(method: Method, result: &mut Value) -> bool {
    struct Misfit<'a>(&'a mut Value);
    impl WithResult for Misfit<'_> {
        type Output = bool;
        fn call<R: DeserializeOwned>(self) -> bool {
            lenient::read_without_all::<R>(self.0).is_ok()
        }
    }
    method.with_result(Misfit(result))
}
