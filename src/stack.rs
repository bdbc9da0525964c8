use std::{
    fmt,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tower::{Service, ServiceExt, util::BoxCloneService};

use crate::{Error, McpRequest, McpResponse, response::CallResult, util::lock};

/// A stack: a [`Service`] from [`McpRequest`] to [`McpResponse`].
///
/// Each bottom ([`Upstream`](crate::Upstream), [`Handler`](crate::Handler), a gateway) is a stack.
/// A layer around a stack makes another one, and both tops ([`McpServer`](crate::McpServer),
/// [`McpClient`](crate::McpClient)) take any stack. The trait is implemented for every type that
/// meets its bounds and cannot be implemented by hand. Write `impl Stack` or `S: Stack` in place of
/// these bounds:
///
/// | bound | reason |
/// |---|---|
/// | `Service<McpRequest, Response = McpResponse>` | it answers MCP requests |
/// | `Error: Into<Error>` | errors of this crate, of tower's layers and [`BoxError`](tower::BoxError) convert |
/// | `Future: Send`, `Send + 'static` | calls run on any thread of the runtime |
/// | `Clone` | calls run at the same time, each on a clone |
///
/// `Sync` is not required.
///
/// # Example
///
/// ```
/// use rmcp_layers::{Error, Handler, McpServer, Stack};
/// use tower::ServiceBuilder;
/// # #[derive(Clone)]
/// # struct Files;
/// # impl rmcp::ServerHandler for Files {}
///
/// fn bounded(stack: impl Stack) -> impl Stack {
///     ServiceBuilder::new()
///         .load_shed()
///         .concurrency_limit(64)
///         // tower's layers require an error that converts into `BoxError`.
///         .map_err(Into::<Error>::into)
///         .service(stack)
/// }
///
/// let server = McpServer::new(bounded(Handler::new(Files)));
/// # let _ = server;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stack",
    label = "not a stack",
    note = "a stack is a `tower::Service<McpRequest, Response = McpResponse>` which is \
            `Clone + Send + 'static`, whose future is `Send` and whose error converts into \
            `rmcp_layers::Error`",
    note = "to use an rmcp `ServerHandler` as a stack, wrap it: `Handler::new(handler)`",
    note = "to use a service that is not `Clone`, such as tower's `RateLimit`, put \
            `.buffer(bound)` outside of it"
)]
pub trait Stack:
    Service<McpRequest, Response = McpResponse, Error: Into<Error>, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> Stack for S where
    S: Service<McpRequest, Response = McpResponse, Error: Into<Error>, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// A [`Stack`] whose type is erased.
///
/// Use it to name the type of a stack in a struct, to keep stacks of several types in one
/// collection, or to choose between two stacks at run time. Readiness passes through, so layers
/// such as tower's `load_shed` work around it.
///
/// A clone allocates once, and a call allocates its future. Unlike tower's
/// [`BoxCloneService`], a `BoxStack` is [`Sync`], even if the stack in it is not.
///
/// # Example
///
/// ```
/// use rmcp_layers::{BoxStack, Handler, McpClient, Upstream};
/// use tower::ServiceBuilder;
/// # use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
/// # #[derive(Clone)]
/// # struct Search;
/// # impl ServerHandler for Search {
/// #     async fn call_tool(
/// #         &self,
/// #         _request: CallToolRequestParams,
/// #         _context: RequestContext<RoleServer>,
/// #     ) -> Result<CallToolResponse, ErrorData> {
/// #         Ok(CallToolResult::success(vec![ContentBlock::text("found")]).into())
/// #     }
/// # }
///
/// fn search(remote: bool) -> BoxStack {
///     if remote {
///         let upstream = Upstream::in_process(Search); // or over HTTP
///         BoxStack::new(ServiceBuilder::new().concurrency_limit(8).service(upstream))
///     } else {
///         BoxStack::new(Handler::new(Search))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), rmcp_layers::Error> {
/// for remote in [true, false] {
///     let client = McpClient::new(search(remote));
///     let result = client.call_tool("search").argument("query", "tower").await?;
///     assert_eq!(result.content[0].as_text().map(|text| &*text.text), Some("found"));
/// }
/// # Ok(())
/// # }
/// ```
// The mutex is never locked but to clone: it makes the type `Sync`.
pub struct BoxStack(Mutex<BoxCloneService<McpRequest, McpResponse, Error>>);

impl BoxStack {
    /// Erases the type of `stack`.
    pub fn new(stack: impl Stack) -> Self {
        Self(Mutex::new(BoxCloneService::new(stack.map_err(Into::into))))
    }

    fn get_mut(&mut self) -> &mut BoxCloneService<McpRequest, McpResponse, Error> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for BoxStack {
    fn clone(&self) -> Self {
        let stack = lock(&self.0);
        Self(Mutex::new(stack.clone()))
    }
}

impl fmt::Debug for BoxStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxStack").finish_non_exhaustive()
    }
}

impl Service<McpRequest> for BoxStack {
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, CallResult>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_ready(cx)
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        self.get_mut().call(request)
    }
}
