//! Calls that have a response stream of their own, as over HTTP.

use rmcp::model::{RequestId, ServerNotification, ServerResult};

use super::{Route, Routes, mailbox::send_or_drop, table::own_id};
use crate::{
    protocol::{self, methods::Method},
    upstream::lenient_lists,
    wire::answers::{Expected, ReadAnswer},
};

/// The state of a call's response stream.
#[derive(Clone, Default)]
pub(super) struct StreamState {
    /// The answer, if it was read before rmcp reads it.
    answer: Option<Box<ReadAnswer>>,
    /// The last event. The stream is resumed after it.
    last_event: Option<String>,
}

impl StreamState {
    pub(super) fn into_answer(self) -> Option<Box<ReadAnswer>> {
        self.answer
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

    /// Keeps the answer of a call until rmcp passes on its own. Returns the result for rmcp.
    pub(in crate::upstream) fn keep_answer(
        &self,
        id: &RequestId,
        answer: ReadAnswer,
    ) -> ServerResult {
        let mut table = self.table();
        let route = own_id(id).and_then(|id| table.routes.get_mut(&id));
        match route {
            Some((_, route)) => {
                let result = result_for_rmcp(route.expected, &answer.result);
                // A second answer to the same request is not one.
                route.stream.answer.get_or_insert_with(|| Box::new(answer));
                result
            }
            None => answer.result,
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

/// Returns the result that rmcp gets in place of a call's. rmcp's client looks into lists of tools
/// only, for the arguments that also go in headers (MCP 2026-07-28, SEP-2243).
fn result_for_rmcp(expected: Option<Expected>, result: &ServerResult) -> ServerResult {
    let method = expected.and_then(Expected::method);
    let tools = match result {
        _ if method != Some(Method::ListTools) => None,
        ServerResult::ListToolsResult(_) => Some(result.clone()),
        ServerResult::CustomResult(list) => lenient_lists::readable_tools(&list.0),
        _ => None,
    };
    tools.unwrap_or_else(|| ServerResult::empty(()))
}
