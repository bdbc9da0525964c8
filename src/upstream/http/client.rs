//! rmcp's HTTP client, extended for an upstream.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::{
    StreamExt,
    future::{self, BoxFuture, Either},
};
use http::{
    HeaderName, HeaderValue,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use rmcp::{
    model::{ClientJsonRpcMessage, GetExtensions, JsonRpcMessage, ProtocolVersion},
    transport::{
        common::{
            client_side_sse::{BoxedSseResponse, SseRetryPolicy},
            http_header::{HEADER_SESSION_ID, JSON_MIME_TYPE},
        },
        streamable_http_client::{
            StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
            StreamableHttpResponseLimits,
        },
    },
};
use tokio_util::sync::CancellationToken;

use super::{
    answer::{Awaited, for_rmcp},
    event_stream::too_long,
    exchange::{ACCEPTED, Address, Posted, Reply, Sending},
    failure::{Failure, HttpError, HttpResult},
    post_order::Unanswered,
    response_stream::{AnsweredStreams, ResponseReader, answer_at_once},
    session_stream::{SessionStream, session_events},
};
use crate::{Error, context::credential::OutboundCredential, upstream::route::Routes, wire};

/// Limit of attempts to resume a response stream that broke off (MCP 2025-11-25, basic/transports,
/// resumability). rmcp has no limit: calls would wait for a server that is gone.
pub(super) const RESUME_ATTEMPTS: usize = 4;
/// The waiting times between those attempts, unless the server names one.
const RESUME_FIRST: Duration = Duration::from_millis(100);
const RESUME_MOST: Duration = Duration::from_secs(1);

/// Resumes a broken stream a few times. A request whose stream is given up fails by itself.
#[derive(Debug)]
pub(super) struct Resume;

impl SseRetryPolicy for Resume {
    fn retry(&self, attempts: usize) -> Option<Duration> {
        if attempts >= RESUME_ATTEMPTS {
            return None;
        }
        let doubled = RESUME_FIRST.saturating_mul(1 << attempts);
        Some(doubled.min(RESUME_MOST))
    }
}

/// The time limit for a bearer token. Requests that rmcp sends wait for one in line, also when
/// their callers are gone.
const BEARER_TIMEOUT: Duration = Duration::from_secs(30);

/// The source of the bearer token for requests without a token of their own.
pub(super) type BearerSource =
    Arc<dyn Fn() -> BoxFuture<'static, Result<String, Error>> + Send + Sync>;

/// A client that tells the session's own stream from the streams that answer a request.
#[derive(Clone)]
pub(super) struct Client {
    client: reqwest::Client,
    bearer: Option<BearerSource>,
    session: Arc<SessionStream>,
    /// The id of the session, once rmcp's client has posted a message of the session.
    session_id: Arc<OnceLock<Arc<str>>>,
    unanswered: Unanswered,
    answered_streams: AnsweredStreams,
    /// The calls of the connection.
    routes: Option<Arc<Routes>>,
}

impl Client {
    pub(super) fn new(
        client: reqwest::Client,
        bearer: Option<BearerSource>,
        gone: CancellationToken,
    ) -> Self {
        Self {
            client,
            bearer,
            session: Arc::new(SessionStream::new(gone)),
            session_id: Arc::default(),
            unanswered: Unanswered::default(),
            answered_streams: AnsweredStreams::default(),
            routes: None,
        }
    }

    pub(super) fn answered_streams(&self) -> &AnsweredStreams {
        &self.answered_streams
    }

    /// Returns the client for a connection with these calls.
    pub(super) fn with_routes(mut self, routes: Arc<Routes>) -> Self {
        self.routes = Some(routes);
        self
    }

    /// Returns the bearer token for a request: its own, else the endpoint's.
    async fn bearer(&self, own: Option<String>) -> HttpResult<Option<String>> {
        // An error of this kind means that nothing has been sent.
        let unsent = |why| io::Error::new(io::ErrorKind::NotFound, why);
        let token = match &self.bearer {
            Some(source) if own.is_none() => {
                let token = tokio::time::timeout(BEARER_TIMEOUT, source()).await;
                let token = token.unwrap_or_else(|_| Err(Error::timeout(BEARER_TIMEOUT)));
                Some(token.map_err(|error| {
                    tracing::debug!(%error, "there is no bearer token for an upstream");
                    unsent("there is no bearer token for the request")
                })?)
            }
            _ => own,
        };
        match token {
            Some(token) if HeaderValue::from_str(&token).is_err() => {
                let why = "the bearer token is not a header value; remove line ends from it";
                Err(unsent(why).into())
            }
            token => Ok(token),
        }
    }

    /// Returns a POST of the session, if there is one, without its text and its bearer token.
    pub(super) fn template(
        &self,
        uri: &str,
        headers: &HashMap<HeaderName, HeaderValue>,
    ) -> Option<reqwest::Request> {
        let mut request = self.client.post(uri);
        if let Some(session) = self.session_id() {
            request = request.header(HEADER_SESSION_ID, &**session);
        }
        let headers = headers.iter();
        let headers = headers.map(|(name, value)| (name.clone(), value.clone()));
        request
            .headers(headers.collect())
            .header(ACCEPT, ACCEPTED)
            .header(CONTENT_TYPE, JSON_MIME_TYPE)
            .build()
            .ok()
    }

    /// Returns the POST of a message, once its bearer token is known. `template` is the POST
    /// without text and token. `at_once` is `true` if the message need not wait to be sent:
    /// reqwest's own time limits begin with its future.
    pub(super) fn to_post(
        &self,
        mut template: reqwest::Request,
        message: ClientJsonRpcMessage,
        auth: Option<String>,
        at_once: bool,
    ) -> HttpResult<impl Future<Output = HttpResult<impl Sending + use<>>> + Send + use<'_>> {
        *template.body_mut() = Some(wire::to_server(message)?.into());
        // A future of reqwest takes a tenth of the room of a request.
        Ok(if at_once && auth.is_none() && self.bearer.is_none() {
            Either::Left(future::ready(Ok(self.client.execute(template))))
        } else {
            Either::Right(Box::pin(async move {
                if let Some(token) = self.bearer(auth).await?
                    && let Ok(mut token) = HeaderValue::try_from(format!("Bearer {token}"))
                {
                    token.set_sensitive(true);
                    // The credential of a call takes precedence over a header of the endpoint.
                    template.headers_mut().insert(AUTHORIZATION, token);
                }
                Ok(self.client.execute(template))
            }))
        })
    }

    /// Posts a request, and returns an event stream unchanged. If the request `arrives`, it does so
    /// even if the future is dropped.
    pub(super) async fn post(
        &self,
        sending: impl Sending,
        own: &Awaited,
        arrives: bool,
        limits: StreamableHttpResponseLimits,
    ) -> HttpResult<Reply> {
        let posted = Posted {
            own: Some(own),
            in_session: self.session_id().is_some(),
            limits,
        };
        let unanswered = arrives.then_some(&self.unanswered);
        let (reply, _) = posted.send(sending, unanswered).await?;
        Ok(reply)
    }

    /// Returns the id of the session, if the server has given one.
    pub(super) fn session_id(&self) -> Option<&Arc<str>> {
        self.session_id.get()
    }

    /// Waits until it is known whether the session has a stream that can bring the answers to
    /// accepted requests, and returns it.
    pub(super) async fn expect_answers(&self) -> bool {
        self.session_id().is_some() && self.session.expect_answers().await
    }

    fn address<'a>(
        &'a self,
        uri: &'a str,
        session: Option<&'a str>,
        auth: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Address<'a> {
        Address {
            client: &self.client,
            uri,
            session,
            auth,
            headers,
        }
    }
}

