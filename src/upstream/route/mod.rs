//! Routes: the call that a message from the server belongs to.

pub(super) mod abandoned;
pub(super) mod callers;
pub(super) mod routing_transport;
pub(super) mod server_requests;
pub(super) mod unattributed;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rmcp::{
    RoleClient,
    model::{
        ClientResult, ErrorCode, ErrorData, GetMeta, JsonRpcMessage, ProgressToken, RequestId,
        ServerNotification, ServerRequest, SubscriptionFilter,
    },
    service::RxJsonRpcMessage,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    answers::{self, Expected},
    capabilities::ClaimedCapabilities,
    kinds::{is_change, number_in, wants},
    route::{
        abandoned::Abandoned,
        callers::{CallerKey, Callers},
        server_requests::{DeferredMessages, MAX_PER_CALL, PendingRequests, Scope},
        unattributed::{UnattributedAnswer, UnattributedAnswers},
    },
    stats::UpstreamCounters,
};
use crate::{CallContext, Caller, lines::Why, protocol};

/// Limit of messages that wait for one call. A caller that takes them slower than the server sends
/// loses the newest progress and log messages. A listen that falls so far behind ends with an
/// error.
const MAILBOX_CAPACITY: usize = 4_096;

/// Limit of progress notifications that are kept for calls that are not known yet.
const MAX_EARLY: usize = 64;

/// A message of the server to a call, besides its answer.
pub(super) enum CallMessage {
    Notification(Box<ServerNotification>),
    Request(Box<ServerRequest>, Reply),
}

/// The sender for the answer to a request of the server.
pub(super) type Reply = oneshot::Sender<Result<ClientResult, ErrorData>>;

pub(super) type Mailbox = mpsc::Receiver<CallMessage>;

/// The mailbox of a call. It marks the call's outgoing request until the request's id is known.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) sender: mpsc::Sender<CallMessage>,
    listens: bool,
    /// `true` for a request that is quickly done, and whose server asks nothing.
    lists: bool,
    /// `true` if the call takes only messages that name it.
    quiet: bool,
    answered: bool,
    /// The reason why the answer cannot be read, if it cannot.
    unreadable: Option<Why>,
    /// The result type of the call.
    expected: Option<Expected>,
    /// The result, if it was read before rmcp reads the answer.
    #[cfg(feature = "http-client")]
    result: Option<Box<rmcp::model::ServerResult>>,
    /// The number of requests of the server that wait for an answer by way of this call.
    pending_requests: usize,
    /// The last event on its response stream. The stream is resumed after it.
    #[cfg(feature = "http-client")]
    last_event: Option<String>,
}

