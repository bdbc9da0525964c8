use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use super::recording::Recording;
use crate::{Error, McpResponse, response::CallResult};

pin_project! {
    /// The future of [`Metrics`](super::Metrics). It does not allocate.
    pub struct MetricsFuture<F> {
        #[pin]
        call: F,
        recording: Recording,
    }
}

impl<F> MetricsFuture<F> {
    pub(super) fn new(call: F, recording: Recording) -> Self {
        Self { call, recording }
    }
}

impl<F, E> Future for MetricsFuture<F>
where
    F: Future<Output = Result<McpResponse, E>>,
    E: Into<Error>,
{
    type Output = CallResult;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CallResult> {
        let this = self.project();
        let recording = this.recording;
        let answer = ready!(recording.poll_call(|| this.call.poll(cx)));
        let answer = answer.map_err(Into::into);
        recording.end(&answer);
        Poll::Ready(answer)
    }
}

impl<F> fmt::Debug for MetricsFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsFuture").finish_non_exhaustive()
    }
}
