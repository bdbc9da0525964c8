//! [`HttpService`]: a [`McpServer`] over streamable HTTP (feature `http-server`).

mod body;
mod direct;
mod heads;
mod sessions;

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderName, Request, Response};
use http_body::Body;
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::SessionManager,
};
use tower::Service;

pub use self::body::HttpServiceBody;
use self::{direct::Exchange, heads::Heads, sessions::Sessions};
use super::McpServer;
use crate::Stack;

const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// A [`McpServer`] over streamable HTTP (MCP 2025-11-25 and 2026-07-28, basic/transports).
///
/// Requires the feature `http-server`.
///
/// It is rmcp's `StreamableHttpService`, which serves the handshake, streams, notifications and the
/// end of sessions as ever. Put a [`LenientHttpLayer`](crate::LenientHttpLayer) in front of it.
///
/// # Direct calls
///
/// rmcp takes a request of a session through several tasks. Behind a `LenientHttpLayer`, this
/// service runs `tools/call`, `prompts/get`, `resources/read` and `completion/complete` itself, and
/// writes the result as one event. rmcp serves the request, with the call that has begun, in these
/// cases:
///
/// - The call has a message for its caller (progress, a log line, a request), or ends with an error
///   or a result that is not complete.
/// - It takes longer than 100 ms. Until then the response has no head.
/// - The request's `Host`, `Origin`, `Accept`, `Content-Type` and `MCP-Protocol-Version` headers are
///   not those of a request that rmcp has accepted. Limit: the last 64 such combinations.
/// - rmcp has not served a request of the session for a second, so that its session does not count
///   as idle.
/// - The session manager has an event store, which keeps every response.
/// - The `cancellation_token` of the configuration is cancelled.
///
/// The event of a direct call has no `id`, because its stream cannot break off before its end. A
/// call of a session goes on when its connection is lost. A call without a session is cancelled
/// (MCP 2026-07-28, basic/transports, cancellation).
///
/// # Example
///
/// ```
/// use std::sync::Arc;
///
/// use rmcp::transport::StreamableHttpServerConfig;
/// use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
/// use rmcp_layers::{Handler, LenientHttpLayer, McpServer};
/// # #[derive(Clone)]
/// # struct Empty;
/// # impl rmcp::ServerHandler for Empty {}
///
/// let service = McpServer::new(Handler::new(Empty)).http_service(
///     Arc::new(LocalSessionManager::default()),
///     StreamableHttpServerConfig::default(),
/// );
/// let router = axum::Router::<()>::new()
///     .route_service("/mcp", service)
///     .layer(LenientHttpLayer::new());
/// ```
pub struct HttpService<S, M> {
    shared: Arc<Shared<S, M>>,
}

struct Shared<S, M> {
    rmcp: StreamableHttpService<McpServer<S>, M>,
    /// The server of calls without a session.
    server: McpServer<S>,
    sessions: Sessions,
    heads: Heads,
    /// An event store keeps every response, so that rmcp has to write it.
    has_event_store: bool,
}

impl<S: Stack> McpServer<S> {
    /// Serves the stack over streamable HTTP.
    ///
    /// Requires the feature `http-server`.
    pub fn http_service<M: SessionManager>(
        self,
        sessions: Arc<M>,
        config: StreamableHttpServerConfig,
    ) -> HttpService<S, M> {
        let has_event_store = sessions.event_store().is_some();
        let server = self.clone();
        let rmcp = StreamableHttpService::new(move || Ok(self.clone()), sessions, config);
        HttpService {
            shared: Arc::new(Shared {
                rmcp,
                server,
                sessions: Sessions::default(),
                heads: Heads::default(),
                has_event_store,
            }),
        }
    }
}

impl<S, M> Clone for HttpService<S, M> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<S, M> fmt::Debug for HttpService<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpService").finish_non_exhaustive()
    }
}

impl<S, M, B> Service<Request<B>> for HttpService<S, M>
where
    S: Stack,
    M: SessionManager,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: fmt::Display + Send,
{
    type Response = Response<HttpServiceBody>;
    type Error = Infallible;
    type Future = HttpServiceFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> HttpServiceFuture {
        HttpServiceFuture(Box::pin(Exchange::new(self.shared.clone()).serve(request)))
    }
}

/// The future of a [`HttpService`].
///
/// Requires the feature `http-server`.
pub struct HttpServiceFuture(Pin<Box<dyn Future<Output = Response<HttpServiceBody>> + Send>>);

impl fmt::Debug for HttpServiceFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpServiceFuture").finish_non_exhaustive()
    }
}

impl Future for HttpServiceFuture {
    type Output = Result<Response<HttpServiceBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context).map(Ok)
    }
}