impl Route {
    /// Marks a call that takes only messages that name it.
    #[cfg(feature = "http-client")]
    pub(super) fn direct(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Sets whether the request is quickly done, so that its server asks nothing.
    pub(super) fn lists(mut self, lists: bool) -> Self {
        self.lists = lists;
        self
    }

    /// Sets the result type of the request.
    pub(super) fn expects(mut self, expected: Expected) -> Self {
        self.expected = Some(expected);
        self
    }

    pub(super) fn new(caller: &Caller, listens: bool) -> (Self, Mailbox) {
        let (sender, mailbox) = mpsc::channel(MAILBOX_CAPACITY);
        (
            Self {
                sender,
                listens,
                lists: false,
                quiet: caller.is_quiet(),
                answered: false,
                unreadable: None,
                expected: None,
                #[cfg(feature = "http-client")]
                result: None,
                pending_requests: 0,
                #[cfg(feature = "http-client")]
                last_event: None,
            },
            mailbox,
        )
    }

    /// Returns `true` if messages that name no call may go to this one.
    fn accepts_unattributed(&self) -> bool {
        !self.quiet && !self.sender.is_closed()
    }
}

/// A listen that the upstream answers itself, from the connection's notifications.
struct Listener {
    route: Route,
    filter: SubscriptionFilter,
}

/// The calls in flight on one connection.
pub(super) struct Routes {
    table: Mutex<Table>,
    /// Set once the connection has had several callers: from then on, callers need not be recorded.
    shared: AtomicBool,
    counters: Arc<UpstreamCounters>,
    claims: Arc<ClaimedCapabilities>,
}

#[derive(Default)]
pub(super) struct Table {
    closed: bool,
    pub(super) callers: Callers,
    /// Messages that name no call, and wait for the only caller.
    pub(super) deferred: DeferredMessages,
    pub(super) pending_requests: PendingRequests,
    /// The calls by age, so that the newest call of a session is found.
    calls: BTreeMap<Order, RequestId>,
    routes: HashMap<RequestId, (Order, Route)>,
    /// Calls that no caller waits for, but that the server may still process.
    abandoned: Abandoned,
    tokens: HashMap<ProgressToken, RequestId>,
    listeners: HashMap<Order, Listener>,
    /// `true` if the server takes no subscriptions, and so sends updates of any resource.
    accepts_unrequested_updates: bool,
    next: Order,
    /// rmcp's own request, while the connection is being established.
    handshake: Option<(RequestId, Expected)>,
    unattributed: UnattributedAnswers,
    /// Progress of calls whose tokens are not known yet, where rmcp assigns the token of a call as
    /// it sends the call.
    early: Option<VecDeque<ServerNotification>>,
    /// Requests whose answers did not come to rmcp, until rmcp has been told.
    failed: VecDeque<(RequestId, UnattributedAnswer)>,
}

pub(super) type Order = u64;

impl Routes {
    pub(super) fn new(counters: Arc<UpstreamCounters>, claims: Arc<ClaimedCapabilities>) -> Self {
        Self {
            table: Mutex::default(),
            shared: AtomicBool::new(false),
            counters,
            claims,
        }
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counters(&self) -> &UpstreamCounters {
        &self.counters
    }

    /// Records the caller of a request, before the request is processed.
    pub(super) fn record_caller(&self, context: &CallContext) {
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

    /// Delivers the deferred messages to the only caller, once the caller can be reached.
    fn deliver_deferred(self: &Arc<Self>, mut table: MutexGuard<'_, Table>) {
        if table.deferred.is_empty() {
            return;
        }
        if let Some(route) = table.route_for_notification() {
            let (sender, deferred) = (route.sender.clone(), &mut table.deferred.notifications);
            for notification in deferred.drain(..) {
                send_or_drop(&sender, notification, &self.counters);
            }
        }
        let handed = table.assign_deferred_requests();
        // If a request is gone, its permit takes the lock as it is dropped.
        drop(table);
        for (waiting, sender, scope) in handed {
            let _ = waiting.send(self.destination(sender, scope));
        }
    }

    /// Enters a call, just before its request is sent.
    pub(super) fn enter(
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
    pub(super) fn keep_early_progress(&self) {
        self.table().early = Some(VecDeque::new());
    }

    /// Accepts updates of resources without a subscription, because the server takes no
    /// subscriptions.
    pub(super) fn accept_unrequested_updates(&self) {
        self.table().accepts_unrequested_updates = true;
    }

    /// Enters a request of rmcp's own.
    pub(super) fn enter_handshake(&self, id: RequestId, expected: Expected) {
        self.table().handshake = Some((id, expected));
    }

    /// Reads a message of the server, an answer as what its request asks for.
    pub(super) fn read(&self, text: &[u8]) -> serde_json::Result<RxJsonRpcMessage<RoleClient>> {
        answers::message_in(text, |id| self.table().expected(id))
    }

    /// Returns the result type of a call.
    #[cfg(feature = "http-client")]
    pub(super) fn expected(&self, id: &RequestId) -> Option<Expected> {
        self.table().expected(id)
    }

    /// Keeps the result of a call until rmcp passes on its answer, and leaves an empty one in its place.
    #[cfg(feature = "http-client")]
    pub(super) fn keep_result(&self, id: &RequestId, result: &mut rmcp::model::ServerResult) {
        let mut table = self.table();
        let route = own_id(id).and_then(|id| table.routes.get_mut(&id));
        if let Some((_, route)) = route {
            let kept = std::mem::replace(result, rmcp::model::ServerResult::empty(()));
            route.result = Some(Box::new(kept));
        }
    }

    /// Removes a call that was answered. Returns the reason if the answer cannot be read.
    pub(super) fn complete(&self, id: &RequestId, token: &ProgressToken) -> Option<Why> {
        let route = self.table().remove(id, token)?;
        route.unreadable
    }

    /// Removes a call that no caller waits for any more. The server may go on with it, even if it
    /// is told.
    pub(super) fn abandon(&self, id: &RequestId, token: &ProgressToken) {
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

    /// Records that the server has answered a request, and puts the kept result into the answer.
    pub(super) fn answered(&self, message: &mut RxJsonRpcMessage<RoleClient>) {
        let id = match message {
            JsonRpcMessage::Response(response) => own_id(&response.id),
            JsonRpcMessage::Error(error) => error.id.as_ref().and_then(own_id),
            _ => None,
        };
        let Some(id) = id else { return };
        let mut table = self.table();
        if let Some((_, route)) = table.routes.get_mut(&id) {
            route.answered = true;
            #[cfg(feature = "http-client")]
            if let JsonRpcMessage::Response(response) = message
                && let Some(result) = route.result.take()
            {
                response.result = *result;
            }
        } else {
            table.abandoned.remove(&id);
            table.handshake.take_if(|(handshake, _)| *handshake == id);
        }
        table.settle_unattributed();
    }

    /// Records an answer that cannot be read: the answer to this request, or to one of those in
    /// flight.
    pub(super) fn unreadable(&self, id: Option<RequestId>, why: Why) {
        self.record_unattributed(id, UnattributedAnswer::Unreadable(why));
    }

    fn record_unattributed(&self, id: Option<RequestId>, answer: UnattributedAnswer) {
        let mut table = self.table();
        let handshake = table.handshake.as_ref().map(|(id, _)| id.clone());
        match id.or(handshake) {
            Some(id) => table.fail(id, answer),
            None => {
                let until = table.next;
                table.unattributed.add(until, answer);
                table.settle_unattributed();
            }
        }
    }

    /// Withholds an error that names no request, which rmcp would drop. It answers one of the
    /// requests in flight.
    ///
    /// "Method not found" is an exception: a server that has read the method has read the `id` too,
    /// and some servers answer notifications so. Before the handshake has been answered, no
    /// notification has been sent.
    pub(super) fn withhold_unattributed(
        &self,
        message: RxJsonRpcMessage<RoleClient>,
    ) -> Option<RxJsonRpcMessage<RoleClient>> {
        match message {
            JsonRpcMessage::Error(error) if error.id.as_ref().and_then(number_in).is_none() => {
                let declines = error.error.code == ErrorCode::METHOD_NOT_FOUND;
                if declines && self.table().handshake.is_none() {
                    tracing::debug!("an error that names no request is taken for no answer");
                } else {
                    self.record_unattributed(
                        None,
                        UnattributedAnswer::Error(Box::new(error.error)),
                    );
                }
                None
            }
            message => Some(message),
        }
    }

    /// Returns the answer to a request that has failed, for rmcp.
    pub(super) fn next_failed(&self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let (id, answer) = self.table().failed.pop_front()?;
        Some(JsonRpcMessage::error(answer.into_error(), Some(id)))
    }

    /// Enters a listen that takes the connection's own notifications.
    pub(super) fn enter_listener(
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

    pub(super) fn leave_listener(&self, order: u64) {
        self.table().listeners.remove(&order);
    }

    /// Ends every call by closing its mailbox: the connection is lost.
    pub(super) fn close(&self) {
        let lost = {
            let mut table = self.table();
            table.closed = true;
            (
                std::mem::take(&mut table.routes),
                std::mem::take(&mut table.listeners),
                std::mem::take(&mut table.calls),
                std::mem::take(&mut table.tokens),
                std::mem::take(&mut table.deferred),
            )
        };
        drop(lost);
    }

    /// Ends the listens that take the connection's own notifications.
    pub(super) fn end_listeners(&self) {
        let ended = std::mem::take(&mut self.table().listeners);
        drop(ended);
    }

    /// Delivers a notification. Returns it if it is for rmcp itself.
    pub(super) fn deliver(&self, notification: ServerNotification) -> Option<ServerNotification> {
        self.deliver_for(None, notification)
    }

    /// Delivers a notification that came on the response stream of a call, if the transport has
    /// such streams.
    pub(super) fn deliver_for(
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
                    send_or_drop(&route.sender, notification, &self.counters);
                }
                None => table.keep_early(notification),
            }
            return None;
        }
        if let Some(id) = notification.get_meta().subscription_id() {
            table.deliver_to_listen(&id, notification, &self.counters);
            return None;
        }
        if is_change(&notification) {
            let wanted = table.deliver_change(&notification, &self.counters);
            let is_update = matches!(
                notification,
                ServerNotification::ResourceUpdatedNotification(_)
            );
            if wanted || !is_update || !table.accepts_unrequested_updates {
                return None;
            }
        }
        if let Some((_, route)) = call.and_then(|id| table.routes.get(id)) {
            send_or_drop(&route.sender, notification, &self.counters);
        } else {
            table.deliver_to_only_caller(notification, &self.counters);
        }
        None
    }

    /// Puts a notification into the mailbox of the call that it is known to belong to.
    #[cfg(feature = "http-client")]
    pub(super) fn deliver_to(&self, id: &RequestId, notification: ServerNotification) {
        let Some(notification) = protocol::from_server(notification) else {
            return;
        };
        if let Some((_, route)) = self.table().routes.get(id) {
            send_or_drop(&route.sender, notification, &self.counters);
        }
    }

    /// Records an event on the response stream of a call.
    #[cfg(feature = "http-client")]
    pub(super) fn record_event(&self, id: &RequestId, event: &str) {
        if let Some((_, route)) = self.table().routes.get_mut(id) {
            route.last_event = Some(event.to_owned());
        }
    }

    /// Returns the call whose response stream goes on after this event. Returns `None` if the
    /// server has given several streams the same event id.
    #[cfg(feature = "http-client")]
    pub(super) fn call_resumed_after(&self, event: &str) -> Option<RequestId> {
        let table = self.table();
        let mut calls = table
            .routes
            .iter()
            .filter(|(_, (_, route))| route.last_event.as_deref() == Some(event));
        let (id, _) = calls.next()?;
        calls.next().is_none().then(|| id.clone())
    }

    /// Removes a call, answered or not, for which no message can come any more.
    #[cfg(feature = "http-client")]
    pub(super) fn leave(&self, id: &RequestId) {
        let mut table = self.table();
        if let Some((order, _)) = table.routes.remove(id) {
            table.calls.remove(&order);
        }
    }
}

/// The id as this side gives it.
fn own_id(id: &RequestId) -> Option<RequestId> {
    number_in(id).map(RequestId::Number)
}

impl Table {
    /// Returns the result type of this request.
    fn expected(&self, id: &RequestId) -> Option<Expected> {
        let id = own_id(id)?;
        if let Some((_, route)) = self.routes.get(&id) {
            return route.expected;
        }
        let (handshake, expected) = self.handshake.as_ref()?;
        (*handshake == id).then_some(*expected)
    }

    fn remove(&mut self, id: &RequestId, token: &ProgressToken) -> Option<Route> {
        self.tokens.remove(token);
        let (order, route) = self.routes.remove(id)?;
        self.calls.remove(&order);
        Some(route)
    }

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

    fn deliver_early_progress(
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

    /// Returns the route for a request that names no call, if the only caller can be reached. A
    /// listen outlives a call that is quickly done, so it comes before such a call.
    pub(super) fn route_for_request(&mut self) -> Option<(Scope, &mut Route)> {
        if !self.callers.is_one() {
            return None;
        }
        let newest = |lists: bool| {
            let mut calls = self.calls.values().rev();
            let found = calls.find(|id| {
                let route = self.routes.get(id).map(|(_, route)| route);
                route.is_some_and(|route| route.accepts_unattributed() && route.lists == lists)
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

    /// Fails a call by an answer that rmcp has not seen.
    fn fail(&mut self, id: RequestId, answer: UnattributedAnswer) {
        match (self.routes.get_mut(&id), &answer) {
            (Some((_, route)), _) if route.answered => return,
            (Some((_, route)), UnattributedAnswer::Unreadable(why)) => {
                route.unreadable = Some(*why)
            }
            (Some(_), UnattributedAnswer::Error(_)) => {}
            (None, _) if self.handshake.as_ref().is_some_and(|(own, _)| *own == id) => {}
            (None, _) => {
                self.abandoned.remove(&id);
                return;
            }
        }
        self.failed.push_back((id, answer));
    }

    /// Fails the calls that answers without an `id` must have been for, once only as many calls are
    /// left as there are such answers. A listen is answered when it ends, so it does not count.
    fn settle_unattributed(&mut self) {
        let Some((until, answer)) = self.unattributed.until() else {
            return;
        };
        self.abandoned.expire();
        let mut unanswered: Vec<_> = self
            .routes
            .iter()
            .filter(|(_, (order, route))| *order <= until && !route.listens && !route.answered)
            .map(|(id, _)| id.clone())
            .collect();
        let left = self.abandoned.len().map(|gone| gone + unanswered.len());
        if !self.unattributed.settle(left, unanswered.is_empty()) {
            return;
        }
        for id in unanswered.drain(..) {
            self.fail(id, answer.clone());
        }
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

/// Puts a notification into a mailbox, if there is room.
fn send_or_drop(
    sender: &mpsc::Sender<CallMessage>,
    notification: ServerNotification,
    counters: &UpstreamCounters,
) -> bool {
    let posted = sender.try_send(CallMessage::Notification(Box::new(notification)));
    if let Err(mpsc::error::TrySendError::Full(_)) = &posted {
        counters.overflowed();
    }
    posted.is_ok()
}

impl Route {
    /// Counts one more request. Returns `false` if too many wait for an answer.
    pub(super) fn acquire_permit(&mut self) -> bool {
        let takes = self.pending_requests < MAX_PER_CALL;
        self.pending_requests += usize::from(takes);
        takes
    }

    pub(super) fn release_permit(&mut self) {
        self.pending_requests = self.pending_requests.saturating_sub(1);
    }
}
