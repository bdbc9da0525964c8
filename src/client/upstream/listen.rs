//! `subscriptions/listen` over a connection that does not know it (revisions before 2026-07-28): the
//! connection's own notifications, and `resources/subscribe`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rmcp::model::{
    ClientRequest, GetExtensions, NotificationMetaObject, ServerNotification, SubscribeRequest,
    SubscribeRequestParams, SubscriptionFilter, SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams, UnsubscribeRequest, UnsubscribeRequestParams,
};

use super::{
    connection::Connection,
    errors,
    routes::{Mail, Route},
};
use crate::{CallContext, Error};

/// The resources a connection is subscribed to, and by how many listens.
#[derive(Default)]
pub(super) struct Subscribed {
    counts: Mutex<HashMap<String, usize>>,
}

impl Subscribed {
    fn counts(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a listen in. True if it is the first for this resource.
    fn add(&self, uri: &str) -> bool {
        let mut counts = self.counts();
        let count = counts.entry(uri.to_owned()).or_default();
        *count += 1;
        *count == 1
    }

    /// Counts a listen out. True if it was the last for this resource.
    fn remove(&self, uri: &str) -> bool {
        let mut counts = self.counts();
        let Some(count) = counts.get_mut(uri) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            counts.remove(uri);
            return true;
        }
        false
    }
}

/// Answers a listen until it is dropped or the connection is lost.
pub(super) async fn run(
    connection: Arc<Connection>,
    upstream: Arc<str>,
    requested: SubscriptionFilter,
    context: CallContext,
) -> Result<crate::McpResponse, Error> {
    let accepted = requested.supported_by(&connection.info.capabilities);
    let (route, mut mailbox) = Route::new(&context.caller, true);
    let mut listening = Listening {
        order: connection.routes.enter_listener(route, accepted.clone()),
        connection: connection.clone(),
        uris: Vec::new(),
    };
    for uri in accepted.resource_subscriptions.iter().flatten() {
        listening.subscribe(&upstream, uri).await?;
    }
    let acknowledgment = SubscriptionsAcknowledgedNotification::new(
        SubscriptionsAcknowledgedNotificationParams::new(accepted),
    );
    let mut next = Some(ServerNotification::from(acknowledgment));
    loop {
        if let Some(mut notification) = next.take() {
            let meta = notification
                .extensions_mut()
                .get_or_insert_with(NotificationMetaObject::new);
            meta.set_subscription_id(context.id.clone());
            context.caller.notify(notification).await?;
        }
        match mailbox.recv().await {
            Some(Mail::Notification(notification)) => next = Some(*notification),
            Some(Mail::Request(..)) => {}
            None => return Err(errors::lost(&upstream)),
        }
    }
}

/// What an open listen holds at the server. Dropping it lets go of it.
struct Listening {
    connection: Arc<Connection>,
    order: u64,
    uris: Vec<String>,
}

impl Listening {
    async fn subscribe(&mut self, upstream: &Arc<str>, uri: &str) -> Result<(), Error> {
        let first = self.connection.subscribed.add(uri);
        self.uris.push(uri.to_owned());
        if !first {
            return Ok(());
        }
        let request = SubscribeRequest::new(SubscribeRequestParams::new(uri));
        let sent = self
            .connection
            .peer
            .send_request(ClientRequest::SubscribeRequest(request));
        sent.await.map_err(|error| {
            if errors::is_forgotten_session(&error) {
                self.connection.retire();
            }
            errors::of_call(upstream, error)
        })?;
        Ok(())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.connection.routes.leave_listener(self.order);
        for uri in self.uris.drain(..) {
            if !self.connection.subscribed.remove(&uri) || self.connection.is_lost() {
                continue;
            }
            let connection = self.connection.clone();
            self.connection.runtime.spawn(async move {
                let request = UnsubscribeRequest::new(UnsubscribeRequestParams::new(&uri));
                let sent = connection.peer.send_request(ClientRequest::UnsubscribeRequest(request));
                if let Err(error) = sent.await {
                    tracing::debug!(uri, %error, "the server could not be told of an unsubscription");
                }
                // Somebody may have come back to the resource while the server was told.
                if connection.subscribed.counts().contains_key(&uri) {
                    let request = SubscribeRequest::new(SubscribeRequestParams::new(&uri));
                    let _ = connection.peer.send_request(ClientRequest::SubscribeRequest(request)).await;
                }
            });
        }
    }
}
