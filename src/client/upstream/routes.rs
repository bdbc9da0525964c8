//! Which call a message from the server belongs to.

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
    abandoned::Abandoned,
    callers::{CallerKey, Callers},
    claims::Claims,
    kinds::{is_change, number_in, wants},
    orphans::{Orphan, Orphans},
    questions::{At, Held, MAX_FOR_ONE, Questions},
    stats::Counters,
};
use crate::{CallContext, Caller, lines::Why, protocol};

/// How many messages may wait for one call. A caller that takes them slower than the server sends loses
/// the newest progress and log messages; a listen that falls so far behind ends with an error.
const MAILBOX: usize = 4_096;

/// How much progress is kept whose call is not known yet.
const MAX_EARLY: usize = 64;

/// What a server sends to a call beside its answer.
pub(super) enum Mail {
    Notification(Box<ServerNotification>),
    Request(Box<ServerRequest>, Reply),
}

/// Takes the answer to a request of the server.
pub(super) type Reply = oneshot::Sender<Result<ClientResult, ErrorData>>;

pub(super) type Mailbox = mpsc::Receiver<Mail>;

/// Marks an outgoing request with the mailbox of its call, until the request's id is known.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) mail: mpsc::Sender<Mail>,
    listens: bool,
    /// Is quickly done, and its server asks nothing.
    lists: bool,
    /// Takes only what says that it belongs here.
    quiet: bool,
    answered: bool,
    /// Why the answer cannot be read, if it cannot.
    unreadable: Option<Why>,
    /// Is counted otherwise.
    counted: bool,
    /// How many requests of the server wait for an answer by way of this call.
    questions: usize,
    /// The last event on its response stream, after which the stream is taken up again.
    #[cfg(feature = "http-client")]
    last_event: Option<String>,
}

impl Route {
    /// Takes only what says that it belongs here, and is [counted](Routes::count).
    #[cfg(feature = "http-client")]
    pub(super) fn direct(mut self) -> Self {
        (self.quiet, self.counted) = (true, true);
        self
    }

    /// Of a request that is quickly done, and for which a server asks nothing.
    pub(super) fn lists(mut self, lists: bool) -> Self {
        self.lists = lists;
        self
    }

    pub(super) fn new(caller: &Caller, listens: bool) -> (Self, Mailbox) {
        let (mail, mailbox) = mpsc::channel(MAILBOX);
        (
            Self {
                mail,
                listens,
                lists: false,
                quiet: caller.is_quiet(),
                answered: false,
                unreadable: None,
                counted: false,
                questions: 0,
                #[cfg(feature = "http-client")]
                last_event: None,
            },
            mailbox,
        )
    }

    /// Whether what names no call may go here.
    fn takes_what_names_no_call(&self) -> bool {
        !self.quiet && !self.mail.is_closed()
    }
}

/// A listen that the bottom answers itself, from the connection's notifications.
struct Listener {
    route: Route,
    filter: SubscriptionFilter,
}

/// The calls in flight on one connection.
pub(super) struct Routes {
    table: Mutex<Table>,
    /// Set once the connection has had several callers: then there is nothing left to take note of.
    shared: AtomicBool,
    counters: Arc<Counters>,
    claims: Arc<Claims>,
    /// How many calls are in flight for which nothing needs to be found here.
    #[cfg(feature = "http-client")]
    direct: AtomicUsize,
}

