//! [`LenientHttpLayer`], in front of rmcp's `StreamableHttpService` (feature `http-server`).

mod replays;
mod request_body;
mod response_body;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, response,
};
use http_body::Body;
use pin_project_lite::pin_project;
use rmcp::model::{ErrorData, JsonRpcError, JsonRpcMessage, ProtocolVersion};
use tower::{Layer, Service};

use self::{replays::Replays, response_body::Events};
pub use self::{request_body::LenientBody, response_body::AnswerBody};
use crate::{
    lines::MAX_MESSAGE_BYTES,
    util::http_body::BodyBuffer,
    wire::{
        self, ids,
        over_http::{ReadBody, ReceivedOverHttp},
    },
};

pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// Reads requests and writes answers in front of rmcp's `StreamableHttpService`, as
/// [`Lines`](crate::Lines) does over a reader and a writer.
///
/// Requires the feature `http-server`.
///
/// # Requests
///
/// The layer reads a JSON body whole, as one message, by the message's method. A body of another
/// media type, or with a `Content-Encoding`, is passed on as it is. The body is read when the inner
/// service asks for it, so the checks that come first (authentication, `Host`, `Origin`, `Accept`)
/// keep their order.
///
/// - A body that is not a message is answered by the layer: HTTP 400 with -32700 if it is not
///   JSON, else with -32600. Batches, ids that are not strings or numbers, and messages without
///   `jsonrpc` are refused in this way. rmcp answers HTTP 415 without a reason.
/// - A request whose params do not fit its method is answered by
///   [`McpServer`](crate::McpServer) with -32602 and the path of the misfit, so that an audit layer
///   records it.
/// - An `id` may be any string or number. rmcp reads integers of 64 bits.
/// - The capabilities in an `initialize` that rmcp does not know are left out.
/// - An escape of a surrogate without its other half (`"\ud83d"`) and a byte that is not UTF-8
///   become U+FFFD.
///
/// rmcp reads the same body, or one without parts that it does not need.
///
/// # Answers
///
/// A result that the stack has a text of leaves as that text, also in event streams. It keeps
/// members that rmcp's types do not have. In event streams, a notification or request without
/// params has no `params`; rmcp writes `"params":null`, which JSON-RPC 2.0 (section 4.2) does not
/// allow and other clients refuse. Event streams are passed on event by event.
///
/// Answers that a later `GET` of the session brings, after its `POST` has broken off or from an
/// event store, leave as their text too. Limit: the last 256 such requests with answers of 64 MiB
/// altogether. Without a session, and beyond the limit, such an answer is what rmcp's types hold of
/// it.
///
/// # Limits
///
/// A body may have up to [`max_message_bytes`](Self::max_message_bytes). Default: 16 MiB. Above,
/// the answer is HTTP 413. rmcp has a limit of its own, `max_request_body_bytes`. Default: 4 MiB.
/// It does not apply to the arguments of tools, prompts and completions, and to params of methods
/// that the protocol does not have. In a body of more than 64 KiB, arguments of more than 16 KiB
/// are not compared with `Mcp-Param-` headers, and may not be mirrored in one.
///
/// # Order
///
/// Put the layer outside of an
/// [`HttpAuthLayer`](https://docs.rs/rmcp-layers/latest/rmcp_layers/auth/http/struct.HttpAuthLayer.html),
/// which then decides by what this layer has read. Give it only routes of MCP endpoints.
///
/// ```
/// use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
/// use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
/// use rmcp_layers::{Handler, LenientHttpLayer, McpServer};
/// # #[derive(Clone)]
/// # struct Empty;
/// # impl rmcp::ServerHandler for Empty {}
///
/// let server = McpServer::new(Handler::new(Empty));
/// let service = StreamableHttpService::new(
///     move || Ok(server.clone()),
///     std::sync::Arc::new(LocalSessionManager::default()),
///     StreamableHttpServerConfig::default(),
/// );
/// let router = axum::Router::<()>::new()
///     .route_service("/mcp", service)
///     .layer(LenientHttpLayer::new());
/// ```
#[derive(Clone, Debug)]
pub struct LenientHttpLayer {
    max: usize,
}

