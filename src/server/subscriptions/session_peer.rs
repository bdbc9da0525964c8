//! The caller of a session, as the destination of its listen's messages.

use std::sync::Arc;

use futures::future::BoxFuture;
use rmcp::model::{
    ClientResult, GetExtensions, NotificationMetaObject, ServerNotification, ServerRequest,
    SubscriptionFilter,
};
use tokio::sync::watch;

use crate::{Caller, CallerSink, Error, caller::Session, listen::changes_in};

/// The caller of a session. It receives nothing before its handshake is finished.
#[derive(Clone)]
pub(super) struct SessionPeer {
    caller: Caller,
    initialized: watch::Receiver<bool>,
}

impl SessionPeer {
    pub(super) fn new(caller: Caller, initialized: watch::Receiver<bool>) -> Self {
        Self {
            caller,
            initialized,
        }
    }

    /// Returns the caller for a listen.
    pub(super) fn listening(&self, session: Arc<Session>) -> Caller {
        Caller::new(self.clone())
            .in_session(session)
            .with_handshake(self.caller.handshake())
    }

    /// Returns the session's own caller, once its handshake is finished.
    async fn initialized(&self) -> Result<Caller, Error> {
        let mut initialized = self.initialized.clone();
        match initialized.wait_for(|initialized| *initialized).await {
            Ok(_) => Ok(self.caller.clone()),
            Err(_) => Err(Error::cancelled("the session has ended")),
        }
    }

    async fn tell(&self, notification: ServerNotification) -> Result<(), Error> {
        self.initialized().await?.notify(notification).await
    }

    /// Notifies of every kind of change, because changes without an open listen are unknown.
    pub(super) async fn tell_of_all(&self, accepted: &SubscriptionFilter) {
        for change in changes_in(accepted) {
            if self.tell(change).await.is_err() {
                return;
            }
        }
    }
}

/// Forwards the messages of a listen to a caller that does not know of the listen.
impl CallerSink for SessionPeer {
    fn notify(&self, mut notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            if let Some(meta) = notification
                .extensions_mut()
                .get_mut::<NotificationMetaObject>()
            {
                meta.shift_remove("io.modelcontextprotocol/subscriptionId");
            }
            self.tell(notification).await
        })
    }

    /// The server sends a request while no call of the session is in flight.
    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(async move { self.initialized().await?.request(request).await })
    }
}
