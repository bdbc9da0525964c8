//! rmcp's HTTP client, with what it lacks for an upstream.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use http::{HeaderName, HeaderValue};
use rmcp::{
    RoleClient,
    model::{
        CallToolResult, ClientJsonRpcMessage, GetExtensions, JsonRpcMessage, JsonRpcResponse,
        JsonRpcVersion2_0, RequestId, ServerJsonRpcMessage, ServerResult,
    },
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::{
        Transport,
        common::client_side_sse::{BoxedSseResponse, SseRetryPolicy},
        streamable_http_client::{
            StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
            StreamableHttpResponseLimits,
        },
    },
};
use serde::{Deserialize, de::IgnoredAny};
use tokio_util::sync::CancellationToken;

use super::response_stream;
use crate::{Error, client::upstream::routes::Routes, credential::OutboundCredential};

/// How often it is tried to take up a response stream that broke off (MCP 2025-11-25, basic/transports,
/// resumability). rmcp's own default has no end: calls would wait for a server that is gone.
const RESUME_ATTEMPTS: usize = 4;
/// The waiting times between those attempts, unless the server names one.
const RESUME_FIRST: Duration = Duration::from_millis(100);
const RESUME_MOST: Duration = Duration::from_secs(1);

/// How soon an answer must come to be taken without a task for its stream. A request that waits
/// so counts as one that waits for its response headers.
const SOON: Duration = Duration::from_millis(20);
/// How long it may take until a stream ends whose answer has come. As long as rmcp gives it.
const REST: Duration = Duration::from_millis(50);

/// Takes up a broken stream a few times. A request whose stream is given up fails by itself.
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

/// How long a bearer token may take. Requests that rmcp sends wait for one in its place, also when their callers are
/// gone.
const BEARER_WITHIN: Duration = Duration::from_secs(30);

/// Where the bearer token of a request comes from that has no other.
pub(super) type BearerSource =
    Arc<dyn Fn() -> BoxFuture<'static, Result<String, Error>> + Send + Sync>;

/// A client that knows the session's own stream from those that answer a request.
#[derive(Clone)]
pub(super) struct Client {
    client: reqwest::Client,
    bearer: Option<BearerSource>,
    session: Arc<SessionStream>,
    /// The calls of the connection.
    routes: Option<Arc<Routes>>,
}

impl Client {
    pub(super) fn new(
        client: reqwest::Client,
        bearer: Option<BearerSource>,
        gone: CancellationToken,
    ) -> Self {
        let session = Arc::new(SessionStream {
            last: Mutex::default(),
            gone,
        });
        Self {
            client,
            bearer,
            session,
            routes: None,
        }
    }

    /// The same, for a connection with these calls.
    pub(super) fn with_routes(mut self, routes: Arc<Routes>) -> Self {
        self.routes = Some(routes);
        self
    }

    /// The bearer token that a request shows: its own, else the endpoint's.
    async fn bearer(&self, own: Option<String>) -> HttpResult<Option<String>> {
        // Nothing has been sent: that is what this kind of error is taken for.
        let unsent = |why| io::Error::new(io::ErrorKind::NotFound, why);
        let token = match &self.bearer {
            Some(source) if own.is_none() => {
                let token = tokio::time::timeout(BEARER_WITHIN, source()).await;
                let token = token.unwrap_or_else(|_| Err(Error::timeout(BEARER_WITHIN)));
                Some(token.map_err(|error| {
                    tracing::debug!(%error, "there is no bearer token for an upstream");
                    unsent("there is no bearer token for the request")
                })?)
            }
            _ => own,
        };
        match token {
            Some(token) if HeaderValue::from_str(&token).is_err() => {
                Err(unsent("the bearer token is not a header value: has it a line's end?").into())
            }
            token => Ok(token),
        }
    }

    /// Posts a message, and gives back an event stream as it is.
    pub(super) async fn post(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        auth: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
        limits: StreamableHttpResponseLimits,
    ) -> HttpResult<StreamableHttpPostResponse> {
        let auth = self.bearer(auth).await?;
        let client = &self.client;
        let posted =
            client.post_message_with_response_limits(uri, message, None, auth, headers, limits);
        posted.await.map_err(without_url)
    }
}

