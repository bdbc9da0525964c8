use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue};
use reqwest::{Url, redirect};
use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::{
        StreamableHttpClientTransport, Transport, common::client_side_sse::SseRetryPolicy,
        streamable_http_client::StreamableHttpClientTransportConfig,
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
#[derive(Clone, Debug)]
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

    /// Sends a header with every request.
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

    fn config(&self, name: &Arc<str>) -> Result<StreamableHttpClientTransportConfig, Error> {
        let invalid = |what: String| -> Error {
            TransportError::not_delivered(what)
                .with_upstream(name.clone())
                .into()
        };
        let url = Url::parse(&self.url)
            .map_err(|error| invalid(format!("`{}` is not a URL: {error}", self.url)))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid(format!(
                "`{}` is neither http:// nor https://",
                self.url
            )));
        }
        let mut headers = HashMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let header: HeaderName = name
                .parse()
                .map_err(|_| invalid(format!("`{name}` is not a header name")))?;
            let value = HeaderValue::from_str(value).map_err(|_| {
                invalid(format!(
                    "the value of header `{name}` is not a header value"
                ))
            })?;
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

impl<U: Into<String>> From<U> for HttpEndpoint {
    fn from(url: U) -> Self {
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
            .unwrap_or_else(|| endpoint.url.as_str().into());
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
            config.retry_config = Arc::new(Resume { gone: gone.clone() });
            let transport = StreamableHttpClientTransport::with_client(client, config);
            let transport = UntilGone { transport, gone };
            Connection::establish(transport, handshake, Kind::Http).await
        })
    }
}

/// Takes up a broken stream a few times, and then says that the server is gone.
#[derive(Debug)]
struct Resume {
    gone: CancellationToken,
}

impl SseRetryPolicy for Resume {
    fn retry(&self, attempts: usize) -> Option<Duration> {
        if attempts >= RESUME_ATTEMPTS {
            self.gone.cancel();
            return None;
        }
        let doubled = RESUME_FIRST.saturating_mul(1 << attempts);
        Some(doubled.min(RESUME_MOST))
    }
}

/// A transport that ends when the server is gone. rmcp goes on without the stream: a lost call would wait
/// for its answer, and a listen for changes, for ever.
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
