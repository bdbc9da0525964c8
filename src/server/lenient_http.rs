//! [`LenientHttpLayer`], in front of rmcp's `StreamableHttpService` (feature `http-server`).

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use memchr::memmem;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    protocol::json_text::{NULL_PARAMS, complete_prefix, replace_lone_surrogates},
    wire::caller::{ReceivedOverHttp, body_for_rmcp},
};

/// The longest body whose request is compared with what rmcp reads of it, in bytes.
const MAX_COMPARED: usize = 16 * 1024;

/// Repairs messages on their way to and from rmcp's `StreamableHttpService`, as
/// [`Lines`](crate::Lines) does.
///
/// Requires the feature `http-server`.
///
/// - In request bodies of JSON, an escape of a surrogate without its other half (`"\ud83d"`) and a
///   byte that is not UTF-8 become U+FFFD. rmcp answers such a body with an error. A body of
///   another media type, or with a `Content-Encoding`, is left as it is.
/// - In a body of up to 16 KiB, a request whose `params` or `_meta` is not an object, or a list
///   request whose `cursor` is not a string, is answered by [`McpServer`](crate::McpServer) with
///   -32602 and the name of the misfit. rmcp answers the first two with HTTP 415, and the last with
///   the first page.
/// - In event streams, a notification or request without params has no `params`. rmcp writes
///   `"params":null`, which JSON-RPC 2.0 (section 4.2) does not allow and other clients refuse.
///
/// Longer bodies are not buffered. Limit: 12 bytes are held back between two pieces of a body.
///
/// Put the layer outside of an
/// [`HttpAuthLayer`](https://docs.rs/rmcp-layers/latest/rmcp_layers/auth/http/struct.HttpAuthLayer.html),
/// which also reads request bodies.
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
#[derive(Clone, Copy, Debug, Default)]
pub struct LenientHttpLayer(());

impl LenientHttpLayer {
    /// Creates the layer. It has no options.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S> Layer<S> for LenientHttpLayer {
    type Service = LenientHttp<S>;

    fn layer(&self, inner: S) -> LenientHttp<S> {
        LenientHttp { inner }
    }
}

/// The service of a [`LenientHttpLayer`].
///
/// Requires the feature `http-server`.
#[derive(Clone)]
pub struct LenientHttp<S> {
    inner: S,
}

impl<S> fmt::Debug for LenientHttp<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LenientHttp").finish_non_exhaustive()
    }
}

impl<S, B, R> Service<Request<B>> for LenientHttp<S>
where
    S: Service<Request<LenientBody<B>>, Response = Response<R>>,
    B: Body<Data = Bytes>,
    R: Body<Data = Bytes>,
{
    type Response = Response<EventBody<R>>;
    type Error = S::Error;
    type Future = LenientHttpFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let is_json = is_json(&parts.headers);
        if is_json {
            // A replaced byte makes the body longer.
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        let sent = ReceivedOverHttp::default();
        parts.extensions.insert(sent.clone());
        let body = LenientBody {
            body,
            is_json,
            held: BytesMut::new(),
            short: Some(BytesMut::new()),
            sent,
            trailers: None,
            ended: false,
        };
        LenientHttpFuture {
            inner: self.inner.call(Request::from_parts(parts, body)),
        }
    }
}

/// Returns `true` if the body of a request with these headers is the text of JSON.
fn is_json(headers: &HeaderMap) -> bool {
    const JSON: &[u8] = b"application/json";
    let kind = headers
        .get(header::CONTENT_TYPE)
        .map(|kind| kind.as_bytes());
    let kind = kind.and_then(|kind| kind.get(..JSON.len()));
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case(JSON))
        && !headers.contains_key(header::CONTENT_ENCODING)
}

pin_project! {
    /// The future of a [`LenientHttp`].
    ///
    /// Requires the feature `http-server`.
    #[derive(Debug)]
    pub struct LenientHttpFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<F, R, E> Future for LenientHttpFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<EventBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().inner.poll(cx))?;
        let events = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        Poll::Ready(Ok(response.map(|body| EventBody { body, events })))
    }
}

pin_project! {
    /// A request body. If it is JSON, it has U+FFFD in place of text that a Rust string cannot
    /// hold.
    ///
    /// Requires the feature `http-server`.
    #[derive(Debug)]
    pub struct LenientBody<B> {
        #[pin]
        body: B,
        is_json: bool,
        // The start of an escape or of a character whose rest has not arrived.
        held: BytesMut,
        // The whole body so far, unless it is too long to be compared.
        short: Option<BytesMut>,
        sent: ReceivedOverHttp,
        trailers: Option<HeaderMap>,
        ended: bool,
    }
}

impl<B: Body<Data = Bytes>> Body for LenientBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        if !*this.is_json {
            return this.body.poll_frame(cx);
        }
        loop {
            if *this.ended {
                let trailers = this.trailers.take();
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            }
            let data = match ready!(this.body.as_mut().poll_frame(cx)?).map(Frame::into_data) {
                Some(Ok(data)) => {
                    let data = match this.held.is_empty() {
                        true => data,
                        false => {
                            this.held.extend_from_slice(&data);
                            this.held.split().freeze()
                        }
                    };
                    let complete = complete_prefix(&data);
                    this.held.extend_from_slice(&data[complete..]);
                    data.slice(..complete)
                }
                last => {
                    *this.ended = true;
                    *this.trailers = last
                        .and_then(Result::err)
                        .and_then(|last| last.into_trailers().ok());
                    this.held.split().freeze()
                }
            };
            let mut data = replace_lone_surrogates(&data).map_or(data, Bytes::from);
            if let Some(mut short) = this.short.take() {
                short.extend_from_slice(&data);
                if !*this.ended && short.len() <= MAX_COMPARED {
                    *this.short = Some(short);
                    continue;
                }
                data = match short.len() <= MAX_COMPARED {
                    true => {
                        let short = short.freeze();
                        body_for_rmcp(&short, this.sent).unwrap_or(short)
                    }
                    false => short.freeze(),
                };
            }
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let nothing_held =
            self.held.is_empty() && self.short.as_ref().is_none_or(BytesMut::is_empty);
        match self.ended {
            true => self.trailers.is_none(),
            false => nothing_held && self.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if !self.is_json {
            return self.body.size_hint();
        }
        let mut hint = SizeHint::new();
        // A short body may become shorter.
        let lower = self.body.size_hint().lower();
        if lower > MAX_COMPARED as u64 {
            hint.set_lower(lower);
        }
        hint
    }
}

pin_project! {
    /// A response body without `"params":null` in the messages of an event stream.
    ///
    /// Requires the feature `http-server`.
    #[derive(Debug)]
    pub struct EventBody<B> {
        #[pin]
        body: B,
        events: bool,
    }
}

impl<B: Body<Data = Bytes>> Body for EventBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        if !*this.events {
            return Poll::Ready(frame);
        }
        // rmcp writes each event in one piece.
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(without_null_params))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.events {
            true => SizeHint::default(),
            false => self.body.size_hint(),
        }
    }
}

/// Removes a `"params":null` from the message of an event. It is at the end of the message, and the
/// message at the end of its line.
fn without_null_params(event: Bytes) -> Bytes {
    let mut ends = memmem::find_iter(&event, NULL_PARAMS);
    let Some(at) = ends.find(|at| event.get(at + NULL_PARAMS.len()) == Some(&b'\n')) else {
        return event;
    };
    let mut shorter = BytesMut::from(&event[..at]);
    shorter.extend_from_slice(b"}");
    shorter.extend_from_slice(&event[at + NULL_PARAMS.len()..]);
    shorter.freeze()
}
