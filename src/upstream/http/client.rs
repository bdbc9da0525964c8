//! rmcp's HTTP client, extended for an upstream.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use http::{HeaderName, HeaderValue};
use rmcp::{
    RoleClient,
    model::{ClientJsonRpcMessage, GetExtensions, JsonRpcMessage, RequestId},
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
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    answer::{self, ResponseMessage, response_message, text_of},
    event_stream::too_long,
    exchange::{self, Address},
    failure::{Failure, HttpResult},
    response_stream,
};
use crate::{
    Error,
    context::credential::OutboundCredential,
    upstream::{answers::Expected, route::Routes},
};

/// Limit of attempts to resume a response stream that broke off (MCP 2025-11-25, basic/transports,
/// resumability). rmcp has no limit: calls would wait for a server that is gone.
const RESUME_ATTEMPTS: usize = 4;
/// The waiting times between those attempts, unless the server names one.
const RESUME_FIRST: Duration = Duration::from_millis(100);
const RESUME_MOST: Duration = Duration::from_secs(1);

/// The time within which an answer is read without a task for its stream. A request that waits so
/// counts as one that waits for its response headers.
const FIRST_EVENT_LIMIT: Duration = Duration::from_millis(20);
/// The time until a stream ends whose answer has come. rmcp allows the same time.
const DRAIN_LIMIT: Duration = Duration::from_millis(50);

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
            unreadable_after: Mutex::default(),
            owes_answers: AtomicBool::new(false),
            state: watch::Sender::new(State::Unknown),
            gone,
        });
        Self {
            client,
            bearer,
            session,
            routes: None,
        }
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
                Err(unsent("the bearer token is not a header value: has it a line's end?").into())
            }
            token => Ok(token),
        }
    }

    /// Posts a tool call, and returns an event stream unchanged.
    pub(super) async fn post(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        auth: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
        limits: StreamableHttpResponseLimits,
    ) -> HttpResult<StreamableHttpPostResponse> {
        let auth = self.bearer(auth).await?;
        let address = self.address(&uri, None, auth, headers);
        match address.post(&message, limits).await? {
            StreamableHttpPostResponse::Accepted => Err(no_stream()),
            posted => Ok(posted),
        }
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

/// The stream of a session for messages that belong to no request.
///
/// rmcp goes on when the stream is gone, and then no caller would hear of changes any more.
struct SessionStream {
    /// The id of the last event on the stream, and the number of failed attempts in a row to resume
    /// after it.
    last: Mutex<(Option<String>, usize)>,
    /// The event before one that cannot be read. rmcp would resume the stream after it again and
    /// again.
    unreadable_after: Mutex<Option<String>>,
    /// `true` if the server has accepted requests that it is to answer on this stream.
    owes_answers: AtomicBool,
    state: watch::Sender<State>,
    gone: CancellationToken,
}

/// The state of the session's stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The server has not said yet.
    Unknown,
    Open,
    None,
}

