use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use futures::future::BoxFuture;
use rmcp::model::{ClientResult, ServerNotification, ServerRequest};

use crate::{Caller, CallerSink, Error};

/// Notes on what the caller has received from the attempts of one call.
#[derive(Debug, Default)]
pub(super) struct Seen {
    repeating: AtomicBool,
    asked: AtomicBool,
    /// The highest progress so far.
    progress: Mutex<Option<f64>>,
}

impl Seen {
    /// Returns `true` if the caller received a request that a person or a model has to answer.
    pub(super) fn asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Notes that a further attempt begins.
    pub(super) fn repeat(&self) {
        self.repeating.store(true, Ordering::Release);
    }

    /// Returns `true` if the caller may receive this progress. Progress must increase with each
    /// notification (MCP 2026-07-28, basic/utilities/progress), so a further attempt is silent
    /// until it is ahead of those before.
    fn is_news(&self, progress: f64) -> bool {
        let mut furthest = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let is_further = furthest.is_none_or(|before| progress > before);
        if is_further {
            *furthest = Some(progress);
        }
        is_further || !self.repeating.load(Ordering::Acquire)
    }
}

/// The caller of a call that may be repeated. It notes what it receives.
pub(super) struct Watched {
    pub(super) inner: Caller,
    pub(super) seen: Arc<Seen>,
}

impl CallerSink for Watched {
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        if let ServerNotification::ProgressNotification(progress) = &notification
            && !self.seen.is_news(progress.params.progress)
        {
            return Box::pin(std::future::ready(Ok(())));
        }
        Box::pin(self.inner.notify(notification))
    }

    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        if matches!(
            request,
            ServerRequest::CreateMessageRequest(_) | ServerRequest::ElicitRequest(_)
        ) {
            self.seen.asked.store(true, Ordering::Release);
        }
        Box::pin(self.inner.request(request))
    }
}
