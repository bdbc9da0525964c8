//! Requests of a server: the caller that each goes to, and the limits on those that wait for an
//! answer.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rmcp::model::{
    ClientResult, ErrorCode, ErrorData, Extensions, GetExtensions, RequestId, ServerNotification,
    ServerRequest,
};
use rmcp::service::{InboundStreamOrigin, OriginatingRequestId};
use tokio::sync::{mpsc, oneshot};

use super::{
    CallMessage, Routes,
    table::{Order, Table},
};

/// Limit of requests of a server that wait for an answer by way of one call.
pub(in crate::upstream) const MAX_PER_CALL: usize = 64;
/// Limit of requests of a server that wait on one connection.
const MAX_ON_CONNECTION: usize = 1_024;
/// Limit of requests that wait until the connection's only caller can be reached.
const MAX_DEFERRED_REQUESTS: usize = 16;
/// Limit of the time that they wait.
const MAX_DEFERRAL: Duration = Duration::from_secs(60);
/// Limit of notifications that wait for the only caller.
const MAX_DEFERRED_NOTIFICATIONS: usize = 64;

/// The number of requests of the server that wait for an answer.
#[derive(Default)]
pub(in crate::upstream) struct PendingRequests(usize);

/// Messages that name no call, and came while the connection's only caller could not be reached.
#[derive(Default)]
pub(in crate::upstream) struct DeferredMessages {
    pub(in crate::upstream) notifications: VecDeque<ServerNotification>,
    requests: VecDeque<oneshot::Sender<Destination>>,
}

impl DeferredMessages {
    pub(in crate::upstream) fn is_empty(&self) -> bool {
        self.notifications.is_empty() && self.requests.is_empty()
    }

    /// Keeps a notification. Returns `false` if there is no room.
    pub(in crate::upstream) fn defer_notification(
        &mut self,
        notification: ServerNotification,
    ) -> bool {
        let room = self.notifications.len() < MAX_DEFERRED_NOTIFICATIONS;
        if room {
            self.notifications.push_back(notification);
        }
        room
    }

    fn defer_request(&mut self) -> Option<oneshot::Receiver<Destination>> {
        self.requests.retain(|waiting| !waiting.is_closed());
        let (sender, receiver) = oneshot::channel();
        (self.requests.len() < MAX_DEFERRED_REQUESTS).then(|| {
            self.requests.push_back(sender);
            receiver
        })
    }
}

/// The call or the listen at which a request is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum Scope {
    Connection,
    Call(RequestId),
    Listener(Order),
}

/// One of the limited number of requests that may wait for an answer. Dropping it admits another.
pub(in crate::upstream) struct Permit {
    routes: Arc<Routes>,
    scope: Scope,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut table = self.routes.table();
        match &self.scope {
            Scope::Connection => {
                table.pending_requests.0 = table.pending_requests.0.saturating_sub(1)
            }
            scope => {
                if let Some(route) = table.route_in(scope) {
                    route.release_permit();
                }
            }
        }
    }
}

/// A caller's mailbox, and the permit of the request there.
pub(in crate::upstream) struct Destination {
    sender: mpsc::Sender<CallMessage>,
    permit: Permit,
}

enum Target {
    Known(Destination),
    /// The connection's only caller, once it can be reached.
    OnlyCaller(oneshot::Receiver<Destination>),
}

/// The admission of a request: its caller, and a permit on the connection.
pub(in crate::upstream) struct Admission {
    target: Target,
    /// `true` if the transport says which call it belongs to.
    names_call: bool,
    _permit: Permit,
}

/// Returns the call that a message belongs to, if the transport says so.
fn named_call(extensions: &Extensions) -> Option<RequestId> {
    if let Some(InboundStreamOrigin::OutboundRequest(id)) = extensions.get() {
        return Some(id.clone());
    }
    let origin = extensions.get::<OriginatingRequestId>();
    origin.map(|origin| origin.0.clone())
}

impl Routes {
    /// Finds the caller that a request of the server is for.
    ///
    /// # Errors
    ///
    /// Returns the error for the server if there is no such caller, if there are several, or if
    /// there is no room.
    pub(in crate::upstream) fn admit(
        self: &Arc<Self>,
        request: &ServerRequest,
    ) -> Result<Admission, ErrorData> {
        let named = named_call(request.extensions());
        let names_call = named.is_some();
        let mut table = self.table();
        if table.pending_requests.0 >= MAX_ON_CONNECTION {
            return Err(too_many(MAX_ON_CONNECTION, "on this connection"));
        }
        let found = match named {
            Some(id) => table.admit_to_call(id).map(Some),
            None => table.admit_to_only_caller(),
        };
        let target = match found? {
            Some((sender, scope)) => Target::Known(self.destination(sender, scope)),
            None => Target::OnlyCaller(table.deferred.defer_request().ok_or_else(|| {
                too_many(
                    MAX_DEFERRED_REQUESTS,
                    "until the session of this connection has begun",
                )
            })?),
        };
        table.pending_requests.0 += 1;
        Ok(Admission {
            target,
            names_call,
            _permit: self.permit(Scope::Connection),
        })
    }

