use std::{borrow::Cow, collections::HashMap, fmt, sync::Arc, time::Duration};

use futures::FutureExt;
use http::{HeaderName, HeaderValue};
use reqwest::{Url, redirect, retry};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;

use super::{client::BearerSource, connect::connect};
use crate::{
    ConfigError, Error,
    context::served_by::Endpoint,
    upstream::{Upstream, UpstreamBuilder, builder::Lifecycle},
    util::endpoint,
};

/// Limit of requests that wait for their response headers at once on one connection. rmcp's own
/// default, 16, is meant for one user; a gateway has many.
pub(super) const MAX_CONCURRENT_REQUESTS: usize = 1_024;
/// Limit of messages that wait between rmcp's tasks.
const CHANNEL_CAPACITY: usize = 256;
/// The time an idle TCP connection is kept. It is shorter than servers and proxies commonly allow
/// (60 s and more), so that this side closes the connection first.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// Limit of redirects to the same origin that are followed for one request.
const MAX_REDIRECTS: usize = 5;

/// Headers that rmcp sets itself. Other values would fail every call, or break it.
const RESERVED: [&str; 5] = [
    "accept",
    "content-type",
    "last-event-id",
    "mcp-protocol-version",
    "mcp-session-id",
];

/// The URL and settings of an MCP server over streamable HTTP.
///
/// Requires the feature `http-client`.
///
/// # Answers
///
/// The response to a request holds that request's answer:
///
/// - An error whose `id` is missing, null, or an id that the client does not give fails the request
///   with the server's own code, message and data. `Retry-After` becomes `retryAfterMs` in the
///   error's data, if that is an object or missing. [`Error::retry_after`] reads it there.
/// - An answer with the id of another request fails the request with a transport error, and the
///   connection serves no further request.
/// - A response without a message fails the request with a transport error that has the HTTP
///   status. So does 202 or 204, unless the session's own event stream is open and can bring the
///   answer.
///
/// Event streams are read as the WHATWG standard says: unknown fields, comments and malformed
/// values are ignored, and line ends may be LF, CR or CRLF.
///
/// # Sessions
///
/// A restarted server does not know its sessions. When the server refuses a session, the upstream
/// begins another session and sends the request again, once. The following responses refuse a
/// session:
///
/// - HTTP 404 or 410.
/// - Another status from 400 to 499 (but 413 and 429) with a text such as "No valid session ID
///   provided", "Session not found" or "Server not initialized".
/// - An error with such a text that names no request, with any status.
///
/// An error with the code -32601 or -32602 never refuses a session. If the server refuses the new
/// session too, the request fails with the server's error.
///
/// # Example
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
    bearer_source: Option<BearerSource>,
    client: Option<reqwest::Client>,
    max_response_bytes: usize,
}

