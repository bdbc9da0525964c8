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

/// How much progress may wait to be read.
const PROGRESS_BUFFER: usize = 64;

/// A tool call that yields its progress; see [`ToolCall::with_progress`](crate::ToolCall::with_progress).
///
/// It is a [`Stream`] of the call's progress, in order, which ends when the call has: then, or at any time
/// before, await it for the result. Reading the stream is what drives the call, so neither can wait
/// for the other:
///
/// - Awaited, it drops the progress that nobody reads.
/// - Read slowly, it holds up to 64 notifications, and the server's further ones wait: nothing is lost,
///   and the idle timeout stands still as long as they do.
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
            // Whoever still holds the way back may not end it: what is there now is all there is.
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
            // From here on, whoever sends progress finds the stream closed and goes on.
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
