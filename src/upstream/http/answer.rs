//! The relation of a message on the response of a request to that request.
//!
//! Over HTTP the exchange says which request an answer is for, and so does the answer's `id`. This
//! module compares the two. An error whose `id` names no request answers the request that it comes
//! back on: servers refuse so before they have read the request (JSON-RPC 2.0, section 5; MCP
//! 2026-07-28, basic, error responses). An answer that names another request is not used.

use std::fmt::Display;

use rmcp::{
    model::{ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage, ServerResult},
    transport::streamable_http_client::SseError,
};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::{Value, json};
use sse_stream::Sse;
use tokio_util::bytes::Bytes;

use super::{
    error_facts::{StandIn, retry_after},
    event_stream::too_long,
};
use crate::{
    error::retry_after_in,
    lines::LineError,
    upstream::route::Routes,
    wire::answers::{self, Expected, number_in},
};

/// A message on the response of a request.
pub(super) enum ResponseMessage {
    /// The answer, under the request's own id. `named` is `true` if the server gave it that id.
    Answer {
        message: ServerJsonRpcMessage,
        named: bool,
    },
    /// A notification, or a request of the server.
    Other(ServerJsonRpcMessage),
    /// An answer to another request.
    OtherAnswer,
    /// An answer that is not an MCP message.
    Unreadable,
}

/// Reads a message on the response of the request `own`. Returns `None` if the text holds no
/// message.
///
/// Most messages are answers. Reading one as the result type of its request costs a small part of
/// reading it by rmcp's union.
pub(super) fn response_message(
    text: &str,
    own: &RequestId,
    expected: Expected,
) -> Option<ResponseMessage> {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let answer = answers::answer_in(&bytes, |_| Some(expected))
        .ok()
        .flatten();
    let answer = answer.map(|(id, answer)| JsonRpcMessage::response(answer.result, id));
    let mut message = match answer.or_else(|| message_in(text)) {
        Some(message) => message,
        None => return MessageShape::read(text)?.response_message(own),
    };
    let answered_request = match &message {
        JsonRpcMessage::Response(response) => answered_request(Some(&response.id), own, false),
        JsonRpcMessage::Error(error) => answered_request(error.id.as_ref(), own, true),
        _ => return Some(ResponseMessage::Other(message)),
    };
    match &mut message {
        JsonRpcMessage::Response(response) => response.id = own.clone(),
        JsonRpcMessage::Error(error) => error.id = Some(own.clone()),
        _ => {}
    }
    Some(match answered_request {
        AnsweredRequest::Own => ResponseMessage::Answer {
            message,
            named: true,
        },
        AnsweredRequest::Unnamed => ResponseMessage::Answer {
            message,
            named: false,
        },
        AnsweredRequest::Other => ResponseMessage::OtherAnswer,
    })
}

/// The request that an answer names.
enum AnsweredRequest {
    Own,
    /// An id that this side cannot have given.
    Unnamed,
    Other,
}

fn answered_request(id: Option<&RequestId>, own: &RequestId, is_error: bool) -> AnsweredRequest {
    match id.and_then(number_in) {
        Some(number) if *own == RequestId::Number(number) => AnsweredRequest::Own,
        Some(_) => AnsweredRequest::Other,
        None if is_error => AnsweredRequest::Unnamed,
        None => AnsweredRequest::Other,
    }
}

/// Reads the message in a text, if rmcp can read it.
pub(super) fn message_in(text: &str) -> Option<ServerJsonRpcMessage> {
    let message = answers::other_in(text.as_bytes());
    message
        .inspect_err(|error| tracing::debug!(%error, "a text holds no message"))
        .ok()
}

