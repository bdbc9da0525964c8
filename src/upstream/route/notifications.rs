//! The delivery of notifications to the calls and listens that they belong to.

use std::sync::{Arc, MutexGuard};

use rmcp::model::{GetMeta, ProgressToken, RequestId, ServerNotification};

use super::{
    Routes,
    mailbox::{Route, send_or_drop},
    table::Table,
};
use crate::{
    listen::{is_change, wants},
    protocol,
    upstream::stats::UpstreamCounters,
};

/// Limit of progress notifications that are kept for calls that are not known yet.
const MAX_EARLY: usize = 64;

impl Routes {
    /// Delivers a notification. Returns it if it is for rmcp itself.
    pub(in crate::upstream) fn deliver(
        &self,
        notification: ServerNotification,
    ) -> Option<ServerNotification> {
        self.deliver_for(None, notification)
    }

    /// Delivers a notification that came on the response stream of a call, if the transport has
    /// such streams.
    pub(in crate::upstream) fn deliver_for(
        &self,
        call: Option<&RequestId>,
        notification: ServerNotification,
    ) -> Option<ServerNotification> {
        let mut table = self.table();
        if let ServerNotification::CancelledNotification(_) = &notification {
            return Some(notification);
        }
        let notification = protocol::from_server(notification)?;
        if let ServerNotification::ProgressNotification(progress) = &notification {
            let id = table.tokens.get(&progress.params.progress_token);
            if let (Some(stream), Some(id)) = (call, id)
                && stream != id
            {
                tracing::debug!("progress of one call on the response stream of another");
                return None;
            }
            let route = id
                .and_then(|id| table.routes.get(id))
                .map(|(_, route)| route);
            match route {
                Some(route) => {
                    send_or_drop(&route.sender, notification, self.counters());
                }
                None => table.keep_early(notification),
            }
            return None;
        }
        if let Some(id) = notification.get_meta().subscription_id() {
            table.deliver_to_listen(&id, notification, self.counters());
            return None;
        }
        if is_change(&notification) {
            let wanted = table.deliver_change(&notification, self.counters());
            let is_update = matches!(
                notification,
                ServerNotification::ResourceUpdatedNotification(_)
            );
            if wanted || !is_update || !table.accepts_unrequested_updates {
                return None;
            }
        }
        if let Some((_, route)) = call.and_then(|id| table.routes.get(id)) {
            send_or_drop(&route.sender, notification, self.counters());
        } else {
            table.deliver_to_only_caller(notification, self.counters());
        }
        None
    }

    /// Delivers the deferred messages to the only caller, once the caller can be reached.
    pub(super) fn deliver_deferred(self: &Arc<Self>, mut table: MutexGuard<'_, Table>) {
        if table.deferred.is_empty() {
            return;
        }
        if let Some(route) = table.route_for_notification() {
            let (sender, deferred) = (route.sender.clone(), &mut table.deferred.notifications);
            for notification in deferred.drain(..) {
                send_or_drop(&sender, notification, self.counters());
            }
        }
        let handed = table.assign_deferred_requests();
        // If a request is gone, its permit takes the lock as it is dropped.
        drop(table);
        for (waiting, sender, scope) in handed {
            let _ = waiting.send(self.destination(sender, scope));
        }
    }
}

impl Table {
    /// Keeps progress of an unknown call. The call has ended, unless its token is about to be
    /// known.
    fn keep_early(&mut self, progress: ServerNotification) {
        let Some(early) = &mut self.early else {
            tracing::debug!("progress for a call that has ended");
            return;
        };
        if early.len() >= MAX_EARLY {
            early.pop_front();
        }
        early.push_back(progress);
    }

    pub(super) fn deliver_early_progress(
        &mut self,
        token: &ProgressToken,
        route: &Route,
        counters: &UpstreamCounters,
    ) {
        let Some(early) = self.early.as_mut().filter(|early| !early.is_empty()) else {
            return;
        };
        for progress in std::mem::take(early) {
            match &progress {
                ServerNotification::ProgressNotification(of)
                    if of.params.progress_token == *token =>
                {
                    send_or_drop(&route.sender, progress, counters);
                }
                _ => early.push_back(progress),
            }
        }
    }

    /// Returns the route for a notification that names no call, if the only caller can be reached:
    /// the newest call, else a listen.
    fn route_for_notification(&self) -> Option<&Route> {
        if !self.callers.is_one() {
            return None;
        }
        let calls = self.calls.values().rev();
        let calls = calls.filter_map(|id| self.routes.get(id).map(|(_, route)| route));
        let listens = self.routes.values().map(|(_, route)| route);
        let listens = listens.filter(|route| route.listens);
        let listeners = self.listeners.values().map(|listener| &listener.route);
        calls
            .chain(listens)
            .chain(listeners)
            .find(|route| route.accepts_unattributed())
    }

    fn deliver_to_listen(
        &mut self,
        id: &RequestId,
        notification: ServerNotification,
        counters: &UpstreamCounters,
    ) {
        let listen = self.routes.get(id).filter(|(_, route)| route.listens);
        let Some((_, route)) = listen else {
            tracing::debug!("a notification for a subscription that has ended");
            return;
        };
        if !send_or_drop(&route.sender, notification, counters) {
            // Its mailbox closes, and the listen ends with an error: it has missed a message.
            self.routes.remove(id);
        }
    }

    /// Returns `true` if a listen asked for the change.
    fn deliver_change(&mut self, change: &ServerNotification, counters: &UpstreamCounters) -> bool {
        let mut wanted = false;
        self.listeners.retain(|_, listener| {
            if !wants(&listener.filter, change) {
                return true;
            }
            wanted = true;
            send_or_drop(&listener.route.sender, change.clone(), counters)
        });
        wanted
    }

    /// Delivers a notification that names no call and no subscription, if the connection has had
    /// only one caller.
    fn deliver_to_only_caller(
        &mut self,
        notification: ServerNotification,
        counters: &UpstreamCounters,
    ) {
        if let Some(route) = self.route_for_notification() {
            send_or_drop(&route.sender, notification, counters);
        } else if self.callers.are_several() || !self.deferred.defer_notification(notification) {
            counters.unattributed(1);
        }
    }
}
