//! Notifications and a server's requests with parts that their types have no place for.
//!
//! Such a message carries the text of its params in its extensions. Where it leaves, that text is
//! written with the changes that layers made to the typed message. A transport of rmcp's is given a
//! custom message with it.

use std::sync::LazyLock;

#[cfg(feature = "http-server")]
use rmcp::model::GetMeta;
use rmcp::model::{
    ClientNotification, CustomNotification, CustomRequest, Extensions, GetExtensions,
    JsonRpcMessage, LoggingMessageNotification, LoggingMessageNotificationParam,
    ProgressNotification, ProgressNotificationParam, RequestMetaObject, ServerJsonRpcMessage,
    ServerNotification, ServerRequest,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json, value::RawValue};
use tokio_util::bytes::Bytes;

#[cfg(feature = "http-server")]
use super::params::META;
use super::{apply::apply, members::Members, numbers};

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

    /// Returns the parts of params that their type would write in another way. Returns `None` if
    /// the type cannot be written.
    fn unless_whole(params: &RawValue, typed: &impl Serialize) -> Option<Option<Self>> {
        let read = serde_json::to_value(typed).ok()?;
        Some((!is_text_of(params, Some(&read))).then(|| Self {
            came: params.to_owned(),
            read,
        }))
    }
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// A message whose type may have no place for a part of it.
pub(crate) trait Partial: Serialize + DeserializeOwned + GetExtensions + Clone {
    fn custom(method: String, params: Option<Value>) -> Self;
}

impl Partial for ServerNotification {
    fn custom(method: String, params: Option<Value>) -> Self {
        CustomNotification::new(method, params).into()
    }
}

impl Partial for ClientNotification {
    fn custom(method: String, params: Option<Value>) -> Self {
        CustomNotification::new(method, params).into()
    }
}

impl Partial for ServerRequest {
    fn custom(method: String, params: Option<Value>) -> Self {
        CustomRequest::new(method, params).into()
    }
}

fn params_of<M: Serialize>(message: &M) -> Option<Value> {
    params_in(&mut serde_json::to_value(message).ok()?)
}

fn params_in(json: &mut Value) -> Option<Value> {
    let params = json.get_mut("params").map(Value::take);
    params.filter(|params| !params.is_null())
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
    let Ok(Params { params: Some(came) }) = serde_json::from_slice(text) else {
        return;
    };
    let read = params_of(message);
    if !is_text_of(came, read.as_ref()) && came.get().starts_with('{') {
        let came = came.to_owned();
        let read = read.unwrap_or_else(none);
        message.extensions_mut().insert(AsSent { came, read });
    }
}

/// Returns `true` if params leave as they came: with their members in order, and with the digits
/// of their numbers.
fn is_text_of(came: &RawValue, read: Option<&Value>) -> bool {
    read.map(ToString::to_string).as_deref() == Some(came.get())
}

/// Reads a notification of progress or a log line without rmcp's union: they are the most common
/// ones. Returns `None` for any other, and for one with members that its type does not have.
///
/// `method` is JSON.
pub(crate) fn common_notification(method: &str, params: &RawValue) -> Option<ServerNotification> {
    match method {
        r#""notifications/progress""# => progress(params),
        r#""notifications/message""# => log_line(params),
        _ => None,
    }
}

fn progress(params: &RawValue) -> Option<ServerNotification> {
    let members = Members::of(params)?;
    members.has_only(&["progressToken", "progress", "total", "message"])?;
    let typed: ProgressNotificationParam = serde_json::from_str(params.get()).ok()?;
    let sent = AsSent::unless_whole(params, &typed)?;
    let mut notification = ProgressNotification::new(typed);
    if let Some(sent) = sent {
        notification.extensions.insert(sent);
    }
    Some(notification.into())
}

fn log_line(params: &RawValue) -> Option<ServerNotification> {
    let members = Members::of(params)?;
    members.has_only(&["level", "logger", "data"])?;
    if numbers::may_be_inexact(params.get()) {
        return None;
    }
    let typed: LoggingMessageNotificationParam = serde_json::from_str(params.get()).ok()?;
    let sent = AsSent::unless_whole(params, &typed)?;
    let mut notification = LoggingMessageNotification::new(typed);
    if let Some(sent) = sent {
        notification.extensions.insert(sent);
    }
    Some(notification.into())
}

