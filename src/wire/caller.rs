//! Messages of a caller, read strictly: the envelope first, then the params as the one type that
//! the method has.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, OnceLock},
};

use rmcp::model::{
    CancelledNotification, CancelledNotificationMethod, ClientJsonRpcMessage, ClientNotification,
    ClientRequest, ClientResult, ConstString, CustomRequest, CustomResult, ErrorData, Extensions,
    GetExtensions, GetMeta, InitializeRequest, JsonRpcError, JsonRpcMessage, RequestMetaObject,
};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, value::RawValue};
use tokio_util::bytes::Bytes;

use super::{
    as_sent, ids, lenient,
    lossless::{Lossless, Reading, Source},
    members::Members,
    params::META,
};
use crate::{
    protocol::{
        Unreadable,
        methods::{Capability, Method},
    },
    util::lock,
};

/// A message of a caller, read from its text.
#[derive(Debug)]
pub(crate) enum FromCaller {
    Message(Box<ClientJsonRpcMessage>),
    /// A message that is answered with an error, and goes no further.
    Refused(JsonRpcError),
}

/// The reading of a request, in its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Received(Arc<ReceivedRequest>);

/// A request as this crate's transport received it, and the text of its answer.
#[derive(Debug)]
pub(crate) struct ReceivedRequest {
    method: String,
    /// The request, if rmcp has read it by itself.
    request: Mutex<Option<Box<ClientRequest>>>,
    source: Option<Source>,
    unreadable: Option<Arc<Unreadable>>,
    answer: OnceLock<Bytes>,
}

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
/// Fails if the text is not JSON, or not an object with the members of a message.
pub(crate) fn read(text: &Bytes) -> serde_json::Result<FromCaller> {
    let envelope: Envelope<'_> = serde_json::from_slice(text)?;
    let refuse = |member: &str, expected: &str| {
        let why = format!("the message cannot be read: {member}: expected {expected}");
        let id = envelope.id.and_then(ids::read);
        let error = ErrorData::invalid_request(why, None);
        Ok(FromCaller::Refused(JsonRpcError::new(id, error)))
    };
    if envelope
        .jsonrpc
        .is_none_or(|version| version.get() != r#""2.0""#)
    {
        return refuse("jsonrpc", r#""2.0""#);
    }
    let Some(method) = envelope.method else {
        return answer(&envelope, refuse);
    };
    let Ok(method) = serde_json::from_str::<Cow<'_, str>>(method.get()) else {
        return refuse("method", "a string");
    };
    let params = envelope.params.filter(|params| params.get() != "null");
    let Some(id) = envelope.id else {
        return Ok(message(JsonRpcMessage::notification(notification(
            text, &method, params,
        )?)));
    };
    let Some(id) = ids::read(id) else {
        return refuse("id", "a string or a number");
    };
    let (request, received) = request(text, method.into_owned(), params);
    let (mut request, received) = received.for_rmcp(request);
    request.extensions_mut().insert(received);
    Ok(message(JsonRpcMessage::request(request, id)))
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
                client_result(result)?,
                id,
            )))
        }
        (None, Some(error)) => {
            let error = serde_json::from_str(error.get())?;
            Ok(message(JsonRpcMessage::error(error, id)))
        }
        (Some(_), Some(_)) => refuse("result", "no `error` beside it"),
        (None, None) => refuse("method", "a string"),
    }
}

