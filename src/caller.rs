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
    outgoing::{WithoutProgress, trim_notification},
};

/// The way back to whoever made a request: notifications while it runs and, for callers on a revision
/// before 2026-07-28, requests (sampling, elicitation, roots).
///
/// Everything sent through it belongs to the request whose [`CallContext`](crate::CallContext) holds it:
/// a progress notification carries the caller's own token, a change notification the caller's own
/// subscription id. A layer that wants to see or change what goes back puts another `Caller` in the
/// context before it calls the inner service:
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
/// [`notify`](Self::notify) and [`request`](Self::request) fail with a transport error when the caller is
/// gone, and [`request`](Self::request) with the caller's own JSON-RPC error where it answers with one.
#[derive(Clone)]
pub struct Caller {
    route: Route,
    session: Option<Arc<Session>>,
    handshake: Option<Arc<InitializeRequestParams>>,
    /// A layer stands between the caller and whoever holds this.
    layered: bool,
    /// Requests of a server are answered, whatever revision the caller speaks.
    answers: bool,
    /// Nobody made the request: what the server sends to no call in particular is not for it.
    quiet: bool,
}

#[derive(Clone)]
enum Route {
    Detached,
    Peer(Peer<RoleServer>),
    Sink(Arc<dyn CallerSink>),
}

/// What stands behind a [`Caller`] that a layer, or an end of a stack, made.
pub trait CallerSink: Send + Sync + 'static {
    /// Takes a notification to the caller. Notifications arrive in the order of the calls, if each is
    /// awaited before the next.
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>>;

    /// Takes a request to the caller and brings its answer.
    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>>;
}

impl Caller {
    /// Nobody to go back to: notifications are dropped, and requests answered with "method not found".
    pub fn detached() -> Self {
        Self::over(Route::Detached)
    }

    /// A caller reached through `sink`.
    pub fn new(sink: impl CallerSink) -> Self {
        Self::over(Route::Sink(Arc::new(sink)))
    }

    /// A caller served by rmcp.
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

    /// Says that requests of a server are answered though the caller speaks a revision without them: it
    /// is in this process, and no wire forbids it.
    pub(crate) fn answering_requests(mut self, answers: bool) -> Self {
        self.answers = answers;
        self
    }

    /// Says that a layer makes the request on its own behalf. What a server sends without saying to which
    /// call it belongs goes to a real caller's.
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

    /// Puts `wrap` between this caller and whoever sends to it. The new caller is in the same session.
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

    /// Puts `wrap` between this caller and whoever tells a listen of changes, without hiding anything from them:
    /// a bottom that tells its caller of changes in another way may go on doing so.
    #[cfg(any(feature = "cache", feature = "registry"))]
    pub(crate) fn overhear<K: CallerSink>(&self, wrap: impl FnOnce(Self) -> K) -> Self {
        let mut caller = self.wrap(wrap);
        caller.layered = self.layered;
        caller
    }

    /// Lets `map` see, change or drop each notification before it goes to the caller.
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
    /// A transport error, if the caller is gone.
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
    /// Over streamable HTTP rmcp ties the request to the one being served by a task-local value, so call
    /// this inside the future of the request it belongs to, never from a spawned task.
    ///
    /// # Errors
    ///
    /// The caller's JSON-RPC error, if it answers with one; "method not found" if nobody is there to
    /// answer; a transport error, if the caller is gone.
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

    /// The rmcp peer, as long as no layer has put anything in between.
    pub(crate) fn peer(&self) -> Option<&Peer<RoleServer>> {
        match &self.route {
            Route::Peer(peer) => Some(peer),
            _ => None,
        }
    }

    /// The rmcp peer, where [`peer`](Self::peer) has one.
    pub(crate) fn into_peer(self) -> Option<Peer<RoleServer>> {
        match self.route {
            Route::Peer(peer) => Some(peer),
            _ => None,
        }
    }

    /// A number for the caller's session: the same for all requests of one connection, never used again.
    /// `None` for a caller that is in no session.
    pub fn session_id(&self) -> Option<u64> {
        self.session.as_deref().map(|session| session.id)
    }

    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }

    /// What the caller said of itself when its session began: its handshake (revisions before
    /// 2026-07-28). Later revisions say it with each request;
    /// [`CallContext::client_capabilities`](crate::CallContext::client_capabilities) reads both.
    pub fn handshake(&self) -> Option<Arc<InitializeRequestParams>> {
        match &self.route {
            Route::Peer(peer) => peer.peer_info(),
            _ => self.handshake.clone(),
        }
    }

    /// Whether there is nobody to go back to.
    pub(crate) fn is_detached(&self) -> bool {
        matches!(self.route, Route::Detached)
    }

    /// Whether a layer stands between the caller and whoever asks.
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

/// Asks a caller that rmcp serves. Dropping the future withdraws the question.
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

/// A question that is not answered.
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

/// The caller's connection failed, or the caller answered with an error.
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

/// One connection of a caller, as the end that serves it knows it.
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

    /// Cancelled when the session ends.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// The level a legacy caller set with `logging/setLevel`.
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

/// Which generation of the protocol somebody speaks: 2026-07-28 did away with the handshake and with
/// requests from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Era {
    /// `initialize`, then a session.
    Legacy,
    /// Every request says what it needs in its `_meta`.
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
