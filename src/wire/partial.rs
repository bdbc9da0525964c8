//! Results that can be read in part.
//!
//! A server of a later revision, or with an error, sends values that rmcp's types do not know: a
//! kind of content, a value of an enumeration, a member of another type. The typed result then has
//! what can be read. The rest leaves with the text of the result.

use rmcp::model::{ContentBlock, PromptMessage, ResourceContents};
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

/// Returns a result of this method with stand-ins for what cannot be read. Returns `None` if the
/// rest is not a result of the method.
pub(super) fn readable(method: Method, result: &Value) -> Option<Value> {
    let mut result = result.as_object()?.clone();
    match method {
        Method::CallTool => each(&mut result, "content", block),
        Method::GetPrompt => each(&mut result, "messages", message),
        Method::ReadResource => each(&mut result, "contents", contents),
        _ => return None,
    }
    let mut result = Value::Object(result);
    without_misfits(method, &mut result).then_some(result)
}

fn each(result: &mut Map<String, Value>, member: &str, readable: fn(&mut Value)) {
    if let Some(Value::Array(elements)) = result.get_mut(member) {
        elements.iter_mut().for_each(readable);
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
            let names: Vec<_> = match self.0.as_object() {
                Some(members) => members.keys().cloned().collect(),
                None => return false,
            };
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            lenient::read_without_members::<R>(self.0, &names).is_ok()
        }
    }
    method.with_result(Misfit(result))
}
