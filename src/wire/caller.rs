//! Messages of a caller, read strictly: the envelope first, then the params as the one type that
//! the method has.

use std::{borrow::Cow, sync::Arc};

use rmcp::model::{
    CancelledNotification, CancelledNotificationMethod, ClientJsonRpcMessage, ClientNotification,
    ClientRequest, ConstString, CustomRequest, ErrorData, GetExtensions, GetMeta,
    InitializeRequest, JsonRpcError, JsonRpcMessage, RequestId, RequestMetaObject,
};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::{Map, Value, value::RawValue};
use tokio_util::bytes::Bytes;

use super::{
    as_sent, caller_results, ids, lenient,
    lossless::{Reading, Source},
    members::Members,
    numbers,
    params::{Beside, META},
    received::Received,
    strict,
    usual::{self, UsualRequest},
};
use crate::protocol::{
    Unreadable,
    methods::{Capability, Method},
};

/// A message of a caller, read from its text.
#[derive(Debug)]
pub(crate) enum FromCaller {
    Message(Box<ClientJsonRpcMessage>),
    /// A message that is answered with an error, and goes no further.
    Refused(JsonRpcError),
}

/// The maximum length of a message beside its params, in bytes, that is passed to rmcp as it is.
/// Members that no message has may be nested more deeply than rmcp reads: 128 levels.
const MAX_BESIDE: usize = 255;

/// The members of a message.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// A member that is `null` is there.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Reads a message of a caller.
///
/// A request of a method that the protocol has is of that method's type. If its params do not fit,
/// it is a custom request without params, and the reason is in its extensions.
///
/// # Errors
///
/// Fails if the text is not JSON, or if a notification or an answer cannot be read.
pub(crate) fn read(text: &Bytes) -> serde_json::Result<FromCaller> {
    if let Some(usual) = usual::request(text)
        && let Some(message) = usual_request(text, &usual)
    {
        return Ok(message);
    }
    // serde reads an array as the members of a structure, too.
    let is_object = text.trim_ascii_start().first() == Some(&b'{');
    let envelope: Envelope<'_> = match serde_json::from_slice(text) {
        Ok(envelope) if is_object => envelope,
        _ => return refuse_members(text),
    };
    let refuse = |member: &str, expected: &str| {
        let id = envelope.id.and_then(ids::read);
        refused(id, &format!("{member}: expected {expected}"))
    };
    if !envelope.jsonrpc.is_some_and(is_version) {
        return refuse("jsonrpc", r#""2.0""#);
    }
    let Some(method) = envelope.method else {
        return answer(&envelope, refuse);
    };
    let Ok(method) = serde_json::from_str::<Cow<'_, str>>(method.get()) else {
        return refuse("method", "a string");
    };
    // rmcp reads such a message as one kind or another, by its transport.
    let outcome = [("result", envelope.result), ("error", envelope.error)];
    if let Some((member, _)) = outcome.iter().find(|(_, outcome)| outcome.is_some()) {
        return refuse(member, "no `method` beside it");
    }
    let params = envelope.params.filter(|params| params.get() != "null");
    let Some(id) = envelope.id else {
        let read = notification(text, &method, params).map_err(misfit)?;
        return Ok(message(JsonRpcMessage::notification(read)));
    };
    let Some(id) = ids::read(id) else {
        return refuse("id", "a string or a number");
    };
    let (mut request, received) = request(text, method.into_owned(), params.map(RawValue::get));
    if let Some(unreadable) = received.unreadable()
        && received.request().method() == Method::Initialize.name()
        && !(unreadable.is_bare() && is_modern(&request))
    {
        // A session that has not begun has no stack to record it.
        let error = unreadable.answer(Ok(())).into();
        return Ok(FromCaller::Refused(JsonRpcError::new(Some(id), error)));
    }
    request.extensions_mut().insert(received);
    Ok(message(JsonRpcMessage::request(request, id)))
}