/// The members of a message that tell its kind, whatever its `id` is.
#[derive(Deserialize)]
struct MessageShape {
    #[serde(default)]
    id: Value,
    #[serde(default, deserialize_with = "is_there")]
    method: bool,
    #[serde(default, deserialize_with = "is_there")]
    result: bool,
    #[serde(default)]
    error: Value,
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl MessageShape {
    fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn is_answer(&self) -> bool {
        !self.method && (self.result || !self.error.is_null())
    }

    fn answered_request(&self, own: &RequestId) -> AnsweredRequest {
        let id = serde_json::from_value(self.id.clone()).ok();
        answered_request(id.as_ref(), own, !self.result)
    }

    /// Reads an answer that rmcp cannot read, because of its `id` or its content.
    fn response_message(self, own: &RequestId) -> Option<ResponseMessage> {
        if !self.is_answer() {
            return None;
        }
        if let AnsweredRequest::Other = self.answered_request(own) {
            return Some(ResponseMessage::OtherAnswer);
        }
        let Ok(error) = serde_json::from_value(self.error) else {
            return Some(ResponseMessage::Unreadable);
        };
        Some(ResponseMessage::Answer {
            message: JsonRpcMessage::error(error, Some(own.clone())),
            named: false,
        })
    }
}

/// Returns the error that replaces an answer that cannot be read.
pub(super) fn unreadable(why: impl Display) -> ErrorData {
    let message = format!("the server's answer cannot be read: {why}");
    StandIn::Unreadable.error(message)
}

/// Writes the response's `Retry-After` header into the data of an error, if the data can hold it.
/// `Error::retry_after` finds it there, and so does the caller.
pub(super) fn keep_retry_after(message: &mut ServerJsonRpcMessage, header: Option<&str>) {
    let JsonRpcMessage::Error(error) = message else {
        return;
    };
    let Some(after) = header.and_then(retry_after) else {
        return;
    };
    let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    match &mut error.error.data {
        None | Some(Value::Null) => {
            error.error.data = Some(json!({ "retryAfterMs": millis }));
        }
        Some(Value::Object(fields)) if retry_after_in(fields).is_none() => {
            fields.insert("retryAfterMs".to_owned(), millis.into());
        }
        Some(_) => {}
    }
}

/// Returns the error that replaces an answer to another request.
pub(super) fn other_request() -> ErrorData {
    tracing::warn!(
        "a server answered a request with an id of another request; the answer is dropped"
    );
    let message = "the server's answer has the id of another request, so it is not used";
    StandIn::OtherRequest.error(message)
}

/// Returns the text of an event that is meant as a message.
pub(super) fn text_of(event: &Sse) -> Option<&str> {
    let is_message = matches!(event.event.as_deref(), None | Some("" | "message"));
    let data = event.data.as_deref();
    data.filter(|data| is_message && !data.is_empty())
}

/// Passes only answers for the request `own` on to rmcp's client, under its id. A stream that
/// belongs to no request has no answers.
pub(super) fn for_request(
    event: Result<Sse, SseError>,
    own: Option<&(RequestId, Expected)>,
    routes: Option<&Routes>,
) -> Result<Sse, SseError> {
    let mut event = match (event, own) {
        (Ok(event), _) => event,
        (Err(error), Some((own, _))) => {
            let Some(why) = too_long(&error) else {
                return Err(error);
            };
            return Ok(event_of(Sse::default(), unreadable(why), own));
        }
        (Err(error), None) => return Err(error),
    };
    let Some(shape) = text_of(&event).and_then(MessageShape::read) else {
        return Ok(event);
    };
    if !shape.is_answer() {
        return Ok(event);
    }
    let Some((own, expected)) = own else {
        tracing::debug!("an answer came where none was asked for; it is dropped");
        event.data = None;
        return Ok(event);
    };
    match text_of(&event).and_then(|text| response_message(text, own, *expected)) {
        Some(ResponseMessage::Answer { message, .. }) => {
            event.data = for_rmcp(message, routes);
            Ok(event)
        }
        Some(ResponseMessage::OtherAnswer) => Ok(event_of(event, other_request(), own)),
        Some(ResponseMessage::Unreadable) => {
            Ok(event_of(event, unreadable(LineError::NoMessage), own))
        }
        _ => Ok(event),
    }
}

/// Reads an answer on a stream that carries answers of any call, by the method of its call.
pub(super) fn keep_result(mut event: Sse, routes: &Routes) -> Sse {
    let text = text_of(&event).map(|text| Bytes::copy_from_slice(text.as_bytes()));
    let answer = text.map(|text| answers::answer_in(&text, |id| routes.expected(id)));
    if let Some(Ok(Some((id, answer)))) = answer {
        let result = routes.keep_answer(&id, answer);
        event.data = for_rmcp(JsonRpcMessage::response(result, id), None);
    }
    event
}

/// Keeps a result that could not be read as its method's, so that rmcp finds the readable part of a
/// list of tools in its place.
pub(super) fn keep_custom_result(answer: &mut ServerJsonRpcMessage, routes: &Routes) {
    if let JsonRpcMessage::Response(response) = answer
        && let ServerResult::CustomResult(_) = &response.result
    {
        let result = std::mem::replace(&mut response.result, ServerResult::empty(()));
        response.result = routes.keep_answer(&response.id, result.into());
    }
}

/// Returns the text of an answer for rmcp. The result of a call bypasses rmcp's union: the text has
/// [another](Expected::result_for_rmcp) in its place.
fn for_rmcp(mut answer: ServerJsonRpcMessage, routes: Option<&Routes>) -> Option<String> {
    if let JsonRpcMessage::Response(response) = &mut answer
        && let Some(routes) = routes
    {
        let result = std::mem::replace(&mut response.result, ServerResult::empty(()));
        response.result = routes.keep_answer(&response.id, result.into());
    }
    serde_json::to_string(&answer).ok()
}

/// Returns an event with an error that replaces the request's answer.
fn event_of(mut event: Sse, stand_in: ErrorData, own: &RequestId) -> Sse {
    let message = ServerJsonRpcMessage::error(stand_in, Some(own.clone()));
    event.data = serde_json::to_string(&message).ok();
    event
}
