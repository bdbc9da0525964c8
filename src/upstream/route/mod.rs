//! Routes: the call that a message from the server belongs to.

pub(super) mod abandoned;
pub(super) mod callers;
pub(super) mod routing_transport;
pub(super) mod server_requests;
pub(super) mod unattributed;

#[cfg(feature = "http-client")]
use std::sync::atomic::AtomicUsize;
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
    answers::{self, Expected, number_in},
    capabilities::Claims,
    route::{
        abandoned::Abandoned,
        callers::{CallerKey, Callers},
        server_requests::{At, Held, MAX_FOR_ONE, Questions},
        unattributed::{Orphan, Orphans},
    },
    stats::Counters,
};
use crate::{
    CallContext, Caller,
    lines::Why,
    protocol::{self, notifications::Change},
};

/// Limit of messages that wait for one call. A caller that takes them slower than the server sends
/// loses the newest progress and log messages. A listen that falls so far behind ends with an
/// error.
const MAILBOX: usize = 4_096;

/// Limit of progress notifications that are kept for calls that are not known yet.
const MAX_EARLY: usize = 64;

/// A message of the server to a call, besides its answer.
pub(super) enum Mail {
    Notification(Box<ServerNotification>),
    Request(Box<ServerRequest>, Reply),
}

/// The sender for the answer to a request of the server.
pub(super) type Reply = oneshot::Sender<Result<ClientResult, ErrorData>>;

pub(super) type Mailbox = mpsc::Receiver<Mail>;

/// The mailbox of a call. It marks the call's outgoing request until the request's id is known.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) mail: mpsc::Sender<Mail>,
    listens: bool,
    /// `true` for a request that is quickly done, and whose server asks nothing.
    is_quick: bool,
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
    /// `true` if the call is counted elsewhere.
    counted: bool,
    /// The number of requests of the server that wait for an answer by way of this call.
    questions: usize,
    /// The last event on its response stream. The stream is resumed after it.
    #[cfg(feature = "http-client")]
    last_event: Option<String>,
}

impl Route {
    /// Marks a call that takes only messages that name it, and is [counted](Routes::count).
    #[cfg(feature = "http-client")]
    pub(super) fn direct(mut self) -> Self {
        (self.quiet, self.counted) = (true, true);
        self
    }

    /// Sets whether the request is quickly done, so that its server asks nothing.
    pub(super) fn is_quick(mut self, is_quick: bool) -> Self {
        self.is_quick = is_quick;
        self
    }

    /// Sets the result type of the request.
    pub(super) fn expects(mut self, expected: Expected) -> Self {
        self.expected = Some(expected);
        self
    }

    pub(super) fn new(caller: &Caller, listens: bool) -> (Self, Mailbox) {
        let (mail, mailbox) = mpsc::channel(MAILBOX);
        (
            Self {
                mail,
                listens,
                is_quick: false,
                quiet: caller.is_quiet(),
                answered: false,
                unreadable: None,
                expected: None,
                #[cfg(feature = "http-client")]
                result: None,
                counted: false,
                questions: 0,
                #[cfg(feature = "http-client")]
                last_event: None,
            },
            mailbox,
        )
    }

    /// Returns `true` if messages that name no call may go to this one.
    fn takes_what_names_no_call(&self) -> bool {
        !self.quiet && !self.mail.is_closed()
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
    counters: Arc<Counters>,
    claims: Arc<Claims>,
    /// The number of direct calls in flight, which are not in the table.
    #[cfg(feature = "http-client")]
    direct: AtomicUsize,
}

/// Counts a call until it is dropped.
#[cfg(feature = "http-client")]
pub(super) struct Counted<'a>(&'a AtomicUsize);

