//! The upstream: the innermost service of a stack, which is a connection to an MCP server.

mod answers;
mod builder;
mod call;
mod capabilities;
mod connect;
mod connection;
#[cfg_attr(
    not(feature = "child-process"),
    expect(dead_code, reason = "only a child process tells how it ended")
)]
mod end;
mod errors;
#[cfg(feature = "http-client")]
pub(crate) mod http;
mod lenient_lists;
mod listen;
mod multi_round;
mod route;
mod slot;
mod stats;

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

pub use builder::{Lifecycle, UpstreamBuilder};
#[cfg(feature = "child-process")]
pub use connect::ChildProcess;
#[cfg(feature = "http-client")]
pub use connect::HttpEndpoint;
use futures::future::BoxFuture;
use rmcp::model::{
    ClientNotification, ClientRequest, ClientResult, EmptyResult, ErrorCode, ErrorData,
    LoggingLevel, ServerNotification, ServerRequest, ServerResult, SetLevelRequest,
    SetLevelRequestParams,
};
pub use stats::UpstreamStats;
use tower::Service;

use self::{call::Call, capabilities::Claims, connection::Connection, slot::Slot, stats::Counters};
use crate::{
    Error, McpRequest, McpResponse, Refusal, ServedBy, UnreadableItem,
    caller::Era,
    code,
    protocol::{
        self,
        methods::Method,
        notifications::server_request_method,
        unreadable_items::{LeftOut, Listing, UnreadableLog},
    },
    request::OnlyDeclared,
};

/// The innermost service of a stack: a connection to an MCP server.
///
/// The server is a child process, a streamable HTTP URL, a server in this process, any rmcp
/// transport, or an existing rmcp client.
///
/// An upstream is cheap to clone, and all clones share the connection.
///
/// # The connection
///
/// The upstream connects when the first request needs the connection, or when
/// [`connect`](Self::connect) is called. All callers that wait share one attempt.
///
/// When the connection is lost, the calls in flight fail at once with a
/// [transport error](crate::TransportError), and the upstream reconnects. The first attempt follows
/// right away. The later ones wait for times that double from 500 ms to 30 s, each drawn between
/// half of itself and the whole. A call that comes meanwhile starts an attempt itself if one is
/// due. Otherwise it fails at once with an error that says when the next attempt is due.
///
/// A child process that ended is waited for, so that it does not stay as a zombie, and started
/// again. When the server has forgotten an HTTP session, the upstream begins a new session and
/// sends the request again.
///
/// # A call
///
/// - `_meta` goes to the server unchanged, except for the entries that each hop sets for itself:
///   progress token, protocol version and client info. The client capabilities are the caller's, so
///   that the server asks for nothing that this caller cannot answer.
/// - Progress, logging, change notifications and (before 2026-07-28) requests of the server go to
///   the caller whose request they belong to, in the order the server sent them. A message belongs
///   to the request that it names (progress token, subscription), or to the request on whose
///   response stream it comes (HTTP).
/// - Log lines, custom notifications and requests that name no request go to a caller only if the
///   connection has never had another caller. The same holds for updates of resources that no
///   listen asked for, where the server takes no subscriptions. A caller is a session and the
///   principal that uses it; a request without a session is a separate caller. A message goes to
///   the caller's newest call, else to its open listen; a session of a revision before 2026-07-28
///   has one open by itself. Once there have been several callers, such requests are refused and
///   such notifications are dropped, whichever calls are in flight: a server may go on with the
///   work of a call that it has answered. [`stats`](Self::stats) counts both. A connection for each
///   session avoids that: in a gateway,
#[cfg_attr(
    feature = "gateway",
    doc = "  [`Member::per_caller`](crate::gateway::Member::per_caller)."
)]
#[cfg_attr(not(feature = "gateway"), doc = "  `Member::per_caller`.")]
/// - While the only caller cannot be reached, or there was none yet, up to 16 such requests wait
///   for at most 60 s, and up to 64 notifications.
/// - Limit on requests of the server that wait for an answer: 64 for one call, and 1,024 on one
///   connection. More are refused. If a server reads neither refusals nor answers to its pings, its
///   requests are dropped once 1,024 of these replies wait to be read.
/// - Dropping the call's future sends `notifications/cancelled`. Over HTTP since 2026-07-28 it
///   closes the response instead, which means the same there (MCP 2026-07-28, basic/transports,
///   streamable HTTP).
/// - `logging/setLevel` applies to a connection with an older server, and so to all callers that
///   share it. The last level set counts, and the upstream sets it again on the next connection.
/// - An answer that cannot be read, or exceeds the size limit, fails its call at once and no other
///   call. [`lines`](UpstreamBuilder::lines) says how that call is found over lines; over HTTP it
///   is the call whose response holds the answer.
/// - A list item that cannot be read is left out and [reported](Self::unreadable). The other items
///   of the list are kept.
/// - A call fails with a timeout if the server is silent for
///   [`request_timeout`](UpstreamBuilder::request_timeout). Default: 5 minutes. Progress, and any
///   other message for the call, restarts the time.
///
/// # Revisions
///
/// The two sides may speak different revisions of the protocol:
///
/// - A listen is answered from the notifications of an older server.
/// - A multi-round result is turned into the requests that an older caller knows. Limit:
///   [ten rounds](rmcp::model::DEFAULT_MRTR_MAX_ROUNDS).
/// - A request (sampling, elicitation, roots) of an older server to a caller on 2026-07-28 cannot
///   be translated, because that revision has no such requests. The server gets an error.
///
/// [`Lifecycle::MatchCaller`] avoids translation where a server speaks both.
///
/// ```no_run
/// # #[cfg(feature = "http-client")]
/// # async fn example() -> Result<(), rmcp_layers::Error> {
/// use std::time::Duration;
///
/// use rmcp_layers::{HttpEndpoint, McpRequest, Upstream};
/// use tower::ServiceExt;
///
/// let upstream = Upstream::builder()
///     .name("weather")
///     .request_timeout(Duration::from_secs(30))
///     .http(HttpEndpoint::new("http://127.0.0.1:8000/mcp"))?;
/// let forecast = upstream.oneshot(McpRequest::call_tool("forecast").argument("city", "Rome").build());
/// println!("{:?}", forecast.await?.result);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Upstream {
    inner: Arc<Inner>,
}

