//! The bottom of a stack that is a connection to an MCP server.

mod abandoned;
mod answers;
mod builder;
mod call;
mod callers;
mod claims;
mod connection;
mod dial;
#[cfg_attr(
    not(feature = "child-process"),
    expect(dead_code, reason = "only a child process tells how it ended")
)]
mod end;
mod errors;
mod kinds;
mod lenient;
mod listen;
mod orphans;
mod questions;
mod rounds;
mod routes;
mod slot;
mod stats;
mod tap;

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

pub use builder::{Lifecycle, UpstreamBuilder};
#[cfg(feature = "child-process")]
pub use dial::ChildProcess;
#[cfg(feature = "http-client")]
pub use dial::HttpEndpoint;
use futures::future::BoxFuture;
use rmcp::model::{
    ClientNotification, ClientRequest, ClientResult, EmptyResult, ErrorCode, ErrorData,
    LoggingLevel, ServerNotification, ServerRequest, ServerResult, SetLevelRequest,
    SetLevelRequestParams,
};
pub use stats::UpstreamStats;
use tower::Service;

use self::{call::Call, claims::Claims, connection::Connection, slot::Slot, stats::Counters};
#[cfg(feature = "gateway")]
use crate::unreadable::LeftOut;
use crate::{
    Error, McpRequest, McpResponse, Refusal, ServedBy, UnreadableItem,
    caller::Era,
    code, protocol,
    request::OnlyDeclared,
    unreadable::{Listing, UnreadableLog},
};

/// The bottom of a stack that is a connection to an MCP server: a child process, a streamable HTTP URL,
/// a server in this process, any rmcp transport, or an rmcp client that exists already.
///
/// Cloning it is cheap, and all clones share the connection.
///
/// # The connection
///
/// It is made when the first request needs it, or by [`connect`](Self::connect), once for all who wait
/// for it. When it is lost, the calls in flight fail at once with a
/// [transport error](crate::TransportError), and another is made: right away, then with waiting times that
/// double from 500 ms to 30 s, each drawn between half of itself and the whole. A call that comes
/// meanwhile starts an attempt itself if one is due, and otherwise fails at once with an error that says
/// when the next one is. A child process that ended is waited for, so it does not stay as a zombie, and
/// started again; an HTTP session that the server forgot is begun anew, and the request sent again.
///
/// # A call
///
/// - `_meta` goes to the server as it came, except for what each hop says for itself: progress token,
///   protocol version and client info. Client capabilities are the caller's, so that the server asks for
///   nothing that this caller cannot answer.
/// - Progress, logging, change notifications and (before 2026-07-28) requests of the server go to
///   the caller whose request they belong to, in the order the server sent them. A message belongs
///   to a request by what it names itself (progress token, subscription) or by the response stream
///   that it comes on (HTTP).
/// - Log lines, custom notifications and requests that name nothing so go to a caller only if the
///   connection has had no other caller in its whole life. So do updates of resources that no listen
///   asked for, where the server takes no subscriptions. A caller is a session and the principal
///   that uses it; a request without a session is a caller of its own. A message goes to the
///   caller's newest call, else to its open listen; a session of a revision before 2026-07-28 has
///   one open by itself. Once there have been several callers, such requests are refused and such
///   notifications dropped, whichever calls are in flight, because a server may go on with the work
///   of a call that it has answered. [`stats`](Self::stats) counts both. A connection for each
///   session avoids that: in a gateway,
#[cfg_attr(
    feature = "gateway",
    doc = "  [`Member::per_caller`](crate::gateway::Member::per_caller)."
)]
#[cfg_attr(not(feature = "gateway"), doc = "  `Member::per_caller`.")]
/// - While the only caller cannot be reached, or there was none yet, up to 16 such requests wait
///   for at most 60 s, and up to 64 notifications.
/// - Requests of the server that wait for an answer: at most 64 for one call, and 1,024 on one
///   connection. More are refused. Of a server that reads neither refusals nor answers to its pings,
///   requests are dropped once 1,024 of these wait to be read.
/// - Dropping the call's future sends `notifications/cancelled`. Over HTTP since 2026-07-28 it closes the
///   response instead, which says the same there (MCP 2026-07-28, basic/transports, streamable HTTP).
/// - `logging/setLevel` holds for a connection with an older server, so for all callers that share it: the
///   last one counts, and it is set again on the next connection.
/// - An answer that cannot be read, or is longer than is read, fails its call at once and no other: over
///   lines as [`lines`](UpstreamBuilder::lines) says, over HTTP by the response that it is in.
/// - An item of a list that cannot be read costs no other. It is left out and
///   [reported](Self::unreadable).
/// - A server that is silent for [`request_timeout`](UpstreamBuilder::request_timeout) (5 minutes by
///   default) fails the call with a timeout. Progress, and any other message for the call, starts the
///   time anew.
///
/// # Revisions
///
/// The two sides may speak different revisions of the protocol. A listen is answered from an older
/// server's notifications. A multi-round result is turned into the requests an older caller knows, up to
/// [ten rounds](rmcp::model::DEFAULT_MRTR_MAX_ROUNDS). What cannot be translated is a request (sampling,
/// elicitation, roots) of an older server to a caller on 2026-07-28, which has no such requests: the
/// server is told so. [`Lifecycle::MatchCaller`] avoids translation where a server speaks both.
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