/// Reads the result of a caller. It is custom if its type has no place for a part of it.
pub(crate) fn client_result(result: &RawValue) -> serde_json::Result<ClientResult> {
    let json: Value = serde_json::from_str(result.get())?;
    let typed = ClientResult::deserialize(&json).ok();
    let whole = typed.filter(|typed| serde_json::to_value(typed).is_ok_and(|typed| typed == json));
    Ok(whole.unwrap_or(ClientResult::CustomResult(CustomResult(json))))
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
    params: Option<&RawValue>,
) -> (ClientRequest, Received) {
    let known = Method::named(&method);
    let mut meta = None;
    let read = match known {
        Some(known) => typed(known, params, &mut meta),
        None => custom(&method, params, &mut meta),
    };
    let read = read.and_then(|mut request| {
        let unreadable = |why: String| unreadable_meta(&method, params, &why);
        *request.get_meta_mut() = meta_in(meta).map_err(unreadable)?;
        Ok(request)
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
        let params = text.slice_ref(params.get().as_bytes());
        Source::new(params, Reading::Params(known))
    });
    let received = ReceivedRequest {
        method,
        request: Mutex::default(),
        source,
        unreadable,
        answer: OnceLock::new(),
    };
    (request, Received(Arc::new(received)))
}

type Read<T> = Result<T, Box<Unreadable>>;

fn typed<'a>(
    method: Method,
    params: Option<&'a RawValue>,
    meta: &mut Option<&'a RawValue>,
) -> Read<ClientRequest> {
    let misfit = |meta: &mut Option<&'a RawValue>, error: &serde_json::Error| {
        let json = params.map(|params| serde_json::from_str::<Value>(params.get()));
        *meta = params
            .and_then(Members::of)
            .and_then(|members| members.get(META));
        Box::new(match json.transpose() {
            Ok(json) => Unreadable::of_params(method, json.as_ref()),
            Err(_) => Unreadable::new(method.name(), None, "params", &error.to_string()),
        })
    };
    let text = params.map_or("{}", RawValue::get);
    match method.read_params(text, meta) {
        Ok(request) => Ok(request),
        Err(_) if method == Method::Initialize && params.is_some() => {
            initialize(text).map_err(|error| misfit(meta, &error))
        }
        Err(error) => Err(misfit(meta, &error)),
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
    params: Option<&'a RawValue>,
    meta: &mut Option<&'a RawValue>,
) -> Read<ClientRequest> {
    let json = params.map(|params| custom_params(params, meta)).transpose();
    let json = json
        .map_err(|error| Box::new(Unreadable::new(method, None, "params", &error.to_string())))?;
    Ok(CustomRequest::new(method, json).into())
}

/// Reads params as JSON. A `_meta` that is an object goes into the request's context.
fn custom_params<'a>(
    params: &'a RawValue,
    meta: &mut Option<&'a RawValue>,
) -> serde_json::Result<Value> {
    let mut json: Value = serde_json::from_str(params.get())?;
    if let Value::Object(members) = &mut json
        && members.get(META).is_some_and(Value::is_object)
    {
        members.shift_remove(META);
        *meta = Members::of(params).and_then(|members| members.get(META));
    }
    Ok(json)
}

