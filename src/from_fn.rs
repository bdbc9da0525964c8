use std::{
    any::type_name,
    fmt,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures::{TryFutureExt, future::BoxFuture};
use tower::{Layer, Service, ServiceExt};

use crate::{Error, McpRequest, McpResponse, Stack, util::lock};

/// Makes a layer from an async function that acts before and after a request.
///
/// The function gets the request and a [`Next`]. It may change the request, answer or refuse it
/// without the inner stack, run the inner stack by [`Next::run`], and look at the response or the
/// error or replace them. For a function that only looks at requests, tower's `map_request` and
/// `filter` are shorter.
///
/// # Example
///
/// ```
/// use std::time::Instant;
///
/// use rmcp_layers::{McpClient, Outcome, Refusal, Upstream, code, from_fn};
/// use tower::ServiceBuilder;
/// # use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
/// # struct Files;
/// # impl ServerHandler for Files {
/// #     async fn call_tool(
/// #         &self,
/// #         _request: CallToolRequestParams,
/// #         _context: RequestContext<RoleServer>,
/// #     ) -> Result<CallToolResponse, ErrorData> {
/// #         Ok(CallToolResult::success(vec![ContentBlock::text("text")]).into())
/// #     }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), rmcp_layers::Error> {
/// let timed = from_fn(|request, next| async move {
///     let (method, started) = (request.method().to_owned(), Instant::now());
///     let answer = next.run(request).await;
///     eprintln!("{method}: {:?} in {:?}", Outcome::of(&answer), started.elapsed());
///     answer
/// });
/// let guarded = from_fn(|request, next| async move {
///     if request.target() == Some("delete") {
///         let refusal = Refusal::new("policy", "deletions are turned off");
///         return Err(refusal.with_code(code::FORBIDDEN).into());
///     }
///     next.run(request).await
/// });
/// let stack = ServiceBuilder::new()
///     .layer(timed)
///     .layer(guarded)
///     .service(Upstream::in_process(Files));
///
/// let client = McpClient::new(stack);
/// assert!(client.call_tool("read").await.is_ok());
/// assert!(client.call_tool("delete").await.unwrap_err().is_refused());
/// # Ok(())
/// # }
/// ```
///
/// State that all calls share is captured by the closure, usually in an [`Arc`]:
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
///
/// use rmcp_layers::{Error, McpRequest, McpResponse, Next, from_fn};
///
/// async fn count(
///     calls: Arc<AtomicU64>,
///     request: McpRequest,
///     next: Next,
/// ) -> Result<McpResponse, Error> {
///     if request.as_tool_call().is_some() {
///         calls.fetch_add(1, Ordering::Relaxed);
///     }
///     next.run(request).await
/// }
///
/// let calls = Arc::new(AtomicU64::new(0));
/// let layer = from_fn({
///     let calls = calls.clone();
///     move |request, next| count(calls.clone(), request, next)
/// });
/// # let _ = layer;
/// ```
///
/// # Requests
///
/// The function sees every request: a `subscriptions/listen`, whose answer comes when the
/// subscription ends, and [notifications](McpRequest::notification) of the client too. Pass on what
/// it does not act on.
///
/// # Readiness and cancellation
///
/// The layer is always ready, so the function starts at once; [`Next::run`] waits until the inner
/// stack has room. Put tower's `load_shed` inside of the layer, right outside of the layer that
/// limits.
///
/// A call that is cancelled drops the function's future at its current await point.
pub fn from_fn<F, Fut>(function: F) -> FromFnLayer<F>
where
    F: Fn(McpRequest, Next) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<McpResponse, Error>> + Send + 'static,
{
    FromFnLayer { function }
}

/// The layer that [`from_fn()`] makes.
#[derive(Clone, Copy)]
pub struct FromFnLayer<F> {
    function: F,
}

impl<F: Clone, S> Layer<S> for FromFnLayer<F> {
    type Service = FromFn<F, S>;

    fn layer(&self, inner: S) -> FromFn<F, S> {
        FromFn {
            function: self.function.clone(),
            inner: Arc::new(Mutex::new(inner)),
        }
    }
}

/// The service of a [`FromFnLayer`].
pub struct FromFn<F, S> {
    function: F,
    /// Shared, so that a [`Next`] does not allocate. Locked only to clone the stack.
    inner: Arc<Mutex<S>>,
}

impl<F: Clone, S> Clone for FromFn<F, S> {
    fn clone(&self) -> Self {
        Self {
            function: self.function.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl<F, Fut, S> Service<McpRequest> for FromFn<F, S>
where
    F: Fn(McpRequest, Next) -> Fut,
    Fut: Future<Output = Result<McpResponse, Error>>,
    S: Stack,
{
    type Response = McpResponse;
    type Error = Error;
    type Future = Fut;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: McpRequest) -> Fut {
        (self.function)(request, Next(self.inner.clone()))
    }
}

/// The stack inside of a [`from_fn()`] layer, for one request.
///
/// A clone runs the inner stack once more, which is safe only where the call may run twice; see
/// [`Outcome`](crate::Outcome). Cloning is one reference count.
#[derive(Clone)]
pub struct Next(Arc<dyn Inner>);

impl Next {
    /// Sends a request into the inner stack and returns its response or error.
    ///
    /// Waits until the inner stack is ready. Dropping the returned future cancels the call.
    pub fn run(
        self,
        request: McpRequest,
    ) -> impl Future<Output = Result<McpResponse, Error>> + Send + Unpin + use<> {
        self.0.run(request)
    }
}

/// An inner stack of any type.
trait Inner: Send + Sync {
    fn run(&self, request: McpRequest) -> BoxFuture<'static, Result<McpResponse, Error>>;
}

impl<S: Stack> Inner for Mutex<S> {
    fn run(&self, request: McpRequest) -> BoxFuture<'static, Result<McpResponse, Error>> {
        let stack = lock(self).clone();
        Box::pin(stack.oneshot(request).err_into())
    }
}

impl<F> fmt::Debug for FromFnLayer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FromFnLayer")
            .field(&type_name::<F>())
            .finish()
    }
}

impl<F, S> fmt::Debug for FromFn<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FromFn").field(&type_name::<F>()).finish()
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").finish_non_exhaustive()
    }
}
