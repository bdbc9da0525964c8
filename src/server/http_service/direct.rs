//! One HTTP request: it is served directly, or by rmcp.

use std::{
    fmt,
    pin::pin,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{
    HeaderName, HeaderValue, Method as HttpMethod, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
    request::Parts,
};
use http_body::Body;
use rmcp::{
    model::{
        ClientCapabilities, Extensions, Implementation, InitializeRequestParams, ProtocolVersion,
        RequestId,
    },
    transport::streamable_http_server::session::SessionManager,
};

use super::{
    METHOD, NAME, Shared, VERSION,
    body::{HttpServiceBody, RequestBody},
    heads::{self, Head},
    sessions::{CallInFlight, DirectSession},
};
use crate::{
    Stack,
    direct::{
        self, DirectCalls, DirectOutcome, DirectRequest, DirectSlot, HandedOver, OngoingCall,
    },
    protocol::methods::{self, Method},
    server::lenient_http::session_in,
    util::{http_body::BodyBuffer, http_head, run_to_end::RunToEnd},
    wire::{
        over_http::{ReadBody, ReceivedOverHttp},
        received::Received,
    },
};

/// The start of a header that mirrors an argument (SEP-2243).
const PARAM: &str = "mcp-param-";

/// The facts that rmcp states about the caller of a request without a session. The request's
/// `_meta` has more.
static WITHOUT_SESSION: LazyLock<Arc<InitializeRequestParams>> = LazyLock::new(|| {
    let (capabilities, info) = (ClientCapabilities::default(), Implementation::default());
    let facts = InitializeRequestParams::new(capabilities, info);
    Arc::new(facts.with_protocol_version(ProtocolVersion::V_2026_07_28))
});

pub(super) struct Exchange<S, M> {
    shared: Arc<Shared<S, M>>,
}

/// A call that can be served directly.
struct DirectCall {
    calls: Arc<dyn DirectCalls>,
    session: Option<Arc<DirectSession>>,
    id: RequestId,
    method: Method,
    received: Received,
}

impl<S: Stack, M: SessionManager> Exchange<S, M> {
    pub(super) fn new(shared: Arc<Shared<S, M>>) -> Self {
        Self { shared }
    }

    pub(super) async fn serve<B>(self, request: Request<B>) -> Response<HttpServiceBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display + Send,
    {
        let (parts, body) = request.into_parts();
        let Some(reading) = parts.extensions.get::<ReceivedOverHttp>().cloned() else {
            return self.by_rmcp(parts, RequestBody::Unread { body }).await;
        };
        let session = self.session_of(&parts);
        if parts.method != HttpMethod::POST
            || self.shared.has_event_store
            || !self.shared.heads.contains(&parts)
        {
            let response = self.by_rmcp(parts, RequestBody::Unread { body }).await;
            if response.status().is_success() {
                cancel(session.as_deref(), &reading);
            }
            return response;
        }
        let (data, failure) = read(body).await;
        cancel(session.as_deref(), &reading);
        let call = match failure {
            None => self.direct_call(&parts, &reading, session, &data),
            Some(_) => None,
        };
        let body = RequestBody::<B>::Read {
            data: Some(data),
            failure,
        };
        match call {
            None => self.by_rmcp(parts, body).await,
            // Before 2026-07-28 a lost connection does not cancel a call.
            Some(call) if call.session.is_some() => {
                RunToEnd::new(self.directly(call, parts, body, reading)).await
            }
            Some(call) => Box::pin(self.directly(call, parts, body, reading)).await,
        }
    }

    fn session_of(&self, parts: &Parts) -> Option<Arc<DirectSession>> {
        let id = session_in(&parts.headers)?;
        let session = self.shared.sessions.get(&id)?;
        (!session.is_over()).then_some(session)
    }

    /// Returns the call in a request that rmcp would pass on as it is.
    fn direct_call(
        &self,
        parts: &Parts,
        reading: &ReceivedOverHttp,
        session: Option<Arc<DirectSession>>,
        data: &Bytes,
    ) -> Option<DirectCall> {
        let Some(ReadBody::Request { id, received }) = reading.get() else {
            return None;
        };
        let config = &self.shared.rmcp.config;
        if received.unreadable().is_some()
            || config.cancellation_token.is_cancelled()
            || data.len() > config.max_request_body_bytes
        {
            return None;
        }
        let is_modern = is_modern(parts)?;
        let session = match is_modern {
            false if config.legacy_session_mode => Some(session?),
            false => return None,
            true => None,
        };
        let calls = match &session {
            Some(session) => Some(session.calls()?),
            None => None,
        };
        let has_session = calls.as_ref().is_some_and(|calls| calls.has_session());
        let method = received.with_request(|request| {
            let method = direct::direct_method(request, has_session)?;
            let fits = !is_modern || self.has_own_headers(parts, method, request);
            fits.then_some(method)
        })?;
        Some(DirectCall {
            calls: calls.unwrap_or_else(|| self.without_session()),
            session,
            id: id.clone(),
            method,
            received: received.clone(),
        })
    }

    /// Returns the stack for a request without a session.
    fn without_session(&self) -> Arc<dyn DirectCalls> {
        let connection = self.shared.server.connection.another();
        connection.set_handshake(WITHOUT_SESSION.clone());
        Arc::new(connection)
    }

    /// Returns `true` if the headers that mirror a request are there and fit (MCP 2026-07-28,
    /// Streamable HTTP, "Server Validation"). rmcp decides in all other cases.
    fn has_own_headers(
        &self,
        parts: &Parts,
        method: Method,
        request: &rmcp::model::ClientRequest,
    ) -> bool {
        let is_single = |name: &HeaderName, value: &str| {
            let mut values = parts.headers.get_all(name).iter();
            values.next().is_some_and(|first| first == value) && values.next().is_none()
        };
        let Some(target) = methods::target(request).filter(|_| method.row().is_mirrored) else {
            return false;
        };
        let mirrors_arguments = || {
            let mut names = parts.headers.keys();
            names.any(|name| name.as_str().starts_with(PARAM))
                || (method == Method::CallTool
                    && rmcp::ServerHandler::get_tool(&self.shared.server, target.name).is_some())
        };
        is_single(&METHOD, method.name())
            && !target.name.starts_with("=?")
            && is_single(&NAME, target.name)
            && !mirrors_arguments()
    }

    fn directly<B>(
        self,
        call: DirectCall,
        parts: Parts,
        body: RequestBody<B>,
        reading: ReceivedOverHttp,
    ) -> impl Future<Output = Response<HttpServiceBody>> + Send + use<S, M, B>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display + Send,
    {
        let DirectCall {
            calls,
            session,
            id,
            method,
            received,
        } = call;
        // The parts of the request would take their room twice in an `async fn`.
        async move {
            let Some(message) = received.take_request() else {
                return self.by_rmcp(parts, body).await;
            };
            let is_event = session.is_some() || !self.shared.rmcp.config.json_response;
            let mut head = heads::read_by_rmcp(&parts);
            let mut extensions = Extensions::new();
            extensions.insert(parts);
            let ongoing = calls.begin(DirectRequest {
                id: id.clone(),
                message,
                method,
                received,
                extensions,
            });
            let in_flight = enter(session, &id, &ongoing);
            let response = match ongoing.run().await {
                DirectOutcome::Result(text) => {
                    respond(HttpServiceBody::answer(&id, text, is_event), is_event)
                }
                // rmcp ends the stream of such a request, too.
                DirectOutcome::Cancelled => respond(HttpServiceBody::empty(), true),
                DirectOutcome::HandOver(ongoing) => {
                    head.extensions.insert(reading);
                    head.extensions.insert(HandedOver::new(ongoing));
                    return self.by_rmcp(head, body).await;
                }
            };
            reading.set_answered();
            drop(in_flight);
            response
        }
    }

    /// Lets rmcp serve a request. Its future takes 7 KB, for which that of a direct call has no
    /// room.
    fn by_rmcp<B>(
        &self,
        parts: Parts,
        body: RequestBody<B>,
    ) -> BoxFuture<'_, Response<HttpServiceBody>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display + Send,
    {
        Box::pin(self.served_by_rmcp(parts, body))
    }

    async fn served_by_rmcp<B>(
        &self,
        mut parts: Parts,
        body: RequestBody<B>,
    ) -> Response<HttpServiceBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display + Send,
    {
        let head = (parts.method == HttpMethod::POST).then(|| Head::of(&parts));
        let is_delete = parts.method == HttpMethod::DELETE;
        let session = session_in(&parts.headers);
        if let Some(id) = &session
            && self.shared.sessions.get(id).is_none()
        {
            let (shared, id) = (Arc::downgrade(&self.shared), http_head::copy_of(id));
            parts.extensions.insert(DirectSlot::new(move |calls| {
                // rmcp does not look at the header of a request without a session.
                if calls.has_session()
                    && let Some(shared) = shared.upgrade()
                {
                    shared.sessions.add(id.clone(), &calls);
                }
            }));
        }
        let request = Request::from_parts(parts, body);
        let response = self.shared.rmcp.handle(request).await;
        let status = response.status();
        if let Some(head) = head.filter(|_| status.is_success()) {
            self.shared.heads.add(head);
        }
        if let Some(id) = session
            && (status == StatusCode::NOT_FOUND || (is_delete && status.is_success()))
        {
            self.shared.sessions.remove(&id);
        }
        response.map(HttpServiceBody::rmcp)
    }
}

/// Returns `true` if a request has the revision without sessions. Returns `None` if its revision is
/// unknown.
fn is_modern(parts: &Parts) -> Option<bool> {
    let Some(version) = parts.headers.get(VERSION) else {
        return Some(false);
    };
    let mut known = ProtocolVersion::KNOWN_VERSIONS.iter();
    let version = known.find(|known| version == known.as_str())?;
    match version.has_initialize() {
        true => Some(false),
        false => (*version == ProtocolVersion::V_2026_07_28).then_some(true),
    }
}

/// Enters a call of a session, so that its caller can cancel it.
fn enter(
    session: Option<Arc<DirectSession>>,
    id: &RequestId,
    ongoing: &OngoingCall,
) -> Option<CallInFlight> {
    session?.enter(id, ongoing.cancellation())
}

/// Cancels the call that a notification names.
fn cancel(session: Option<&DirectSession>, reading: &ReceivedOverHttp) {
    if let (Some(session), Some(ReadBody::Notification { cancelled, .. })) =
        (session, reading.get())
        && let Some(id) = cancelled
    {
        session.cancel(id);
    }
}

fn respond(body: HttpServiceBody, is_event: bool) -> Response<HttpServiceBody> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    match is_event {
        // rmcp's own headers of an event stream.
        true => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            let unbuffered = HeaderName::from_static("x-accel-buffering");
            headers.insert(unbuffered, HeaderValue::from_static("no"));
        }
        false => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
    }
    response
}

/// Reads a body, up to its end or its failure.
async fn read<B: Body<Data = Bytes>>(body: B) -> (Bytes, Option<B::Error>) {
    let mut body = pin!(body);
    let mut buffer = BodyBuffer::default();
    loop {
        let frame = std::future::poll_fn(|context| body.as_mut().poll_frame(context));
        match frame.await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    let _ = buffer.add(data, body.size_hint().lower(), usize::MAX);
                }
            }
            Some(Err(error)) => return (buffer.into_bytes(), Some(error)),
            None => return (buffer.into_bytes(), None),
        }
    }
}
