//! Which call a message from the server belongs to.

#[cfg(feature = "http-client")]
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rmcp::{
    RoleClient,
    model::{
        ClientResult, ErrorCode, ErrorData, GetExtensions, GetMeta, JsonRpcMessage, ProgressToken,
        RequestId, ServerNotification, ServerRequest, SubscriptionFilter,
    },
    service::{InboundStreamOrigin, OriginatingRequestId, RequestContext, RxJsonRpcMessage},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    abandoned::Abandoned,
    kinds::{is_change, number_in, wants},
    orphans::{Orphan, Orphans},
};
use crate::{Caller, lines::Why, protocol};

/// How many messages may wait for one call. A caller that takes them slower than the server sends loses
/// the newest progress and log messages; a listen that falls so far behind ends with an error.
const MAILBOX: usize = 4_096;

/// What a server sends to a call beside its answer.
pub(super) enum Mail {
    Notification(Box<ServerNotification>),
    Request(
        Box<ServerRequest>,
        oneshot::Sender<Result<ClientResult, ErrorData>>,
    ),
}

pub(super) type Mailbox = mpsc::Receiver<Mail>;

/// Marks an outgoing request with the mailbox of its call, until the request's id is known.
#[derive(Clone)]
pub(super) struct Route {
    mail: mpsc::Sender<Mail>,
    session: Option<u64>,
    listens: bool,
    /// Is quickly done, and asks nobody anything.
    lists: bool,
    /// Takes only what says that it belongs here.
    quiet: bool,
    answered: bool,
    /// Why the answer cannot be read, if it cannot.
    unreadable: Option<Why>,
    /// Is counted otherwise.
    counted: bool,
}

impl Route {
    /// Takes only what says that it belongs here, and is [counted](Routes::count).
    #[cfg(feature = "http-client")]
    pub(super) fn direct(mut self) -> Self {
        (self.quiet, self.counted) = (true, true);
        self
    }

    /// Of a request that is quickly done, and for which a server asks nobody anything.
    pub(super) fn lists(mut self, lists: bool) -> Self {
        self.lists = lists;
        self
    }

    pub(super) fn new(caller: &Caller, listens: bool) -> (Self, Mailbox) {
        let (mail, mailbox) = mpsc::channel(MAILBOX);
        (
            Self {
                mail,
                session: caller.session_id(),
                listens,
                lists: false,
                quiet: caller.is_quiet(),
                answered: false,
                unreadable: None,
                counted: false,
            },
            mailbox,
        )
    }
}

/// A listen that the bottom answers itself, from the connection's notifications.
struct Listener {
    route: Route,
    filter: SubscriptionFilter,
}

