//! The calls and listens of a connection, and the look-ups among them.

use std::collections::{BTreeMap, HashMap, VecDeque};

use rmcp::model::{ProgressToken, RequestId, ServerNotification, SubscriptionFilter};
use tokio::sync::oneshot;

use super::{
    abandoned::Abandoned,
    callers::Callers,
    mailbox::{Route, RoutedAnswer},
    server_requests::{DeferredMessages, PendingRequests, Scope},
    unattributed::{UnattributedAnswer, UnattributedAnswers},
};
use crate::wire::{
    answers::{Expected, ReadAnswer, number_in},
    description::HandshakeText,
};

/// A listen that the upstream answers itself, from the connection's notifications.
pub(super) struct Listener {
    pub(super) route: Route,
    pub(super) filter: SubscriptionFilter,
}

#[derive(Default)]
pub(super) struct Table {
    pub(super) closed: bool,
    pub(super) callers: Callers,
    /// Messages that name no call, and wait for the only caller.
    pub(super) deferred: DeferredMessages,
    pub(super) pending_requests: PendingRequests,
    /// The calls that requests of the server came with, until they are answered.
    pub(super) asked: HashMap<RequestId, RequestId>,
    /// The calls by age, so that the newest call of a session is found.
    pub(super) calls: BTreeMap<Order, RequestId>,
    pub(super) routes: HashMap<RequestId, (Order, Route)>,
    /// Calls that no caller waits for, but that the server may still process.
    pub(super) abandoned: Abandoned,
    pub(super) tokens: HashMap<ProgressToken, RequestId>,
    pub(super) listeners: HashMap<Order, Listener>,
    /// `true` if the server takes no subscriptions, and so sends updates of any resource.
    pub(super) accepts_unrequested_updates: bool,
    pub(super) next: Order,
    /// `true` if an answer comes on the response to its request, unless the server only accepts the
    /// request.
    pub(super) has_responses: bool,
    /// rmcp's own request, while the connection is being established.
    pub(super) handshake: Option<(RequestId, Expected)>,
    /// The result that the last handshake ended with.
    pub(super) described: Option<HandshakeText>,
    pub(super) unattributed: UnattributedAnswers,
    /// Progress of calls whose tokens are not known yet, where rmcp assigns the token of a call as
    /// it sends the call.
    pub(super) early: Option<VecDeque<ServerNotification>>,
    /// Requests that have failed without an answer for rmcp, until rmcp gets an error for them.
    pub(super) failed: VecDeque<(RequestId, UnattributedAnswer)>,
}

pub(super) type Order = u64;

/// The receiver of an answer, and the answer if it was read before.
type AnswerReceiver = (oneshot::Sender<RoutedAnswer>, Option<Box<ReadAnswer>>);

/// The id as this side gives it.
pub(super) fn own_id(id: &RequestId) -> Option<RequestId> {
    number_in(id).map(RequestId::Number)
}

impl Table {
    /// Returns the result type of this request.
    pub(super) fn expected(&self, id: &RequestId) -> Option<Expected> {
        let id = own_id(id)?;
        if let Some((_, route)) = self.routes.get(&id) {
            return route.expected;
        }
        self.handshake_of(&id)
    }

    /// Returns the result type of rmcp's own request, if this is its id.
    pub(super) fn handshake_of(&self, id: &RequestId) -> Option<Expected> {
        let (handshake, expected) = self.handshake.as_ref()?;
        (handshake == id).then_some(*expected)
    }

    pub(super) fn remove(
        &mut self,
        id: &RequestId,
        token: Option<&ProgressToken>,
    ) -> Option<Route> {
        if let Some(token) = token {
            self.tokens.remove(token);
        }
        let (order, route) = self.routes.remove(id)?;
        self.calls.remove(&order);
        Some(route)
    }

    /// Records the answer to a request. Returns the receiver of the answer, unless that is rmcp's
    /// client loop, and the answer if it was read before.
    pub(super) fn take_receiver(&mut self, id: &RequestId) -> Option<AnswerReceiver> {
        if let Some((_, route)) = self.routes.get_mut(id) {
            route.answered = true;
            let receiver = route.answer.take()?;
            return Some((receiver, route.stream.take_answer()));
        }
        self.abandoned.remove(id);
        self.handshake.take_if(|(handshake, _)| handshake == id);
        None
    }

    /// Returns the route for a request that names no call, if the only caller can be reached. A
    /// listen outlives a call that is quickly done, so it comes before such a call.
    pub(super) fn route_for_request(&mut self) -> Option<(Scope, &mut Route)> {
        if !self.callers.is_one() {
            return None;
        }
        let newest = |is_quick: bool| {
            let mut calls = self.calls.values().rev();
            let found = calls.find(|id| {
                let route = self.routes.get(id).map(|(_, route)| route);
                route
                    .is_some_and(|route| route.accepts_unattributed() && route.is_quick == is_quick)
            });
            found.cloned().map(Scope::Call)
        };
        let listener = || {
            let listeners = self.listeners.iter();
            let mut open = listeners.filter(|(_, one)| one.route.accepts_unattributed());
            open.next().map(|(order, _)| Scope::Listener(*order))
        };
        let scope = newest(false).or_else(listener).or_else(|| newest(true))?;
        self.route_in(&scope).map(|route| (scope, route))
    }

    /// Returns the route of the call or the listen that a permit is counted at.
    pub(super) fn route_in(&mut self, scope: &Scope) -> Option<&mut Route> {
        match scope {
            Scope::Connection => None,
            Scope::Call(id) => self.routes.get_mut(id).map(|(_, route)| route),
            Scope::Listener(order) => {
                let listener = self.listeners.get_mut(order);
                listener.map(|listener| &mut listener.route)
            }
        }
    }
}