impl LenientHttpLayer {
    /// Creates the layer.
    pub fn new() -> Self {
        Self {
            max: MAX_MESSAGE_BYTES,
        }
    }

    /// Sets the maximum length of a body, in bytes. Default: 16 MiB. `usize::MAX`: no limit.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max = bytes;
        self
    }
}

impl Default for LenientHttpLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for LenientHttpLayer {
    type Service = LenientHttp<S>;

    fn layer(&self, inner: S) -> LenientHttp<S> {
        LenientHttp {
            inner,
            max: self.max,
            replays: Arc::default(),
        }
    }
}

/// The service of a [`LenientHttpLayer`].
///
/// Requires the feature `http-server`.
#[derive(Clone)]
pub struct LenientHttp<S> {
    inner: S,
    max: usize,
    replays: Arc<Replays>,
}

impl<S> fmt::Debug for LenientHttp<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LenientHttp")
            .field("max_message_bytes", &self.max)
            .finish_non_exhaustive()
    }
}

impl<S, B, R> Service<Request<B>> for LenientHttp<S>
where
    S: Service<Request<LenientBody<B>>, Response = Response<R>>,
    B: Body<Data = Bytes>,
    R: Body<Data = Bytes>,
{
    type Response = Response<AnswerBody<R>>;
    type Error = S::Error;
    type Future = LenientHttpFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let exchange = Exchange {
            received: ReceivedOverHttp::new(&parts.headers),
            session: session_in(&parts.headers),
            replays: self.replays.clone(),
            is_get: parts.method == Method::GET,
        };
        let body = match parts.method == Method::POST && is_json(&parts.headers) {
            true => {
                // rmcp may be given a longer or a shorter body.
                let announced = parts.headers.remove(header::CONTENT_LENGTH);
                let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
                parts.extensions.insert(exchange.received.clone());
                let received = exchange.received.clone();
                LenientBody::message(body, announced.unwrap_or_default(), self.max, received)
            }
            false => LenientBody::other(body),
        };
        LenientHttpFuture {
            inner: self.inner.call(Request::from_parts(parts, body)),
            exchange,
            reading: None,
        }
    }
}

/// Returns the session of a request, if its revision has sessions. rmcp does not check the header of
/// any other request, so a caller may name another one's session there.
pub(super) fn session_in(headers: &HeaderMap) -> Option<HeaderValue> {
    let version = headers.get("mcp-protocol-version");
    let has_sessions = version.is_none_or(|version| {
        version.as_bytes() < ProtocolVersion::V_2026_07_28.as_str().as_bytes()
    });
    headers.get(SESSION_ID).filter(|_| has_sessions).cloned()
}

/// Returns `true` if the body of a message with these headers is the text of JSON.
fn is_json(headers: &HeaderMap) -> bool {
    is_of_type(headers, b"application/json") && !headers.contains_key(header::CONTENT_ENCODING)
}

fn is_of_type(headers: &HeaderMap, essence: &[u8]) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.as_bytes().get(..essence.len()));
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case(essence))
}

/// A request over HTTP, and what is known of it.
struct Exchange {
    received: ReceivedOverHttp,
    session: Option<HeaderValue>,
    replays: Arc<Replays>,
    is_get: bool,
}

pin_project! {
    /// The future of a [`LenientHttp`].
    ///
    /// Requires the feature `http-server`.
    pub struct LenientHttpFuture<F, R> {
        #[pin]
        inner: F,
        exchange: Exchange,
        reading: Option<Reading<R>>,
    }
}

impl<F, R> fmt::Debug for LenientHttpFuture<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LenientHttpFuture").finish_non_exhaustive()
    }
}

/// The response to a request.
enum Answer<R: Body> {
    Ready(Response<AnswerBody<R>>),
    /// The body has to be read first.
    Reading(Reading<R>),
}

/// A response whose body is read.
struct Reading<R> {
    head: response::Parts,
    body: Pin<Box<R>>,
    buffer: BodyBuffer,
}