/// A reference to an [`Upstream`] that keeps neither it nor its connection: to close at the end
/// what has been made for each caller, without keeping it until then.
#[derive(Clone)]
pub struct WeakUpstream(Weak<Inner>);

impl WeakUpstream {
    /// The upstream, if anything else keeps it.
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
    /// For callers with a handshake; for all callers, unless the lifecycle matches callers.
    first: Arc<Slot>,
    /// For callers without, if the lifecycle matches callers.
    second: Option<Arc<Slot>>,
    /// Which of the two serves all callers, once it is known that the server speaks but one way.
    only: OnceLock<Only>,
    /// The log level that somebody set last, where it is the connection that has one.
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
    /// Starts an upstream with settings of its own.
    pub fn builder() -> UpstreamBuilder {
        UpstreamBuilder::new()
    }

    /// A server in this process, over typed channels. Nothing is turned into JSON.
    pub fn in_process<H: rmcp::ServerHandler>(handler: H) -> Self {
        Self::builder().in_process(handler)
    }

    /// A child process, spoken to over its standard input and output.
    #[cfg(feature = "child-process")]
    pub fn child_process(command: impl Into<ChildProcess>) -> Self {
        Self::builder().child_process(command)
    }

    /// A streamable HTTP URL.
    ///
    /// # Errors
    ///
    /// If the URL or a header is malformed, the URL is `https://` and there is no TLS in this build (features `rustls`
    /// and `native-tls`), or the TLS library cannot be set up.
    #[cfg(feature = "http-client")]
    pub fn http(endpoint: impl Into<HttpEndpoint>) -> Result<Self, Error> {
        Self::builder().http(endpoint)
    }

    /// The upstream's name, as errors and logs call it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Makes the connection, if there is none.
    ///
    /// # Errors
    ///
    /// A [transport error](crate::TransportError) that says why there is none. Its message has the
    /// [detail](crate::TransportError::detail) too: it is meant for the operator, not for callers.
    pub async fn connect(&self) -> Result<(), Error> {
        let connected = self.inner.first.get().await;
        connected.map(drop).map_err(Error::with_detail_shown)
    }

