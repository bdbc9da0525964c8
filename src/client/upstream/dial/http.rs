use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture};
use http::{HeaderName, HeaderValue};
use reqwest::{Url, redirect};
use rmcp::{
    RoleClient,
    model::{ClientJsonRpcMessage, GetExtensions, JsonRpcMessage},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::{
        StreamableHttpClientTransport, Transport,
        common::client_side_sse::{BoxedSseResponse, SseRetryPolicy},
        streamable_http_client::{
            StreamableHttpClient, StreamableHttpClientTransportConfig, StreamableHttpError,
            StreamableHttpPostResponse, StreamableHttpResponseLimits,
        },
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    Error, TransportError,
    client::upstream::{
        Upstream, UpstreamBuilder,
        builder::Lifecycle,
        connection::{Connection, Handshake, Kind},
        errors,
        slot::Dial,
    },
    credential::OutboundCredential,
};

/// How many requests may wait for their response headers at once on one connection of an upstream. rmcp's
/// own default, 16, is for one user; a gateway has many.
const MAX_CONCURRENT_REQUESTS: usize = 1_024;
/// How many messages may wait between rmcp's tasks.
const CHANNEL_CAPACITY: usize = 256;
/// How long an idle TCP connection is kept. Shorter than what servers and proxies commonly allow (60 s and
/// more), so that it is this side that lets go of it.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// How many redirects to the same origin are followed.
const MAX_REDIRECTS: usize = 5;

/// How often it is tried to take up a response stream that broke off (MCP 2025-11-25, basic/transports,
/// resumability). rmcp's own default has no end: calls would wait for a server that is gone.
const RESUME_ATTEMPTS: usize = 4;
/// The waiting times between those attempts, unless the server names one.
const RESUME_FIRST: Duration = Duration::from_millis(100);
const RESUME_MOST: Duration = Duration::from_secs(1);

/// Headers that rmcp sets itself. What is said otherwise would fail every call, or break it.
const RESERVED: [&str; 5] = [
    "accept",
    "content-type",
    "last-event-id",
    "mcp-protocol-version",
    "mcp-session-id",
];

/// Where an MCP server is reached over streamable HTTP.
///
/// ```
/// use rmcp_layers::HttpEndpoint;
///
/// let endpoint = HttpEndpoint::new("http://127.0.0.1:8000/mcp")
///     .bearer("token")
///     .header("x-team", "search");
/// # let _ = endpoint;
/// ```
#[derive(Clone)]
pub struct HttpEndpoint {
    url: String,
    headers: Vec<(String, String)>,
    bearer: Option<String>,
    client: Option<reqwest::Client>,
    max_response_bytes: usize,
}

impl HttpEndpoint {
    /// The URL that messages are posted to.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            headers: Vec::new(),
            bearer: None,
            client: None,
            max_response_bytes: 16 * 1024 * 1024,
        }
    }

    /// Sends a header with every request. Of several values for one name, the last is sent. What MCP itself
    /// needs (`Accept`, `Content-Type`, `Last-Event-ID`, `Mcp-Protocol-Version`, `Mcp-Session-Id`) cannot be
    /// set.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sends `Authorization: Bearer` with every request (RFC 6750, section 2.1).
    #[must_use]
    pub fn bearer(mut self, token: impl Into<String>) -> Self {
        self.bearer = Some(token.into());
        self
    }

    /// The largest response that is read, in bytes: 16 MiB by default. A larger one fails its call.
    #[must_use]
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.max_response_bytes = bytes;
        self
    }

    /// Uses this client. By default the upstream makes one of its own, which keeps its TCP connections
    /// (idle ones for 30 s), sets `TCP_NODELAY`, and follows redirects to the same origin only.
    #[must_use]
    pub fn client(mut self, client: reqwest::Client) -> Self {
        self.client = Some(client);
        self
    }

    /// The URL without what may be secret in it.
    fn shown_url(&self) -> String {
        Url::parse(&self.url).map_or_else(
            |_| "malformed URL".to_owned(),
            |url| format!("{}{}", url.origin().ascii_serialization(), url.path()),
        )
    }

    fn config(&self, name: &Arc<str>) -> Result<StreamableHttpClientTransportConfig, Error> {
        let invalid = |what: String| -> Error {
            TransportError::not_delivered(what)
                .with_upstream(name.clone())
                .into()
        };
        // A URL may hold credentials, so that it is not quoted.
        let url = Url::parse(&self.url)
            .map_err(|error| invalid(format!("the URL is malformed: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid(format!(
                "the URL is neither http:// nor https://, but {}:",
                url.scheme()
            )));
        }
        if let Some(token) = &self.bearer
            && HeaderValue::from_str(token).is_err()
        {
            return Err(invalid("the bearer token is not a header value".to_owned()));
        }
        let mut headers = HashMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let header: HeaderName = name
                .parse()
                .map_err(|_| invalid(format!("`{name}` is not a header name")))?;
            if RESERVED.contains(&header.as_str()) {
                return Err(invalid(format!("header `{header}` is MCP's own")));
            }
            let mut value = HeaderValue::from_str(value).map_err(|_| {
                invalid(format!(
                    "the value of header `{name}` is not a header value"
                ))
            })?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        let mut config = StreamableHttpClientTransportConfig::with_uri(self.url.as_str())
            .custom_headers(headers)
            .max_concurrent_requests(MAX_CONCURRENT_REQUESTS)
            // A session that the server forgot is begun anew here: subscriptions belong to it.
            .reinit_on_expired_session(false)
            .max_json_response_size(self.max_response_bytes)
            .max_sse_event_size(self.max_response_bytes);
        config.channel_buffer_capacity = CHANNEL_CAPACITY;
        config.auth_header = self.bearer.clone();
        Ok(config)
    }

    /// rmcp's own client keeps no connection, because a response that is not read to its end blocks the
    /// next request on the same connection until a delayed acknowledgment comes. rmcp reads them to the
    /// end by now, and `TCP_NODELAY` does away with the delay.
    fn client_or_own(&self, name: &Arc<str>) -> Result<reqwest::Client, Error> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        reqwest::Client::builder()
            .tcp_nodelay(true)
            .pool_idle_timeout(POOL_IDLE)
            .redirect(redirect::Policy::custom(same_origin))
            .build()
            .map_err(|error| errors::of_spawn(name, "cannot set up an HTTP client", error))
    }
}

