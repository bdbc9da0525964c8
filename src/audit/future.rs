use std::{
    fmt,
    future::{Future, ready},
    pin::Pin,
    task::{Context, Poll, ready as ready_or_pending},
};

use futures::future::BoxFuture;
use pin_project_lite::pin_project;

use super::entry::Entry;
use crate::{Error, McpResponse, response::CallResult};

pin_project! {
    /// The future of [`Audit`](super::Audit). It allocates only if the call has to wait for room in
    /// a sink's queue.
    pub struct AuditFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<F> {
        Running { #[pin] call: F, entry: Entry },
        Waiting { call: BoxFuture<'static, CallResult> },
    }
}

impl<F> AuditFuture<F> {
    pub(super) fn running(call: F, entry: Entry) -> Self {
        Self {
            state: State::Running { call, entry },
        }
    }

    pub(super) fn waiting(call: impl Future<Output = CallResult> + Send + 'static) -> Self {
        Self {
            state: State::Waiting {
                call: Box::pin(call),
            },
        }
    }

    pub(super) fn refused(error: Error) -> Self {
        Self::waiting(ready(Err(error)))
    }
}

impl<F, E> Future for AuditFuture<F>
where
    F: Future<Output = Result<McpResponse, E>>,
    E: Into<Error>,
{
    type Output = CallResult;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CallResult> {
        match self.project().state.project() {
            Projected::Running { call, entry } => {
                let answer = ready_or_pending!(entry.poll_call(|| call.poll(cx)));
                Poll::Ready(entry.end(answer.map_err(Into::into)))
            }
            Projected::Waiting { call } => call.as_mut().poll(cx),
        }
    }
}

impl<F> fmt::Debug for AuditFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditFuture").finish_non_exhaustive()
    }
}
