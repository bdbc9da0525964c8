use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{MetricsFuture, recording::Recording, shared::Shared};
use crate::{Error, McpRequest, McpResponse, Stack};

/// The service of a [`MetricsLayer`](super::MetricsLayer).
#[derive(Clone)]
pub struct Metrics<S> {
    shared: Arc<Shared>,
    inner: S,
}

impl<S> Metrics<S> {
    pub(super) fn new(shared: Arc<Shared>, inner: S) -> Self {
        Self { shared, inner }
    }
}

impl<S> fmt::Debug for Metrics<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl<S: Stack> Service<McpRequest> for Metrics<S> {
    type Response = McpResponse;
    type Error = Error;
    type Future = MetricsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: McpRequest) -> Self::Future {
        // The instance that `poll_ready` made ready must be the one that is called.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let mut recording = Recording::begin(&self.shared, &mut request);
        let call = recording.poll_call(|| inner.call(request));
        MetricsFuture::new(call, recording)
    }
}
