//! The relation of a message on the response of a request to that request.
//!
//! Over HTTP the exchange says which request an answer is for, and so does the answer's `id`. This
//! module compares the two. An error whose `id` names no request answers the request that it comes
//! back on: servers refuse so before they have read the request (JSON-RPC 2.0, section 5; MCP
//! 2026-07-28, basic, error responses). An answer that names another request is not used.

use std::fmt::Display;

use rmcp::model::{
    ClientJsonRpcMessage, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage, ServerResult,
};
use serde_json::{Value, json};
use sse_stream::Sse;
use tokio_util::bytes::Bytes;

use super::error_facts::{StandIn, retry_after};
use crate::{
    error::retry_after_in,
    lines::LineError,
    upstream::route::Routes,
    wire::{
        answers::{self, Expected, ReadAnswer, number_in},
        envelope::{self, Envelope, Outcome},
    },
};

/// The answer to a request: its result, or its error.
pub(super) type Answer = Result<Box<ReadAnswer>, ErrorData>;

/// A request whose answer is awaited.
#[derive(Clone, Debug)]
pub(super) struct Awaited {
    pub(super) id: RequestId,
    /// The type that its answer is read as.
    pub(super) expected: Expected,
}

impl Awaited {
    /// Returns `None` if a message is not a request.
    pub(super) fn of(message: &ClientJsonRpcMessage) -> Option<Self> {
        match message {
            JsonRpcMessage::Request(request) => Some(Self {
                id: request.id.clone(),
                expected: Expected::of(&request.request),
            }),
            _ => None,
        }
    }
}

/// A message on the response of a request.
pub(super) enum ResponseMessage {
    /// The answer. `named` is `true` if it has the request's own id.
    Answer { answer: Answer, named: bool },
    /// A notification, or a request of the server.
    Other(Box<ServerJsonRpcMessage>),
    /// An answer to another request.
    OtherAnswer,
    /// An answer that is not an MCP message, or a text that is not JSON.
    Unreadable(LineError),
    /// JSON that is not a message.
    None,
}

/// Reads a message on the response of a request.
pub(super) fn response_message(text: &Bytes, own: &Awaited) -> ResponseMessage {
    if let Some(answer) = answers::usual_answer_in(text, &own.id, own.expected) {
        let (answer, named) = (Ok(Box::new(answer)), true);
        return ResponseMessage::Answer { answer, named };
    }
    let envelope = match Envelope::of(text) {
        Ok(envelope) => envelope,
        Err(error) if error.is_data() => return ResponseMessage::None,
        Err(error) => return ResponseMessage::Unreadable(LineError::from(&error)),
    };
    if !envelope.is_answer() {
        return match envelope.other_in(text).ok() {
            Some(message) => ResponseMessage::Other(Box::new(message)),
            None => ResponseMessage::None,
        };
    }
    let outcome = envelope.outcome();
    let is_error = !matches!(outcome, Some(Outcome::Result(_)));
    let named = match answered_request(envelope.id().as_ref(), &own.id, is_error) {
        AnsweredRequest::Own => true,
        AnsweredRequest::Unnamed => false,
        AnsweredRequest::Other => return ResponseMessage::OtherAnswer,
    };
    let answer = match outcome {
        Some(Outcome::Result(result)) => match own.expected.answer_in(text, result) {
            Ok(answer) => Ok(Box::new(answer)),
            Err(error) => return ResponseMessage::Unreadable(LineError::from(&error)),
        },
        Some(Outcome::Error(error)) => match envelope::error_in(error) {
            Ok(error) => Err(error),
            Err(_) => return ResponseMessage::Unreadable(LineError::NoMessage),
        },
        None => return ResponseMessage::Unreadable(LineError::NoMessage),
    };
    ResponseMessage::Answer { answer, named }
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
pub(super) fn message_in(text: &[u8]) -> Option<ServerJsonRpcMessage> {
    let message = Envelope::of(text).and_then(|envelope| envelope.other_in(text));
    message
        .inspect_err(|error| tracing::debug!(%error, "a text holds no message"))
        .ok()
}

/// Returns the error that replaces an answer that cannot be read.
pub(super) fn unreadable(why: impl Display) -> ErrorData {
    let message = format!("the server's answer cannot be read: {why}");
    StandIn::Unreadable.error(message)
}

/// Writes the response's `Retry-After` header into the data of an error, if the data can hold it.
/// `Error::retry_after` finds it there, and so does the caller.
pub(super) fn keep_retry_after(error: &mut ErrorData, header: Option<&str>) {
    let Some(after) = header.and_then(retry_after) else {
        return;
    };
    let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    match &mut error.data {
        None | Some(Value::Null) => {
            error.data = Some(json!({ "retryAfterMs": millis }));
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

/// Takes the text of an event that is meant as a message.
pub(super) fn take_text(event: &mut Sse) -> Option<Bytes> {
    let is_message = matches!(event.event.as_deref(), None | Some("" | "message"));
    let data = event
        .data
        .take_if(|data| is_message && !data.trim_ascii().is_empty());
    data.map(Bytes::from)
}

/// Puts a text back into its event.
pub(super) fn put_back(event: &mut Sse, text: Bytes) {
    event.data = String::from_utf8(text.into()).ok();
}

/// Returns the answer for rmcp's client. The result of a call goes around rmcp, which gets a
/// stand-in.
pub(super) fn for_rmcp(
    id: RequestId,
    answer: Answer,
    routes: Option<&Routes>,
) -> ServerJsonRpcMessage {
    match (answer, routes) {
        (Ok(answer), Some(routes)) => {
            let result: ServerResult = routes.keep_answer(&id, *answer);
            JsonRpcMessage::response(result, id)
        }
        (Ok(answer), None) => JsonRpcMessage::response(answer.result, id),
        (Err(error), _) => JsonRpcMessage::error(error, Some(id)),
    }
}

/// Returns `true` for a word that some servers send to keep a stream open. The standard has
/// comments for that.
pub(super) fn is_heartbeat(text: &[u8]) -> bool {
    let words: [&[u8]; 5] = [b"ping", b"pong", b"heartbeat", b"keepalive", b"keep-alive"];
    let text = text.trim_ascii();
    words.iter().any(|word| text.eq_ignore_ascii_case(word))
}