/// Reads a request of the usual form. Returns `None` if it is to be read by its envelope, which says
/// why it cannot be read.
fn usual_request(text: &Bytes, usual: &UsualRequest<'_>) -> Option<FromCaller> {
    let id = usual.id.parse().ok().map(RequestId::Number)?;
    let (mut request, received) = request(text, usual.method.to_owned(), Some(usual.params));
    if received.unreadable().is_some() {
        return None;
    }
    request.extensions_mut().insert(received);
    Some(message(JsonRpcMessage::request(request, id)))
}

/// Returns `true` if a request declares a revision without a handshake.
fn is_modern(request: &ClientRequest) -> bool {
    let version = request.get_meta().protocol_version();
    version.is_some_and(|version| !version.has_initialize())
}

fn is_version(version: &RawValue) -> bool {
    let is_same = |version: Cow<'_, str>| version == "2.0";
    version.get() == r#""2.0""# || serde_json::from_str(version.get()).is_ok_and(is_same)
}

fn refused(id: Option<RequestId>, why: &str) -> serde_json::Result<FromCaller> {
    let error = ErrorData::invalid_request(format!("the message cannot be read: {why}"), None);
    Ok(FromCaller::Refused(JsonRpcError::new(id, error)))
}

/// Refuses JSON that does not have the members of a message, each once.
fn refuse_members(text: &[u8]) -> serde_json::Result<FromCaller> {
    serde_json::from_slice::<IgnoredAny>(text)?;
    match text.trim_ascii_start().first() {
        Some(b'{') => {}
        Some(b'[') => return refused(None, "it is a batch: send each message by itself"),
        _ => return refused(None, "expected an object"),
    }
    let Members(members) = serde_json::from_slice(text)?;
    let given = |name| {
        let given = members.iter().filter(move |(other, _)| other == name);
        given.map(|(_, value)| *value)
    };
    let mut ids: Vec<_> = given("id").map(ids::read).collect();
    ids.dedup();
    let id = match ids.as_slice() {
        [id] => id.clone(),
        _ => None,
    };
    let names = ["jsonrpc", "id", "method", "params", "result", "error"];
    match names.iter().find(|name| given(name).count() > 1) {
        Some(name) => refused(id, &format!("{name}: it is given twice")),
        None => refused(id, "expected an object"),
    }
}

/// Makes the misfit of a part an error of a whole message, which is JSON.
fn misfit(error: serde_json::Error) -> serde_json::Error {
    serde::de::Error::custom(error)
}

fn message(message: ClientJsonRpcMessage) -> FromCaller {
    FromCaller::Message(Box::new(message))
}

/// Reads an answer to a request of the server.
fn answer(
    envelope: &Envelope<'_>,
    refuse: impl Fn(&str, &str) -> serde_json::Result<FromCaller>,
) -> serde_json::Result<FromCaller> {
    let id = envelope.id.and_then(ids::read);
    match (envelope.result, envelope.error) {
        (Some(result), None) => {
            let Some(id) = id else {
                return refuse("id", "a string or a number");
            };
            Ok(message(JsonRpcMessage::response(
                caller_results::read(result).map_err(misfit)?,
                id,
            )))
        }
        (None, Some(error)) => {
            let error = serde_json::from_str(error.get()).map_err(misfit)?;
            Ok(message(JsonRpcMessage::error(error, id)))
        }
        (Some(_), Some(_)) => refuse("result", "no `error` beside it"),
        (None, None) => refuse("method", "a string"),
    }
}

/// Reads a notification of a caller.
fn notification(
    text: &Bytes,
    method: &str,
    params: Option<&RawValue>,
) -> serde_json::Result<ClientNotification> {
    let mut read: ClientNotification = as_sent::notification(text)?;
    // The id of a request is read as its request's was.
    if method == CancelledNotificationMethod::VALUE
        && let Some(id) = params
            .and_then(Members::of)
            .and_then(|it| it.get("requestId"))
        && let Some(id) = ids::read(id).filter(ids::is_marked)
    {
        let params = rmcp::model::CancelledNotificationParam::new(Some(id), None);
        read = CancelledNotification::new(params).into();
    }
    Ok(read)
}

