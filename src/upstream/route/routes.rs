//! The calls in flight on one connection, from the request to the answer.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use rmcp::{
    RoleClient,
    model::{JsonRpcMessage, ProgressToken, RequestId, SubscriptionFilter},
    service::RxJsonRpcMessage,
};
use tokio_util::bytes::Bytes;

use super::{
    callers::CallerKey,
    mailbox::Route,
    response_streams::ForLoop,
    table::{Listener, Table, own_id},
};
use crate::{
    CallContext,
    lines::LineError,
    upstream::{capabilities::ClaimedCapabilities, stats::UpstreamCounters},
    util::lock,
    wire::answers::{self, Expected, FromServer, ReadAnswer},
};

/// A call that was answered.
#[derive(Default)]
pub(in crate::upstream) struct CompletedCall {
    /// The answer, if it was read before rmcp has read it.
    pub(in crate::upstream) answer: Option<Box<ReadAnswer>>,
    /// The reason why the answer cannot be read, if it cannot.
    pub(in crate::upstream) unreadable: Option<LineError>,
}

/// The calls in flight on one connection.
pub(in crate::upstream) struct Routes {
    table: Mutex<Table>,
    /// Set once the connection has had several callers: from then on, callers need not be recorded.
    shared: AtomicBool,
    counters: Arc<UpstreamCounters>,
    claims: Arc<ClaimedCapabilities>,
    pub(super) for_loop: ForLoop,
}

impl Routes {
    pub(in crate::upstream) fn new(
        counters: Arc<UpstreamCounters>,
        claims: Arc<ClaimedCapabilities>,
    ) -> Self {
        Self {
            table: Mutex::default(),
            shared: AtomicBool::new(false),
            counters,
            claims,
            for_loop: ForLoop::default(),
        }
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    pub(in crate::upstream) fn counters(&self) -> &UpstreamCounters {
        &self.counters
    }

    /// Records the caller of a request, before the request is processed.
    pub(in crate::upstream) fn record_caller(&self, context: &CallContext) {
        if self.shared.load(Ordering::Relaxed) {
            return;
        }
        let caller = CallerKey::of(context);
        let deferred = {
            let mut table = self.table();
            if !table.callers.record(caller) {
                return;
            }
            std::mem::take(&mut table.deferred)
        };
        self.shared.store(true, Ordering::Relaxed);
        self.claims.set_several_callers();
        match deferred.notifications.len() {
            0 => {}
            dropped => self.counters.unattributed(dropped as u64),
        }
    }

    /// Enters a call, just before its request is sent.
    pub(in crate::upstream) fn enter(
        self: &Arc<Self>,
        id: RequestId,
        token: Option<ProgressToken>,
        route: Route,
    ) {
        let mut table = self.table();
        // A call that was dropped before its request was sent has left already.
        if table.closed || route.sender.is_closed() {
            return;
        }
        table.next += 1;
        let order = table.next;
        if let Some(token) = token {
            table.deliver_early_progress(&token, &route, &self.counters);
            table.tokens.insert(token, id.clone());
        }
        if !route.listens && !route.quiet {
            table.calls.insert(order, id.clone());
        }
        table.routes.insert(id, (order, route));
        self.deliver_deferred(table);
    }

    /// Starts to keep progress that comes before its call is entered.
    pub(in crate::upstream) fn keep_early_progress(&self) {
        self.table().early = Some(VecDeque::new());
    }

    /// Accepts updates of resources without a subscription, because the server takes no
    /// subscriptions.
    pub(in crate::upstream) fn accept_unrequested_updates(&self) {
        self.table().accepts_unrequested_updates = true;
    }

    /// Enters a request of rmcp's own.
    pub(super) fn enter_handshake(&self, id: RequestId, expected: Expected) {
        self.table().handshake = Some((id, expected));
    }

    /// Reads a message of the server, an answer as what its request asks for.
    pub(in crate::upstream) fn read(
        &self,
        text: &Bytes,
    ) -> serde_json::Result<RxJsonRpcMessage<RoleClient>> {
        let read = answers::message_in(text, |id| self.table().expected(id))?;
        Ok(match read {
            FromServer::Answer(id, answer) => {
                let result = self.keep_answer(&id, *answer);
                JsonRpcMessage::response(result, id)
            }
            FromServer::Other(message) => *message,
        })
    }

    /// Removes a call that was answered.
    pub(in crate::upstream) fn complete(
        &self,
        id: &RequestId,
        token: Option<&ProgressToken>,
    ) -> CompletedCall {
        let route = self.table().remove(id, token);
        route.map(Route::completed).unwrap_or_default()
    }

    /// Removes a call that no caller waits for any more. The server may go on with it, even if it
    /// is told.
    pub(in crate::upstream) fn abandon(&self, id: &RequestId, token: Option<&ProgressToken>) {
        let mut table = self.table();
        let Some(route) = table.remove(id, token) else {
            return;
        };
        // Once it is answered, the server is done with it, even if the caller did not take the
        // answer.
        if !route.listens && !route.answered {
            table.abandoned.insert(id.clone());
        }
    }

    /// Records that the server has answered a request. Returns the answer if it is for rmcp's client
    /// loop.
    pub(super) fn answered(
        &self,
        message: RxJsonRpcMessage<RoleClient>,
    ) -> Option<RxJsonRpcMessage<RoleClient>> {
        let id = match &message {
            JsonRpcMessage::Response(response) => own_id(&response.id),
            JsonRpcMessage::Error(error) => error.id.as_ref().and_then(own_id),
            _ => None,
        };
        let Some(id) = id else { return Some(message) };
        let receiver = {
            let mut table = self.table();
            let receiver = table.take_receiver(&id);
            table.settle_unattributed();
            receiver
        };
        let Some((receiver, kept)) = receiver else {
            return Some(message);
        };
        let answer = match message {
            JsonRpcMessage::Response(response) => {
                Ok(kept.unwrap_or_else(|| Box::new(response.result.into())))
            }
            JsonRpcMessage::Error(error) => Err(error.error),
            message => return Some(message),
        };
        // The call may have been dropped.
        let _ = receiver.send(answer);
        None
    }

    /// Returns `true` if a request or a listen is in flight.
    pub(super) fn has_requests(&self) -> bool {
        !self.table().routes.is_empty()
    }

    /// Enters a listen that takes the connection's own notifications.
    pub(in crate::upstream) fn enter_listener(
        self: &Arc<Self>,
        route: Route,
        filter: SubscriptionFilter,
    ) -> u64 {
        let mut table = self.table();
        table.next += 1;
        let order = table.next;
        if !table.closed {
            table.listeners.insert(order, Listener { route, filter });
            self.deliver_deferred(table);
        }
        order
    }

    pub(in crate::upstream) fn leave_listener(&self, order: u64) {
        self.table().listeners.remove(&order);
    }

    /// Ends every call by closing its mailbox, and takes no more: the connection is lost.
    pub(in crate::upstream) fn close(&self) {
        self.table().closed = true;
        self.end_calls();
    }

    /// Ends every call and listen by closing its mailbox.
    pub(in crate::upstream) fn end_calls(&self) {
        let ended = {
            let mut table = self.table();
            (
                std::mem::take(&mut table.routes),
                std::mem::take(&mut table.listeners),
                std::mem::take(&mut table.calls),
                std::mem::take(&mut table.tokens),
                std::mem::take(&mut table.deferred),
            )
        };
        drop(ended);
    }

    /// Ends the listens that take the connection's own notifications.
    pub(in crate::upstream) fn end_listeners(&self) {
        let ended = std::mem::take(&mut self.table().listeners);
        drop(ended);
    }
}