impl<F, R, E> Future for LenientHttpFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body<Data = Bytes>,
{
    type Output = Result<Response<AnswerBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.reading.is_none() {
            let response = ready!(this.inner.poll(cx))?;
            match this.exchange.answer(response) {
                Answer::Ready(response) => return Poll::Ready(Ok(response)),
                Answer::Reading(reading) => *this.reading = Some(reading),
            }
        }
        while let Some(reading) = this.reading {
            let read = match ready!(reading.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // The body of an answer has no trailers, and its length no limit.
                    if let Ok(data) = frame.into_data() {
                        let left = reading.body.size_hint().lower();
                        let _ = reading.buffer.add(data, left, usize::MAX);
                    }
                    continue;
                }
                Some(Err(error)) => Err(error),
                None => Ok(std::mem::take(&mut reading.buffer).into_bytes()),
            };
            let Some(Reading { head, .. }) = this.reading.take() else {
                break;
            };
            let body = match read {
                Ok(body) => AnswerBody::own(this.exchange.answer_in(body)),
                Err(error) => AnswerBody::broken(error),
            };
            return Poll::Ready(Ok(Response::from_parts(head, body)));
        }
        Poll::Pending
    }
}

impl Exchange {
    /// Returns the response for the caller.
    fn answer<R: Body>(&self, response: Response<R>) -> Answer<R> {
        if self.received.is_answered() {
            return Answer::Ready(response.map(|body| AnswerBody::inner(body, None)));
        }
        let read = self.received.get();
        let is_json = is_json(response.headers());
        let request = match read {
            // A service in between may have read the body, and have another reason to refuse it.
            Some(ReadBody::Refused { error, is_too_long })
                if response.status().is_success()
                    || response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE =>
            {
                let status = match is_too_long {
                    true => StatusCode::PAYLOAD_TOO_LARGE,
                    false => StatusCode::BAD_REQUEST,
                };
                return Answer::Ready(refusal(status, error.clone()));
            }
            Some(_) if response.status() == StatusCode::PAYLOAD_TOO_LARGE && !is_json => {
                return Answer::Ready(refusal(response.status(), self.too_long_for_rmcp()));
            }
            Some(ReadBody::Request { id, received }) => Some((id, received.request().answer())),
            _ => None,
        };
        let (mut head, body) = response.into_parts();
        if let Some((id, text)) = request
            && is_json
            && (text.get().is_some() || ids::is_marked(id))
        {
            head.headers.remove(header::CONTENT_LENGTH);
            return Answer::Reading(Reading {
                head,
                body: Box::pin(body),
                buffer: BodyBuffer::default(),
            });
        }
        let has_events = (request.is_some() || self.is_get)
            && is_of_type(&head.headers, b"text/event-stream")
            && !head.headers.contains_key(header::CONTENT_ENCODING);
        let events = has_events.then(|| Events {
            request: request.map(|(id, text)| (id.clone(), text.clone())),
            session: self.session.clone(),
            replays: self.replays.clone(),
        });
        Answer::Ready(Response::from_parts(head, AnswerBody::inner(body, events)))
    }

    /// Returns a body of JSON as it leaves.
    fn answer_in(&self, body: Bytes) -> Bytes {
        let Some(ReadBody::Request { id, received }) = self.received.get() else {
            return body;
        };
        let answer = wire::WrittenAnswer::of(&body).filter(|answer| answer.id == *id);
        let own = answer.and_then(|answer| answer.with(received.request().answer().get()));
        own.unwrap_or(body)
    }

    fn too_long_for_rmcp(&self) -> JsonRpcError {
        let id = match self.received.get() {
            Some(ReadBody::Request { id, .. }) => Some(id.clone()),
            _ => None,
        };
        let why = "the message cannot be read: it is longer than rmcp's `max_request_body_bytes`";
        JsonRpcError::new(id, ErrorData::invalid_request(why, None))
    }
}

/// Returns the response to a message that is refused.
fn refusal<R: Body>(status: StatusCode, error: JsonRpcError) -> Response<AnswerBody<R>> {
    tracing::warn!(reason = %error.error.message, "a message of a client is refused");
    let text = wire::to_caller(JsonRpcMessage::Error(error), None).unwrap_or_default();
    let mut response = Response::new(AnswerBody::own(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        // The rest of the body is not read.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
