//! Requests whose params rmcp does not keep as they were sent.
//!
//! rmcp takes the params of a list for absent if they do not fit, and does not read a message whose
//! `params` or `_meta` is not an object. From the text, such a request becomes a custom request
//! with its params. The top of a stack refuses it by name.

use std::sync::{Arc, OnceLock};

use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, ConstString, CustomRequest, GetMeta,
    InitializeResultMethod, JsonRpcMessage, JsonRpcVersion2_0, RequestId, RequestMetaObject,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::methods::{self, Method};

#[derive(Deserialize)]
struct Sent {
    #[serde(rename = "jsonrpc")]
    _jsonrpc: JsonRpcVersion2_0,
    id: RequestId,
    method: String,
    #[serde(default)]
    params: Value,
}

/// Returns the request in a text, with its params as they were sent. Its method is one of the
/// protocol, and has params. A handshake is left to rmcp, because no layer decides by its method.
fn as_sent(text: &[u8]) -> Option<(RequestId, CustomRequest)> {
    let sent: Sent = serde_json::from_slice(text).ok()?;
    let is_known = Method::named(&sent.method).is_some();
    if !is_known || sent.method == InitializeResultMethod::VALUE || sent.params.is_null() {
        return None;
    }
    let mut params = sent.params;
    let meta = match params.as_object_mut() {
        Some(params) if params.get("_meta").is_some_and(Value::is_object) => {
            params.shift_remove("_meta")
        }
        _ => None,
    };
    let mut request = CustomRequest::new(sent.method, Some(params));
    if let Some(Value::Object(meta)) = meta {
        *request.get_meta_mut() = RequestMetaObject::from(meta);
    }
    Some((sent.id, request))
}

/// Reads a message of a client from its text.
pub(crate) fn read_from_client(text: &[u8]) -> serde_json::Result<ClientJsonRpcMessage> {
    match serde_json::from_slice(text) {
        Ok(message) => Ok(message_as_sent(Some(&message), text).unwrap_or(message)),
        Err(error) if error.is_data() => message_as_sent(None, text).ok_or(error),
        Err(error) => Err(error),
    }
}

/// Returns the message that a text was meant as, if `read` differs from it. `read` is the message
/// that rmcp has read from the text, if any.
fn message_as_sent(
    read: Option<&ClientJsonRpcMessage>,
    text: &[u8],
) -> Option<ClientJsonRpcMessage> {
    let lost = match read {
        // rmcp may have read the params of a list as absent.
        Some(JsonRpcMessage::Request(request)) => {
            matches!(methods::page_params(&request.request), Some(None))
        }
        Some(_) => false,
        None => true,
    };
    if !lost {
        return None;
    }
    let (id, request) = as_sent(text)?;
    Some(JsonRpcMessage::request(request.into(), id))
}

/// The request in an HTTP body, if rmcp does not keep its params as they were sent. It is in the
/// extensions of the HTTP request, and is set once the body has been read.
#[derive(Clone, Debug, Default)]
pub(crate) struct SentOverHttp(Arc<OnceLock<CustomRequest>>);

impl SentOverHttp {
    pub(super) fn get(&self) -> Option<&CustomRequest> {
        self.0.get()
    }
}

/// Records the request in an HTTP body, if rmcp does not keep its params. If rmcp cannot read the
/// body, returns a body of the same method that rmcp can read.
pub(crate) fn body_as_sent(body: &[u8], sent: &SentOverHttp) -> Option<Vec<u8>> {
    if !may_differ(body) {
        return None;
    }
    let read = serde_json::from_slice(body).ok();
    let JsonRpcMessage::Request(meant) = message_as_sent(read.as_ref(), body)? else {
        return None;
    };
    let ClientRequest::CustomRequest(request) = meant.request else {
        return None;
    };
    let readable = json!({
        "jsonrpc": "2.0", "id": meant.id, "method": request.method, "params": {},
    });
    // A body holds only one request.
    let _ = sent.0.set(request);
    match read {
        Some(_) => None,
        None => serde_json::to_vec(&readable).ok(),
    }
}

/// Returns `true` if a body has a member of one of these names that rmcp may read differently, or
/// has it twice. This is a search, so that bodies are not read twice.
fn may_differ(body: &[u8]) -> bool {
    let values = |name: &'static [u8]| {
        memchr::memmem::find_iter(body, name).filter_map(move |at| {
            let rest = body[at + name.len()..].trim_ascii_start();
            let value = rest.strip_prefix(b":")?.trim_ascii_start();
            Some(value.first().copied().unwrap_or_default())
        })
    };
    let is_odd = |name, first| values(name).any(|value| value != first && value != b'n');
    let cursor = br#""cursor""#;
    is_odd(br#""params""#, b'{')
        || is_odd(br#""_meta""#, b'{')
        || is_odd(cursor, b'"')
        || values(cursor).nth(1).is_some()
}