/// Counts a call as long as it is kept.
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
    /// What names no call, and waits for the only caller.
    pub(super) held: Held,
    pub(super) questions: Questions,
    /// Ordered, so that the newest call of a session is found.
    calls: BTreeMap<Order, RequestId>,
    routes: HashMap<RequestId, (Order, Route)>,
    /// Calls that no caller waits for, but the server may still be at work on.
    abandoned: Abandoned,
    tokens: HashMap<ProgressToken, RequestId>,
    listeners: HashMap<Order, Listener>,
    /// The server takes no subscriptions, so that it tells of the resources that it will.
    updates_unasked: bool,
    next: Order,
    /// rmcp's own request, while the connection is being established.
    handshake: Option<RequestId>,
    orphans: Orphans,
    /// Progress of calls whose tokens are not known yet, where rmcp gives a call its token as it
    /// sends it.
    early: Option<VecDeque<ServerNotification>>,
    /// Requests whose answers came otherwise than to rmcp, as long as it has not been told.
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

    /// Takes note of the caller of a request, before anything is done for it.
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

    /// Hands what was held to the only caller, who can be reached now.
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
        // What is taken back as a question is gone takes the lock itself.
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

    /// Keeps progress that comes before its call is entered.
    pub(super) fn keep_early_progress(&self) {
        self.table().early = Some(VecDeque::new());
    }

    /// Takes updates of resources to which there is no subscription, because the server takes none.
    pub(super) fn take_unasked_updates(&self) {
        self.table().updates_unasked = true;
    }

    /// Enters a request of rmcp's own.
    pub(super) fn enter_handshake(&self, id: RequestId) {
        self.table().handshake = Some(id);
    }

    /// Forgets a call that was answered. Says why, if the answer cannot be read.
    pub(super) fn land(&self, id: &RequestId, token: &ProgressToken) -> Option<Why> {
        let route = self.table().remove(id, token)?;
        route.unreadable
    }

    /// Forgets a call that no caller waits for any more. The server may go on with it, whatever it is told.
    pub(super) fn abandon(&self, id: &RequestId, token: &ProgressToken) {
        let mut table = self.table();
        let Some(route) = table.remove(id, token) else {
            return;
        };
        // Once it is answered, the server is done with it, also if the answer was not taken.
        if !route.listens && !route.answered {
            table.abandoned.insert(id.clone());
        }
    }

    /// Takes note that the server has answered a request.
    pub(super) fn answered(&self, id: &RequestId) {
        let mut table = self.table();
        if let Some((_, route)) = table.routes.get_mut(id) {
            route.answered = true;
        } else {
            table.abandoned.remove(id);
            table.handshake.take_if(|handshake| handshake == id);
        }
        table.settle_orphans();
    }

    /// Takes note of an answer that cannot be read: the one to this request, or to one of those in flight.
    pub(super) fn unreadable(&self, id: Option<RequestId>, why: Why) {
        self.orphaned(id, Orphan::Unreadable(why));
    }

    fn orphaned(&self, id: Option<RequestId>, orphan: Orphan) {
        let mut table = self.table();
        match id.or_else(|| table.handshake.clone()) {
            Some(id) => table.fail(id, orphan),
            None => {
                let until = table.next;
                table.orphans.add(until, orphan);
                table.settle_orphans();
            }
        }
    }

    /// Keeps back an error that names no request, which rmcp would drop: it is the answer to one of those in
    /// flight. One that says that there is no such method is not: a server that has read the method has read the
    /// `id` too, and some servers answer notifications so. Before the handshake has been answered, no
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

    /// The answer to a request that has failed, for rmcp.
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

    /// Ends every call: the connection is lost. Their mailboxes close.
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

    /// How many calls and listens are in flight.
    pub(super) fn len(&self) -> usize {
        #[cfg(feature = "http-client")]
        let direct = self.direct.load(Ordering::Relaxed);
        #[cfg(not(feature = "http-client"))]
        let direct = 0;
        let table = self.table();
        let routes = table.routes.values();
        // Of those that are counted, some are in the table too.
        let in_table = routes.filter(|(_, route)| !route.counted).count();
        direct + in_table + table.listeners.len()
    }

    /// Puts a notification where it belongs. Gives back those that are rmcp's own business.
    pub(super) fn deliver(&self, notification: ServerNotification) -> Option<ServerNotification> {
        self.deliver_for(None, notification)
    }

    /// The same for one that came on the response stream of a call, if the transport has such
    /// streams.
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
        if is_change(&notification) {
            let wanted = table.deliver_change(&notification, &self.counters);
            let is_update = matches!(
                notification,
                ServerNotification::ResourceUpdatedNotification(_)
            );
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

    /// Puts a notification into the mailbox of a call that it is known to belong to.
    #[cfg(feature = "http-client")]
    pub(super) fn deliver_to(&self, id: &RequestId, notification: ServerNotification) {
        let Some(notification) = protocol::from_server(notification) else {
            return;
        };
        if let Some((_, route)) = self.table().routes.get(id) {
            post(&route.mail, notification, &self.counters);
        }
    }

    /// Takes note of an event on the response stream of a call.
    #[cfg(feature = "http-client")]
    pub(super) fn heard_event(&self, id: &RequestId, event: &str) {
        if let Some((_, route)) = self.table().routes.get_mut(id) {
            route.last_event = Some(event.to_owned());
        }
    }

    /// The call whose response stream goes on after this event. `None` if the server has given
    /// several streams the same event id.
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

    /// Forgets a call, answered or not, of which nothing can come any more.
    #[cfg(feature = "http-client")]
    pub(super) fn leave(&self, id: &RequestId) {
        let mut table = self.table();
        if let Some((order, _)) = table.routes.remove(id) {
            table.calls.remove(&order);
        }
    }
}

impl Table {
    fn remove(&mut self, id: &RequestId, token: &ProgressToken) -> Option<Route> {
        self.tokens.remove(token);
        let (order, route) = self.routes.remove(id)?;
        self.calls.remove(&order);
        Some(route)
    }

    /// Progress of a call that is not known: it has ended, unless its token is about to be known.
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

    /// Where a notification goes that names no call, if its only caller can be reached: to the
    /// newest call, else to a listen.
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

    /// Where a request goes that names no call, if the only caller can be reached. A listen
    /// outlives what is quickly done, so it comes before that.
    pub(super) fn asked(&mut self) -> Option<(At, &mut Route)> {
        if !self.callers.is_one() {
            return None;
        }
        let newest = |lists: bool| {
            let mut calls = self.calls.values().rev();
            let found = calls.find(|id| {
                let route = self.routes.get(id).map(|(_, route)| route);
                route.is_some_and(|route| route.takes_what_names_no_call() && route.lists == lists)
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

    /// The call, or the listen, at this place.
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
            (None, _) if self.handshake.as_ref() == Some(&id) => {}
            (None, _) => {
                self.abandoned.remove(&id);
                return;
            }
        }
        self.failed.push_back((id, orphan));
    }

    /// Fails the calls that answers without a name must have been for: when as many are left as there are
    /// such answers, it is those. A listen is answered when it ends, so it is not taken to be one of them.
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
            // Its mailbox closes, and the listen ends with an error: it has missed something.
            self.routes.remove(id);
        }
    }

    /// Returns `true` if a listen asked for the change.
    fn deliver_change(&mut self, change: &ServerNotification, counters: &Counters) -> bool {
        let mut wanted = false;
        self.listeners.retain(|_, listener| {
            if !wants(&listener.filter, change) {
                return true;
            }
            wanted = true;
            post(&listener.route.mail, change.clone(), counters)
        });
        wanted
    }

    /// What names no call and no subscription goes to a caller only if the connection has had no
    /// other.
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
    /// Takes one more question. `false` if too many wait for an answer.
    pub(super) fn take_question(&mut self) -> bool {
        let takes = self.questions < MAX_FOR_ONE;
        self.questions += usize::from(takes);
        takes
    }

    pub(super) fn let_go_of_question(&mut self) {
        self.questions = self.questions.saturating_sub(1);
    }
}