/// A weak reference to an [`Upstream`] that keeps neither it nor its connection alive.
///
/// It serves to close at the end the upstreams that were made for single callers.
#[derive(Clone)]
pub struct WeakUpstream(Weak<Inner>);

impl WeakUpstream {
    /// Returns the upstream, if anything else keeps it alive.
    pub fn upgrade(&self) -> Option<Upstream> {
        self.0.upgrade().map(|inner| Upstream { inner })
    }
}

impl std::fmt::Debug for WeakUpstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WeakUpstream").finish_non_exhaustive()
    }
}

struct Inner {
    name: Arc<str>,
    timeout: Option<Duration>,
    /// The slot for callers with a handshake. It serves all callers, unless the lifecycle matches
    /// callers.
    first: Arc<Slot>,
    /// The slot for callers without a handshake, if the lifecycle matches callers.
    second: Option<Arc<Slot>>,
    /// The slot that serves all callers, once it is known that the server speaks only one of the
    /// two ways.
    only: OnceLock<Only>,
    /// The log level that a caller set last, where the level belongs to the connection.
    level: Mutex<Option<LoggingLevel>>,
    unreadable: UnreadableLog,
    claims: Arc<Claims>,
    counters: Arc<Counters>,
}

#[derive(Clone, Copy, Debug)]
enum Only {
    First,
    Second,
}

impl Upstream {
    /// Returns a builder to configure an upstream.
    pub fn builder() -> UpstreamBuilder {
        UpstreamBuilder::new()
    }

    /// Returns an upstream to a server in this process, over typed channels. Messages are not
    /// serialized to JSON.
    pub fn in_process<H: rmcp::ServerHandler>(handler: H) -> Self {
        Self::builder().in_process(handler)
    }

    /// Returns an upstream to a child process, over its standard input and output.
    #[cfg(feature = "child-process")]
    pub fn child_process(command: impl Into<ChildProcess>) -> Self {
        Self::builder().child_process(command)
    }

