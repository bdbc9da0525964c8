//! Calls that have a response stream of their own, as over HTTP.

use std::sync::Mutex;

use rmcp::{
    RoleClient,
    model::{ListToolsResult, RequestId, ServerNotification, ServerResult, Tool},
    service::RxJsonRpcMessage,
};
use tokio::sync::mpsc;

use super::{Route, Routes, mailbox::send_or_drop, table::own_id};
use crate::{
    protocol,
    util::lock,
    wire::{
        answers::{Expected, ReadAnswer},
        description::HandshakeText,
    },
};

/// The state of a call's response stream.
#[derive(Clone, Default)]
pub(super) struct StreamState {
    /// The answer, if it was read before rmcp reads it.
    answer: Option<Box<ReadAnswer>>,
    /// The last event. The stream is resumed after it.
    last_event: Option<String>,
    /// `true` if the answer comes on the stream of the session.
    pub(super) is_accepted: bool,
}

impl StreamState {
    pub(super) fn take_answer(&mut self) -> Option<Box<ReadAnswer>> {
        self.answer.take()
    }

    pub(super) fn into_answer(self) -> Option<Box<ReadAnswer>> {
        self.answer
    }
}

/// Limit of messages that wait for rmcp's client loop. The responses that hold further ones are
/// read later.
const MAX_FOR_LOOP: usize = 16;

/// The messages for rmcp's client loop that came on the responses of calls that it does not know.
pub(super) struct ForLoop {
    sender: mpsc::Sender<RxJsonRpcMessage<RoleClient>>,
    receiver: Mutex<Option<mpsc::Receiver<RxJsonRpcMessage<RoleClient>>>>,
}

impl Default for ForLoop {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_FOR_LOOP);
        let receiver = Mutex::new(Some(receiver));
        Self { sender, receiver }
    }
}

impl ForLoop {
    pub(super) fn take_receiver(&self) -> Option<mpsc::Receiver<RxJsonRpcMessage<RoleClient>>> {
        lock(&self.receiver).take()
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
        let has_responses = table.has_responses;
        let route = own_id(id).and_then(|id| table.routes.get_mut(&id));
        match route {
            Some((_, route)) => {
                let result = match has_responses {
                    true => result_for_rmcp(&answer.result),
                    false => ServerResult::empty(()),
                };
                // A second answer to the same request is not one.
                route.stream.answer.get_or_insert_with(|| Box::new(answer));
                result
            }
            None => {
                let handshake = own_id(id).and_then(|id| table.handshake_of(&id));
                if let (Some(expected), Some(text)) = (handshake, answer.text) {
                    table.described = HandshakeText::new(expected, text);
                }
                answer.result
            }
        }
    }

    /// Returns what the server said of itself in the handshake. Returns `None` if rmcp has read it.
    pub(in crate::upstream) fn described(&self) -> Option<HandshakeText> {
        self.table().described.clone()
    }

    /// Passes a message on to rmcp's client loop.
    pub(in crate::upstream) async fn pass_to_loop(&self, message: RxJsonRpcMessage<RoleClient>) {
        // Without a receiver, the connection is lost.
        let _ = self.for_loop.sender.send(message).await;
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

    /// Sets that an answer comes on the response to its request, unless the server only accepts the
    /// request.
    pub(in crate::upstream) fn expect_responses(&self) {
        self.table().has_responses = true;
    }

    /// Records that the answer to a call is to come on the stream of the session.
    pub(in crate::upstream) fn record_accepted(&self, id: &RequestId) {
        if let Some((_, route)) = self.table().routes.get_mut(id) {
            route.stream.is_accepted = true;
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

/// Returns the result that rmcp gets in place of a call's. rmcp's HTTP client looks into lists of
/// tools only, for the arguments that also go in headers (MCP 2026-07-28, SEP-2243).
fn result_for_rmcp(result: &ServerResult) -> ServerResult {
    match result {
        ServerResult::ListToolsResult(list) => {
            let tools = list.tools.iter();
            let tools = tools
                .map(|tool| Tool::new(tool.name.clone(), "", tool.input_schema.clone()))
                .collect();
            ListToolsResult::with_all_items(tools).into()
        }
        _ => ServerResult::empty(()),
    }
}