    /// Records the call that a request of the server came with.
    pub(super) fn record_asked(&self, id: &RequestId, admission: &Admission) {
        if let Target::Known(destination) = &admission.target
            && let Scope::Call(call) = &destination.permit.scope
        {
            let mut table = self.table();
            // Requests that the server has cancelled have no answer.
            if table.asked.len() >= MAX_ON_CONNECTION {
                table.asked.clear();
            }
            table.asked.insert(id.clone(), call.clone());
        }
    }

    /// Takes the call that a request of the server came with.
    pub(super) fn take_asked(&self, id: &RequestId) -> Option<RequestId> {
        self.table().asked.remove(id)
    }

    /// Fails a call, because an answer to a request of the server has not reached the server.
    pub(super) fn lose_reply(&self, call: &RequestId, why: String) {
        let mut table = self.table();
        let sender = table
            .routes
            .get(call)
            .map(|(_, route)| route.sender.clone());
        let sent = sender.map(|sender| sender.try_send(CallMessage::ReplyLost(why)));
        if let Some(Err(_)) = sent {
            // Without room for the message, the call ends as if the connection were lost.
            table.routes.remove(call);
        }
    }

    fn permit(self: &Arc<Self>, scope: Scope) -> Permit {
        Permit {
            routes: self.clone(),
            scope,
        }
    }

    pub(in crate::upstream) fn destination(
        self: &Arc<Self>,
        sender: mpsc::Sender<CallMessage>,
        scope: Scope,
    ) -> Destination {
        Destination {
            sender,
            permit: self.permit(scope),
        }
    }
}

impl Table {
    fn admit_to_call(
        &mut self,
        id: RequestId,
    ) -> Result<(mpsc::Sender<CallMessage>, Scope), ErrorData> {
        let scope = Scope::Call(id);
        let route = self.route_in(&scope).ok_or_else(call_has_ended)?;
        if !route.acquire_permit() {
            return Err(too_many(MAX_PER_CALL, "for one call"));
        }
        Ok((route.sender.clone(), scope))
    }

    /// Returns the mailbox of the connection's only caller. Returns `None` if the caller cannot be
    /// reached yet.
    fn admit_to_only_caller(
        &mut self,
    ) -> Result<Option<(mpsc::Sender<CallMessage>, Scope)>, ErrorData> {
        if self.callers.are_several() {
            return Err(several_callers());
        }
        let Some((scope, route)) = self.route_for_request() else {
            return Ok(None);
        };
        if !route.acquire_permit() {
            return Err(too_many(MAX_PER_CALL, "for one call"));
        }
        Ok(Some((route.sender.clone(), scope)))
    }

    /// Assigns the deferred requests to the only caller, with a permit each.
    pub(in crate::upstream) fn assign_deferred_requests(
        &mut self,
    ) -> Vec<(
        oneshot::Sender<Destination>,
        mpsc::Sender<CallMessage>,
        Scope,
    )> {
        let mut handed = Vec::new();
        while !self.deferred.requests.is_empty() {
            let Ok(Some((sender, scope))) = self.admit_to_only_caller() else {
                break;
            };
            if let Some(waiting) = self.deferred.requests.pop_front() {
                handed.push((waiting, sender, scope));
            }
        }
        handed
    }
}

impl Admission {
    /// Forwards the request, and returns the caller's answer.
    pub(in crate::upstream) async fn forward(
        mut self,
        routes: &Arc<Routes>,
        mut request: ServerRequest,
    ) -> Result<ClientResult, ErrorData> {
        loop {
            let destination = match self.target {
                Target::Known(destination) => destination,
                Target::OnlyCaller(waiting) => tokio::time::timeout(MAX_DEFERRAL, waiting)
                    .await
                    .map_err(|_| no_session())?
                    .map_err(|_| several_callers())?,
            };
            // A server asks for roots on its own account. So the request is not lost with the call
            // that it happened to come with.
            let again = match &request {
                ServerRequest::ListRootsRequest(_) if !self.names_call => Some(request.clone()),
                _ => None,
            };
            if let Some(answer) = destination.forward(request).await {
                return answer;
            }
            drop(destination);
            let Some(again) = again else {
                return Err(call_has_ended());
            };
            self = routes.admit(&again)?;
            request = again;
        }
    }
}

impl Destination {
    /// Puts a request into the mailbox, and returns the answer. Returns `None` if the call ends
    /// before the answer.
    async fn forward(&self, request: ServerRequest) -> Option<Result<ClientResult, ErrorData>> {
        let (reply, answer) = oneshot::channel();
        let message = CallMessage::Request(Box::new(request), reply);
        self.sender.send(message).await.ok()?;
        answer.await.ok()
    }
}

fn refuse(why: &str) -> ErrorData {
    ErrorData::invalid_request(format!("the request cannot be passed on: {why}"), None)
}

fn call_has_ended() -> ErrorData {
    refuse("its call has ended")
}

fn several_callers() -> ErrorData {
    refuse(
        "this connection has had several callers, and the transport does not say for which of them \
         the request is; give each session a connection of its own (a gateway member per session)",
    )
}

fn no_session() -> ErrorData {
    refuse("no session of a client has begun that it could be for")
}

fn too_many(limit: usize, which: &str) -> ErrorData {
    let message = format!(
        "the request cannot be passed on: {limit} requests wait for an answer {which}; wait for \
         those first"
    );
    ErrorData::new(ErrorCode::INVALID_REQUEST, message, None)
}