/// Headers of the request, credentials among them, go to no other origin.
fn same_origin(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let same = attempt
        .previous()
        .first()
        .is_some_and(|first| first.origin() == attempt.url().origin());
    if same && attempt.previous().len() <= MAX_REDIRECTS {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

/// Says where, and with which headers, but none of what may be secret.
impl fmt::Debug for HttpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("HttpEndpoint")
            .field("url", &self.shown_url())
            .field("headers", &headers)
            .field("bearer", &self.bearer.as_ref().map(|_| "..."))
            .field("max_response_bytes", &self.max_response_bytes)
            .finish_non_exhaustive()
    }
}

impl From<&str> for HttpEndpoint {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

impl From<String> for HttpEndpoint {
    fn from(url: String) -> Self {
        Self::new(url)
    }
}

impl From<&String> for HttpEndpoint {
    fn from(url: &String) -> Self {
        Self::new(url)
    }
}

impl UpstreamBuilder {
    /// A streamable HTTP URL.
    ///
    /// # Errors
    ///
    /// If the URL or a header is malformed, or the TLS library cannot be set up.
    pub fn http(self, endpoint: impl Into<HttpEndpoint>) -> Result<Upstream, Error> {
        let endpoint = endpoint.into();
        let name: Arc<str> = self
            .name
            .clone()
            .unwrap_or_else(|| endpoint.shown_url().into());
        let config = endpoint.config(&name)?;
        let client = endpoint.client_or_own(&name)?;
        Ok(self
            .name(name.clone())
            .build(&name, Lifecycle::MatchCaller, move |handshake| {
                Box::new(Post {
                    client: client.clone(),
                    config: config.clone(),
                    handshake,
                })
            }))
    }
}

struct Post {
    client: reqwest::Client,
    config: StreamableHttpClientTransportConfig,
    handshake: Handshake,
}

impl Dial for Post {
    fn dial(&self) -> BoxFuture<'static, Result<Connection, Error>> {
        let client = self.client.clone();
        let mut config = self.config.clone();
        let handshake = self.handshake.clone();
        Box::pin(async move {
            let gone = CancellationToken::new();
            config.retry_config = Arc::new(Resume);
            let client = Client {
                client,
                session: Arc::new(SessionStream {
                    last: Mutex::default(),
                    gone: gone.clone(),
                }),
            };
            let transport = StreamableHttpClientTransport::with_client(client, config);
            let transport = UntilGone { transport, gone };
            Connection::establish(transport, handshake, Kind::Http).await
        })
    }
}

/// Takes up a broken stream a few times. A request whose stream is given up fails by itself.
#[derive(Debug)]
struct Resume;

impl SseRetryPolicy for Resume {
    fn retry(&self, attempts: usize) -> Option<Duration> {
        if attempts >= RESUME_ATTEMPTS {
            return None;
        }
        let doubled = RESUME_FIRST.saturating_mul(1 << attempts);
        Some(doubled.min(RESUME_MOST))
    }
}

/// A client that knows the session's own stream from those that answer a request.
#[derive(Clone)]
struct Client {
    client: reqwest::Client,
    session: Arc<SessionStream>,
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

type HttpResult<T> = Result<T, StreamableHttpError<reqwest::Error>>;

/// The credential of one call, which stands before the endpoint's own.
fn credential_of(message: &ClientJsonRpcMessage) -> Option<String> {
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
        let posted = self.client.post_message_with_response_limits(
            uri,
            message,
            session_id,
            auth_header,
            headers,
            limits,
        );
        posted.await.map_err(without_url)
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> HttpResult<()> {
        let client = &self.client;
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
struct UntilGone<T> {
    transport: T,
    gone: CancellationToken,
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
