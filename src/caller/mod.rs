use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::future::BoxFuture;
use rmcp::{
    RoleServer,
    model::{
        ClientResult, ErrorData, GetExtensions, GetMeta, InitializeRequestParams, LoggingLevel,
        ProtocolVersion, ServerNotification, ServerRequest,
    },
    service::{Peer, PeerRequestOptions, RequestHandle, ServiceError},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    error::TransportError,
    protocol::outgoing::{WithoutProgress, trim_notification},
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
    /// A layer has wrapped the caller.
    layered: bool,
    /// The caller answers requests of a server, whatever revision it speaks.
    answers: bool,
    /// A layer made the request on its own behalf. Messages that belong to no particular call are
    /// not sent to it.
    quiet: bool,
}

#[derive(Clone)]
enum Route {
    Detached,
    Peer(Peer<RoleServer>),
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
        Self::over(Route::Detached)
    }

    /// Creates a caller that is reached through `sink`.
    pub fn new(sink: impl CallerSink) -> Self {
        Self::over(Route::Sink(Arc::new(sink)))
    }

    /// Creates the caller that rmcp serves through `peer`.
    pub fn from_peer(peer: Peer<RoleServer>) -> Self {
        Self::over(Route::Peer(peer))
    }

    fn over(route: Route) -> Self {
        Self {
            route,
            session: None,
            handshake: None,
            layered: false,
            answers: false,
            quiet: false,
        }
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
            layered: true,
            answers: self.answers,
            quiet: self.quiet,
        }
    }

    /// Puts `wrap` between this caller and the sender of a listen's notifications, and does not
    /// count as a layer. A bottom that announces changes to its caller in another way may go on
    /// doing so.
    #[cfg(any(feature = "cache", feature = "registry"))]
    pub(crate) fn overhear<K: CallerSink>(&self, wrap: impl FnOnce(Self) -> K) -> Self {
        let mut caller = self.wrap(wrap);
        caller.layered = self.layered;
        caller
    }

    /// Passes each notification through `map`, which may inspect, change or drop it.
    #[must_use]
    pub fn filter_map_notifications(
        &self,
        map: impl Fn(ServerNotification) -> Option<ServerNotification> + Send + Sync + 'static,
    ) -> Self {
        self.wrap(|inner| FilterMap { inner, map })
    }

    /// Sends a notification to the caller.
    ///
    /// # Errors
    ///
    /// Fails with a transport error if the caller is gone.
    pub async fn notify(&self, mut notification: ServerNotification) -> Result<(), Error> {
        match &self.route {
            Route::Detached => Ok(()),
            Route::Peer(peer) => {
                trim_notification(&mut notification);
                peer.send_notification(notification).await.map_err(gone)
            }
            Route::Sink(sink) => sink.notify(notification).await,
        }
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
    pub async fn request(&self, request: ServerRequest) -> Result<ClientResult, Error> {
        match &self.route {
            Route::Detached => Err(ErrorData::new(
                rmcp::model::ErrorCode::METHOD_NOT_FOUND,
                "this caller takes no requests from a server",
                None,
            )
            .into()),
            Route::Peer(peer) => ask(peer, request).await,
            Route::Sink(sink) => sink.request(request).await,
        }
    }

    /// Returns the rmcp peer, unless a layer has wrapped the caller.
    pub(crate) fn peer(&self) -> Option<&Peer<RoleServer>> {
        match &self.route {
            Route::Peer(peer) => Some(peer),
            _ => None,
        }
    }

    /// Returns the same peer as [`peer`](Self::peer), by value.
    pub(crate) fn into_peer(self) -> Option<Peer<RoleServer>> {
        match self.route {
            Route::Peer(peer) => Some(peer),
            _ => None,
        }
    }

    /// Returns the number of the caller's session. It is the same for all requests of one
    /// connection, and is never reused. Returns `None` for a caller without a session.
    pub fn session_id(&self) -> Option<u64> {
        self.session.as_deref().map(|session| session.id)
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

    /// Returns `true` if the caller cannot be reached.
    pub(crate) fn is_detached(&self) -> bool {
        matches!(self.route, Route::Detached)
    }

    /// Returns `true` if a layer has wrapped the caller.
    pub(crate) fn is_layered(&self) -> bool {
        self.layered
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
            Route::Sink(_) => "sink",
        };
        f.debug_struct("Caller")
            .field("route", &route)
            .field("session", &self.session_id())
            .finish()
    }
}

/// Sends a request to a caller that rmcp serves. Dropping the future cancels the request.
async fn ask(peer: &Peer<RoleServer>, mut request: ServerRequest) -> Result<ClientResult, Error> {
    if request.get_meta().get_progress_token().is_none() {
        request.extensions_mut().insert(WithoutProgress);
    }
    let options = PeerRequestOptions::no_options();
    let sent = peer.send_request_with_option(request, options).await;
    let mut question = Question(Some(sent.map_err(gone)?));
    let answer = match &mut question.0 {
        Some(handle) => (&mut handle.rx).await,
        None => return Err(gone(ServiceError::TransportClosed)),
    };
    question.0 = None;
    answer
        .unwrap_or(Err(ServiceError::TransportClosed))
        .map_err(gone)
}

/// A request without an answer yet.
struct Question(Option<RequestHandle<RoleServer>>);

impl Drop for Question {
    fn drop(&mut self) {
        let (Some(handle), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        runtime.spawn(async move {
            let reason = "the server does not wait for the answer any more";
            if let Err(error) = handle.cancel(Some(reason.to_owned())).await {
                tracing::debug!(%error, "a caller could not be told that a question is withdrawn");
            }
        });
    }
}

/// Converts the failure of a caller's connection, or the caller's error.
fn gone(error: ServiceError) -> Error {
    match error {
        ServiceError::McpError(error) => error.into(),
        ServiceError::Cancelled { reason } => Error::Cancelled {
            reason: reason.map(Into::into),
        },
        ServiceError::Timeout { timeout } => Error::timeout(timeout),
        other => TransportError::new("the caller cannot be reached")
            .with_source(other)
            .into(),
    }
}

struct FilterMap<F> {
    inner: Caller,
    map: F,
}

impl<F> CallerSink for FilterMap<F>
where
    F: Fn(ServerNotification) -> Option<ServerNotification> + Send + Sync + 'static,
{
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            match (self.map)(notification) {
                Some(notification) => self.inner.notify(notification).await,
                None => Ok(()),
            }
        })
    }

    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(self.inner.request(request))
    }
}

/// One connection of a caller, in the view of the end that serves it.
#[derive(Debug)]
pub(crate) struct Session {
    id: u64,
    closed: CancellationToken,
    log_level: Mutex<Option<LoggingLevel>>,
}

impl Session {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            closed: CancellationToken::new(),
            log_level: Mutex::default(),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Returns the token that is cancelled when the session ends.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Returns the level that a legacy caller set with `logging/setLevel`.
    pub(crate) fn log_level(&self) -> Option<LoggingLevel> {
        *self
            .log_level
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_log_level(&self, level: LoggingLevel) {
        *self
            .log_level
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(level);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

/// A generation of the protocol. Revision 2026-07-28 removed the handshake and the requests from
/// the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Era {
    /// `initialize`, then a session.
    Legacy,
    /// Every request carries its context in its `_meta`.
    Modern,
}

impl Era {
    pub(crate) fn of(version: &ProtocolVersion) -> Self {
        if version.has_initialize() {
            Self::Legacy
        } else {
            Self::Modern
        }
    }
}