/// The header with the revision of a request.
pub(super) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// Returns `true` for the revision of a request for which a closed connection is no cancellation.
fn is_before_2026_07_28(version: Option<&HeaderValue>) -> bool {
    let version = version.and_then(|version| version.to_str().ok());
    version.is_none_or(|version| version < ProtocolVersion::V_2026_07_28.as_str())
}

/// Returns `true` if a POST may not have arrived.
fn is_lost(error: &HttpError) -> bool {
    match error {
        StreamableHttpError::Client(Failure::Http(_)) => true,
        StreamableHttpError::HttpStatus(error) => matches!(error.status, 502..=504),
        _ => false,
    }
}

/// Returns the credential of one call, which takes precedence over the endpoint's.
pub(super) fn credential_of(message: &ClientJsonRpcMessage) -> Option<String> {
    let JsonRpcMessage::Request(request) = message else {
        return None;
    };
    let credential = request.request.extensions().get::<OutboundCredential>()?;
    Some(credential.clone().into_bearer())
}

/// Returns the error for a request that the server only accepted, though it needs an answer at
/// once.
pub(super) fn no_stream() -> StreamableHttpError<Failure> {
    StreamableHttpError::Client(Failure::NoStream)
}

impl StreamableHttpClient for Client {
    type Error = Failure;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> HttpResult<StreamableHttpPostResponse> {
        let limits = StreamableHttpResponseLimits::default();
        self.post_message_with_response_limits(
            uri,
            message,
            session_id,
            auth_header,
            headers,
            limits,
        )
        .await
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
        limits: StreamableHttpResponseLimits,
    ) -> HttpResult<StreamableHttpPostResponse> {
        if let Some(session) = &session_id {
            self.session_id.get_or_init(|| session.clone());
        }
        let auth_header = credential_of(&message).or(auth_header);
        let auth_header = self.bearer(auth_header).await?;
        let own = Awaited::of(&message);
        self.unanswered.arrived(&message).await;
        let is_reply = matches!(
            message,
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_)
        );
        // A `HeaderName` has another hash than its text.
        let version = headers.get(&VERSION);
        let unanswered = is_before_2026_07_28(version).then_some(&self.unanswered);
        let message = wire::to_server(message)?;
        let session = session_id.as_deref();
        let again = is_reply.then(|| (message.clone(), auth_header.clone(), headers.clone()));
        let address = self.address(&uri, session, auth_header, headers);
        let posted = address.post(message, own.as_ref(), unanswered, limits);
        let (reply, begun) = match (posted.await, again) {
            (Err(error), Some((message, auth, headers))) if is_lost(&error) => {
                // The server waits for it. A second reply to the same request is ignored.
                tracing::debug!(%error, "an answer to the server is posted again");
                let address = self.address(&uri, session, auth, headers);
                address.post(message, None, None, limits).await?
            }
            (posted, _) => posted?,
        };
        let routes = self.routes.clone();
        Ok(match (reply, own) {
            (Reply::Events(stream), Some(own)) => {
                let id = own.id.clone();
                let reader = ResponseReader { own, routes };
                match answer_at_once(stream, reader, &self.answered_streams).await {
                    Ok(answer) => {
                        let answer = for_rmcp(id, answer, self.routes.as_deref());
                        StreamableHttpPostResponse::Json(answer, begun)
                    }
                    Err(stream) => StreamableHttpPostResponse::Sse(stream, begun),
                }
            }
            (Reply::Events(stream), None) => {
                let stream = match routes {
                    Some(routes) => session_events(stream, routes),
                    None => stream,
                };
                StreamableHttpPostResponse::Sse(stream, begun)
            }
            (Reply::Answer(answer), Some(own)) => {
                let answer = for_rmcp(own.id, answer, self.routes.as_deref());
                StreamableHttpPostResponse::Json(answer, begun)
            }
            (Reply::Accepted, Some(own)) => {
                if session_id.is_none() || !self.session.expect_answers().await {
                    return Err(no_stream());
                }
                if let Some(routes) = routes {
                    routes.record_accepted(&own.id);
                }
                StreamableHttpPostResponse::Accepted
            }
            (Reply::Aside(message), _) => StreamableHttpPostResponse::Json(*message, begun),
            (Reply::Accepted | Reply::Answer(_), None) => StreamableHttpPostResponse::Accepted,
        })
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> HttpResult<()> {
        let auth_header = self.bearer(auth_header).await?;
        let address = self.address(&uri, Some(&session_id), auth_header, headers);
        address.delete().await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> HttpResult<BoxedSseResponse> {
        let max = StreamableHttpResponseLimits::default().max_sse_event_size;
        self.get_stream_with_max_sse_event_size(
            uri,
            session_id,
            last_event_id,
            auth_header,
            headers,
            max,
        )
        .await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
        max_sse_event_size: usize,
    ) -> HttpResult<BoxedSseResponse> {
        let is_session_stream = self.session.is_mine(last_event_id.as_deref());
        if !self.session.can_be_read_after(last_event_id.as_deref()) {
            if is_session_stream {
                self.session.gone.cancel();
            }
            // rmcp does not try again after this error.
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        let mut last = last_event_id.clone();
        let opened = async {
            let auth_header = self.bearer(auth_header).await?;
            let address = self.address(&uri, session_id.as_deref(), auth_header, headers);
            address.get(last_event_id, max_sse_event_size).await
        };
        let opened = opened.await;
        if is_session_stream {
            match &opened {
                Ok(_) => self.session.record_open(),
                Err(error) => self.session.record_failure(matches!(
                    error,
                    StreamableHttpError::ServerDoesNotSupportSse
                )),
            }
        }
        let call = match (&last, &self.routes) {
            (Some(event), Some(routes)) if !is_session_stream => routes.call_resumed_after(event),
            _ => None,
        };
        let session = self.session.clone();
        let stream = opened?.inspect(move |event| match event {
            Ok(event) => {
                if let Some(id) = &event.id {
                    if is_session_stream {
                        session.record_event(id);
                    }
                    last = Some(id.clone());
                }
            }
            Err(error) if too_long(error).is_some() => *session.unreadable() = last.take(),
            Err(_) => {}
        });
        let Some(routes) = self.routes.clone() else {
            return Ok(stream.boxed());
        };
        let call = call.and_then(|id| {
            let expected = routes.expected(&id)?;
            Some(Awaited { id, expected })
        });
        // A resumed stream is still the response to its call.
        Ok(match call {
            Some(own) => {
                let routes = Some(routes);
                ResponseReader { own, routes }.stream(stream.boxed())
            }
            None => session_events(stream.boxed(), routes),
        })
    }
}