#[cfg(feature = "http-client")]
impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
pub(super) struct Table {
    closed: bool,
    pub(super) callers: Callers,
    /// Messages that name no call, and wait for the only caller.
    pub(super) held: Held,
    pub(super) questions: Questions,
    /// The calls by age, so that the newest call of a session is found.
    calls: BTreeMap<Order, RequestId>,
    routes: HashMap<RequestId, (Order, Route)>,
    /// Calls that no caller waits for, but that the server may still process.
    abandoned: Abandoned,
    tokens: HashMap<ProgressToken, RequestId>,
    listeners: HashMap<Order, Listener>,
    /// `true` if the server takes no subscriptions, and so sends updates of any resource.
    updates_unasked: bool,
    next: Order,
    /// rmcp's own request, while the connection is being established.
    handshake: Option<(RequestId, Expected)>,
    orphans: Orphans,
    /// Progress of calls whose tokens are not known yet, where rmcp assigns the token of a call as
    /// it sends the call.
    early: Option<VecDeque<ServerNotification>>,
    /// Requests whose answers did not come to rmcp, until rmcp has been told.
    failed: VecDeque<(RequestId, Orphan)>,
}

pub(super) type Order = u64;

impl Routes {
    pub(super) fn new(counters: Arc<Counters>, claims: Arc<Claims>) -> Self {
        Self {
            table: Mutex::default(),
            shared: AtomicBool::new(false),
            counters,
            claims,
            #[cfg(feature = "http-client")]
            direct: AtomicUsize::new(0),
        }
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Records the caller of a request, before the request is processed.
    pub(super) fn meet(&self, context: &CallContext) {
        if self.shared.load(Ordering::Relaxed) {
            return;
        }
        let caller = CallerKey::of(context);
        let held = {
            let mut table = self.table();
            if !table.callers.meet(caller) {
                return;
            }
            std::mem::take(&mut table.held)
        };
        self.shared.store(true, Ordering::Relaxed);
        self.claims.several();
        match held.notifications.len() {
            0 => {}
            dropped => self.counters.unattributed(dropped as u64),
        }
    }

    /// Delivers the held messages to the only caller, once the caller can be reached.
    fn hand_over(self: &Arc<Self>, mut table: MutexGuard<'_, Table>) {
        if table.held.is_empty() {
            return;
        }
        if let Some(route) = table.told() {
            let (mail, held) = (route.mail.clone(), &mut table.held.notifications);
            for notification in held.drain(..) {
                post(&mail, notification, &self.counters);
            }
        }
        let handed = table.hand_over_questions();
        // If a question is gone, its place takes the lock as it is dropped.
        drop(table);
        for (waiting, mail, at) in handed {
            let _ = waiting.send(self.reached(mail, at));
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
        if table.closed || route.mail.is_closed() {
            return;
        }
        table.next += 1;
        let order = table.next;
        if let Some(token) = token {
            table.take_early_progress(&token, &route, &self.counters);
            table.tokens.insert(token, id.clone());
        }
        if !route.listens && !route.quiet {
            table.calls.insert(order, id.clone());
        }
        table.routes.insert(id, (order, route));
        self.hand_over(table);
    }

    /// Starts to keep progress that comes before its call is entered.
    pub(super) fn keep_early_progress(&self) {
        self.table().early = Some(VecDeque::new());
    }

    /// Accepts updates of resources without a subscription, because the server takes no
    /// subscriptions.
    pub(super) fn take_unasked_updates(&self) {
        self.table().updates_unasked = true;
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
    pub(super) fn land(&self, id: &RequestId, token: &ProgressToken) -> Option<Why> {
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
        table.settle_orphans();
    }

    /// Records an answer that cannot be read: the answer to this request, or to one of those in
    /// flight.
    pub(super) fn unreadable(&self, id: Option<RequestId>, why: Why) {
        self.orphaned(id, Orphan::Unreadable(why));
    }

    fn orphaned(&self, id: Option<RequestId>, orphan: Orphan) {
        let mut table = self.table();
        let handshake = table.handshake.as_ref().map(|(id, _)| id.clone());
        match id.or(handshake) {
            Some(id) => table.fail(id, orphan),
            None => {
                let until = table.next;
                table.orphans.add(until, orphan);
                table.settle_orphans();
            }
        }
    }

    /// Withholds an error that names no request, which rmcp would drop. It answers one of the
    /// requests in flight.
    ///
    /// "Method not found" is an exception: a server that has read the method has read the `id` too,
    /// and some servers answer notifications so. Before the handshake has been answered, no
    /// notification has been sent.
    pub(super) fn named(
        &self,
        message: RxJsonRpcMessage<RoleClient>,
    ) -> Option<RxJsonRpcMessage<RoleClient>> {
        match message {
            JsonRpcMessage::Error(error) if error.id.as_ref().and_then(number_in).is_none() => {
                let declines = error.error.code == ErrorCode::METHOD_NOT_FOUND;
                if declines && self.table().handshake.is_none() {
                    tracing::debug!("an error that names no request is taken for no answer");
                } else {
                    self.orphaned(None, Orphan::Error(Box::new(error.error)));
                }
                None
            }
            message => Some(message),
        }
    }

    /// Returns the answer to a request that has failed, for rmcp.
    pub(super) fn next_failed(&self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let (id, orphan) = self.table().failed.pop_front()?;
        Some(JsonRpcMessage::error(orphan.into_error(), Some(id)))
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
            self.hand_over(table);
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
                std::mem::take(&mut table.held),
            )
        };
        drop(lost);
    }

    /// Ends the listens that take the connection's own notifications.
    pub(super) fn end_listeners(&self) {
        let ended = std::mem::take(&mut self.table().listeners);
        drop(ended);
    }

    /// Returns the number of calls and listens in flight.
    pub(super) fn len(&self) -> usize {
        #[cfg(feature = "http-client")]
        let direct = self.direct.load(Ordering::Relaxed);
        #[cfg(not(feature = "http-client"))]
        let direct = 0;
        let table = self.table();
        let routes = table.routes.values();
        // Some of the counted calls are in the table too.
        let in_table = routes.filter(|(_, route)| !route.counted).count();
        direct + in_table + table.listeners.len()
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
                    post(&route.mail, notification, &self.counters);
                }
                None => table.keep_early(notification),
            }
            return None;
        }
        if let Some(id) = notification.get_meta().subscription_id() {
            table.deliver_to_listen(&id, notification, &self.counters);
            return None;
        }
        if let Some(change) = Change::of(&notification) {
            let wanted = table.deliver_change(change, &notification, &self.counters);
            let is_update = matches!(change, Change::Resource(_));
            if wanted || !is_update || !table.updates_unasked {
                return None;
            }
        }
        if let Some((_, route)) = call.and_then(|id| table.routes.get(id)) {
            post(&route.mail, notification, &self.counters);
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
            post(&route.mail, notification, &self.counters);
        }
    }

    /// Records an event on the response stream of a call.
    #[cfg(feature = "http-client")]
    pub(super) fn heard_event(&self, id: &RequestId, event: &str) {
        if let Some((_, route)) = self.table().routes.get_mut(id) {
            route.last_event = Some(event.to_owned());
        }
    }

    /// Returns the call whose response stream goes on after this event. Returns `None` if the
    /// server has given several streams the same event id.
    #[cfg(feature = "http-client")]
    pub(super) fn call_after(&self, event: &str) -> Option<RequestId> {
        let table = self.table();
        let mut calls = table
            .routes
            .iter()
            .filter(|(_, (_, route))| route.last_event.as_deref() == Some(event));
        let (id, _) = calls.next()?;
        calls.next().is_none().then(|| id.clone())
    }

    #[cfg(feature = "http-client")]
    pub(super) fn count(&self) -> Counted<'_> {
        self.direct.fetch_add(1, Ordering::Relaxed);
        Counted(&self.direct)
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

    fn take_early_progress(&mut self, token: &ProgressToken, route: &Route, counters: &Counters) {
        let Some(early) = self.early.as_mut().filter(|early| !early.is_empty()) else {
            return;
        };
        for progress in std::mem::take(early) {
            match &progress {
                ServerNotification::ProgressNotification(of)
                    if of.params.progress_token == *token =>
                {
                    post(&route.mail, progress, counters);
                }
                _ => early.push_back(progress),
            }
        }
    }

    /// Returns the route for a notification that names no call, if the only caller can be reached:
    /// the newest call, else a listen.
    fn told(&self) -> Option<&Route> {
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
            .find(|route| route.takes_what_names_no_call())
    }

    /// Returns the route for a request that names no call, if the only caller can be reached. A
    /// listen outlives a call that is quickly done, so it comes before such a call.
    pub(super) fn asked(&mut self) -> Option<(At, &mut Route)> {
        if !self.callers.is_one() {
            return None;
        }
        let newest = |is_quick: bool| {
            let mut calls = self.calls.values().rev();
            let found = calls.find(|id| {
                let route = self.routes.get(id).map(|(_, route)| route);
                route.is_some_and(|route| {
                    route.takes_what_names_no_call() && route.is_quick == is_quick
                })
            });
            found.cloned().map(At::Call)
        };
        let listener = || {
            let listeners = self.listeners.iter();
            let mut open = listeners.filter(|(_, one)| one.route.takes_what_names_no_call());
            open.next().map(|(order, _)| At::Listener(*order))
        };
        let at = newest(false).or_else(listener).or_else(|| newest(true))?;
        self.route_at(&at).map(|route| (at, route))
    }

    /// Returns the route of the call or the listen at this place.
    pub(super) fn route_at(&mut self, at: &At) -> Option<&mut Route> {
        match at {
            At::Connection => None,
            At::Call(id) => self.routes.get_mut(id).map(|(_, route)| route),
            At::Listener(order) => {
                let listener = self.listeners.get_mut(order);
                listener.map(|listener| &mut listener.route)
            }
        }
    }

    /// Fails a call by an answer that rmcp has not seen.
    fn fail(&mut self, id: RequestId, orphan: Orphan) {
        match (self.routes.get_mut(&id), &orphan) {
            (Some((_, route)), _) if route.answered => return,
            (Some((_, route)), Orphan::Unreadable(why)) => route.unreadable = Some(*why),
            (Some(_), Orphan::Error(_)) => {}
            (None, _) if self.handshake.as_ref().is_some_and(|(own, _)| *own == id) => {}
            (None, _) => {
                self.abandoned.remove(&id);
                return;
            }
        }
        self.failed.push_back((id, orphan));
    }

    /// Fails the calls that answers without an `id` must have been for, once only as many calls are
    /// left as there are such answers. A listen is answered when it ends, so it does not count.
    fn settle_orphans(&mut self) {
        let Some((until, orphan)) = self.orphans.until() else {
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
        if !self.orphans.settle(left, unanswered.is_empty()) {
            return;
        }
        for id in unanswered.drain(..) {
            self.fail(id, orphan.clone());
        }
    }

    fn deliver_to_listen(
        &mut self,
        id: &RequestId,
        notification: ServerNotification,
        counters: &Counters,
    ) {
        let listen = self.routes.get(id).filter(|(_, route)| route.listens);
        let Some((_, route)) = listen else {
            tracing::debug!("a notification for a subscription that has ended");
            return;
        };
        if !post(&route.mail, notification, counters) {
            // Its mailbox closes, and the listen ends with an error: it has missed a message.
            self.routes.remove(id);
        }
    }

    /// Delivers a change to the listens that asked for it. Returns `true` if there is one.
    fn deliver_change(
        &mut self,
        change: Change<'_>,
        notification: &ServerNotification,
        counters: &Counters,
    ) -> bool {
        let mut wanted = false;
        self.listeners.retain(|_, listener| {
            if !change.is_in(&listener.filter) {
                return true;
            }
            wanted = true;
            post(&listener.route.mail, notification.clone(), counters)
        });
        wanted
    }

    /// Delivers a notification that names no call and no subscription, if the connection has had
    /// only one caller.
    fn deliver_to_only_caller(&mut self, notification: ServerNotification, counters: &Counters) {
        if let Some(route) = self.told() {
            post(&route.mail, notification, counters);
        } else if self.callers.are_several() || !self.held.keep(notification) {
            counters.unattributed(1);
        }
    }
}

/// Puts a notification into a mailbox, if there is room.
fn post(mail: &mpsc::Sender<Mail>, notification: ServerNotification, counters: &Counters) -> bool {
    let posted = mail.try_send(Mail::Notification(Box::new(notification)));
    if let Err(mpsc::error::TrySendError::Full(_)) = &posted {
        counters.overflowed();
    }
    posted.is_ok()
}

impl Route {
    /// Counts one more question. Returns `false` if too many wait for an answer.
    pub(super) fn take_question(&mut self) -> bool {
        let takes = self.questions < MAX_FOR_ONE;
        self.questions += usize::from(takes);
        takes
    }

    pub(super) fn let_go_of_question(&mut self) {
        self.questions = self.questions.saturating_sub(1);
    }
}
