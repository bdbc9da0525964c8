use std::{
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use rmcp::model::{ClientResult, ErrorData, ServerNotification, ServerRequest};
use tower::Service;

use super::{UpstreamBuilder, UpstreamStats, dispatch::Shared};
use crate::{
    Error, McpRequest, McpResponse, UnreadableItem,
    protocol::server_requests::server_request_method,
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
///   `Member::per_caller`.
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
///   other message for the call, restarts the time. A server that is not reached over HTTP is then
///   pinged. If it does not answer within 10 s either, its connection is closed and made again.
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
/// [`Lifecycle::MatchCaller`](crate::Lifecycle::MatchCaller) avoids translation where a server
/// speaks both.
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
    pub(super) shared: Arc<Shared>,
}

/// A weak reference to an [`Upstream`] that keeps neither it nor its connection alive.
///
/// It serves to close at the end the upstreams that were made for single callers.
#[derive(Clone)]
pub struct WeakUpstream(Weak<Shared>);

impl WeakUpstream {
    /// Returns the upstream, if anything else keeps it alive.
    pub fn upgrade(&self) -> Option<Upstream> {
        self.0.upgrade().map(|shared| Upstream { shared })
    }
}

impl std::fmt::Debug for WeakUpstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WeakUpstream").finish_non_exhaustive()
    }
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

    /// Returns the name of the upstream in errors and logs.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Connects, unless there is a connection already.
    ///
    /// # Errors
    ///
    /// Returns a [transport error](crate::TransportError) that says why there is no connection. Its
    /// message includes the [detail](crate::TransportError::detail): it is meant for the operator,
    /// not for callers.
    pub async fn connect(&self) -> Result<(), Error> {
        let connected = self.shared.connections.first().get().await;
        connected.map(drop).map_err(Error::with_detail_shown)
    }

    /// Returns `true` if there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.shared
            .connections
            .all()
            .any(|connection| connection.ready().is_some())
    }

    /// Returns counts of the messages that were withheld since the upstream was made.
    pub fn stats(&self) -> UpstreamStats {
        self.shared.counters.stats()
    }

    /// Returns the number of calls and listens in flight. Requests that wait for a connection count
    /// too.
    pub fn in_flight(&self) -> usize {
        self.shared.calls.calls() + self.shared.calls.listens()
    }

    /// Returns the list items that could not be read, from the last reading of each list.
    ///
    /// Limit: 100 items of a list. An item that cannot be read is left out and logged once. The
    /// other items are kept.
    pub fn unreadable(&self) -> Vec<UnreadableItem> {
        self.shared.unreadable.items()
    }

    /// Delivers a notification of the server to the call or the listen that it belongs to.
    ///
    /// The handler of a client that the upstream was made with ([`peer`](UpstreamBuilder::peer),
    /// [`running`](UpstreamBuilder::running)) calls it. A notification that names neither a call
    /// nor a listen goes to the connection's only caller, under the same [rule](Self#a-call).
    ///
    /// Connections that the upstream makes itself deliver their notifications without it.
    pub fn forward_notification(&self, notification: impl Into<ServerNotification>) {
        if let Some(connection) = self.shared.connections.first().ready() {
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
        let Some(connection) = self.shared.connections.first().ready() else {
            return Err(ErrorData::internal_error("the connection was lost", None));
        };
        let request = request.into();
        let admitted = connection.routes.admit(&request);
        let admitted = admitted.inspect_err(|error| {
            let counters = connection.routes.counters();
            counters.refused(server_request_method(&request), error);
        })?;
        admitted.forward(&connection.routes, request).await
    }

    /// Returns a reference that keeps neither the upstream nor its connection alive.
    pub fn downgrade(&self) -> WeakUpstream {
        WeakUpstream(Arc::downgrade(&self.shared))
    }

    /// Closes the connection for good, once the calls in flight have ended.
    ///
    /// From now on new requests fail with a [transport error](crate::TransportError), not
    /// delivered. The calls in flight go on until they end, at most until `limit`. Then the
    /// connection is [closed](Self::close), which ends the listens. Returns the number of calls
    /// that the limit cut off.
    ///
    /// If the future is dropped, the upstream still refuses requests, and its connection stays.
    pub async fn drain(&self, limit: Duration) -> usize {
        let cut_off = self.shared.calls.drain(limit).await;
        self.close().await;
        cut_off
    }

    /// Closes the connection for good. Calls in flight fail; [`drain`](Self::drain) waits for them.
    ///
    /// A child process is asked to end by closing its standard input, 1 s later by `SIGTERM`, and
    /// killed after another second (MCP 2025-11-25, basic/lifecycle, shutdown). A child process
    /// that is still being connected to is killed at once. Every caller of this method waits for
    /// the same end, which takes at most 3 s.
    ///
    /// An rmcp client that the upstream was made with ([`peer`](UpstreamBuilder::peer),
    /// [`running`](UpstreamBuilder::running)) stays connected as long as its owner, or this
    /// upstream, keeps it. The calls of this upstream are cancelled at the server.
    ///
    /// To close several upstreams, await all of these futures at once.
    pub async fn close(&self) {
        self.shared.calls.close();
        futures::future::join_all(
            self.shared
                .connections
                .all()
                .map(|connection| connection.close()),
        )
        .await;
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.shared.name)
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
        let shared = self.shared.clone();
        Box::pin(async move { shared.handle(request).await })
    }
}
