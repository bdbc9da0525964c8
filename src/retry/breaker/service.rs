use std::{
    fmt,
    future::{poll_fn, ready},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::Instant;
use tower::Service;

use super::state::{Permit, Shared};
use crate::{Error, McpRequest, McpResponse, Outcome, Stack, response::CallResult};

/// The service of a [`CircuitBreakerLayer`](super::CircuitBreakerLayer).
///
/// It is always ready, so refusals do not wait for a busy inner service. An admitted call waits
/// until the inner service is ready.
pub struct CircuitBreaker<S> {
    shared: Arc<Shared>,
    inner: S,
}

impl<S> CircuitBreaker<S> {
    pub(super) fn new(shared: Arc<Shared>, inner: S) -> Self {
        Self { shared, inner }
    }
}

impl<S: Clone> Clone for CircuitBreaker<S> {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone(), self.inner.clone())
    }
}

impl<S> fmt::Debug for CircuitBreaker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker").finish_non_exhaustive()
    }
}

impl<S> Service<McpRequest> for CircuitBreaker<S>
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
        let permit = self.shared.key(&request).map(|key| self.shared.admit(key));
        match permit.transpose() {
            Ok(permit) => Box::pin(run(self.inner.clone(), request, permit)),
            Err(refused) => Box::pin(ready(Err(refused))),
        }
    }
}

async fn run<S>(mut inner: S, request: McpRequest, permit: Option<Permit>) -> CallResult
where
    S: Service<McpRequest, Response = McpResponse>,
    S::Error: Into<Error>,
{
    poll_fn(|cx| inner.poll_ready(cx))
        .await
        .map_err(Into::into)?;
    let timed = permit.as_ref().is_some_and(Permit::is_timed);
    let begun = timed.then(Instant::now);
    let answer = inner.call(request).await.map_err(Into::into);
    if let Some(permit) = permit {
        let verdict = permit.read(Outcome::of(&answer), answer.as_ref().ok());
        let took = begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        permit.end(verdict, took);
    }
    answer
}