/// Reads a request from the text of its message.
pub(crate) fn request(
    text: &Bytes,
    method: String,
    params: Option<&str>,
) -> (ClientRequest, Received) {
    let known = Method::named(&method);
    let mut beside = Beside::default();
    let read = match known {
        Some(known) => typed(known, params, &mut beside),
        None => custom(&method, params, &mut beside.meta),
    };
    let Beside { meta, has_more } = beside;
    let read = read.and_then(|mut request| {
        let unreadable = |why: String| unreadable_member(&method, params, "params._meta", &why);
        *request.get_meta_mut() = meta_in(meta).map_err(unreadable)?;
        Ok(request)
    });
    let read = read.and_then(|request| match params.and_then(strict::ambiguity) {
        Some((path, why)) => Err(unreadable_member(&method, params, &path, &why)),
        None => Ok(request),
    });
    let (request, unreadable) = match read {
        Ok(request) => (request, None),
        Err(unreadable) => {
            let mut request: ClientRequest = CustomRequest::new(method.clone(), None).into();
            *request.get_meta_mut() = meta_in(meta).unwrap_or_default();
            (request, Some(Arc::from(unreadable)))
        }
    };
    let source = params.filter(|_| unreadable.is_none()).map(|params| {
        let params = text.slice_ref(params.as_bytes());
        Source::new(params, Reading::Params(known)).with_more(has_more)
    });
    let beside = text.len() - params.map_or(0, str::len);
    // Only a member that the type does not have may be a number beyond the range.
    let is_in_range =
        |params: &str| !has_more || matches!(numbers::within_range(params), Cow::Borrowed(_));
    let is_plain = beside <= MAX_BESIDE
        && params.is_none_or(|params| params.starts_with('{') && is_in_range(params))
        && meta.is_none_or(is_object);
    (request, Received::new(method, source, unreadable, is_plain))
}

fn is_object(json: &RawValue) -> bool {
    json.get().starts_with('{')
}

type Read<T> = Result<T, Box<Unreadable>>;

fn typed<'a>(
    method: Method,
    params: Option<&'a str>,
    beside: &mut Beside<'a>,
) -> Read<ClientRequest> {
    let misfit = |beside: &mut Beside<'a>, error: &serde_json::Error| {
        let json = params.map(serde_json::from_str::<Value>);
        beside.meta = params
            .and_then(Members::of_text)
            .and_then(|members| members.get(META));
        Box::new(match json.transpose() {
            Ok(json) => Unreadable::of_params(method, json.as_ref()),
            Err(_) => Unreadable::new(method.name(), None, "params", &error.to_string()),
        })
    };
    let text = params.unwrap_or("{}");
    match method.read_params(text, beside) {
        Ok(request) => Ok(request),
        Err(_) if method == Method::Initialize && params.is_some() => {
            initialize(text).map_err(|error| misfit(beside, &error))
        }
        Err(error) => Err(misfit(beside, &error)),
    }
}

/// Reads a handshake without the capabilities, and the facts about the client, that do not fit.
fn initialize(params: &str) -> serde_json::Result<ClientRequest> {
    let mut params: Value = serde_json::from_str(params)?;
    let read = lenient::read_within(&mut params, &["capabilities", "clientInfo"]);
    let (params, left_out) = read.map_err(serde_path_to_error::Error::into_inner)?;
    if !left_out.is_empty() {
        tracing::warn!(members = ?left_out, "members of a caller's `initialize` are not read");
    }
    Ok(InitializeRequest::new(params).into())
}

