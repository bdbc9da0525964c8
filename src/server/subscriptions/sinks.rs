//! Destinations for the messages of a listen.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use rmcp::{
    RoleServer,
    model::{
        ClientResult, GetExtensions, GetMeta, NotificationMetaObject,
        PromptListChangedNotification, ResourceListChangedNotification,
        ResourceUpdatedNotification, ResourceUpdatedNotificationParam, ServerNotification,
        ServerRequest, SubscriptionFilter, ToolListChangedNotification,
    },
    service::Peer,
};
use tokio::sync::{oneshot, watch};

use super::Window;
use crate::{
    Caller, CallerSink, Error, Refusal, caller::Session, code,
    listen::resources::RefusedSubscriptions,
};

/// The caller of a session. It receives nothing before its handshake is finished.
#[derive(Clone)]
pub(super) struct SessionPeer {
    peer: Peer<RoleServer>,
    initialized: watch::Receiver<bool>,
}

/// The stack's acknowledgement of a listen.
pub(super) struct Acknowledged {
    pub(super) accepted: SubscriptionFilter,
    pub(super) refused: RefusedSubscriptions,
}

impl SessionPeer {
    pub(super) fn new(peer: Peer<RoleServer>, initialized: watch::Receiver<bool>) -> Self {
        Self { peer, initialized }
    }

    /// Returns the caller for a listen. The acknowledgement goes to `acknowledged`.
    pub(super) fn listening(
        &self,
        acknowledged: oneshot::Sender<Acknowledged>,
        session: Arc<Session>,
    ) -> Caller {
        let sink = SessionSink {
            peer: self.clone(),
            acknowledged: Mutex::new(Some(acknowledged)),
        };
        Caller::new(sink)
            .in_session(session)
            .with_handshake(self.peer.peer_info())
    }

    /// Returns the session's own caller, once its handshake is finished.
    async fn initialized(&self) -> Result<Caller, Error> {
        let mut initialized = self.initialized.clone();
        match initialized.wait_for(|initialized| *initialized).await {
            Ok(_) => Ok(Caller::from_peer(self.peer.clone())),
            Err(_) => Err(Error::cancelled("the session has ended")),
        }
    }

    async fn tell(&self, notification: ServerNotification) -> Result<(), Error> {
        self.initialized().await?.notify(notification).await
    }

    /// Notifies of every kind of change, because changes without an open listen are unknown.
    pub(super) async fn tell_of_all(&self, accepted: &SubscriptionFilter) {
        for change in changes_of(accepted) {
            if self.tell(change).await.is_err() {
                return;
            }
        }
    }
}

fn changes_of(filter: &SubscriptionFilter) -> Vec<ServerNotification> {
    let mut changes = Vec::new();
    if filter.tools_list_changed == Some(true) {
        changes.push(ToolListChangedNotification::default().into());
    }
    if filter.prompts_list_changed == Some(true) {
        changes.push(PromptListChangedNotification::default().into());
    }
    if filter.resources_list_changed == Some(true) {
        changes.push(ResourceListChangedNotification::default().into());
    }
    for uri in filter.resource_subscriptions.iter().flatten() {
        let params = ResourceUpdatedNotificationParam::new(uri);
        changes.push(ResourceUpdatedNotification::new(params).into());
    }
    changes
}

/// Returns the caller for a listen that rmcp has already acknowledged.
pub(in crate::server) fn acknowledged(
    peer: Peer<RoleServer>,
    session: Arc<Session>,
    window: Window,
) -> Caller {
    let handshake = peer.peer_info();
    let sink = AcknowledgedSink {
        peer,
        window: Mutex::new(Some(window)),
    };
    Caller::new(sink)
        .in_session(session)
        .with_handshake(handshake)
}

/// Forwards the messages of a listen to the caller that opened it.
struct AcknowledgedSink {
    peer: Peer<RoleServer>,
    window: Mutex<Option<Window>>,
}

impl CallerSink for AcknowledgedSink {
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let ServerNotification::SubscriptionsAcknowledgedNotification(notice) = notification
            else {
                return Caller::from_peer(self.peer.clone())
                    .notify(notification)
                    .await;
            };
            let window = self
                .window
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if !window.is_some_and(|window| window.let_something_through()) {
                return Ok(());
            }
            let id = notice
                .extensions
                .get()
                .and_then(NotificationMetaObject::subscription_id);
            for mut change in changes_of(&notice.params.notifications) {
                if let Some(id) = &id {
                    change.get_meta_mut().set_subscription_id(id.clone());
                }
                Caller::from_peer(self.peer.clone()).notify(change).await?;
            }
            Ok(())
        })
    }

    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        takes_no_requests(&request)
    }
}

/// Forwards the messages of a listen to a caller that does not know of the listen. The
/// acknowledgement is not forwarded.
struct SessionSink {
    peer: SessionPeer,
    acknowledged: Mutex<Option<oneshot::Sender<Acknowledged>>>,
}

impl CallerSink for SessionSink {
    fn notify(&self, mut notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            if let ServerNotification::SubscriptionsAcknowledgedNotification(notice) = notification
            {
                let waiting = self
                    .acknowledged
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                if let Some(waiting) = waiting {
                    let refused = notice.extensions.get::<RefusedSubscriptions>();
                    let _ = waiting.send(Acknowledged {
                        accepted: notice.params.notifications,
                        refused: refused.cloned().unwrap_or_default(),
                    });
                }
                return Ok(());
            }
            if let Some(meta) = notification
                .extensions_mut()
                .get_mut::<NotificationMetaObject>()
            {
                meta.shift_remove("io.modelcontextprotocol/subscriptionId");
            }
            self.peer.tell(notification).await
        })
    }

    /// The server sends a request while no call of the session is in flight.
    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(async move { self.peer.initialized().await?.request(request).await })
    }
}

fn takes_no_requests(_request: &ServerRequest) -> BoxFuture<'static, Result<ClientResult, Error>> {
    let refusal = Refusal::new("server", "a listen takes no requests from a server")
        .with_code(code::FORBIDDEN);
    Box::pin(std::future::ready(Err(refusal.into())))
}
