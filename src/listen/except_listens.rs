//! A layer for all requests except `subscriptions/listen`.

use std::task::{Context, Poll};

use futures::{
    TryFutureExt,
    future::{Either, ErrInto},
};
use tower::{Layer, Service, ServiceExt, util::Oneshot};

use crate::{Error, McpRequest, McpResponse};

/// Applies a layer to every request except `subscriptions/listen`.
///
/// A listen is a request that stays open as long as its subscription (MCP 2026-07-28,
/// basic/patterns/subscriptions). [`McpServer`](crate::McpServer) also keeps one open for each
/// session of an older caller that may receive change notifications. A layer that counts open
/// requests therefore counts subscribers and sessions: under `concurrency_limit(256)` the 257th
/// session waits until another ends. A layer that limits the duration of requests, such as tower's
/// `timeout`, ends subscriptions. Wrap such layers:
///
/// ```
/// use std::time::Duration;
///
/// use rmcp::ServerHandler;
/// use rmcp_layers::{ExceptListensLayer, Handler, McpServer};
/// use tower::ServiceBuilder;
///
/// #[derive(Clone)]
/// struct Files;
/// impl ServerHandler for Files {}
///
/// let bounds = ServiceBuilder::new()
///     .load_shed()
///     .concurrency_limit(256)
///     .timeout(Duration::from_secs(60));
/// let stack = ServiceBuilder::new()
///     .layer(ExceptListensLayer::new(bounds))
///     .service(Handler::new(Files));
/// let server = McpServer::new(stack);
/// ```
///
/// A listen also waits while the wrapped layer is not ready, because readiness is checked before
/// the request is known. No limit in the stack applies to the number of listens, so limit the
/// connections and sessions in front of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExceptListensLayer<L>(L);

impl<L> ExceptListensLayer<L> {
    /// Wraps a layer, such as a [`ServiceBuilder`](tower::ServiceBuilder).
    pub const fn new(layer: L) -> Self {
        Self(layer)
    }
}

impl<S, L> Layer<S> for ExceptListensLayer<L>
where
    S: Clone,
    L: Layer<S>,
{
    type Service = ExceptListens<L::Service, S>;

    fn layer(&self, inner: S) -> Self::Service {
        ExceptListens {
            layered: self.0.layer(inner.clone()),
            inner,
        }
    }
}

/// The service of an [`ExceptListensLayer`].
#[derive(Debug, Clone)]
pub struct ExceptListens<L, S> {
    layered: L,
    inner: S,
}

impl<L, S> Service<McpRequest> for ExceptListens<L, S>
where
    L: Service<McpRequest, Response = McpResponse> + Clone,
    L::Error: Into<Error>,
    S: Service<McpRequest, Response = McpResponse> + Clone,
    S::Error: Into<Error>,
{
    type Response = McpResponse;
    type Error = Error;
    type Future = Either<ErrInto<L::Future, Error>, ErrInto<Oneshot<S, McpRequest>, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.layered.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        if !request.is_listen() {
            return Either::Left(self.layered.call(request).err_into());
        }
        // Replacing the ready service releases the capacity that it has reserved.
        self.layered = self.layered.clone();
        Either::Right(self.inner.clone().oneshot(request).err_into())
    }
}