fn custom<'a>(
    method: &str,
    params: Option<&'a str>,
    meta: &mut Option<&'a RawValue>,
) -> Read<ClientRequest> {
    let json = params.map(|params| custom_params(params, meta)).transpose();
    let json = json
        .map_err(|error| Box::new(Unreadable::new(method, None, "params", &error.to_string())))?;
    Ok(CustomRequest::new(method, json).into())
}

/// Reads params as JSON. A `_meta` that is an object goes into the request's context.
fn custom_params<'a>(
    params: &'a str,
    meta: &mut Option<&'a RawValue>,
) -> serde_json::Result<Value> {
    let mut json: Value = serde_json::from_str(params)?;
    if let Value::Object(members) = &mut json
        && members.get(META).is_some_and(Value::is_object)
    {
        members.shift_remove(META);
        *meta = Members::of_text(params).and_then(|members| members.get(META));
    }
    Ok(json)
}

fn unreadable_member(method: &str, params: Option<&str>, path: &str, why: &str) -> Box<Unreadable> {
    let json = params.and_then(|params| serde_json::from_str::<Value>(params).ok());
    let known = Method::named(method);
    let target = known
        .zip(json.as_ref())
        .and_then(|(method, json)| method.target_in(json));
    Box::new(Unreadable::new(
        method,
        target.map(str::to_owned),
        path,
        why,
    ))
}

/// Returns `_meta`, or the reason why it cannot be read.
fn meta_in(meta: Option<&RawValue>) -> Result<RequestMetaObject, String> {
    let Some(meta) = meta.filter(|meta| meta.get() != "null") else {
        return Ok(RequestMetaObject::new());
    };
    let read = serde_json::from_str::<Map<String, Value>>(meta.get());
    read.map(RequestMetaObject::from)
        .map_err(|error| match meta.get().starts_with('{') {
            true => error.to_string(),
            false => "expected an object".to_owned(),
        })
}

/// Reads a request again, for rmcp to go on with its call.
pub(crate) fn read_again(received: &Received) -> ClientRequest {
    let received = received.request();
    let text = received.params().unwrap_or_default();
    let params = std::str::from_utf8(&text).ok();
    let params = params.filter(|params| !params.is_empty());
    request(&text, received.method().to_owned(), params).0
}

/// Returns `true` if rmcp refuses a request that the stack may serve: it serves requests about tasks
/// to callers of 2026-07-28 alone.
pub(super) fn is_refused_by_rmcp(request: &ClientRequest) -> bool {
    let row = Method::of(request).map(Method::row);
    row.is_some_and(|row| row.capability == Some(Capability::Tasks))
        && request.get_meta().protocol_version().is_none()
}

/// Puts a request that rmcp serves in the place of one that it would refuse.
pub(crate) fn replace_refused(request: &mut ClientRequest) {
    if !is_refused_by_rmcp(request) {
        return;
    }
    if let Some(received) = request.extensions_mut().remove::<Received>() {
        let mut bare: ClientRequest = CustomRequest::new(request.method(), None).into();
        *bare.get_meta_mut() = std::mem::take(request.get_meta_mut());
        received.set_request(std::mem::replace(request, bare));
        request.extensions_mut().insert(received);
    }
}

/// Returns the params of a typed request, as JSON.
pub(super) fn params_of(request: &ClientRequest) -> Option<Value> {
    let mut json = serde_json::to_value(request).ok()?;
    json.get_mut("params").map(Value::take)
}

/// Returns the params of a text as their type has them.
pub(super) fn params_as_read(method: Option<Method>, text: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(text).ok()?;
    let mut beside = Beside::default();
    match method {
        Some(Method::Initialize) => params_of(&initialize(text).ok()?),
        Some(method) => params_of(&method.read_params(text, &mut beside).ok()?),
        None => custom_params(serde_json::from_str(text).ok()?, &mut beside.meta).ok(),
    }
}