impl SessionStream {
    /// Returns `true` if a stream that begins after this event is the session's. Events of two
    /// streams have different ids (MCP 2025-11-25, basic/transports, resumability).
    fn is_mine(&self, after: Option<&str>) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        after.is_none() || last.0.as_deref() == after
    }

    fn record_event(&self, id: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (Some(id.to_owned()), 0);
    }

    fn record_open(&self) {
        self.state.send_replace(State::Open);
    }

    /// Records a failed attempt to open the stream. `for_good` is `true` if no other attempt
    /// follows.
    fn record_failure(&self, for_good: bool) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.1 += 1;
        let tried = last.1 >= RESUME_ATTEMPTS;
        let given_up = tried || for_good;
        if (last.0.is_some() && tried) || (given_up && self.owes_answers.load(Ordering::Relaxed)) {
            self.gone.cancel();
        }
        // If the first attempt fails, no other attempt follows.
        self.state.send_if_modified(|state| {
            let ends = given_up || *state == State::Unknown;
            ends && std::mem::replace(state, State::None) != State::None
        });
    }

    /// Returns `true` if a request that the server has only accepted can be answered on this
    /// stream.
    async fn expect_answers(&self) -> bool {
        let mut state = self.state.subscribe();
        let known = state.wait_for(|state| *state != State::Unknown).await;
        let open = known.is_ok_and(|state| *state == State::Open);
        self.owes_answers.fetch_or(open, Ordering::Relaxed);
        open
    }

    fn unreadable(&self) -> MutexGuard<'_, Option<String>> {
        let unreadable = self.unreadable_after.lock();
        unreadable.unwrap_or_else(PoisonError::into_inner)
    }

    fn can_be_read_after(&self, id: Option<&str>) -> bool {
        id.is_none() || self.unreadable().as_deref() != id
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
fn no_stream() -> StreamableHttpError<Failure> {
    StreamableHttpError::Client(Failure::NoStream)
}

/// Reads the answer from an event stream that holds nothing else, if it comes soon.
///
/// rmcp starts a task for each stream, which is a good part of the cost of a short call. Of other
/// streams, rmcp sees only the answers for this request.
async fn answer_at_once(
    mut stream: BoxedSseResponse,
    session_id: Option<String>,
    own: Option<(RequestId, Expected)>,
    routes: Option<Arc<Routes>>,
) -> StreamableHttpPostResponse {
    let first = match tokio::time::timeout(FIRST_EVENT_LIMIT, stream.next()).await {
        Ok(Some(first)) => Some(first),
        Ok(None) => return StreamableHttpPostResponse::Sse(stream::empty().boxed(), session_id),
        Err(_) => None,
    };
    let event = first.as_ref().and_then(|event| event.as_ref().ok());
    let text = event.and_then(text_of);
    let said = own
        .as_ref()
        .zip(text)
        .and_then(|((id, expected), text)| response_message(text, id, *expected));
    let error = |error| JsonRpcMessage::error(error, own.as_ref().map(|(id, _)| id.clone()));
    let answer = match said {
        Some(ResponseMessage::Answer { message, .. }) => message,
        Some(ResponseMessage::OtherAnswer) => error(answer::stray()),
        Some(ResponseMessage::Unreadable) => error(answer::unreadable(answer::NO_MESSAGE)),
        Some(ResponseMessage::Other(_)) | None => {
            let whole = stream::iter(first).chain(stream);
            let addressed =
                whole.map(move |event| answer::for_request(event, own.as_ref(), routes.as_deref()));
            return StreamableHttpPostResponse::Sse(addressed.boxed(), session_id);
        }
    };
    drain_before_answer(stream).await;
    StreamableHttpPostResponse::Json(answer, session_id)
}

/// Reads the rest of a stream whose answer has come, so that its connection can be used again.
/// Usually the end has arrived already.
pub(super) fn drain(mut stream: BoxedSseResponse) {
    if stream.next().now_or_never().is_none() {
        tokio::spawn(async move {
            let rest = async { while stream.next().await.is_some() {} };
            let _ = tokio::time::timeout(DRAIN_LIMIT, rest).await;
        });
    }
}

/// Reads the rest of a stream before its answer is passed on. The task that reads the connection
/// gets a turn first, so that usually the end is there and no task or timer is needed.
///
/// The turn also makes the answer go on like that of a task that has just been woken. rmcp's server
/// then has finished the event stream before it is written: the answer and the end of the stream go
/// in one piece instead of two.
pub(super) async fn drain_before_answer(mut stream: BoxedSseResponse) {
    if stream.next().now_or_never().is_none() {
        yield_to_waiting_tasks().await;
        drain(stream);
    }
}

/// Lets the waiting tasks run first. Unlike `yield_now`, it does not wait until the runtime has
/// nothing else to do.
async fn yield_to_waiting_tasks() {
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
        let auth_header = credential_of(&message).or(auth_header);
        let auth_header = self.bearer(auth_header).await?;
        let address = self.address(&uri, session_id.as_deref(), auth_header, headers);
        let own = exchange::expected_answer(&message);
        match address.post(&message, limits).await? {
            StreamableHttpPostResponse::Sse(stream, session_id) => {
                let stream = match (own, &self.routes) {
                    (Some((id, _)), Some(routes)) => {
                        response_stream::of_call(stream, id.clone(), routes.clone())
                    }
                    _ => stream,
                };
                let own = own.map(|(id, expected)| (id.clone(), expected));
                Ok(answer_at_once(stream, session_id, own, self.routes.clone()).await)
            }
            StreamableHttpPostResponse::Accepted
                if own.is_some()
                    && (session_id.is_none() || !self.session.expect_answers().await) =>
            {
                Err(no_stream())
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
            Some((id, expected))
        });
        // A resumed stream is still the response to its call.
        Ok(match call {
            Some(own) => response_stream::of_call(stream.boxed(), own.0.clone(), routes.clone())
                .map(move |event| answer::for_request(event, Some(&own), Some(&routes)))
                .boxed(),
            None => stream
                .map(move |event| event.map(|event| answer::keep_result(event, &routes)))
                .boxed(),
        })
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