fn unreadable_meta(method: &str, params: Option<&RawValue>, why: &str) -> Box<Unreadable> {
    let json = params.and_then(|params| serde_json::from_str::<Value>(params.get()).ok());
    let known = Method::named(method);
    let target = known
        .zip(json.as_ref())
        .and_then(|(method, json)| method.target_in(json));
    Box::new(Unreadable::new(
        method,
        target.map(str::to_owned),
        "params._meta",
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

/// Returns the params of a typed request, as JSON.
pub(super) fn params_of(request: &ClientRequest) -> Option<Value> {
    let mut json = serde_json::to_value(request).ok()?;
    json.get_mut("params").map(Value::take)
}

/// Returns the params of a text as their type has them.
pub(super) fn params_as_read(method: Option<Method>, text: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(text).ok()?;
    let mut meta = None;
    match method {
        Some(Method::Initialize) => params_of(&initialize(text).ok()?),
        Some(method) => params_of(&method.read_params(text, &mut meta).ok()?),
        None => custom_params(serde_json::from_str(text).ok()?, &mut meta).ok(),
    }
}

/// The reading of an HTTP body, in the extensions of the HTTP request.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReceivedOverHttp(Arc<OnceLock<Received>>);

impl ReceivedOverHttp {
    /// Sets the reading. A body holds one request.
    pub(crate) fn set(&self, received: Received) {
        let _ = self.0.set(received);
    }

    pub(crate) fn get(&self) -> Option<&Received> {
        self.0.get()
    }
}

impl Received {
    /// Takes the reading out of a request's extensions.
    pub(crate) fn take(extensions: &mut Extensions) -> Option<Self> {
        let own = extensions.remove::<Self>();
        own.or_else(|| {
            let http = extensions.get::<http::request::Parts>()?;
            http.extensions.get::<ReceivedOverHttp>()?.get().cloned()
        })
    }

    /// Returns the request that rmcp is to serve, in place of one that it would refuse: rmcp serves
    /// requests about tasks to callers of 2026-07-28 alone.
    fn for_rmcp(self, mut request: ClientRequest) -> (ClientRequest, Self) {
        let is_about_task = Method::of(&request)
            .is_some_and(|method| method.row().capability == Some(Capability::Tasks));
        if !is_about_task || request.get_meta().protocol_version().is_some() {
            return (request, self);
        }
        let mut bare: ClientRequest = CustomRequest::new(self.0.method.clone(), None).into();
        *bare.get_meta_mut() = std::mem::take(request.get_meta_mut());
        (bare, self.with_request(request))
    }

    /// Returns `true` if rmcp serves another request in place of this one.
    fn is_replaced(&self) -> bool {
        lock(&self.0.request).is_some()
    }

    /// Returns this reading with the request itself, for a transport that gives rmcp another text.
    pub(crate) fn with_request(self, request: ClientRequest) -> Self {
        *lock(&self.0.request) = Some(Box::new(request));
        self
    }

    pub(crate) fn request(&self) -> &Arc<ReceivedRequest> {
        &self.0
    }

    /// Returns the request that was received in the place of `message`, which rmcp has read.
    pub(crate) fn in_place_of(&self, message: ClientRequest) -> Lossless<ClientRequest> {
        let is_same = message.method() == self.0.method;
        let own = lock(&self.0.request).take().filter(|_| is_same);
        let message = own.map_or(message, |own| *own);
        Lossless::from_source(message, self.0.source.clone().filter(|_| is_same))
    }

    /// Returns the reason why the request cannot be read, if it cannot.
    pub(crate) fn unreadable(&self) -> Option<&Arc<Unreadable>> {
        self.0.unreadable.as_ref()
    }

    /// Sets the text of the answer's result, which the transport writes in place of rmcp's.
    pub(crate) fn set_answer(&self, result: Bytes) {
        // A request has one answer.
        let _ = self.0.answer.set(result);
    }
}

impl ReceivedRequest {
    /// Returns the text of the answer's result, if the stack has set it.
    pub(crate) fn answer(&self) -> Option<&Bytes> {
        self.answer.get()
    }
}

/// Reads the body of an HTTP request. Returns the body that rmcp is to read in its place, if rmcp
/// would not read it as the same request.
pub(crate) fn body_for_rmcp(body: &Bytes, over_http: &ReceivedOverHttp) -> Option<Bytes> {
    let FromCaller::Message(message) = read(body).ok()? else {
        return None;
    };
    let JsonRpcMessage::Request(mut message) = *message else {
        return None;
    };
    let received = message.request.extensions_mut().remove::<Received>()?;
    let is_replaced = received.is_replaced();
    let body = match received.unreadable() {
        reason if reason.is_some() || is_replaced => {
            let params = Map::new();
            let mut request = CustomRequest::new(message.request.method(), Some(params.into()));
            *request.get_meta_mut() = message.request.get_meta().clone();
            let message = ClientJsonRpcMessage::request(request.into(), message.id);
            serde_json::to_vec(&message).ok().map(Bytes::from)
        }
        _ => None,
    };
    over_http.set(match is_replaced {
        true => received,
        false => received.with_request(message.request),
    });
    body
}
