//! Which call a message from the server belongs to.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rmcp::{
    RoleClient,
    model::{
        ClientResult, ConstString, ErrorData, GetExtensions, GetMeta, ProgressToken, RequestId,
        ServerNotification, ServerRequest, SubscriptionFilter,
    },
    service::{InboundStreamOrigin, OriginatingRequestId, RequestContext},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::Caller;

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
    /// Takes only what says that it belongs here.
    quiet: bool,
    answered: bool,
}

impl Route {
    pub(super) fn new(caller: &Caller, listens: bool) -> (Self, Mailbox) {
        let (mail, mailbox) = mpsc::channel(MAILBOX);
        (
            Self {
                mail,
                session: caller.session_id(),
                listens,
                quiet: caller.is_quiet(),
                answered: false,
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
}

type Order = u64;

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

    /// Forgets a call that was answered.
    pub(super) fn land(&self, id: &RequestId, token: &ProgressToken) {
        self.table().remove(id, token);
    }

    /// Forgets a call that nobody waits for any more. The server may go on with it, whatever it is told.
    pub(super) fn abandon(&self, id: &RequestId, token: &ProgressToken) {
        let mut table = self.table();
        let Some(route) = table.remove(id, token) else {
            return;
        };
        // Once answered, the server is done with it, also if nobody was there to take the answer.
        if !route.listens && !route.answered {
            table.abandoned.insert(id.clone(), route.session);
        }
    }

    /// Takes note that the server has answered a request.
    pub(super) fn answered(&self, id: &RequestId) {
        let mut table = self.table();
        if let Some((_, route)) = table.routes.get_mut(id) {
            route.answered = true;
        } else {
            table.abandoned.remove(id);
        }
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
        let table = self.table();
        table.routes.len() + table.listeners.len()
    }

    /// Puts a notification where it belongs. Gives back those that are rmcp's own business.
    pub(super) fn deliver(&self, notification: ServerNotification) -> Option<ServerNotification> {
        let mut table = self.table();
        if let ServerNotification::CancelledNotification(_) = &notification {
            return Some(notification);
        }
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
        match table.only_session() {
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

    /// The newest call of the only session that the server may be at work for.
    fn only_session(&self) -> Only<'_> {
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
        if alone && self.abandoned.are_all_of(newest.session) {
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
        (alone && self.abandoned.are_all_of(first.session)).then_some(first)
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
        let route = match self.only_session() {
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

/// Calls that nobody waits for any more, by the session they were of.
///
/// Cancelling is advice, and a server may take its time to follow it, or not follow it at all. What it
/// sends meanwhile belongs to the caller that left, so nobody else is taken to be alone.
#[derive(Default)]
struct Abandoned {
    calls: HashMap<RequestId, (Option<u64>, Instant)>,
    /// Until when there are more of them than can be told apart.
    too_many_until: Option<Instant>,
}

/// How long a server may be at work on a call that it was told to cancel.
const ABANDONED_FOR: Duration = Duration::from_secs(60);
/// How many such calls are told apart. While there are more, nobody is taken to be alone.
const MAX_ABANDONED: usize = 1_024;

impl Abandoned {
    fn insert(&mut self, id: RequestId, session: Option<u64>) {
        let until = Instant::now() + ABANDONED_FOR;
        if self.calls.len() >= MAX_ABANDONED {
            self.expire();
        }
        if self.calls.len() >= MAX_ABANDONED {
            self.too_many_until = Some(until);
        } else {
            self.calls.insert(id, (session, until));
        }
    }

    fn remove(&mut self, id: &RequestId) {
        self.calls.remove(id);
    }

    fn expire(&mut self) {
        let now = Instant::now();
        self.calls.retain(|_, (_, until)| *until > now);
        self.too_many_until = self.too_many_until.filter(|until| *until > now);
    }

    fn are_all_of(&self, session: Option<u64>) -> bool {
        let mut sessions = self.calls.values().map(|(session, _)| session);
        self.too_many_until.is_none() && sessions.all(|other| other.is_some() && *other == session)
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

fn is_change(notification: &ServerNotification) -> bool {
    matches!(
        notification,
        ServerNotification::ToolListChangedNotification(_)
            | ServerNotification::PromptListChangedNotification(_)
            | ServerNotification::ResourceListChangedNotification(_)
            | ServerNotification::ResourceUpdatedNotification(_)
    )
}

fn wants(filter: &SubscriptionFilter, change: &ServerNotification) -> bool {
    match change {
        ServerNotification::ToolListChangedNotification(_) => {
            filter.tools_list_changed == Some(true)
        }
        ServerNotification::PromptListChangedNotification(_) => {
            filter.prompts_list_changed == Some(true)
        }
        ServerNotification::ResourceListChangedNotification(_) => {
            filter.resources_list_changed == Some(true)
        }
        ServerNotification::ResourceUpdatedNotification(update) => filter
            .resource_subscriptions
            .iter()
            .flatten()
            .any(|uri| *uri == update.params.uri),
        _ => false,
    }
}

/// The name of a request of the server, for logs.
pub(super) fn method(request: &ServerRequest) -> &str {
    match request {
        ServerRequest::PingRequest(request) => request.method.as_str(),
        ServerRequest::CreateMessageRequest(request) => request.method.as_str(),
        ServerRequest::ListRootsRequest(request) => request.method.as_str(),
        ServerRequest::ElicitRequest(request) => request.method.as_str(),
        ServerRequest::CustomRequest(request) => &request.method,
        _ => "unknown",
    }
}