/// The stream that a session has for what belongs to no request. rmcp goes on without it, and nobody would
/// hear of changes any more.
struct SessionStream {
    /// The last event on it, and how often in a row it could not be taken up from there.
    last: Mutex<(Option<String>, usize)>,
    gone: CancellationToken,
}

impl SessionStream {
    /// Whether a stream that begins after this event is the session's. Events of two streams have
    /// different ids (MCP 2025-11-25, basic/transports, resumability).
    fn is_mine(&self, after: Option<&str>) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        after.is_none() || last.0.as_deref() == after
    }

    fn heard(&self, id: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (Some(id.to_owned()), 0);
    }

    fn failed(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.1 += 1;
        if last.0.is_some() && last.1 >= RESUME_ATTEMPTS {
            self.gone.cancel();
        }
    }
}

pub(super) type HttpResult<T> = Result<T, StreamableHttpError<reqwest::Error>>;

/// The credential of one call, which stands before the endpoint's own.
pub(super) fn credential_of(message: &ClientJsonRpcMessage) -> Option<String> {
    let JsonRpcMessage::Request(request) = message else {
        return None;
    };
    let credential = request.request.extensions().get::<OutboundCredential>()?;
    Some(credential.clone().into_bearer())
}

/// A failed request's URL may hold credentials.
fn without_url(error: StreamableHttpError<reqwest::Error>) -> StreamableHttpError<reqwest::Error> {
    match error {
        StreamableHttpError::Client(error) => StreamableHttpError::Client(error.without_url()),
        other => other,
    }
}

/// Takes the answer out of an event stream that has nothing else in it, if it comes soon: rmcp has a task
/// of its own for each stream, and that is a good part of what a short call costs.
async fn answer_at_once(
    mut stream: BoxedSseResponse,
    session_id: Option<String>,
) -> StreamableHttpPostResponse {
    let first = match tokio::time::timeout(SOON, stream.next()).await {
        Ok(Some(first)) => first,
        Ok(None) => return StreamableHttpPostResponse::Sse(stream::empty().boxed(), session_id),
        Err(_) => return StreamableHttpPostResponse::Sse(stream, session_id),
    };
    let answer = first.as_ref().ok().and_then(|event| {
        message_in(event.event.as_deref(), event.data.as_deref()).filter(|message| {
            matches!(
                message,
                JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_)
            )
        })
    });
    let Some(answer) = answer else {
        let whole = stream::once(std::future::ready(first)).chain(stream);
        return StreamableHttpPostResponse::Sse(whole.boxed(), session_id);
    };
    finish_now(stream).await;
    StreamableHttpPostResponse::Json(answer, session_id)
}

/// Reads what is left of a stream whose answer has come, so that its connection can be used again. Usually
/// its end is here already.
pub(super) fn finish(mut stream: BoxedSseResponse) {
    if stream.next().now_or_never().is_none() {
        tokio::spawn(async move {
            let rest = async { while stream.next().await.is_some() {} };
            let _ = tokio::time::timeout(REST, rest).await;
        });
    }
}

/// The same before the answer is passed on. What reads the connection gets a turn first, so that usually the
/// end is here then, and there is no need for a task and a timer.
///
/// With that turn the answer also begins its way to the caller as a task that has just been woken does, by
/// which rmcp's server is done with an event stream before it is written: the answer and the stream's end go in
/// one piece, where they would go in two.
pub(super) async fn finish_now(mut stream: BoxedSseResponse) {
    if stream.next().now_or_never().is_none() {
        take_turns().await;
        finish(stream);
    }
}

/// Lets the tasks go first that are waiting for a turn. Unlike `yield_now` it does not wait until the runtime has
/// nothing else to do.
async fn take_turns() {
    let mut others_first = true;
    std::future::poll_fn(|context| {
        if std::mem::take(&mut others_first) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

/// Most messages are answers. Read as such they cost half of what one of unknown kind does.
#[derive(Deserialize)]
struct Plain<R> {
    jsonrpc: JsonRpcVersion2_0,
    id: RequestId,
    result: R,
    error: Option<IgnoredAny>,
    method: Option<IgnoredAny>,
}

/// An answer whose result is of this kind.
fn answer_in<'de, R>(data: &'de str) -> Option<ServerJsonRpcMessage>
where
    R: Deserialize<'de> + Into<ServerResult>,
{
    match serde_json::from_str(data) {
        Ok(Plain::<R> {
            jsonrpc,
            id,
            result,
            error: None,
            method: None,
        }) => Some(JsonRpcMessage::Response(JsonRpcResponse {
            jsonrpc,
            id,
            result: result.into(),
        })),
        _ => None,
    }
}

/// What an event holds, if it is meant as a message.
fn text_of<'a>(event: Option<&str>, data: Option<&'a str>) -> Option<&'a str> {
    let is_message = matches!(event, None | Some("" | "message"));
    data.filter(|data| is_message && !data.is_empty())
}

