//! The caller of a request, as a destination for a server's notifications and requests.

mod era;
mod peer;
mod progress;
mod session;
mod sinks;

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use rmcp::{
    RoleServer,
    model::{
        ClientResult, Extensions, GetMeta, InitializeRequestParams, MetaObject, ServerNotification,
        ServerRequest,
    },
    service::{Peer, ServiceError},
};

pub use self::progress::MonotonicProgress;
use self::sinks::no_requests;
pub(crate) use self::{era::Era, session::Session};
#[cfg(feature = "http-server")]
use crate::wire::{as_sent::move_into_meta, over_http::ReceivedOverHttp};
use crate::{
    Error,
    direct::Handover,
    protocol::outgoing::trim_notification,
    wire::{as_sent, caller_results},
};

/// The caller of a request, as a destination for messages: notifications while the request runs
/// and, for callers on a revision before 2026-07-28, requests (sampling, elicitation, roots).
///
/// Every message belongs to the request whose [`CallContext`](crate::CallContext) holds this
/// `Caller`. A progress notification carries the caller's own token, and a change notification the
/// caller's own subscription id. To inspect or change these messages, a layer puts another `Caller`
/// in the context before it calls the inner service:
///
/// ```
/// use rmcp::model::ServerNotification;
/// use rmcp_layers::McpRequest;
///
/// fn without_logging(mut request: McpRequest) -> McpRequest {
///     let quiet = request.context.caller.filter_map_notifications(|notification| {
///         match notification {
///             ServerNotification::LoggingMessageNotification(_) => None,
///             other => Some(other),
///         }
///     });
///     request.context.caller = quiet;
///     request
/// }
/// # let _ = without_logging(McpRequest::call_tool("echo").build());
/// ```
///
/// # Errors
///
/// [`notify`](Self::notify) and [`request`](Self::request) fail with a transport error when the
/// caller is gone. [`request`](Self::request) also fails with the caller's own JSON-RPC error.
#[derive(Clone)]
pub struct Caller {
    route: Route,
    session: Option<Arc<Session>>,
    handshake: Option<Arc<InitializeRequestParams>>,
    form: Form,
    /// A layer has wrapped the caller.
    layered: bool,
    /// The caller answers requests of a server, whatever revision it speaks.
    answers: bool,
    /// A layer made the request on its own behalf. Messages that belong to no particular call are
    /// not sent to it.
    quiet: bool,
    /// Entries for the `_meta` of each message to the caller.
    meta: Option<Arc<MetaObject>>,
}

/// The form of messages to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// rmcp's types. There is no rmcp peer: the caller is in this process, or cannot be reached.
    Local,
    /// rmcp's types, to a peer over lines. A transport of this crate adds the parts that they have no place for.
    Typed,
    /// With those parts, as custom messages: rmcp's HTTP service writes what it is given.
    Whole,
    /// The same, but progress is typed. A session finds the stream of progress by its type. The
    /// layer in front of rmcp's service adds its parts.
    OfSession { has_layer: bool },
}

impl Form {
    fn of(extensions: &Extensions) -> Self {
        match extensions.get::<http::request::Parts>() {
            None => Self::Typed,
            Some(head) if !head.headers.contains_key("mcp-session-id") => Self::Whole,
            Some(_) => Self::OfSession {
                has_layer: has_layer(extensions),
            },
        }
    }

    fn apply(self, mut notification: ServerNotification) -> ServerNotification {
        match (self, &notification) {
            (Self::Local | Self::Typed, _) => notification,
            (Self::OfSession { has_layer }, ServerNotification::ProgressNotification(_)) => {
                if has_layer {
                    move_into_meta(&mut notification);
                }
                notification
            }
            _ => as_sent::with_kept_parts(notification),
        }
    }
}

#[cfg(feature = "http-server")]
fn has_layer(extensions: &Extensions) -> bool {
    ReceivedOverHttp::of(extensions).is_some()
}

#[cfg(not(feature = "http-server"))]
fn has_layer(_: &Extensions) -> bool {
    false
}

#[cfg(not(feature = "http-server"))]
fn move_into_meta(_: &mut ServerNotification) {}

#[derive(Clone)]
enum Route {
    Detached,
    Peer(Peer<RoleServer>),
    /// rmcp serves the request once the caller is to be reached.
    Direct(Arc<Handover>),
    Sink(Arc<dyn CallerSink>),
}

/// The implementation behind a [`Caller`] that a layer or an end of a stack made.
pub trait CallerSink: Send + Sync + 'static {
    /// Sends a notification to the caller. Notifications arrive in the order of the calls, if each
    /// is awaited before the next.
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>>;

    /// Sends a request to the caller and returns its answer.
    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>>;
}

