//! The message in the body of an HTTP request, and the body that rmcp reads in its place.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use rmcp::model::{
    ClientCapabilities, ClientJsonRpcMessage, ClientNotification, ClientRequest, CustomRequest,
    Extensions, GetExtensions, GetMeta, JsonObject, JsonRpcError, JsonRpcMessage,
    JsonRpcNotification, JsonRpcRequest, ProtocolVersion, RequestId,
};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio_util::bytes::Bytes;

use super::{
    as_sent::AsSent,
    caller::{self, FromCaller},
    caller_results, ids,
    received::Received,
};
use crate::{
    caller::Era,
    lines::UnreadableLine,
    protocol::{json_text, methods::Method, notifications},
};

/// The length from which on rmcp is given a body without the large parts of a request. rmcp reads
/// a body as one type after another, up to 4 MiB by default.
const LARGE: usize = 64 * 1024;

/// The default of rmcp's limit.
const RMCP_MAX: usize = 4 * 1024 * 1024;

/// The longest argument that is compared with a header.
const MAX_MIRRORED: usize = 16 * 1024;

/// The reading of a body, in the extensions of the HTTP request.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedOverHttp {
    /// The request has a header that mirrors the target of the message.
    has_name: bool,
    /// The revision of the header, since 2026-07-28. rmcp refuses a request without it in `_meta`.
    version: Option<ProtocolVersion>,
    read: Arc<OnceLock<ReadBody>>,
    /// The response is not rmcp's, and leaves as it is.
    is_answered: Arc<AtomicBool>,
}

/// A message that was read from a body.
#[derive(Debug)]
pub(crate) enum ReadBody {
    Request {
        id: RequestId,
        received: Received,
    },
    /// A notification, and the parts that its type has no place for.
    Notification {
        method: String,
        kept: Option<AsSent>,
        /// The request that it cancels.
        cancelled: Option<RequestId>,
    },
    /// An answer to a request of the server.
    Answer,
    /// No decision needs the body: the request is refused because of its head.
    #[cfg(feature = "auth")]
    Discarded,
    Refused {
        error: JsonRpcError,
        is_too_long: bool,
    },
}

impl ReceivedOverHttp {
    /// Creates the place for the reading of a request with these headers.
    pub(crate) fn new(headers: &http::HeaderMap) -> Self {
        let version = headers.get("mcp-protocol-version");
        let version = version.and_then(|version| version.to_str().ok());
        let mut known = ProtocolVersion::KNOWN_VERSIONS.iter();
        let known = known.find(|known| Some(known.as_str()) == version);
        Self {
            has_name: headers.contains_key("mcp-name"),
            version: known.filter(|known| Era::of(known) == Era::Modern).cloned(),
            read: Arc::default(),
            is_answered: Arc::default(),
        }
    }

    /// Sets that the response leaves as it is.
    pub(crate) fn set_answered(&self) {
        self.is_answered.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.is_answered.load(Ordering::Relaxed)
    }

    /// Returns the reading of the HTTP request that a message came with.
    pub(crate) fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get::<http::request::Parts>()?.extensions.get()
    }

    pub(crate) fn get(&self) -> Option<&ReadBody> {
        self.read.get()
    }

    pub(super) fn request(&self) -> Option<&Received> {
        match self.get()? {
            ReadBody::Request { received, .. } => Some(received),
            _ => None,
        }
    }

    /// Returns the parts of a notification that its type has no place for.
    pub(super) fn kept(&self) -> Option<&AsSent> {
        match self.get()? {
            ReadBody::Notification { kept, .. } => kept.as_ref(),
            _ => None,
        }
    }

    /// Has the body passed on as it is, without being read.
    #[cfg(feature = "auth")]
    pub(crate) fn discard(&self) {
        self.set(ReadBody::Discarded);
    }

    /// Refuses a body that is longer than its limit.
    pub(crate) fn refuse_too_long(&self, error: JsonRpcError) {
        self.set(ReadBody::Refused {
            error,
            is_too_long: true,
        });
    }

    fn set(&self, read: ReadBody) {
        // A body is read once.
        let _ = self.read.set(read);
    }

    /// Reads a body. Returns the body that rmcp reads in its place: the same, unless rmcp would
    /// read another message from it. It is empty if the message is refused.
    pub(crate) fn read(&self, body: Bytes) -> Bytes {
        let (body, message) = match json_text::read_leniently(body, caller::read) {
            Ok(read) => read,
            Err((body, error)) => {
                let unreadable = UnreadableLine::new(&body, (&error).into());
                self.set(refused(unreadable.refusal()));
                let failed = unreadable.failed_request();
                return failed.map_or_else(Bytes::new, |failed| text(&failed));
            }
        };
        let (read, body) = match message {
            FromCaller::Refused(error) => (refused(error), Bytes::new()),
            FromCaller::Message(message) => match *message {
                JsonRpcMessage::Request(request) => self.of_request(request, body),
                JsonRpcMessage::Notification(message) => of_notification(message, body),
                answer => (ReadBody::Answer, of_answer(answer, body)),
            },
        };
        self.set(read);
        body
    }

    fn of_request(
        &self,
        mut message: JsonRpcRequest<ClientRequest>,
        body: Bytes,
    ) -> (ReadBody, Bytes) {
        let Some(received) = message.request.extensions_mut().remove::<Received>() else {
            return (ReadBody::Answer, body);
        };
        let passed = self.in_place_of(&body, &message, &received);
        received.set_request(message.request);
        let id = message.id;
        (ReadBody::Request { id, received }, passed.unwrap_or(body))
    }

    /// Returns the body that rmcp reads in place of a request's own, if it needs another.
    fn in_place_of(
        &self,
        body: &Bytes,
        message: &JsonRpcRequest<ClientRequest>,
        received: &Received,
    ) -> Option<Bytes> {
        let request = received.request();
        let method = Method::of(&message.request);
        if caller::is_refused_by_rmcp(&message.request) {
            return Some(stand_in(message, request.method(), None, None));
        }
        let is_large = body.len() > LARGE && goes_down_whole(method);
        let is_custom = method.is_none() && !request.is_plain();
        if is_large || is_custom {
            let target = request.target_of(&message.request);
            let target = target.filter(|_| self.has_name);
            let declared = self
                .version
                .as_ref()
                .filter(|_| received.unreadable().is_some());
            return Some(stand_in(message, request.method(), target, declared));
        }
        let is_own = request.is_plain() && !ids::is_marked(&message.id);
        // The capabilities of a client may be read in part.
        let is_passed = is_own && method != Some(Method::Initialize);
        (!is_passed).then(|| text(message))
    }
}