/// The message in an event, if there is one that can be read.
pub(super) fn message_in(event: Option<&str>, data: Option<&str>) -> Option<ServerJsonRpcMessage> {
    let data = text_of(event, data)?;
    if let Some(answer) = answer_in::<ServerResult>(data) {
        return Some(answer);
    }
    let message = serde_json::from_str(data);
    message
        .inspect_err(|error| tracing::debug!(%error, "an event holds no message"))
        .ok()
}

/// The same for what comes in answer to a call of a tool: that mostly is the tool's result, and rmcp reads a
/// result of unknown kind as one kind after the other, of which that is the sixteenth.
pub(super) fn message_to_call_in(
    event: Option<&str>,
    data: Option<&str>,
) -> Option<ServerJsonRpcMessage> {
    let answer = answer_in::<CallToolResult>(text_of(event, data)?);
    answer.or_else(|| message_in(event, data))
}

impl StreamableHttpClient for Client {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> HttpResult<StreamableHttpPostResponse> {
        let client = &self.client;
        let auth_header = credential_of(&message).or(auth_header);
        let auth_header = self.bearer(auth_header).await?;
        let posted = client.post_message(uri, message, session_id, auth_header, headers);
        posted.await.map_err(without_url)
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
        let auth_header = credential_of(&message).or(auth_header);
        let auth_header = self.bearer(auth_header).await?;
        let id = match &message {
            JsonRpcMessage::Request(request) => Some(request.id.clone()),
            _ => None,
        };
        let posted = self.client.post_message_with_response_limits(
            uri,
            message,
            session_id,
            auth_header,
            headers,
            limits,
        );
        match posted.await.map_err(without_url)? {
            StreamableHttpPostResponse::Sse(stream, session_id) => {
                let stream = match (id, &self.routes) {
                    (Some(id), Some(routes)) => {
                        response_stream::of_call(stream, id, routes.clone())
                    }
                    _ => stream,
                };
                Ok(answer_at_once(stream, session_id).await)
            }
            other => Ok(other),
        }
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> HttpResult<()> {
        let client = &self.client;
        let auth_header = self.bearer(auth_header).await?;
        let deleted = client.delete_session(uri, session_id, auth_header, headers);
        deleted.await.map_err(without_url)
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> HttpResult<BoxedSseResponse> {
        let client = &self.client;
        let auth_header = self.bearer(auth_header).await?;
        let stream = client.get_stream(uri, session_id, last_event_id, auth_header, headers);
        stream.await.map_err(without_url)
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
        let sessions = self.session.is_mine(last_event_id.as_deref());
        let bearer = self.bearer(auth_header).await;
        let auth_header = bearer.inspect_err(|_| {
            if sessions {
                self.session.failed();
            }
        })?;
        let stream = self.client.get_stream_with_max_sse_event_size(
            uri,
            session_id,
            last_event_id,
            auth_header,
            headers,
            max_sse_event_size,
        );
        let stream = stream.await.map_err(without_url);
        if !sessions {
            return stream;
        }
        if stream.is_err() {
            self.session.failed();
        }
        let session = self.session.clone();
        let stream = stream?.inspect(move |event| {
            if let Ok(event) = event
                && let Some(id) = &event.id
            {
                session.heard(id);
            }
        });
        Ok(stream.boxed())
    }
}

/// A transport that ends when the session's own stream is gone.
pub(super) struct UntilGone<T> {
    pub(super) transport: T,
    pub(super) gone: CancellationToken,
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for UntilGone<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        self.transport.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        tokio::select! {
            biased;
            message = self.transport.receive() => message,
            () = self.gone.cancelled() => None,
        }
    }

    fn close(&mut self) -> impl Future<Output = Result<(), T::Error>> + Send {
        self.transport.close()
    }
}