impl HttpEndpoint {
    /// Creates an endpoint for the URL that messages are posted to.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            headers: Vec::new(),
            bearer: None,
            bearer_source: None,
            client: None,
            max_response_bytes: 16 * 1024 * 1024,
        }
    }

    /// Sends a header with every request. If a name has several values, the last is sent. The
    /// headers that MCP itself needs (`Accept`, `Content-Type`, `Last-Event-ID`,
    /// `Mcp-Protocol-Version`, `Mcp-Session-Id`) cannot be set.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sends `Authorization: Bearer` with every request (RFC 6750, section 2.1).
    #[must_use]
    pub fn bearer(mut self, token: impl Into<String>) -> Self {
        self.bearer = Some(token.into());
        self.bearer_source = None;
        self
    }

    /// Sends `Authorization: Bearer` with every request, as [`bearer`](Self::bearer) does, with a
    /// token that `source` returns each time. Use this for tokens that expire while the connection
    /// lasts.
    ///
    /// The token goes with the handshake, with calls that have no credential of their own, with a
    /// session's stream, and with the request that ends the session. While `source` fails, nothing
    /// is sent. Limit: 30 s for one token. `source` should keep its token rather than fetch it each
    /// time, as `Credentials::bearer_source` (feature `auth`) does.
    #[must_use]
    pub fn bearer_from<F, Fut>(mut self, source: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, Error>> + Send + 'static,
    {
        self.bearer = None;
        self.bearer_source = Some(Arc::new(move || Box::pin(source())));
        self
    }

    /// Sets the largest response that is read, in bytes. Default: 16 MiB. A larger response fails
    /// its call.
    #[must_use]
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.max_response_bytes = bytes;
        self
    }

    /// Uses this HTTP client.
    ///
    /// Default: a client of the upstream's own. It keeps its TCP connections (idle ones for 30 s),
    /// sets `TCP_NODELAY`, and follows redirects to the same origin only. It uses the proxy that
    /// the environment names (`HTTP_PROXY` and others), but not to this machine (`localhost`,
    /// 127.0.0.0/8, `::1`).
    #[must_use]
    pub fn client(mut self, client: reqwest::Client) -> Self {
        self.client = Some(client);
        self
    }

    /// Returns the URL without the parts that may be secret.
    fn network_facts(&self) -> Endpoint {
        let url = Url::parse(&self.url).ok();
        let host = url.as_ref().and_then(Url::host_str);
        Endpoint {
            transport: "tcp",
            protocol: Some("http"),
            address: host.map(|host| host.trim_matches(['[', ']']).to_owned()),
            port: url.as_ref().and_then(Url::port_or_known_default),
        }
    }

    fn shown_url(&self) -> String {
        Url::parse(&self.url).map_or_else(
            |_| "malformed URL".to_owned(),
            |url| format!("{}{}", url.origin().ascii_serialization(), url.path()),
        )
    }

    fn config(&self) -> Result<StreamableHttpClientTransportConfig, ConfigError> {
        // The error does not quote the URL, which may hold credentials.
        let url = Url::parse(&self.url).map_err(|error| {
            let reason = format!("the URL is malformed: {error}; give an absolute http:// URL");
            refuse("url", reason)
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            let scheme = url.scheme();
            let reason = format!("the scheme is `{scheme}`; give an http:// or https:// URL");
            return Err(refuse("url", reason));
        }
        if self.client.is_none()
            && let Some(missing) = endpoint::missing_tls(&url)
        {
            return Err(refuse("url", missing));
        }
        if let Some(token) = &self.bearer
            && HeaderValue::from_str(token).is_err()
        {
            let reason = "the token is not a header value; remove line ends and control characters";
            return Err(refuse("bearer", reason));
        }
        let mut headers = HashMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let refuse = |reason| refuse(format!("header[{name}]"), reason);
            let header: HeaderName = name.parse().map_err(|_| {
                refuse("the name is not a header name; use letters, digits and hyphens")
            })?;
            if RESERVED.contains(&header.as_str()) {
                return Err(refuse("the header is MCP's own; remove it"));
            }
            let mut value = HeaderValue::from_str(value).map_err(|_| {
                refuse("it is not a header value; remove line ends and control characters")
            })?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        let mut config = StreamableHttpClientTransportConfig::with_uri(self.url.as_str())
            .custom_headers(headers)
            .max_concurrent_requests(MAX_CONCURRENT_REQUESTS)
            // The upstream renews a session that the server forgot, because subscriptions belong to
            // it.
            .reinit_on_expired_session(false)
            .max_json_response_size(self.max_response_bytes)
            .max_sse_event_size(self.max_response_bytes);
        config.channel_buffer_capacity = CHANNEL_CAPACITY;
        config.auth_header = self.bearer.clone();
        Ok(config)
    }

    /// Returns the client that was set, or one that keeps connections.
    ///
    /// rmcp's own client keeps no connection. The reason was that an unread rest of a response
    /// blocks the next request on the connection until a delayed acknowledgment. rmcp reads
    /// responses to the end by now, and `TCP_NODELAY` removes the delay.
    fn client_or_own(&self) -> Result<reqwest::Client, ConfigError> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let mut client = reqwest::Client::builder();
        if let Ok(url) = Url::parse(&self.url) {
            client = endpoint::direct_if_local(client, &url);
            if url.scheme() == "http" {
                // reqwest sends a request again only over HTTP/2, which is negotiated in TLS. For
                // that it would copy each request.
                client = client.retry(retry::never().max_retries_per_request(0));
            }
        }
        client
            .tcp_nodelay(true)
            .pool_idle_timeout(POOL_IDLE)
            .redirect(redirect::Policy::custom(same_origin))
            .build()
            .map_err(|error| {
                let reason = format!(
                    "an HTTP client cannot be set up: {}; give one",
                    error.without_url()
                );
                refuse("client", reason)
            })
    }
}

fn refuse(
    option: impl Into<Cow<'static, str>>,
    reason: impl Into<Cow<'static, str>>,
) -> ConfigError {
    ConfigError::new("upstream", option, reason)
}

/// Follows redirects within one origin only: the request's headers, credentials among them, go to
/// no other.
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

/// Shows the URL and the names of the headers, without the parts that may be secret.
impl fmt::Debug for HttpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("HttpEndpoint")
            .field("url", &self.shown_url())
            .field("headers", &headers)
            .field("bearer", &self.bearer.as_ref().map(|_| "..."))
            .field("bearer_from", &self.bearer_source.as_ref().map(|_| "..."))
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

impl Upstream {
    /// Returns an upstream to a streamable HTTP URL.
    ///
    /// Requires the feature `http-client`.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL or a header is malformed, if the URL is `https://` and this
    /// build has no TLS (features `rustls` and `native-tls`), or if the TLS library cannot be set
    /// up.
    pub fn http(endpoint: impl Into<HttpEndpoint>) -> Result<Self, ConfigError> {
        Self::builder().http(endpoint)
    }
}

impl UpstreamBuilder {
    /// Connects to a streamable HTTP URL.
    ///
    /// Requires the feature `http-client`.
    ///
    /// # Errors
    ///
    /// Returns an error in these cases:
    ///
    /// - The URL or a header is malformed.
    /// - The URL is `https://`, neither feature `rustls` nor `native-tls` is enabled, and no
    ///   [client](HttpEndpoint::client) is given.
    /// - The TLS library cannot be set up.
    pub fn http(mut self, endpoint: impl Into<HttpEndpoint>) -> Result<Upstream, ConfigError> {
        let endpoint = endpoint.into();
        self.endpoint = Some(Arc::new(endpoint.network_facts()));
        let name: Arc<str> = self
            .name
            .clone()
            .unwrap_or_else(|| endpoint.shown_url().into());
        let config = endpoint.config()?;
        let client = endpoint.client_or_own()?;
        let bearer = endpoint.bearer_source.clone();
        Ok(self
            .name(name.clone())
            .build(&name, Lifecycle::MatchCaller, move |handshake| {
                let (client, bearer, config) = (client.clone(), bearer.clone(), config.clone());
                Box::new(move || {
                    let (client, bearer) = (client.clone(), bearer.clone());
                    connect(client, bearer, config.clone(), handshake.clone()).boxed()
                })
            }))
    }
}
