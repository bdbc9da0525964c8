//! Calls that have a response stream of their own, as over HTTP.

use rmcp::model::{RequestId, ServerNotification, ServerResult};

use super::{Route, Routes, mailbox::send_or_drop, table::own_id};
use crate::{protocol, upstream::answers::Expected};

/// The state of a call's response stream.
#[derive(Clone, Default)]
pub(super) struct StreamState {
    /// The result, if it was read before rmcp reads the answer.
    result: Option<Box<ServerResult>>,
    /// The last event. The stream is resumed after it.
    last_event: Option<String>,
}

impl StreamState {
    pub(super) fn take_result(&mut self) -> Option<ServerResult> {
        self.result.take().map(|result| *result)
    }
}

impl Route {
    /// Marks a call that takes only messages that name it.
    pub(in crate::upstream) fn direct(mut self) -> Self {
        self.quiet = true;
        self
    }
}

impl Routes {
    /// Returns the result type of a call.
    pub(in crate::upstream) fn expected(&self, id: &RequestId) -> Option<Expected> {
        self.table().expected(id)
    }

    /// Keeps the result of a call until rmcp passes on its answer, and leaves
    /// [another](Expected::result_for_rmcp) in its place.
    pub(in crate::upstream) fn keep_result(&self, id: &RequestId, result: &mut ServerResult) {
        let Some(expected) = self.expected(id) else {
            return;
        };
        let replacement = expected.result_for_rmcp(result);
        let mut table = self.table();
        let route = own_id(id).and_then(|id| table.routes.get_mut(&id));
        if let Some((_, route)) = route {
            let kept = std::mem::replace(result, replacement);
            route.stream.result = Some(Box::new(kept));
        }
    }

    /// Puts a notification into the mailbox of the call that it is known to belong to.
    pub(in crate::upstream) fn deliver_to(&self, id: &RequestId, notification: ServerNotification) {
        let Some(notification) = protocol::from_server(notification) else {
            return;
        };
        if let Some((_, route)) = self.table().routes.get(id) {
            send_or_drop(&route.sender, notification, self.counters());
        }
    }

    /// Records an event on the response stream of a call.
    pub(in crate::upstream) fn record_event(&self, id: &RequestId, event: &str) {
        if let Some((_, route)) = self.table().routes.get_mut(id) {
            route.stream.last_event = Some(event.to_owned());
        }
    }

    /// Returns the call whose response stream goes on after this event. Returns `None` if the
    /// server has given several streams the same event id.
    pub(in crate::upstream) fn call_resumed_after(&self, event: &str) -> Option<RequestId> {
        let table = self.table();
        let mut calls = table
            .routes
            .iter()
            .filter(|(_, (_, route))| route.stream.last_event.as_deref() == Some(event));
        let (id, _) = calls.next()?;
        calls.next().is_none().then(|| id.clone())
    }

    /// Removes a call, answered or not, for which no message can come any more.
    pub(in crate::upstream) fn leave(&self, id: &RequestId) {
        let mut table = self.table();
        if let Some((order, _)) = table.routes.remove(id) {
            table.calls.remove(&order);
        }
    }
}
