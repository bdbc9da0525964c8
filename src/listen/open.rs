//! The opening of a listen.

use std::{future::ready, sync::Mutex, time::Duration};

use futures::future::BoxFuture;
use rmcp::model::{SubscriptionFilter, SubscriptionsAcknowledgedNotification};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::{RefusedSubscriptions, request};
use crate::{
    CallContext, Error, McpRequest, McpResponse,
    util::{deadline, lock, panics},
};

/// The time limit for the acknowledgment of a listen that a layer or an end opens.
pub(crate) const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(30);

/// The call of a listen. Dropping it ends the listen.
pub(crate) type ListenCall = BoxFuture<'static, Result<(), Error>>;

/// A listen that was acknowledged.
pub(crate) struct OpenListen {
    pub(crate) accepted: SubscriptionFilter,
    pub(crate) refused: RefusedSubscriptions,
    /// The notifications flow while this is polled.
    pub(crate) call: ListenCall,
}

impl OpenListen {
    fn new(acknowledgment: SubscriptionsAcknowledgedNotification, call: ListenCall) -> Self {
        Self {
            refused: RefusedSubscriptions::of(&acknowledgment),
            accepted: acknowledgment.params.notifications,
            call,
        }
    }

    /// Runs the listen in a task of its own.
    #[must_use = "dropping the handle ends the listen"]
    pub(crate) fn spawn(self) -> AbortOnDropHandle<Result<(), Error>> {
        AbortOnDropHandle::new(tokio::spawn(self.call))
    }
}

/// Opens a listen by `call`, and waits for its acknowledgment. The notifications after it go to the
/// caller of `context`.
pub(crate) async fn open<F, E>(
    filter: SubscriptionFilter,
    mut context: CallContext,
    within: Option<Duration>,
    call: impl FnOnce(McpRequest) -> F,
) -> Result<OpenListen, Error>
where
    F: Future<Output = Result<McpResponse, E>> + Send + 'static,
    E: Into<Error> + 'static,
{
    let (sender, mut acknowledged) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    context.caller = context.caller.take_acknowledgment(move |acknowledgment| {
        if let Some(waiting) = lock(&sender).take() {
            let _ = waiting.send(acknowledgment);
        }
        Box::pin(ready(Ok(())))
    });
    // Inner layers may have spawned work for the listen.
    let cancel = context.cancellation.clone().drop_guard();
    let call = panics::caught_call(call(request(filter, context)));
    let mut call: ListenCall = Box::pin(async move {
        let _cancel = cancel;
        call.await.map(drop)
    });
    let deadline = deadline::end_of(within);
    tokio::select! {
        biased;
        Ok(acknowledgment) = &mut acknowledged => Ok(OpenListen::new(acknowledgment, call)),
        ended = &mut call => match acknowledged.try_recv() {
            // The listen was acknowledged and has already ended.
            Ok(acknowledgment) => Ok(OpenListen::new(acknowledgment, Box::pin(ready(ended)))),
            Err(_) => Err(ended.err().unwrap_or_else(|| {
                Error::cancelled("the listen ended before it was acknowledged")
            })),
        },
        () = deadline::reached(deadline) => Err(Error::timeout(within.unwrap_or_default())),
    }
}