/// The calls in flight on one connection.
#[derive(Default)]
pub(super) struct Routes {
    table: Mutex<Table>,
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
struct Table {
    closed: bool,
    /// Ordered, so that the newest call of a session is found.
    calls: BTreeMap<Order, RequestId>,
    routes: HashMap<RequestId, (Order, Route)>,
    /// Calls that nobody waits for, but the server may still be at work on.
    abandoned: Abandoned,
    tokens: HashMap<ProgressToken, RequestId>,
    listeners: HashMap<Order, Listener>,
    next: Order,
    /// rmcp's own request, while the connection is being established.
    handshake: Option<RequestId>,
    orphans: Orphans,
    /// Requests whose answers came otherwise than to rmcp, as long as it has not been told.
    failed: VecDeque<(RequestId, Orphan)>,
}

pub(super) type Order = u64;

impl Routes {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a call, just before its request is sent.
    pub(super) fn enter(&self, id: RequestId, token: Option<ProgressToken>, route: Route) {
        let mut table = self.table();
        // A call that was dropped before its request was sent has left already.
        if table.closed || route.mail.is_closed() {
            return;
        }
        table.next += 1;
        let order = table.next;
        if let Some(token) = token {
            table.tokens.insert(token, id.clone());
        }
        if !route.listens && !route.quiet {
            table.calls.insert(order, id.clone());
        }
        table.routes.insert(id, (order, route));
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

    /// Forgets a call that nobody waits for any more. The server may go on with it, whatever it is told.
    pub(super) fn abandon(&self, id: &RequestId, token: &ProgressToken) {
        let mut table = self.table();
        let Some(route) = table.remove(id, token) else {
            return;
        };
        // Once answered, the server is done with it, also if nobody was there to take the answer.
        if !route.listens && !route.answered {
            table
                .abandoned
                .insert(id.clone(), route.session, route.lists);
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
    /// `id` too, and some servers answer notifications so.
    pub(super) fn named(
        &self,
        message: RxJsonRpcMessage<RoleClient>,
    ) -> Option<RxJsonRpcMessage<RoleClient>> {
        match message {
            JsonRpcMessage::Error(error) if error.id.as_ref().and_then(number_in).is_none() => {
                if error.error.code == ErrorCode::METHOD_NOT_FOUND {
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
    pub(super) fn enter_listener(&self, route: Route, filter: SubscriptionFilter) -> u64 {
        let mut table = self.table();
        table.next += 1;
        let order = table.next;
        if !table.closed {
            table.listeners.insert(order, Listener { route, filter });
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
        let mut table = self.table();
        if let ServerNotification::CancelledNotification(_) = &notification {
            return Some(notification);
        }
        let notification = protocol::from_server(notification)?;
        if let ServerNotification::ProgressNotification(progress) = &notification {
            let id = table.tokens.get(&progress.params.progress_token);
            let route = id
                .and_then(|id| table.routes.get(id))
                .map(|(_, route)| route);
            match route {
                Some(route) => {
                    post(route, notification);
                }
                None => tracing::debug!("progress for a call that has ended"),
            }
            return None;
        }
        if let Some(id) = notification.get_meta().subscription_id() {
            table.deliver_to_listen(&id, notification);
            return None;
        }
        if is_change(&notification) {
            table.deliver_change(&notification);
        } else {
            table.deliver_to_only_session(notification);
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
            post(route, notification);
        }
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

    /// The mailbox of the call that a request of the server belongs to.
    pub(super) fn of_request(
        &self,
        request: &ServerRequest,
        context: &RequestContext<RoleClient>,
    ) -> Result<Route, ErrorData> {
        let named = |extensions: &rmcp::model::Extensions| {
            if let Some(InboundStreamOrigin::OutboundRequest(id)) = extensions.get() {
                return Some(id.clone());
            }
            extensions
                .get::<OriginatingRequestId>()
                .map(|origin| origin.0.clone())
        };
        let id = named(&context.extensions).or_else(|| named(request.extensions()));
        let mut table = self.table();
        if let Some(id) = id {
            // The transport knows the call, so nobody else's will do.
            return match table.routes.get(&id) {
                Some((_, route)) => Ok(route.clone()),
                None => Err(refuse("its call has ended")),
            };
        }
        table.abandoned.expire();
        // Which tools there are may depend on a client's roots, and on nothing else that a client is asked.
        let is_alone = match request {
            ServerRequest::ListRootsRequest(_) => Abandoned::tell_only,
            _ => Abandoned::ask_only,
        };
        match table.only_session(is_alone) {
            Only::One(route) => Ok(route.clone()),
            Only::None => Err(refuse("no call is in flight that it could belong to")),
            Only::Several => Err(refuse(
                "calls of several callers are in flight, and this transport does not say which of \
                 them it belongs to; give each caller a connection of its own",
            )),
        }
    }
}

fn refuse(why: &str) -> ErrorData {
    ErrorData::invalid_request(format!("the request cannot be passed on: {why}"), None)
}

enum Only<'a> {
    None,
    One(&'a Route),
    Several,
}

impl Table {
    fn remove(&mut self, id: &RequestId, token: &ProgressToken) -> Option<Route> {
        self.tokens.remove(token);
        let (order, route) = self.routes.remove(id)?;
        self.calls.remove(&order);
        Some(route)
    }

    /// The newest call of the only session that the server may be at work for. `is_alone` says whether those that
    /// have left may be any other.
    fn only_session(&self, is_alone: fn(&Abandoned, Option<u64>) -> bool) -> Only<'_> {
        let mut routes = self
            .calls
            .values()
            .rev()
            .filter_map(|id| self.routes.get(id).map(|(_, route)| route));
        let Some(newest) = routes.next() else {
            return Only::None;
        };
        // A call without a session is a caller of its own.
        let alone = routes.all(|route| route.session.is_some() && route.session == newest.session);
        if alone && is_alone(&self.abandoned, newest.session) {
            Only::One(newest)
        } else {
            Only::Several
        }
    }

    /// The only session that listens.
    fn only_listener(&self) -> Option<&Route> {
        let listens = self
            .routes
            .values()
            .map(|(_, route)| route)
            .filter(|route| route.listens);
        let mut all = listens
            .chain(self.listeners.values().map(|listener| &listener.route))
            .filter(|route| !route.quiet);
        let first = all.next()?;
        let alone = all.all(|route| route.session.is_some() && route.session == first.session);
        (alone && self.abandoned.tell_only(first.session)).then_some(first)
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

    fn deliver_to_listen(&mut self, id: &RequestId, notification: ServerNotification) {
        let Some((_, route)) = self.routes.get(id) else {
            tracing::debug!("a notification for a subscription that has ended");
            return;
        };
        if !post(route, notification) {
            // Its mailbox closes, and the listen ends with an error: it has missed something.
            self.routes.remove(id);
        }
    }

    fn deliver_change(&mut self, change: &ServerNotification) {
        self.listeners.retain(|_, listener| {
            !wants(&listener.filter, change) || post(&listener.route, change.clone())
        });
    }

    /// Messages that say of no call or subscription go to a caller only if there is no other.
    fn deliver_to_only_session(&mut self, notification: ServerNotification) {
        self.abandoned.expire();
        let route = match self.only_session(Abandoned::tell_only) {
            Only::One(route) => Some(route),
            Only::None => self.only_listener(),
            Only::Several => None,
        };
        match route {
            Some(route) => {
                post(route, notification);
            }
            None => tracing::debug!("a message of the server belongs to no caller in particular"),
        }
    }
}

/// Puts a notification into a mailbox, if there is room.
fn post(route: &Route, notification: ServerNotification) -> bool {
    let mail = Mail::Notification(Box::new(notification));
    let posted = route.mail.try_send(mail).is_ok();
    if !posted {
        tracing::warn!(
            MAILBOX,
            "a caller does not keep up; a notification for it is dropped"
        );
    }
    posted
}

impl Route {
    /// Puts a request into the mailbox, and brings the call's answer.
    pub(super) async fn ask(&self, request: ServerRequest) -> Result<ClientResult, ErrorData> {
        let (reply, answer) = oneshot::channel();
        let mail = Mail::Request(Box::new(request), reply);
        if self.mail.send(mail).await.is_err() {
            return Err(refuse("its call has ended"));
        }
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(refuse("its call has ended")),
        }
    }
}
