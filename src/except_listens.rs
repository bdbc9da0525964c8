//! A layer for requests that are answered, around those that stay open.

use std::task::{Context, Poll};

use futures::{
    TryFutureExt,
    future::{Either, ErrInto},
};
use rmcp::model::ClientRequest;
use tower::{Layer, Service, ServiceExt, util::Oneshot};

use crate::{Error, McpRequest, McpResponse};

/// Puts a layer around every request but `subscriptions/listen`.
///
/// A listen is a request that stays open as long as its subscription (MCP 2026-07-28, basic/patterns/
/// subscriptions), and [`McpServer`](crate::McpServer) keeps one open for every session of an older caller
/// that may be told of changes. A layer that counts requests while they are open counts subscribers and
/// sessions then: under `concurrency_limit(256)` the 257th session waits until another ends. One that bounds
/// how long a request takes, as tower's `timeout` does, ends subscriptions. Put such layers in here:
///
/// ```
/// use std::time::Duration;
///
/// use rmcp::ServerHandler;
/// use rmcp_layers::{ExceptListens, Handler, McpServer};
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
///     .layer(ExceptListens::new(bounds))
///     .service(Handler::new(Files));
/// let server = McpServer::new(stack);
/// ```
///
/// While the layer is not ready, a listen waits too: that it is one shows only once it is there. How many listens
/// there are is then bounded by nothing in the stack, but by what bounds connections and sessions in front of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExceptListens<L>(L);

impl<L> ExceptListens<L> {
    /// Wraps a layer. A [`ServiceBuilder`](tower::ServiceBuilder) is one too.
    pub const fn new(layer: L) -> Self {
        Self(layer)
    }
}

impl<S, L> Layer<S> for ExceptListens<L>
where
    S: Clone,
    L: Layer<S>,
{
    type Service = ExceptListensService<L::Service, S>;

    fn layer(&self, inner: S) -> Self::Service {
        ExceptListensService {
            layered: self.0.layer(inner.clone()),
            inner,
        }
    }
}

/// The service of an [`ExceptListens`].
#[derive(Debug, Clone)]
pub struct ExceptListensService<L, S> {
    layered: L,
    inner: S,
}

impl<L, S> Service<McpRequest> for ExceptListensService<L, S>
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
        if !matches!(
            request.message,
            ClientRequest::SubscriptionsListenRequest(_)
        ) {
            return Either::Left(self.layered.call(request).err_into());
        }
        // The room that the layer has made ready goes back with the clone that holds it.
        self.layered = self.layered.clone();
        Either::Right(self.inner.clone().oneshot(request).err_into())
    }
}