    /// Returns an upstream to a streamable HTTP URL.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL or a header is malformed, if the URL is `https://` and this
    /// build has no TLS (features `rustls` and `native-tls`), or if the TLS library cannot be set
    /// up.
    #[cfg(feature = "http-client")]
    pub fn http(endpoint: impl Into<HttpEndpoint>) -> Result<Self, Error> {
        Self::builder().http(endpoint)
    }

    /// Returns the name of the upstream in errors and logs.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Connects, unless there is a connection already.
    ///
    /// # Errors
    ///
    /// Returns a [transport error](crate::TransportError) that says why there is no connection. Its
    /// message includes the [detail](crate::TransportError::detail): it is meant for the operator,
    /// not for callers.
    pub async fn connect(&self) -> Result<(), Error> {
        let connected = self.inner.first.get().await;
        connected.map(drop).map_err(Error::with_detail_shown)
    }

    /// Returns `true` if there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.inner.slots().any(|slot| slot.ready().is_some())
    }

    /// Returns counts of the messages that were withheld since the upstream was made.
    pub fn stats(&self) -> UpstreamStats {
        self.inner.counters.stats()
    }

    /// Returns the number of calls and listens in flight.
    pub fn in_flight(&self) -> usize {
        let connections = self.inner.slots().filter_map(|slot| slot.ready());
        connections.map(|connection| connection.routes.len()).sum()
    }

    /// Returns the list items that could not be read, from the last reading of each list.
    ///
    /// Limit: 100 items of a list. An item that cannot be read is left out and logged once. The
    /// other items are kept.
    pub fn unreadable(&self) -> Vec<UnreadableItem> {
        self.inner.unreadable.items()
    }

    /// Delivers a notification of the server to the call or the listen that it belongs to.
    ///
    /// The handler of a client that the upstream was made with ([`peer`](UpstreamBuilder::peer),
    /// [`running`](UpstreamBuilder::running)) calls it. A notification that names neither a call
    /// nor a listen goes to the connection's only caller, under the same [rule](Self#a-call).
    ///
    /// Connections that the upstream makes itself deliver their notifications without it.
    pub fn forward_notification(&self, notification: impl Into<ServerNotification>) {
        if let Some(connection) = self.inner.first.ready() {
            connection.routes.deliver(notification.into());
        }
    }

    /// Sends a request of the server to the caller that it is for, and returns the caller's answer.
    ///
    /// The same handlers call it as [`forward_notification`](Self::forward_notification).
    ///
    /// # Errors
    ///
    /// Returns the error to answer the server with: the caller's own error, or an error that says
    /// why no caller is asked.
    pub async fn forward_request(
        &self,
        request: impl Into<ServerRequest>,
    ) -> Result<ClientResult, ErrorData> {
        let Some(connection) = self.inner.first.ready() else {
            return Err(ErrorData::internal_error("the connection was lost", None));
        };
        let request = request.into();
        let admitted = connection.routes.admit(&request);
        let admitted = admitted.inspect_err(|error| {
            let counters = connection.routes.counters();
            counters.refused(server_request_method(&request), error);
        })?;
        admitted.ask(&connection.routes, request).await
    }

    /// Returns a reference that keeps neither the upstream nor its connection alive.
    pub fn downgrade(&self) -> WeakUpstream {
        WeakUpstream(Arc::downgrade(&self.inner))
    }

    /// Closes the connection for good. Calls in flight fail.
    ///
    /// A child process is asked to end by closing its standard input, 1 s later by `SIGTERM`, and
    /// killed after another second (MCP 2025-11-25, basic/lifecycle, shutdown). A child process
    /// that is still being connected to is killed at once. Every caller of this method waits for
    /// the same end, which takes at most 3 s.
    ///
    /// To close several upstreams, await all of these futures at once.
    pub async fn close(&self) {
        futures::future::join_all(self.inner.slots().map(|slot| slot.close())).await;
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.inner.name)
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

impl Service<McpRequest> for Upstream {
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, Result<McpResponse, Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        let inner = self.inner.clone();
        Box::pin(async move { inner.handle(request).await })
    }
}

