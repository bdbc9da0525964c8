//! Messages as text.

use std::io;

use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, GetExtensions, GetMeta, JsonRpcMessage, RequestId,
    RequestMetaObject, ServerJsonRpcMessage,
};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_util::bytes::{BufMut, Bytes, BytesMut};

use super::{as_sent, ids, lossless::Lossless, outline::Outline, params::META};
use crate::protocol::json_text::before_null_params;

/// The params of a request as text, in the request's extensions on its way through rmcp. They lack
/// this hop's `_meta`.
#[derive(Clone, Debug)]
pub(crate) struct ParamsText(Bytes);

impl ParamsText {
    /// Returns the text of a request's params, if it came from a text.
    pub(crate) fn of(request: &Lossless<ClientRequest>) -> Option<Self> {
        request.params().map(Self)
    }
}

/// Writes the start of an answer, up to its result.
pub(crate) fn put_answer_start(out: &mut BytesMut, id: &RequestId) {
    for piece in [
        br#"{"jsonrpc":"2.0","id":"#,
        ids::json(id).as_bytes(),
        br#","result":"#,
    ] {
        out.put_slice(piece);
    }
}

/// Returns an answer with this result.
pub(crate) fn answer(id: &RequestId, result: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(result.len() + 64);
    put_answer_start(&mut out, id);
    out.put_slice(result);
    out.put_u8(b'}');
    out.freeze()
}