/// The member of `_meta` with the params of a request on their way through rmcp, which reads the
/// request again. It is random, so that a server cannot know it.
static MARK: LazyLock<String> = LazyLock::new(|| format!("{:032x}", rand::random::<u128>()));

/// Returns the text of a server's message for rmcp. `text` is the one it was read from.
pub(crate) fn text_for_rmcp(message: ServerJsonRpcMessage, text: Bytes) -> Option<String> {
    let JsonRpcMessage::Request(request) = &message else {
        return String::from_utf8(text.into()).ok();
    };
    let Some(sent) = request.request.extensions().get::<AsSent>() else {
        return String::from_utf8(text.into()).ok();
    };
    let came = sent.came.get().to_owned();
    let mut json = serde_json::to_value(&message).ok()?;
    // A type without params may have been read from empty ones.
    let params = json.as_object_mut()?.entry("params").or_insert_with(none);
    if params.is_null() {
        *params = none();
    }
    let meta = params
        .as_object_mut()?
        .entry("_meta")
        .or_insert_with(|| json!({}));
    meta.as_object_mut()?.insert(MARK.clone(), came.into());
    serde_json::to_string(&json).ok()
}

/// Gives a request that rmcp has read again its parts back.
pub(crate) fn restore(request: &mut ServerRequest) {
    let extensions = request.extensions_mut();
    let Some(meta) = extensions.get_mut::<RequestMetaObject>() else {
        return;
    };
    let Some(Value::String(came)) = meta.0.0.shift_remove(MARK.as_str()) else {
        return;
    };
    if meta.is_empty() {
        extensions.remove::<RequestMetaObject>();
    }
    if let Ok(came) = RawValue::from_string(came) {
        let read = params_of(request).unwrap_or_else(none);
        request.extensions_mut().insert(AsSent { came, read });
    }
}

/// Returns a message as it is to leave: with the parts that its type has no place for.
pub(crate) fn with_kept_parts<M: Partial>(mut message: M) -> M {
    let Some((method, params)) = take_whole(&mut message) else {
        return message;
    };
    let mut whole = M::custom(method, Some(params));
    let extensions: Extensions = std::mem::take(message.extensions_mut());
    keep_extensions(&mut whole, extensions);
    whole
}

/// Returns the method and the whole params of a message whose type has no place for a part of it.
fn take_whole<M: Partial>(message: &mut M) -> Option<(String, Value)> {
    let (method, params) = take_text(message)?;
    Some((method, serde_json::from_slice(&params).ok()?))
}

/// Returns the method and the text of the whole params of a message whose type has no place for a
/// part of it.
pub(super) fn take_text<M: Partial>(message: &mut M) -> Option<(String, Vec<u8>)> {
    let AsSent { came, read } = message.extensions_mut().remove::<AsSent>()?;
    let mut json = serde_json::to_value(&*message).ok()?;
    let method = json.get("method")?.as_str()?.to_owned();
    let now = params_in(&mut json).unwrap_or_else(none);
    Some((method, apply(&came, &read, &now).ok()?))
}

/// Moves the kept parts of a message into its `_meta`, for a transport that finds the way of a
/// message by its type. The layer in front of that transport [takes](whole_in_meta) them.
#[cfg(feature = "http-server")]
pub(crate) fn move_into_meta(notification: &mut ServerNotification) {
    if let Some((_, params)) = take_whole(notification) {
        let meta = notification.get_meta_mut();
        meta.insert(WHOLE.to_owned(), params);
    }
}

/// Returns the whole params that the message of a progress notification carries in its `_meta`.
#[cfg(feature = "http-server")]
pub(crate) fn whole_in_meta(message: &[u8]) -> Option<&RawValue> {
    memchr::memmem::find(message, WHOLE.as_bytes())?;
    let Params { params } = serde_json::from_slice(message).ok()?;
    Members::of(Members::of(params?)?.get(META)?)?.get(WHOLE)
}

/// The member of `_meta` that has the whole params.
#[cfg(feature = "http-server")]
const WHOLE: &str = "rmcp-layers/whole";

/// Moves extensions to a message whose `_meta` is among its params.
fn keep_extensions<M: GetExtensions>(whole: &mut M, mut extensions: Extensions) {
    extensions.remove::<rmcp::model::NotificationMetaObject>();
    extensions.remove::<rmcp::model::RequestMetaObject>();
    *whole.extensions_mut() = extensions;
}
