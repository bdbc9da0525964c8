//! Calls of a server's connection that are served without rmcp's loop.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, OnceLock, Weak},
    time::Duration,
};

use rmcp::{
    RoleServer,
    model::{
        ClientNotification, ClientRequest, GetExtensions, JsonRpcMessage, JsonRpcRequest, RequestId,
    },
    service::RxJsonRpcMessage,
};
use tokio::sync::Notify;
use tokio_util::{bytes::Bytes, sync::CancellationToken};

use crate::{
    direct::{self, DirectCalls, DirectOutcome, DirectRequest, DirectSlot, HandedOver, Handover},
    util::lock,
    wire::{caller, received::Received},
};

/// The time that calls have when the connection closes. rmcp allows the same time for its own.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// The calls that the transport of a server has begun.
#[derive(Clone, Default)]
pub(super) struct DirectLines {
    /// The stack of the connection, once it is known.
    calls: Arc<OnceLock<Weak<dyn DirectCalls>>>,
    in_flight: Arc<InFlight>,
}

#[derive(Default)]
struct InFlight {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    calls: HashMap<RequestId, (CancellationToken, Arc<Handover>)>,
    /// The requests of calls that rmcp is to go on with, and the notifications that came after
    /// them: one may cancel such a call.
    handed_over: VecDeque<Box<RxJsonRpcMessage<RoleServer>>>,
}

/// A call in flight, until it is dropped.
struct Entered {
    in_flight: Arc<InFlight>,
    id: RequestId,
}

impl Drop for Entered {
    fn drop(&mut self) {
        lock(&self.in_flight.state).calls.remove(&self.id);
        self.in_flight.changed.notify_waiters();
    }
}

impl DirectLines {
    /// Returns the next message of those that are handed over to rmcp.
    pub(super) async fn handed_over(&self) -> Box<RxJsonRpcMessage<RoleServer>> {
        loop {
            let changed = self.in_flight.changed.notified();
            if let Some(message) = lock(&self.in_flight.state).handed_over.pop_front() {
                return message;
            }
            changed.await;
        }
    }

    /// Has rmcp go on with all calls. Returns their requests one by one, and `None` at the end.
    pub(super) async fn hand_over_rest(&self) -> Option<Box<RxJsonRpcMessage<RoleServer>>> {
        loop {
            let changed = self.in_flight.changed.notified();
            {
                let mut state = lock(&self.in_flight.state);
                if let Some(message) = state.handed_over.pop_front() {
                    return Some(message);
                }
                if state.calls.is_empty() {
                    return None;
                }
                for (_, handover) in state.calls.values() {
                    handover.want();
                }
            }
            changed.await;
        }
    }

    /// Waits for the calls in flight, for a bounded time.
    pub(super) async fn finish(&self) {
        let finished = async {
            loop {
                let changed = self.in_flight.changed.notified();
                if lock(&self.in_flight.state).calls.is_empty() {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_LIMIT, finished).await;
    }

    /// Takes a message of the caller. Returns it, unless it is a call that is served here, whose
    /// answer goes to `write`, or has to wait for a request that is handed over.
    pub(super) fn take<W, F>(
        &self,
        mut message: Box<RxJsonRpcMessage<RoleServer>>,
        write: W,
    ) -> Option<Box<RxJsonRpcMessage<RoleServer>>>
    where
        W: FnOnce(Bytes) -> F,
        F: Future<Output: Send> + Send + 'static,
        W: Send + 'static,
    {
        if let JsonRpcMessage::Notification(notification) = &*message {
            let mut state = lock(&self.in_flight.state);
            if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                && let Some(id) = &cancelled.params.request_id
                && let Some((cancellation, _)) = state.calls.get(id)
            {
                cancellation.cancel();
            }
            if !state.handed_over.is_empty() {
                state.handed_over.push_back(message);
                return None;
            }
        }
        let extensions = match &mut *message {
            JsonRpcMessage::Request(message) => message.request.extensions_mut(),
            JsonRpcMessage::Notification(message) => message.notification.extensions_mut(),
            _ => return Some(message),
        };
        let Some(calls) = self.calls.get() else {
            let calls = self.calls.clone();
            extensions.insert(DirectSlot::new(move |stack| {
                let _ = calls.set(Arc::downgrade(&stack));
            }));
            return Some(message);
        };
        let Some(calls) = calls.upgrade() else {
            return Some(message);
        };
        let JsonRpcMessage::Request(request) = *message else {
            return Some(message);
        };
        let begun = self.begin(calls, request, write);
        begun.map(|request| Box::new(JsonRpcMessage::Request(request)))
    }

    /// Begins a call. Returns its request if rmcp has to serve it.
    fn begin<W, F>(
        &self,
        calls: Arc<dyn DirectCalls>,
        mut request: JsonRpcRequest<ClientRequest>,
        write: W,
    ) -> Option<JsonRpcRequest<ClientRequest>>
    where
        W: FnOnce(Bytes) -> F + Send + 'static,
        F: Future<Output: Send> + Send + 'static,
    {
        let Some(method) = direct::direct_method(&request.request, calls.has_session()) else {
            return Some(request);
        };
        let extensions = request.request.extensions_mut();
        let Some(received) = extensions.remove::<Received>() else {
            return Some(request);
        };
        let id = request.id.clone();
        if lock(&self.in_flight.state).calls.contains_key(&id) {
            extensions.insert(received);
            return Some(request);
        }
        let ongoing = calls.begin(DirectRequest {
            id: id.clone(),
            message: request.request,
            method,
            received: received.clone(),
            extensions: Default::default(),
        });
        let facts = (ongoing.cancellation().clone(), ongoing.handover().clone());
        lock(&self.in_flight.state).calls.insert(id.clone(), facts);
        let entered = Entered {
            in_flight: self.in_flight.clone(),
            id,
        };
        tokio::spawn(async move {
            match ongoing.run().await {
                DirectOutcome::Result(text) => {
                    write(crate::wire::answer(&entered.id, &text)).await;
                }
                DirectOutcome::Cancelled => {}
                DirectOutcome::HandOver(ongoing) => {
                    let mut request = caller::read_again(&received);
                    let extensions = request.extensions_mut();
                    extensions.insert(received);
                    extensions.insert(HandedOver::new(ongoing));
                    let request = JsonRpcRequest::new(entered.id.clone(), request);
                    let mut state = lock(&entered.in_flight.state);
                    let request = Box::new(JsonRpcMessage::Request(request));
                    state.handed_over.push_back(request);
                }
            }
        });
        None
    }
}