    /// Whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.inner.slots().any(|slot| slot.ready().is_some())
    }

    /// What has been held back since the upstream was made.
    pub fn stats(&self) -> UpstreamStats {
        self.inner.counters.stats()
    }

    /// How many calls and listens are in flight.
    pub fn in_flight(&self) -> usize {
        let connections = self.inner.slots().filter_map(|slot| slot.ready());
        connections.map(|connection| connection.routes.len()).sum()
    }

    /// The items that the server's lists were read without, as each list was read last: at most 100 of a
    /// list. One item that cannot be read is left out, logged once, and costs no other.
    pub fn unreadable(&self) -> Vec<UnreadableItem> {
        self.inner.unreadable.items()
    }

    /// Takes a notification of the server to the call or the listen that it belongs to: for the
    /// handler of a client that the upstream was made with ([`peer`](UpstreamBuilder::peer),
    /// [`running`](UpstreamBuilder::running)). What names neither goes to the connection's only
    /// caller, as the [rule](Self#a-call) is.
    ///
    /// Over a connection of the upstream's own, notifications come by themselves.
    pub fn forward_notification(&self, notification: impl Into<ServerNotification>) {
        if let Some(connection) = self.inner.first.ready() {
            connection.routes.deliver(notification.into());
        }
    }

    /// Takes a request of the server to the caller that it is for, and brings the answer: for the
    /// same handlers as [`forward_notification`](Self::forward_notification).
    ///
    /// # Errors
    ///
    /// What to answer the server: the caller's own error, or one that says why no caller is asked.
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
            counters.refused(kinds::method(&request), error);
        })?;
        admitted.ask(&connection.routes, request).await
    }

    /// A reference that keeps neither the upstream nor its connection.
    pub fn downgrade(&self) -> WeakUpstream {
        WeakUpstream(Arc::downgrade(&self.inner))
    }

    /// Ends the connection, and makes no other. Calls in flight fail. A child process is asked to end by
    /// closing its standard input, 1 s later by `SIGTERM`, and killed after another second (MCP 2025-11-25,
    /// basic/lifecycle, shutdown); one that is still being connected to is killed at once. Returns when that
    /// is done, to everybody who asked for it: within 3 s.
    ///
    /// To close several upstreams, await all of these at once.
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

    /// Every call is in a future as large as the largest branch here, so what is rare is in a box of its
    /// own, and the request stays in its.
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

    /// Sends a request to a server that may have forgotten the session, in which case it goes again, in a
    /// new one: the server has done nothing for it.
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

    /// The connection for a caller of this era, if there is one now and nothing is left to find out.
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

    /// The connection for a caller of this era.
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
            // A server that knows no `initialize` may still know the other way.
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
            // Meanwhile it was found that one connection is enough.
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
        // A server does no work for what layers list, and listen to, on their own behalf.
        if !request.context.caller.is_quiet() || !kinds::begins_no_work(&request.message) {
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
            && !kinds::is_declared(&request.message, &call.connection.info.capabilities)
        {
            // The answer of a server that has no such list, which this one may never give.
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
                if modern && era == Era::Legacy && rounds::may_want_input(message) {
                    return Box::pin(rounds::run(&call, request)).await;
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

    /// Reads a list without the items that cannot be read, where it cannot be read whole.
    #[cfg_attr(not(feature = "http-client"), allow(unused_variables))]
    fn read_list(&self, call: &Call, listing: Listing, mut list: McpResponse) -> McpResponse {
        let mut left_out = Vec::new();
        if let ServerResult::CustomResult(answer) = &list.result
            && let Some((readable, unreadable)) = lenient::read(listing, &answer.0)
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
            #[cfg(feature = "gateway")]
            list.extensions.insert(LeftOut(left_out.into()));
        }
        list
    }

    fn remember_level(&self, call: &Call, level: LoggingLevel) {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = Some(level);
        call.connection.level_is_set();
    }

    /// Tells a connection made since of the log level that was set on the one before.
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

    /// Passes a client's notification on, where it concerns the server.
    async fn notify(&self, request: McpRequest, era: Era) -> Result<McpResponse, Error> {
        let mut parts = request.into_all_parts();
        match parts.take_notification().and_then(protocol::from_client) {
            None => {}
            // Those speak of the caller's connection, not of this one: it has its own handshake, cancels
            // by itself, and gives its own progress tokens.
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
