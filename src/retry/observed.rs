use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rmcp::model::{ServerNotification, ServerRequest};

use crate::{Caller, MonotonicProgress};

/// Notes on what the caller has received from the attempts of one call.
#[derive(Debug, Default)]
pub(super) struct Seen {
    repeating: AtomicBool,
    asked: AtomicBool,
    progress: MonotonicProgress,
}

impl Seen {
    /// Returns a caller whose messages are noted.
    pub(super) fn observe(self: &Arc<Self>, caller: &Caller) -> Caller {
        let (seen, asked) = (self.clone(), self.clone());
        caller.filter_map(
            move |notification| seen.may_pass(&notification).then_some(notification),
            move |request| asked.note(request),
        )
    }

    /// Returns `true` if the caller received a request that a person or a model has to answer.
    pub(super) fn asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Notes that a further attempt begins.
    pub(super) fn repeat(&self) {
        self.repeating.store(true, Ordering::Release);
    }

    /// Returns `true` if the caller may receive this notification. A further attempt's progress is
    /// silent until it is ahead of the attempts before.
    fn may_pass(&self, notification: &ServerNotification) -> bool {
        let ServerNotification::ProgressNotification(progress) = notification else {
            return true;
        };
        self.progress.advance(progress.params.progress) || !self.repeating.load(Ordering::Acquire)
    }

    fn note(&self, request: &ServerRequest) {
        if matches!(
            request,
            ServerRequest::CreateMessageRequest(_) | ServerRequest::ElicitRequest(_)
        ) {
            self.asked.store(true, Ordering::Release);
        }
    }
}
