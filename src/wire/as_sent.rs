//! Notifications and a server's requests with parts that their types have no place for.
//!
//! Such a message carries its JSON in its extensions. Where it leaves, it becomes a custom message
//! with that JSON and the changes that layers made to the typed one.

use rmcp::model::{
    ClientNotification, CustomNotification, CustomRequest, Extensions, GetExtensions,
    ServerNotification, ServerRequest,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, value::RawValue};

use super::apply::apply;

/// The params of a message as they came, and as the type has them.
#[derive(Clone, Debug)]
pub(crate) struct AsSent {
    came: Box<RawValue>,
    read: Value,
}

impl AsSent {
    /// Returns the parts of a notification with these extensions.
    pub(crate) fn of(extensions: &Extensions) -> Option<Self> {
        #[cfg(feature = "http-server")]
        if let Some(received) = super::over_http::ReceivedOverHttp::of(extensions) {
            return received.kept().cloned();
        }
        extensions.get::<Self>().cloned()
    }
}

#[derive(serde::Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// A message whose type may have no place for a part of it.
pub(crate) trait Partial: Serialize + DeserializeOwned + GetExtensions + Clone {
    fn is_custom(&self) -> bool;
    fn custom(method: String, params: Option<Value>) -> Self;
}

impl Partial for ServerNotification {
    fn is_custom(&self) -> bool {
        matches!(self, Self::CustomNotification(_))
    }
    fn custom(method: String, params: Option<Value>) -> Self {
        CustomNotification::new(method, params).into()
    }
}

impl Partial for ClientNotification {
    fn is_custom(&self) -> bool {
        matches!(self, Self::CustomNotification(_))
    }
    fn custom(method: String, params: Option<Value>) -> Self {
        CustomNotification::new(method, params).into()
    }
}

impl Partial for ServerRequest {
    fn is_custom(&self) -> bool {
        matches!(self, Self::CustomRequest(_))
    }
    fn custom(method: String, params: Option<Value>) -> Self {
        CustomRequest::new(method, params).into()
    }
}

fn params_of<M: Serialize>(message: &M) -> Option<Value> {
    let mut json = serde_json::to_value(message).ok()?;
    json.get_mut("params").map(Value::take)
}

/// Returns the params of a message that has none.
fn none() -> Value {
    Value::Object(Map::new())
}

/// Reads a message, and keeps the parts that its type has no place for.
pub(crate) fn notification<M: Partial>(text: &[u8]) -> serde_json::Result<M> {
    let mut message: M = serde_json::from_slice(text)?;
    keep(&mut message, text);
    Ok(message)
}

/// Keeps the parts of a message, read from `text`, that its type has no place for.
pub(crate) fn keep<M: Partial>(message: &mut M, text: &[u8]) {
    if message.is_custom() {
        return;
    }
    let Ok(Params { params: Some(came) }) = serde_json::from_slice(text) else {
        return;
    };
    let read = params_of(message).unwrap_or_else(none);
    let is_whole = serde_json::from_str::<Value>(came.get()).is_ok_and(|came| came == read);
    if !is_whole && came.get().starts_with('{') {
        let came = came.to_owned();
        message.extensions_mut().insert(AsSent { came, read });
    }
}

/// Returns a message as it is to leave: with the parts that its type has no place for.
pub(crate) fn with_kept_parts<M: Partial>(mut message: M) -> M {
    let Some(AsSent { came, read }) = message.extensions_mut().remove::<AsSent>() else {
        return message;
    };
    let Ok(json) = serde_json::to_value(&message) else {
        return message;
    };
    let now = json.get("params").cloned().unwrap_or_else(none);
    let params = apply(&came, &read, &now).and_then(|text| serde_json::from_slice(&text));
    match (json.get("method").and_then(Value::as_str), params) {
        (Some(method), Ok(params)) => {
            let mut whole = M::custom(method.to_owned(), Some(params));
            let extensions: Extensions = std::mem::take(message.extensions_mut());
            keep_extensions(&mut whole, extensions);
            whole
        }
        _ => message,
    }
}

/// Moves extensions to a message whose `_meta` is among its params.
fn keep_extensions<M: GetExtensions>(whole: &mut M, mut extensions: Extensions) {
    extensions.remove::<rmcp::model::NotificationMetaObject>();
    extensions.remove::<rmcp::model::RequestMetaObject>();
    *whole.extensions_mut() = extensions;
}
