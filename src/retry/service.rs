use std::{
    fmt, mem,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use rmcp::model::{ClientRequest, ServerNotification};
use tower::Service;

use super::{call::Call, layer::Shared};
use crate::{
    Audience, Error, McpRequest, McpResponse, Outcome, Stack,
    context::tool_hints::{Asked, KnownHints},
    response::CallResult,
};

/// The service of a [`RetryLayer`](super::RetryLayer).
///
/// It is ready when the inner service is. Between attempts it holds no place in the inner service.
pub struct Retry<S> {
    stack: Arc<StackState>,
    inner: S,
}

/// State of one stack under the layer.
pub(super) struct StackState {
    pub(super) shared: Arc<Shared>,
    pub(super) hints: KnownHints,
}

impl<S> Retry<S> {
    pub(super) fn new(shared: Arc<Shared>, inner: S) -> Self {
        let hints = KnownHints::default();
        let stack = Arc::new(StackState { shared, hints });
        Self { stack, inner }
    }
}

impl<S: Clone> Clone for Retry<S> {
    fn clone(&self) -> Self {
        Self {
            stack: self.stack.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl<S> fmt::Debug for Retry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").finish_non_exhaustive()
    }
}

impl<S> Service<McpRequest> for Retry<S>
where
    S: Stack,
{
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, CallResult>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        let clone = self.inner.clone();
        let inner = mem::replace(&mut self.inner, clone);
        Box::pin(run(self.stack.clone(), inner, request))
    }
}

async fn run<S>(stack: Arc<StackState>, mut inner: S, mut request: McpRequest) -> CallResult
where
    S: Service<McpRequest, Response = McpResponse> + Send,
    S::Error: Into<Error>,
    S::Future: Send,
{
    let shared = &*stack.shared;
    let asked = stack.asks_for_tools(&request);
    stack.watch_for_changes(&mut request);
    let mut call = Call::begin(shared, &mut request);
    loop {
        let again = call.as_ref().and_then(|call| call.copy(&request));
        shared.totals.attempts.fetch_add(1, Ordering::Relaxed);
        let mut answer = inner.call(request).await.map_err(Into::into);
        let outcome = Outcome::of(&answer);
        if outcome.is_success() {
            if let Some(budget) = &shared.budget {
                budget.deposit();
            }
            if let (Some(asked), Ok(response)) = (&asked, &answer) {
                stack.hints.learn(asked, response);
            }
        }
        let Some(call) = &mut call else {
            return answer;
        };
        request = match again {
            Some(again) if !outcome.is_success() => {
                match Box::pin(call.wait(&stack, &mut inner, again, &mut answer)).await {
                    Some(again) => again,
                    None => return call.end(answer),
                }
            }
            _ => {
                call.note_last(shared, outcome, &answer);
                return call.end(answer);
            }
        };
    }
}

impl StackState {
    /// Returns the audience of a `tools/list` request, if annotations matter.
    fn asks_for_tools(&self, request: &McpRequest) -> Option<Asked> {
        let asks = matches!(*request.message, ClientRequest::ListToolsRequest(_));
        let matters = asks && self.shared.trusts_annotations;
        matters.then(|| self.hints.ask(Audience::of(&request.context)))
    }

    /// Drops the learned annotations when the server's tools change.
    fn watch_for_changes(self: &Arc<Self>, request: &mut McpRequest) {
        if !self.shared.trusts_annotations {
            return;
        }
        let ClientRequest::SubscriptionsListenRequest(listen) = &*request.message else {
            return;
        };
        if listen.params.notifications.tools_list_changed != Some(true) {
            return;
        }
        let stack = self.clone();
        let watched = request
            .context
            .caller
            .filter_map_notifications(move |notification| {
                if let ServerNotification::ToolListChangedNotification(_) = notification {
                    stack.hints.forget();
                }
                Some(notification)
            });
        request.context.caller = watched;
    }
}