impl Caller {
    /// Creates a caller that cannot be reached: notifications are dropped, and requests are
    /// answered with "method not found".
    pub fn detached() -> Self {
        Self::over(Route::Detached, Form::Local)
    }

    /// Creates a caller that is reached through `sink`.
    pub fn new(sink: impl CallerSink) -> Self {
        Self::over(Route::Sink(Arc::new(sink)), Form::Local)
    }

    /// Creates the caller that rmcp serves through `peer`.
    pub fn from_peer(peer: Peer<RoleServer>) -> Self {
        Self::over(Route::Peer(peer), Form::Typed)
    }

    /// Creates the caller of a call that a transport has begun without rmcp.
    pub(crate) fn direct(handover: Arc<Handover>) -> Self {
        Self::over(Route::Direct(handover), Form::Typed)
    }

    fn over(route: Route, form: Form) -> Self {
        Self {
            route,
            session: None,
            handshake: None,
            form,
            layered: false,
            answers: false,
            quiet: false,
            meta: None,
        }
    }

    /// Sets the form of messages to an rmcp peer, by the extensions of a message that came from it.
    pub(crate) fn in_form_of(mut self, extensions: &Extensions) -> Self {
        self.form = Form::of(extensions);
        self
    }

    pub(crate) fn in_session(mut self, session: Arc<Session>) -> Self {
        self.session = Some(session);
        self
    }

    pub(crate) fn with_handshake(
        mut self,
        handshake: Option<Arc<InitializeRequestParams>>,
    ) -> Self {
        self.handshake = handshake;
        self
    }

    /// Sets that requests of a server are answered, even if the caller speaks a revision without
    /// them. It is in this process, so no wire format forbids them.
    pub(crate) fn answering_requests(mut self, answers: bool) -> Self {
        self.answers = answers;
        self
    }

