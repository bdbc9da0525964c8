use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{TryFutureExt, future::BoxFuture};
use rmcp::model::ClientRequest;
use tower::{Service, ServiceExt};

use super::{calls, layer::Shared, lists, tasks_extension, tools::OwnTool};
use crate::{Error, McpRequest, McpResponse, Stack, response::CallResult};

/// The service of a [`DelegateLayer`](super::DelegateLayer).
///
/// It is always ready, so its own tools answer while the inner stack is busy. Only a request that
/// goes to the inner stack waits for that stack's readiness.
pub struct Delegate<S> {
    shared: Arc<Shared>,
    inner: S,
}

impl<S> Delegate<S> {
    pub(super) fn new(shared: Arc<Shared>, inner: S) -> Self {
        Self { shared, inner }
    }
}

impl<S: Clone> Clone for Delegate<S> {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone(), self.inner.clone())
    }
}

impl<S> fmt::Debug for Delegate<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delegate").finish_non_exhaustive()
    }
}

impl<S: Stack> Service<McpRequest> for Delegate<S> {
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, CallResult>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        let (shared, inner) = (self.shared.clone(), self.inner.clone());
        match &*request.message {
            ClientRequest::CallToolRequest(call) => {
                if let Some(tool) = OwnTool::named(&call.params.name) {
                    return Box::pin(calls::run(shared, tool, request));
                }
            }
            ClientRequest::ListToolsRequest(_) => {
                return Box::pin(lists::tools(shared, inner, request));
            }
            ClientRequest::DiscoverRequest(_) => {
                return Box::pin(lists::discover(inner, request));
            }
            ClientRequest::GetTaskRequest(_)
            | ClientRequest::UpdateTaskRequest(_)
            | ClientRequest::CancelTaskRequest(_) => {
                return Box::pin(tasks_extension::run(shared, inner, request));
            }
            _ => {}
        }
        Box::pin(inner.oneshot(request).map_err(Into::into))
    }
}
