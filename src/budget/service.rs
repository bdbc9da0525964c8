use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{TryFutureExt, future::BoxFuture};
use rmcp::model::ClientRequest;
use tower::{Service, ServiceExt};

use super::{calls, kept::SCHEME, lists, reads, rules::ResultKind, state::Shared};
use crate::{Error, McpRequest, McpResponse, Stack, response::CallResult};

/// The scheme of the views of MCP Apps, which hosts render and no model reads.
const APP_VIEW: &str = "ui://";

/// The service of a [`BudgetLayer`](super::BudgetLayer).
///
/// It is always ready, so calls are refused and kept results are read while the inner stack is busy.
/// Only a request that goes to the inner stack waits for that stack's readiness.
pub struct Budget<S> {
    shared: Arc<Shared>,
    inner: S,
}

impl<S> Budget<S> {
    pub(super) fn new(shared: Arc<Shared>, inner: S) -> Self {
        Self { shared, inner }
    }
}

impl<S: Clone> Clone for Budget<S> {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone(), self.inner.clone())
    }
}

impl<S> fmt::Debug for Budget<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").finish_non_exhaustive()
    }
}

impl<S> Service<McpRequest> for Budget<S>
where
    S: Stack,
{
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
                let name: &str = &call.params.name;
                if shared
                    .read_tool
                    .as_ref()
                    .is_some_and(|tool| tool.name == name)
                {
                    return Box::pin(reads::by_tool(shared, inner, request));
                }
                if !shared.rules.is_exempt(&request) {
                    return Box::pin(calls::run(shared, inner, request, ResultKind::Tool));
                }
            }
            ClientRequest::ReadResourceRequest(read) => {
                let uri: &str = &read.params.uri;
                if shared.kept.is_some() && uri.starts_with(SCHEME) {
                    return Box::pin(reads::by_uri(shared, inner, request));
                }
                if !uri.starts_with(APP_VIEW) {
                    return Box::pin(calls::run(shared, inner, request, ResultKind::Resource));
                }
            }
            ClientRequest::GetPromptRequest(_) => {
                return Box::pin(calls::run(shared, inner, request, ResultKind::Prompt));
            }
            ClientRequest::ListToolsRequest(_) => {
                return Box::pin(lists::tools(shared, inner, request));
            }
            ClientRequest::ListPromptsRequest(_) | ClientRequest::ListSkillsRequest(_) => {
                return Box::pin(lists::definitions(shared, inner, request));
            }
            ClientRequest::ListResourcesRequest(_)
            | ClientRequest::ListResourceTemplatesRequest(_) => {
                return Box::pin(lists::resources(shared, inner, request));
            }
            ClientRequest::DiscoverRequest(_) => {
                return Box::pin(lists::discover(shared, inner, request));
            }
            _ => {}
        }
        Box::pin(inner.oneshot(request).map_err(Into::into))
    }
}