fn refused(error: JsonRpcError) -> ReadBody {
    ReadBody::Refused {
        error,
        is_too_long: false,
    }
}

/// Returns `true` if rmcp and the top of a stack act on nothing of such a request's params.
fn goes_down_whole(method: Option<Method>) -> bool {
    matches!(
        method,
        None | Some(
            Method::CallTool
                | Method::Complete
                | Method::GetPrompt
                | Method::ReadResource
                | Method::UpdateTask
        )
    )
}

/// Returns a request with the parts that rmcp compares with headers (MCP 2026-07-28, Streamable
/// HTTP, "Server Validation").
fn stand_in(
    message: &JsonRpcRequest<ClientRequest>,
    method: &str,
    target: Option<&str>,
    declared: Option<&ProtocolVersion>,
) -> Bytes {
    let mut params = Map::new();
    let row = Method::named(method).map(Method::row);
    if let Some(row) = row.filter(|row| row.is_mirrored)
        && let Some((member, target)) = row.target.and_then(|kind| kind.member()).zip(target)
    {
        params.insert(member.to_owned(), target.into());
    }
    if let ClientRequest::CallToolRequest(call) = &message.request
        && let Some(arguments) = &call.params.arguments
    {
        params.insert("arguments".to_owned(), mirrored(arguments).into());
    }
    let mut request = CustomRequest::new(method, Some(params.into()));
    let meta = request.get_meta_mut();
    *meta = message.request.get_meta().clone();
    if let Some(version) = declared.filter(|_| meta.protocol_version().is_none()) {
        meta.set_protocol_version(version.clone());
        meta.set_client_capabilities(ClientCapabilities::default());
    }
    text(&ClientJsonRpcMessage::request(
        request.into(),
        message.id.clone(),
    ))
}

/// Returns the arguments that a header may mirror: strings, numbers and booleans.
fn mirrored(arguments: &JsonObject) -> JsonObject {
    let mirrored = arguments.iter().filter_map(|(name, value)| {
        let value = match value {
            Value::Object(members) => mirrored(members).into(),
            Value::Array(_) => return None,
            Value::String(text) if text.len() > MAX_MIRRORED => return None,
            other => other.clone(),
        };
        Some((name.clone(), value))
    });
    mirrored.collect()
}

fn of_notification(
    mut message: JsonRpcNotification<ClientNotification>,
    body: Bytes,
) -> (ReadBody, Bytes) {
    let kept = message.notification.extensions_mut().remove::<AsSent>();
    let cancelled = match &message.notification {
        ClientNotification::CancelledNotification(cancelled) => cancelled.params.request_id.clone(),
        _ => None,
    };
    let passed = match cancelled.as_ref().is_some_and(ids::is_marked) {
        true => text(&message),
        false => body,
    };
    let method = notifications::client_method(&message.notification).to_owned();
    let read = ReadBody::Notification {
        method,
        kept,
        cancelled,
    };
    (read, passed)
}

fn of_answer(mut answer: ClientJsonRpcMessage, body: Bytes) -> Bytes {
    let (id, is_rewritten) = match &mut answer {
        JsonRpcMessage::Response(of) => (Some(&of.id), caller_results::has_whole(&mut of.result)),
        JsonRpcMessage::Error(of) => (of.id.as_ref(), false),
        _ => (None, false),
    };
    if !is_rewritten && !id.is_some_and(ids::is_marked) {
        return body;
    }
    let passed = text(&answer);
    match passed.len() <= body.len().max(RMCP_MAX) {
        true => passed,
        false => body,
    }
}

fn text(message: &impl Serialize) -> Bytes {
    serde_json::to_vec(message)
        .map(Bytes::from)
        .unwrap_or_default()
}
