use std::{
    fmt,
    future::IntoFuture,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, future::BoxFuture};
use rmcp::model::{CallToolResult, ProgressNotificationParam};
use tokio::sync::mpsc;

use crate::Error;

/// The number of progress notifications that are buffered for the reader.
const PROGRESS_BUFFER: usize = 64;

/// A tool call with a progress stream; see
/// [`ToolCall::with_progress`](crate::ToolCall::with_progress).
///
/// It is a [`Stream`] of the call's progress notifications, in order, which ends when the call has
/// ended. Await it, then or at any earlier time, for the result. Reading the stream drives the
/// call:
///
/// - Once the result is awaited, unread progress is dropped.
/// - With a slow reader, up to 64 notifications are buffered, and the server's further messages
///   wait. None is lost, and the request timeout is suspended meanwhile.
/// - Dropping the stream cancels the call.
/// - Dropped, it cancels the call.
#[must_use = "a call does nothing unless its stream is read or its result awaited"]
pub struct ProgressCall {
    call: BoxFuture<'static, Result<CallToolResult, Error>>,
    result: Option<Result<CallToolResult, Error>>,
    progress: mpsc::Receiver<ProgressNotificationParam>,
}

impl ProgressCall {
    pub(super) fn new(
        call: impl FnOnce(
            mpsc::Sender<ProgressNotificationParam>,
        ) -> BoxFuture<'static, Result<CallToolResult, Error>>,
    ) -> Self {
        let (sender, progress) = mpsc::channel(PROGRESS_BUFFER);
        Self {
            call: call(sender),
            result: None,
            progress,
        }
    }
}

impl Stream for ProgressCall {
    type Item = ProgressNotificationParam;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Ok(progress) = self.progress.try_recv() {
            return Poll::Ready(Some(progress));
        }
        if self.result.is_none()
            && let Poll::Ready(result) = self.call.as_mut().poll(cx)
        {
            self.result = Some(result);
        }
        if self.result.is_some() {
            // A remaining clone of the sender must not keep the stream open after the call: only
            // buffered progress is returned.
            return Poll::Ready(self.progress.try_recv().ok());
        }
        match self.progress.poll_recv(cx) {
            Poll::Ready(Some(progress)) => Poll::Ready(Some(progress)),
            _ => Poll::Pending,
        }
    }
}

impl IntoFuture for ProgressCall {
    type Output = Result<CallToolResult, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self {
            mut call,
            result,
            mut progress,
        } = self;
        Box::pin(async move {
            if let Some(result) = result {
                return result;
            }
            // From here on, senders of progress find the stream closed and continue.
            progress.close();
            while progress.try_recv().is_ok() {}
            call.as_mut().await
        })
    }
}

impl fmt::Debug for ProgressCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressCall")
            .field("result", &self.result)
            .finish_non_exhaustive()
    }
}
