use std::{
    fmt,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use rmcp::{
    RoleServer,
    model::{ErrorData, ServerResult},
    service::Peer,
};
use tokio_util::{bytes::Bytes, sync::CancellationToken};

use super::{Handover, TimeLimits};
use crate::{Lossless, caller::Era, protocol::methods::Method, wire};

type Answer = Result<Lossless<ServerResult>, ErrorData>;

/// A call that has begun without rmcp. Dropping it cancels it.
pub(crate) struct OngoingCall {
    state: State,
    method: Method,
    era: Era,
    handover: Arc<Handover>,
    time_limits: TimeLimits,
    cancellation: CancellationToken,
}

enum State {
    Running(BoxFuture<'static, Answer>),
    /// The text of a result that leaves as it is.
    Result(Bytes),
    /// Any other answer.
    Answered(Box<Answer>),
    /// The call has been given to rmcp.
    Taken,
}

/// The end of the part of a call that its transport serves.
pub(crate) enum DirectOutcome {
    /// The text of the result. It leaves as it is.
    Result(Bytes),
    /// rmcp has to go on with the call.
    HandOver(Box<OngoingCall>),
    /// The caller has cancelled the call. It has no answer.
    Cancelled,
}

impl OngoingCall {
    pub(crate) fn new(
        answer: BoxFuture<'static, Answer>,
        method: Method,
        era: Era,
        handover: Arc<Handover>,
        time_limits: TimeLimits,
        cancellation: CancellationToken,
    ) -> Self {
        Self {
            state: State::Running(answer),
            method,
            era,
            handover,
            time_limits,
            cancellation,
        }
    }

    /// Returns the era of the caller's revision.
    pub(crate) fn era(&self) -> Era {
        self.era
    }

    /// Returns the token that cancels the call.
    pub(crate) fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    pub(crate) fn handover(&self) -> &Arc<Handover> {
        &self.handover
    }

    /// Runs the call until it ends, or is to be handed over.
    pub(crate) async fn run(mut self) -> DirectOutcome {
        // A call that does not wait needs no timer.
        let mut has_waited = false;
        std::future::poll_fn(|context| {
            let polled = self.poll(context);
            if polled.is_pending() && !std::mem::replace(&mut has_waited, true) {
                self.time_limits.start(Arc::downgrade(&self.handover));
            }
            polled
        })
        .await;
        self.into_outcome()
    }

    /// Returns `Ready` once the call has ended or is to be handed over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let State::Running(answer) = &mut self.state else {
            return Poll::Ready(());
        };
        match answer.as_mut().poll(context) {
            Poll::Ready(mut answer) => {
                let text = self.text_of(&mut answer);
                self.state = text.map_or_else(|| State::Answered(Box::new(answer)), State::Result);
                Poll::Ready(())
            }
            Poll::Pending if self.handover.poll_wanted(context) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    }

    fn text_of(&self, answer: &mut Answer) -> Option<Bytes> {
        let result = answer.as_mut().ok();
        let result = result.filter(|result| is_result_of(self.method, result))?;
        wire::text_for(result, self.era)
    }

    fn into_outcome(mut self) -> DirectOutcome {
        match &mut self.state {
            State::Result(text) => DirectOutcome::Result(std::mem::take(text)),
            State::Answered(answer) if answer.is_err() && self.cancellation.is_cancelled() => {
                DirectOutcome::Cancelled
            }
            _ => DirectOutcome::HandOver(Box::new(self)),
        }
    }

    /// Goes on with the call as a request that rmcp serves to `peer`.
    pub(crate) async fn hand_over(
        mut self,
        peer: Peer<RoleServer>,
        cancelled: CancellationToken,
    ) -> Answer {
        let state = std::mem::replace(&mut self.state, State::Taken);
        match state {
            State::Answered(answer) => *answer,
            State::Running(answer) => {
                self.handover.complete(Some(peer));
                let mut answer = pin!(answer);
                tokio::select! {
                    biased;
                    answer = &mut answer => return answer,
                    () = cancelled.cancelled() => self.cancellation.cancel(),
                }
                answer.await
            }
            State::Result(_) | State::Taken => Err(ErrorData::internal_error(
                "the request was answered before",
                None,
            )),
        }
    }
}

impl Drop for OngoingCall {
    fn drop(&mut self) {
        self.handover.complete(None);
        // Work that the call has spawned may wait for it.
        self.cancellation.cancel();
    }
}

/// Returns `true` for a result that rmcp would pass on as it is. It looks into the others: a task
/// that the caller cannot have, a question to a caller without multi-round requests.
fn is_result_of(method: Method, result: &ServerResult) -> bool {
    match method {
        Method::CallTool => matches!(result, ServerResult::CallToolResult(_)),
        Method::GetPrompt => matches!(result, ServerResult::GetPromptResult(_)),
        Method::ReadResource => matches!(result, ServerResult::ReadResourceResult(_)),
        Method::Complete => matches!(result, ServerResult::CompleteResult(_)),
        _ => false,
    }
}

impl fmt::Debug for OngoingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OngoingCall")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}