impl Inner {
    fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        std::iter::once(&self.first).chain(&self.second)
    }

    /// Handles one request.
    ///
    /// The future of every call is as large as the largest branch here. So the rare branches are
    /// boxed, and the request stays in its own box.
    async fn handle(&self, request: McpRequest) -> Result<McpResponse, Error> {
        ServedBy::say(&request.context.extensions, &self.name);
        let era = request.context.era();
        if request.as_notification().is_some() {
            return Box::pin(self.notify(request, era)).await;
        }
        if let Some(refused) = protocol::refuse(&request) {
            return Err(refused);
        }
        let connection = match self.ready(era) {
            Some(connection) => connection,
            None => {
                self.claims.wanted_for(&request.context);
                Box::pin(self.connection(era)).await?
            }
        };
        if connection.may_be_forgotten() {
            return Box::pin(self.dispatch_again(connection, era, request)).await;
        }
        self.dispatch(connection, era, request).await
    }

    /// Sends a request, and sends it again in a new session if the server has forgotten the
    /// session: the server has done nothing for the first one.
    async fn dispatch_again(
        &self,
        connection: Arc<Connection>,
        era: Era,
        request: McpRequest,
    ) -> Result<McpResponse, Error> {
        let again = request.clone();
        let answer = self.dispatch(connection.clone(), era, request).await;
        match answer {
            Err(error) if error.is_not_delivered() && connection.is_lost() => {
                let connection = self.connection(era).await?;
                let answer = self.dispatch(connection, era, again).await;
                answer.map_err(errors::forgotten_again)
            }
            answer => answer,
        }
    }

    /// Returns the connection for a caller of this era, if there is one now and the server's
    /// revisions are known.
    fn ready(&self, era: Era) -> Option<Arc<Connection>> {
        let Some(second) = &self.second else {
            return self.first.ready();
        };
        match (self.only.get(), era) {
            (Some(Only::First), _) => self.first.ready(),
            (Some(Only::Second), _) => second.ready(),
            (None, Era::Legacy) => self.first.ready().filter(|first| first.era == era),
            (None, Era::Modern) => second.ready().filter(|second| second.era == era),
        }
    }

    /// Returns the connection for a caller of this era, and makes it if there is none.
    async fn connection(&self, era: Era) -> Result<Arc<Connection>, Error> {
        let Some(second) = &self.second else {
            return self.first.get().await;
        };
        match (self.only.get(), era) {
            (Some(Only::First), _) => self.first.get().await,
            (Some(Only::Second), _) => second.get().await,
            (None, Era::Legacy) => self.for_legacy(second).await,
            (None, Era::Modern) => self.for_modern(second).await,
        }
    }

    async fn for_legacy(&self, second: &Slot) -> Result<Arc<Connection>, Error> {
        match self.first.get().await {
            Ok(connection) => {
                if connection.era == Era::Modern {
                    let _ = self.only.set(Only::First);
                }
                Ok(connection)
            }
            // A server that does not know `initialize` may still know `server/discover`.
            Err(error) if errors::is_refused_handshake(&error) => {
                let connection = second.get().await.map_err(|_| error)?;
                let _ = self.only.set(Only::Second);
                Ok(connection)
            }
            Err(error) => Err(error),
        }
    }

    async fn for_modern(&self, second: &Slot) -> Result<Arc<Connection>, Error> {
        let connection = match second.get().await {
            // Another attempt has found meanwhile that one connection is enough.
            Err(_) if matches!(self.only.get(), Some(Only::First)) => {
                return self.first.get().await;
            }
            connection => connection?,
        };
        if connection.era == Era::Modern {
            return Ok(connection);
        }
        // The server knows only `initialize`, so one connection is enough.
        let Some(first) = self.first.ready() else {
            let _ = self.only.set(Only::Second);
            return Ok(connection);
        };
        if self.only.set(Only::First).is_ok() {
            second.retire();
        }
        Ok(first)
    }

    async fn dispatch(
        &self,
        connection: Arc<Connection>,
        era: Era,
        request: McpRequest,
    ) -> Result<McpResponse, Error> {
        let modern = connection.era == Era::Modern;
        // A server does no work for the lists and listens that layers request on their own behalf.
        let method = Method::of(&request.message);
        let begins_no_work =
            || method.is_some_and(|method| method.row().is_quick || method == Method::Listen);
        if !request.context.caller.is_quiet() || !begins_no_work() {
            connection.meet(&request.context);
        }
        let call = Call {
            connection,
            upstream: self.name.clone(),
            timeout: self.timeout,
            era,
        };
        if !modern && !matches!(request.message, ClientRequest::SetLevelRequest(_)) {
            self.restore_level(&call);
        }
        if !modern
            && request.context.extensions.get::<OnlyDeclared>().is_some()
            && method
                .is_some_and(|method| !method.may_be_served(&call.connection.info.capabilities))
        {
            // A server without this list would answer so, but some servers never answer.
            let method = request.method().to_owned();
            return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, method, None).into());
        }
        match &request.message {
            ClientRequest::DiscoverRequest(_) => Ok(McpResponse::new(
                ServerResult::DiscoverResult(call.connection.describe()),
            )),
            ClientRequest::InitializeRequest(_) => Err(Refusal::new(
                "upstream",
                "the connection to this server has been initialized; ask `server/discover`",
            )
            .with_code(code::FORBIDDEN)
            .into()),
            // Revision 2026-07-28 has neither; the level goes with each request.
            ClientRequest::PingRequest(_) | ClientRequest::SetLevelRequest(_) if modern => {
                Ok(McpResponse::new(EmptyResult {}))
            }
            ClientRequest::SetLevelRequest(request_level) => {
                let level = request_level.params.level;
                let answer = call.run(request).await?;
                self.remember_level(&call, level);
                Ok(answer)
            }
            ClientRequest::SubscriptionsListenRequest(_) if !modern => {
                Box::pin(listen::run(call, request)).await
            }
            message => {
                if modern
                    && era == Era::Legacy
                    && method.is_some_and(|method| method.row().has_rounds)
                {
                    return Box::pin(multi_round::run(&call, request)).await;
                }
                let listing = Listing::of(message);
                let answer = call.run(request).await;
                match listing {
                    Some(listing) => answer.map(|list| self.read_list(&call, listing, list)),
                    None => answer,
                }
            }
        }
    }

    /// Reads a list without the items that cannot be read, if it cannot be read whole.
    #[cfg_attr(not(feature = "http-client"), allow(unused_variables))]
    fn read_list(&self, call: &Call, listing: Listing, mut list: McpResponse) -> McpResponse {
        let mut left_out = Vec::new();
        if let ServerResult::CustomResult(answer) = &list.result
            && let Some((readable, unreadable)) = lenient_lists::read(listing, &answer.0)
        {
            #[cfg(feature = "http-client")]
            if let Some(direct) = call.connection.direct() {
                direct.saw(&readable);
            }
            list.result = readable;
            left_out = unreadable;
        }
        self.unreadable.read(listing, &left_out);
        if !left_out.is_empty() {
            self.unreadable.log(&self.name, &left_out);
            list.extensions.insert(LeftOut(left_out.into()));
        }
        list
    }

    fn remember_level(&self, call: &Call, level: LoggingLevel) {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = Some(level);
        call.connection.level_is_set();
    }

    /// Sends a new connection the log level that was set on the one before.
    fn restore_level(&self, call: &Call) {
        let level = *self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(level) = level.filter(|_| call.connection.level_is_set()) else {
            return;
        };
        let call = call.clone();
        tokio::spawn(async move {
            let request = SetLevelRequest::new(SetLevelRequestParams::new(level));
            if let Err(error) = call
                .run(call::own(ClientRequest::SetLevelRequest(request)))
                .await
            {
                tracing::debug!(%error, "the log level could not be set again");
            }
        });
    }

    /// Passes a client's notification on, if it concerns the server.
    async fn notify(&self, request: McpRequest, era: Era) -> Result<McpResponse, Error> {
        let mut parts = request.into_all_parts();
        match parts.take_notification().and_then(protocol::from_client) {
            None => {}
            // These notifications concern the caller's connection. The upstream's connection has
            // its own handshake, cancels by itself, and gives its own progress tokens.
            Some(
                ClientNotification::InitializedNotification(_)
                | ClientNotification::CancelledNotification(_)
                | ClientNotification::ProgressNotification(_),
            ) => {}
            Some(notification) => {
                let connection = self.connection(era).await?;
                connection.meet(&parts.context);
                let sent = connection.notify(notification).await;
                sent.map_err(|error| errors::of_call(&self.name, error))?;
            }
        }
        Ok(McpResponse::new(EmptyResult {}))
    }
}
