//! The message in an HTTP body, as far as a decision needs it.

use bytes::Bytes;
use http::request::Parts;
use rmcp::model::{ClientRequest, GetExtensions, JsonRpcError, JsonRpcMessage, RequestId};

#[cfg(feature = "http-server")]
use crate::wire::over_http::{ReadBody, ReceivedOverHttp};
use crate::{
    lines::UnreadableLine,
    protocol::{
        json_text::read_leniently, methods::Method, notifications::client_method,
        target::TargetKind,
    },
    wire::{
        caller::{self, FromCaller},
        received::Received,
    },
};

/// A message.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) id: Option<RequestId>,
    /// The method. An answer has none.
    pub(super) method: Option<String>,
    /// The target, if the message has a single one, as
    /// [`RequestParts::target`](crate::RequestParts::target) defines it.
    pub(super) target: Option<String>,
}

/// The error for a body that is not passed on as a message. `None`: the layer in front of this one
/// answers it.
pub(super) type Refusal = Option<Box<JsonRpcError>>;

impl Message {
    /// Returns the message that was read from a body. It is read here if no
    /// [`LenientHttpLayer`](crate::LenientHttpLayer) has read it.
    pub(super) fn of(parts: &Parts, body: &Bytes) -> Result<Self, Refusal> {
        match already_read(parts) {
            Some(read) => read,
            None => Self::read(body),
        }
    }

    fn read(body: &Bytes) -> Result<Self, Refusal> {
        let refused = |error| Err(Some(Box::new(error)));
        match read_leniently(body.clone(), caller::read) {
            Err((body, error)) => refused(UnreadableLine::new(&body, (&error).into()).refusal()),
            Ok((_, FromCaller::Refused(error))) => refused(error),
            Ok((_, FromCaller::Message(message))) => match *message {
                JsonRpcMessage::Request(message) => Self::of_request(message.id, &message.request),
                JsonRpcMessage::Notification(message) => Ok(Self {
                    method: Some(client_method(&message.notification).to_owned()),
                    ..Self::default()
                }),
                _ => Ok(Self::default()),
            },
        }
    }

    /// Fails if the request cannot be read: the server would read another one than was decided on.
    fn of_request(id: RequestId, request: &ClientRequest) -> Result<Self, Refusal> {
        let received = request.extensions().get::<Received>();
        if let Some(unreadable) = received.and_then(Received::unreadable) {
            let error = unreadable.answer(Ok(())).into();
            return Err(Some(Box::new(JsonRpcError::new(Some(id), error))));
        }
        let target = received.and_then(|received| received.request().target_of(request));
        Ok(Self {
            id: Some(id),
            method: Some(request.method().to_owned()),
            target: target.map(str::to_owned),
        })
    }

    /// Returns the kind of the message's target, by its method.
    pub(super) fn target_kind(&self) -> Option<TargetKind> {
        Method::named(self.method.as_deref()?)?.row().target
    }

    /// Returns the value that `Mcp-Name` mirrors (MCP 2026-07-28, Streamable HTTP, "Standard
    /// Request Headers"; the Tasks extension).
    pub(super) fn mirrored_name(&self) -> Option<&str> {
        let method = Method::named(self.method.as_deref()?)?;
        self.target.as_deref().filter(|_| method.row().is_mirrored)
    }
}

/// Returns the message that a [`LenientHttpLayer`](crate::LenientHttpLayer) has read.
#[cfg(feature = "http-server")]
fn already_read(parts: &Parts) -> Option<Result<Message, Refusal>> {
    Some(match parts.extensions.get::<ReceivedOverHttp>()?.get()? {
        ReadBody::Request { id, received } => Ok(Message {
            id: Some(id.clone()),
            method: Some(received.request().method().to_owned()),
            target: received.request().target(),
        }),
        ReadBody::Notification { method, .. } => Ok(Message {
            method: Some(method.clone()),
            ..Message::default()
        }),
        ReadBody::Answer => Ok(Message::default()),
        ReadBody::Discarded | ReadBody::Refused { .. } => Err(None),
    })
}

/// Has a body passed on as it is, so that it can be discarded piece by piece.
#[cfg(feature = "http-server")]
pub(super) fn discard(parts: &Parts) {
    if let Some(received) = parts.extensions.get::<ReceivedOverHttp>() {
        received.discard();
    }
}

#[cfg(not(feature = "http-server"))]
pub(super) fn discard(_: &Parts) {}

#[cfg(not(feature = "http-server"))]
fn already_read(_: &Parts) -> Option<Result<Message, Refusal>> {
    None
}