    /// Marks the request as made by a layer on its own behalf. A server's messages that name no
    /// call then go to the call of a real caller.
    pub(crate) fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Returns a caller of the same session and handshake that cannot be reached, for a request
    /// that a layer makes on its own behalf.
    pub(crate) fn to_background(&self) -> Self {
        Self {
            route: Route::Detached,
            session: self.session.clone(),
            handshake: self.handshake(),
            form: self.form,
            layered: self.layered,
            answers: self.answers,
            quiet: true,
            meta: None,
        }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    pub(crate) fn answers_requests(&self) -> bool {
        self.answers
    }

    /// Puts `wrap` between this caller and its senders. The new caller is in the same session.
    #[must_use]
    pub fn wrap<K: CallerSink>(&self, wrap: impl FnOnce(Self) -> K) -> Self {
        Self {
            route: Route::Sink(Arc::new(wrap(self.clone()))),
            session: self.session.clone(),
            handshake: self.handshake(),
            form: self.form,
            layered: true,
            answers: self.answers,
            quiet: self.quiet,
            // This caller, which is inside, adds its entries.
            meta: None,
        }
    }

    /// Puts `wrap` between this caller and the sender of a listen's notifications, and does not
    /// count as a layer. A bottom that announces changes to its caller in another way may go on
    /// doing so.
    pub(crate) fn wrap_listen<K: CallerSink>(&self, wrap: impl FnOnce(Self) -> K) -> Self {
        let mut caller = self.wrap(wrap);
        caller.layered = self.layered;
        caller
    }

    /// Adds entries to the `_meta` of each message to the caller, in place of those of the same
    /// names. Unlike [`wrap`](Self::wrap), it leaves the way to the caller as it is.
    #[cfg(feature = "otel")]
    pub(crate) fn add_to_meta(&mut self, entries: MetaObject) {
        self.meta = (!entries.is_empty()).then(|| Arc::new(entries));
    }

    /// Sends a notification to the caller.
    ///
    /// # Errors
    ///
    /// Fails with a transport error if the caller is gone.
    pub async fn notify(&self, mut notification: ServerNotification) -> Result<(), Error> {
        if let Some(entries) = &self.meta {
            add_entries(notification.get_meta_mut(), entries);
        }
        match &self.route {
            Route::Detached => Ok(()),
            Route::Sink(sink) => sink.notify(notification).await,
            Route::Peer(_) | Route::Direct(_) => {
                trim_notification(&mut notification);
                notification = self.form.apply(notification);
                let peer = self.served_peer().await?;
                peer.send_notification(notification)
                    .await
                    .map_err(peer::error)
            }
        }
    }

    /// Returns the peer of a caller that rmcp serves, or that it is to serve from now on.
    async fn served_peer(&self) -> Result<&Peer<RoleServer>, Error> {
        let peer = match &self.route {
            Route::Peer(peer) => Some(peer),
            Route::Direct(handover) => handover.peer().await,
            Route::Detached | Route::Sink(_) => None,
        };
        peer.ok_or_else(|| peer::error(ServiceError::TransportClosed))
    }

    /// Has rmcp serve a call that its transport has begun, so that [`peer`](Self::peer) is there.
    pub(crate) async fn hand_over(&self) {
        if let Route::Direct(handover) = &self.route {
            handover.peer().await;
        }
    }

    /// Returns `true` if the transport has begun the call, and rmcp does not serve it yet.
    pub(crate) fn is_direct(&self) -> bool {
        matches!(&self.route, Route::Direct(handover) if handover.peer_now().is_none())
    }

    /// Sends a request to the caller and waits for its answer.
    ///
    /// Over streamable HTTP, rmcp ties the request to the served one by a task-local value. Call
    /// this inside the future of the request it belongs to, never from a spawned task.
    ///
    /// # Errors
    ///
    /// Fails with the caller's JSON-RPC error, with "method not found" if the caller is
    /// [detached](Self::detached), and with a transport error if the caller is gone.
    pub async fn request(&self, mut request: ServerRequest) -> Result<ClientResult, Error> {
        if let Some(entries) = &self.meta {
            add_entries(request.get_meta_mut(), entries);
        }
        match &self.route {
            Route::Detached => Err(no_requests()),
            Route::Sink(sink) => sink.request(request).await,
            Route::Peer(_) | Route::Direct(_) => {
                if let Form::Whole | Form::OfSession { .. } = self.form {
                    request = as_sent::with_kept_parts(request);
                }
                let result = peer::request(self.served_peer().await?, request).await?;
                Ok(caller_results::whole(result))
            }
        }
    }

    /// Returns the rmcp peer, unless a layer has wrapped the caller.
    pub(crate) fn peer(&self) -> Option<&Peer<RoleServer>> {
        match &self.route {
            Route::Peer(peer) => Some(peer),
            Route::Direct(handover) => handover.peer_now(),
            Route::Detached | Route::Sink(_) => None,
        }
    }

    /// Returns the same peer as [`peer`](Self::peer), by value.
    pub(crate) fn into_peer(self) -> Option<Peer<RoleServer>> {
        match self.route {
            Route::Peer(peer) => Some(peer),
            Route::Direct(handover) => handover.peer_now().cloned(),
            Route::Detached | Route::Sink(_) => None,
        }
    }

    /// Returns the number of the caller's session. It is the same for all requests of one
    /// connection, and is never reused. Returns `None` for a caller without a session.
    pub fn session_id(&self) -> Option<u64> {
        self.session.as_deref().map(Session::id)
    }

    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }

    /// Returns the params of the caller's handshake (revisions before 2026-07-28). Callers of later
    /// revisions send the same facts with each request;
    /// [`CallContext::client_capabilities`](crate::CallContext::client_capabilities) reads both.
    pub fn handshake(&self) -> Option<Arc<InitializeRequestParams>> {
        match &self.route {
            Route::Peer(peer) => peer.peer_info(),
            _ => self.handshake.clone(),
        }
    }

    /// Returns `true` if the caller reads results and notifications from one stream of lines, as over
    /// stdio. It also holds for what a layer has put in front of such a caller.
    #[cfg(feature = "progress")]
    pub(crate) fn is_over_lines(&self) -> bool {
        self.form == Form::Typed
    }

    /// Returns `true` if the caller cannot be reached.
    pub(crate) fn is_detached(&self) -> bool {
        matches!(self.route, Route::Detached)
    }

    /// Returns `true` if a layer has wrapped the caller.
    pub(crate) fn is_layered(&self) -> bool {
        self.layered
    }
}

fn add_entries(meta: &mut MetaObject, entries: &MetaObject) {
    for (name, value) in entries.iter() {
        meta.insert(name.clone(), value.clone());
    }
}

impl Default for Caller {
    fn default() -> Self {
        Self::detached()
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = match &self.route {
            Route::Detached => "detached",
            Route::Peer(_) => "peer",
            Route::Direct(_) => "direct",
            Route::Sink(_) => "sink",
        };
        f.debug_struct("Caller")
            .field("route", &route)
            .field("session", &self.session_id())
            .finish()
    }
}