/// Writes a message for a caller. `answer` is the text of its result, in place of the typed one.
pub(crate) fn to_caller(
    message: ServerJsonRpcMessage,
    answer: Option<&Bytes>,
) -> serde_json::Result<Bytes> {
    let mut out = BytesMut::new().writer();
    match message {
        JsonRpcMessage::Response(response) => {
            begin(&mut out, "id", &ids::json(&response.id))?;
            match answer {
                Some(text) => put(&mut out, &[br#","result":"#, text, b"}"])?,
                None => end(&mut out, "result", &response.result)?,
            }
        }
        JsonRpcMessage::Error(error) => {
            match &error.id {
                Some(id) => begin(&mut out, "id", &ids::json(id))?,
                None => put(&mut out, &[br#"{"jsonrpc":"2.0""#])?,
            }
            end(&mut out, "error", &error.error)?;
        }
        JsonRpcMessage::Request(mut message) => {
            let Some((method, params)) = as_sent::take_text(&mut message.request) else {
                return typed(&JsonRpcMessage::<_, (), ()>::Request(message));
            };
            begin(&mut out, "id", &ids::json(&message.id))?;
            end_with_params(&mut out, &method, &params)?;
        }
        JsonRpcMessage::Notification(mut message) => {
            let Some((method, params)) = as_sent::take_text(&mut message.notification) else {
                return typed(&JsonRpcMessage::<(), (), _>::Notification(message));
            };
            put(&mut out, &[br#"{"jsonrpc":"2.0""#])?;
            end_with_params(&mut out, &method, &params)?;
        }
    }
    Ok(out.into_inner().freeze())
}

/// Writes a message for a server.
pub(crate) fn to_server(mut message: ClientJsonRpcMessage) -> serde_json::Result<Bytes> {
    match &mut message {
        JsonRpcMessage::Request(of) => {
            let params = of.request.extensions_mut().remove::<ParamsText>();
            match params {
                Some(ParamsText(params)) => request(&of.id, &of.request, &params),
                None => typed(&message),
            }
        }
        JsonRpcMessage::Notification(of) => {
            let Some((method, params)) = as_sent::take_text(&mut of.notification) else {
                return typed(&message);
            };
            let mut out = BytesMut::with_capacity(params.len() + 128).writer();
            put(&mut out, &[br#"{"jsonrpc":"2.0""#])?;
            end_with_params(&mut out, &method, &params)?;
            Ok(out.into_inner().freeze())
        }
        _ => typed(&message),
    }
}

/// Writes a request with the text of its params.
fn request(id: &RequestId, request: &ClientRequest, params: &Bytes) -> serde_json::Result<Bytes> {
    let mut out = BytesMut::with_capacity(params.len() + 256).writer();
    begin(&mut out, "id", &ids::json(id))?;
    put(&mut out, &[br#","method":"#])?;
    serde_json::to_writer(&mut out, request.method())?;
    put(&mut out, &[br#","params":"#])?;
    put_params(&mut out, params, request.get_meta())?;
    put(&mut out, &[b"}"])?;
    Ok(out.into_inner().freeze())
}

/// Writes params with another `_meta`, in the place of their own, or else at the end.
fn put_params(
    out: &mut impl io::Write,
    params: &Bytes,
    meta: &RequestMetaObject,
) -> serde_json::Result<()> {
    // Escapes may hide the name.
    let may_have_own = memchr::memmem::find(params, META.as_bytes()).is_some()
        || memchr::memchr(b'\\', params).is_some();
    if meta.is_empty() && !may_have_own {
        return put(out, &[params]);
    }
    let text = std::str::from_utf8(params).map_err(serde::ser::Error::custom)?;
    let outline = Outline::of(text).map_err(serde::ser::Error::custom)?;
    // Params that are not an object have no `_meta`.
    let is_object = text.starts_with('{');
    let own = outline.members.iter().find(|(name, _)| name == META);
    if !is_object || (own.is_none() && meta.is_empty()) {
        return put(out, &[params]);
    }
    let own = own.map(|(_, value)| *value);
    let meta = match meta.is_empty() {
        true => None,
        false => Some(meta_text(own, meta)?),
    };
    let mut members: Vec<_> = outline
        .members
        .iter()
        .map(|(name, value)| (&**name, if name == META { None } else { Some(*value) }))
        .collect();
    if own.is_none() {
        members.push((META, None));
    }
    let meta = meta.as_deref().map(RawValue::get);
    let members = members
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.or(meta)?)));
    super::members::write_texts(out, members)
}

/// Returns `_meta` as text. A value that came as it is leaves with its digits and order.
fn meta_text(came: Option<&str>, meta: &RequestMetaObject) -> serde_json::Result<Box<RawValue>> {
    let Some(came) = came else {
        return serde_json::value::to_raw_value(&meta.0);
    };
    let now = serde_json::to_value(&meta.0)?;
    let came: &RawValue = serde_json::from_str(came)?;
    let read = serde_json::from_str(came.get()).unwrap_or_default();
    let text = super::apply::apply(came, &read, &now)?;
    serde_json::from_slice::<&RawValue>(&text).map(ToOwned::to_owned)
}

/// Writes a message by its type.
fn typed<M: Serialize>(message: &M) -> serde_json::Result<Bytes> {
    let mut text = serde_json::to_vec(message)?;
    if let Some(length) = before_null_params(&text) {
        text.truncate(length);
        text.push(b'}');
    }
    Ok(text.into())
}

fn begin(out: &mut impl io::Write, name: &str, value: &str) -> serde_json::Result<()> {
    put(
        out,
        &[
            br#"{"jsonrpc":"2.0",""#,
            name.as_bytes(),
            br#"":"#,
            value.as_bytes(),
        ],
    )
}

fn end(out: &mut impl io::Write, name: &str, value: &impl Serialize) -> serde_json::Result<()> {
    put(out, &[br#",""#, name.as_bytes(), br#"":"#])?;
    serde_json::to_writer(&mut *out, value)?;
    put(out, &[b"}"])
}

/// Writes the method and the params of a message, and its end.
fn end_with_params(
    out: &mut impl io::Write,
    method: &str,
    params: &[u8],
) -> serde_json::Result<()> {
    put(out, &[br#","method":"#])?;
    serde_json::to_writer(&mut *out, method)?;
    put(out, &[br#","params":"#, params, b"}"])
}

fn put(out: &mut impl io::Write, pieces: &[&[u8]]) -> serde_json::Result<()> {
    let mut pieces = pieces.iter();
    let written = pieces.try_for_each(|piece| out.write_all(piece));
    written.map_err(serde_json::Error::io)
}
