use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt;
use rmcp::{
    RoleClient, ServerHandler,
    model::{
        ClientCapabilities, ElicitationCapability, FormElicitationCapability, Implementation,
        InitializeRequestParams, ProtocolVersion, UrlElicitationCapability,
    },
    service::{ClientLifecycleMode, Peer, RunningService, Service},
    transport::IntoTransport,
};

use super::{
    Upstream,
    capabilities::ClaimedCapabilities,
    connect::{ForeignDial, connect_in_process, connect_over},
    connection::Handshake,
    connections::Connections,
    dispatch::Shared,
    reconnect::{Dial, Reconnect, ReconnectSettings},
    stats::UpstreamCounters,
};
use crate::{
    context::served_by::Endpoint, in_flight::InFlight, protocol::unreadable_items::UnreadableLog,
    util::backoff::Backoff,
};

/// A time limit from this length on is no limit: clocks cannot be trusted to count that far.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The handshake that begins a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lifecycle {
    /// Asks `server/discover` first, and falls back to `initialize` if the server does not know it.
    /// One connection serves all callers.
    #[default]
    Auto,
    /// Keeps one connection by `initialize` for callers that began with it, and another by
    /// `server/discover` for callers that did not. Each is made when it is needed.
    ///
    /// If a server speaks both, nothing has to be translated between revisions: each caller
    /// finds the server as it would without a gateway. The price is a second session, or a second
    /// child process with a memory of its own, when callers of both kinds come. With a server that
    /// speaks only one of the two, one connection serves all callers.
    MatchCaller,
    /// `initialize`, the handshake of revisions before 2026-07-28.
    Initialize,
    /// `server/discover` and nothing else.
    Discover,
}

/// Settings of an [`Upstream`]. The last call names the server to connect to.
///
/// | setting | default |
/// |---|---|
/// | [`name`](Self::name) | the command, the URL, or the transport's kind |
/// | [`request_timeout`](Self::request_timeout) | 5 minutes of silence |
/// | [`connect_timeout`](Self::connect_timeout) | 30 s |
/// | [`reconnect_backoff`](Self::reconnect_backoff) | 500 ms doubling to 30 s |
/// | [`reconnect_in_background`](Self::reconnect_in_background) | yes |
/// | [`lifecycle`](Self::lifecycle) | [`Lifecycle::MatchCaller`] for a child process and a URL, else [`Lifecycle::Auto`] |
/// | [`client_info`](Self::client_info) | this crate's name and version |
/// | [`capabilities`](Self::capabilities) | the capabilities of the caller that the connection is made for |
#[derive(Clone, Debug)]
#[must_use = "name what to connect to, to make the upstream"]
pub struct UpstreamBuilder {
    pub(super) name: Option<Arc<str>>,
    /// The network facts of the server, for metrics.
    pub(super) endpoint: Option<Arc<Endpoint>>,
    request_timeout: Option<Duration>,
    connect_timeout: Duration,
    backoff: Backoff,
    in_background: bool,
    lifecycle: Option<Lifecycle>,
    client_info: Implementation,
    capabilities: Option<ClientCapabilities>,
    legacy_version: ProtocolVersion,
}

impl UpstreamBuilder {
    pub(super) fn new() -> Self {
        Self {
            name: None,
            endpoint: None,
            request_timeout: Some(Duration::from_secs(300)),
            connect_timeout: Duration::from_secs(30),
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
            in_background: true,
            lifecycle: None,
            client_info: Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
            capabilities: None,
            legacy_version: ProtocolVersion::LATEST_WITH_INITIALIZE,
        }
    }

    /// Sets the name of the upstream in errors and logs.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets how long the server may be silent about a request. `None`: no limit; use this only
    /// under a layer that ends requests. Default: 5 minutes.
    ///
    /// Progress and other messages for the request restart the timeout. It is suspended while the
    /// caller is asked something. A server sends progress only for a request with a progress token,
    /// and a request has one only if the caller gave one.
    pub fn request_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.request_timeout = limit.into().filter(|limit| *limit < NEVER);
        self
    }

    /// Sets the time limit of one attempt to connect, handshake included. Default: 30 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the waiting times between attempts to connect. Default: 500 ms doubling to 30 s.
    ///
    /// The times double from `first` to `most`, and each is drawn between half of itself and the
    /// whole. `first` is at least 1 ms, so that it does double, and `most` is at least as long.
    pub fn reconnect_backoff(mut self, first: Duration, most: Duration) -> Self {
        let first = first.max(Duration::from_millis(1));
        self.backoff = Backoff::new(first, most.max(first));
        self
    }

    /// Sets whether a lost connection is made again before a call needs it. Default: `true`.
    pub fn reconnect_in_background(mut self, yes: bool) -> Self {
        self.in_background = yes;
        self
    }

    /// Sets the handshake that begins a connection.
    ///
    /// Default: [`Lifecycle::MatchCaller`] for a child process and a URL, else [`Lifecycle::Auto`].
    pub fn lifecycle(mut self, lifecycle: Lifecycle) -> Self {
        self.lifecycle = Some(lifecycle);
        self
    }

    /// Sets the revision to ask for where the handshake is `initialize`. Default: 2025-11-25, the
    /// newest revision with that handshake.
    pub fn initialize_version(mut self, version: ProtocolVersion) -> Self {
        self.legacy_version = version;
        self
    }

    /// Sets the name and version by which the client introduces itself to the server. Default:
    /// those of this crate.
    pub fn client_info(mut self, client_info: Implementation) -> Self {
        self.client_info = client_info;
        self
    }

    /// Sets the capabilities that a connection claims in its handshake, once for all callers.
    ///
    /// Default: the elicitation, roots and sampling capabilities of the caller that the connection
    /// is made for. Exceptions:
    ///
    /// - If no caller is known (see [`Upstream::connect`]), all three are claimed.
    /// - If the previous connection had several callers, none is claimed, until a caller needs
    ///   another connection.
    /// - Over HTTP and in this process, elicitation and sampling are always claimed: the transport
    ///   says which call a request of the server belongs to.
    ///
    /// A server on 2026-07-28 gets the caller's capabilities with each request, whatever is set
    /// here.
    pub fn capabilities(mut self, capabilities: ClientCapabilities) -> Self {
        self.capabilities = Some(capabilities);
        self
    }

    /// Connects to a server in this process, over typed channels.
    pub fn in_process<H: ServerHandler>(self, handler: H) -> Upstream {
        let handler = Arc::new(handler);
        self.build("in-process", Lifecycle::Auto, move |handshake| {
            let handler = handler.clone();
            Box::new(move || connect_in_process(handler.clone(), handshake.clone()).boxed())
        })
    }

    /// Connects over any rmcp transport. `make` makes one for each connection.
    ///
    /// rmcp's own transport over a reader and a writer skips answers that are not JSON or longer
    /// than 16 MiB, so that their calls end only with the
    /// [`request_timeout`](Self::request_timeout). Give [`lines`](Self::lines) the reader and the
    /// writer instead.
    ///
    /// rmcp reads and writes the messages of such a transport by its own types. Members that these
    /// types do not have are lost, in both directions, except in custom requests and notifications.
    /// [`lines`](Self::lines), a child process and a URL lose none.
    pub fn transport<T, E, A, F, Fut>(self, make: F) -> Upstream
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: IntoTransport<RoleClient, E, A>,
        E: std::error::Error + Send + Sync + 'static,
        A: 'static,
    {
        let make = Arc::new(make);
        self.build("transport", Lifecycle::Auto, move |handshake| {
            let make = make.clone();
            Box::new(move || connect_over(make(), handshake.clone()).boxed())
        })
    }

    /// Uses an rmcp client that is connected already and stays its owner's. It is not reconnected
    /// when the connection is lost.
    ///
    /// Calls, lists, errors, cancellation, `_meta` and time limits work as over a connection of the
    /// upstream's own, and progress restarts the [`request_timeout`](Self::request_timeout).
    ///
    /// rmcp gives the notifications and requests of the server to the handler that the client was
    /// made with. They reach the upstream only if that handler passes them on:
    ///
    /// - [`Upstream::forward_notification`] for progress, log lines and changes. Without it,
    ///   callers get no progress, and a `subscriptions/listen` yields nothing. rmcp handles each
    ///   notification in a task of its own, so that two may change places, or come after the
    ///   answer.
    /// - [`Upstream::forward_request`] for sampling, elicitation and roots.
    ///
    /// The capabilities that the client claimed in its handshake do not change.
    ///
    /// Messages are read and written by the transport of the client. If that is one of rmcp's,
    /// members that rmcp's types do not have are lost.
    ///
    /// ```
    /// use std::sync::{Arc, OnceLock};
    ///
    /// use rmcp::{
    ///     ClientHandler, RoleClient, ServiceExt,
    ///     model::{ProgressNotification, ProgressNotificationParam},
    ///     service::NotificationContext,
    /// };
    /// use rmcp_layers::Upstream;
    ///
    /// #[derive(Clone, Default)]
    /// struct Forwarding(Arc<OnceLock<Upstream>>);
    ///
    /// impl ClientHandler for Forwarding {
    ///     async fn on_progress(
    ///         &self,
    ///         progress: ProgressNotificationParam,
    ///         _context: NotificationContext<RoleClient>,
    ///     ) {
    ///         if let Some(upstream) = self.0.get() {
    ///             upstream.forward_notification(ProgressNotification::new(progress));
    ///         }
    ///     }
    /// }
    ///
    /// # async fn example(transport: tokio::io::DuplexStream) -> Result<(), Box<dyn std::error::Error>> {
    /// let handler = Forwarding::default();
    /// let client = handler.clone().serve(transport).await?;
    /// let upstream = Upstream::builder().peer(client.peer().clone());
    /// let _ = handler.0.set(upstream.clone());
    /// # Ok(())
    /// # }
    /// ```
    pub fn peer(self, peer: Peer<RoleClient>) -> Upstream {
        self.build("peer", Lifecycle::Auto, move |handshake| {
            Box::new(ForeignDial {
                peer: peer.clone(),
                keep: None,
                handshake,
            })
        })
    }

    /// Uses an rmcp client that is connected already, and keeps it alive.
    ///
    /// Notifications and requests of the server work as with [`peer`](Self::peer).
    pub fn running<H: Service<RoleClient>>(
        self,
        running: RunningService<RoleClient, H>,
    ) -> Upstream {
        let peer = running.peer().clone();
        let keep: Arc<dyn std::any::Any + Send + Sync> = Arc::new(running);
        self.build("client", Lifecycle::Auto, move |handshake| {
            let keep = Some(keep.clone());
            Box::new(ForeignDial {
                peer: peer.clone(),
                keep,
                handshake,
            })
        })
    }

    /// Builds an upstream from a dialer.
    pub(super) fn build(
        self,
        kind: &str,
        lifecycle: Lifecycle,
        dial: impl Fn(Handshake) -> Box<dyn Dial>,
    ) -> Upstream {
        let name = self.name.clone().unwrap_or_else(|| kind.into());
        let lifecycle = self.lifecycle.unwrap_or(lifecycle);
        let claims = Arc::new(ClaimedCapabilities::new(self.capabilities.is_some()));
        let counters = Arc::new(UpstreamCounters::new(name.clone()));
        let handshake = |mode| Handshake {
            upstream: name.clone(),
            info: self.info(),
            lifecycle: mode,
            claims: claims.clone(),
            counters: counters.clone(),
        };
        let reconnect = |mode| {
            let settings = ReconnectSettings {
                name: name.clone(),
                endpoint: self.endpoint.clone(),
                backoff: self.backoff,
                connect_timeout: self.connect_timeout,
                in_background: self.in_background,
            };
            Reconnect::new(settings, dial(handshake(mode)))
        };
        let first = reconnect(self.mode(lifecycle));
        let second =
            (lifecycle == Lifecycle::MatchCaller).then(|| reconnect(self.mode(Lifecycle::Auto)));
        Upstream {
            shared: Arc::new(Shared {
                name,
                endpoint: self.endpoint.clone(),
                request_timeout: self.request_timeout,
                connections: Connections::new(first, second),
                level: Mutex::default(),
                unreadable: UnreadableLog::default(),
                claims,
                counters,
                calls: InFlight::default(),
            }),
        }
    }

    fn mode(&self, lifecycle: Lifecycle) -> ClientLifecycleMode {
        let preferred_versions = vec![ProtocolVersion::LATEST];
        match lifecycle {
            Lifecycle::Auto => ClientLifecycleMode::Auto {
                preferred_versions,
                legacy_version: Some(self.legacy_version.clone()),
            },
            Lifecycle::Discover => ClientLifecycleMode::Discover { preferred_versions },
            Lifecycle::Initialize | Lifecycle::MatchCaller => ClientLifecycleMode::Initialize,
        }
    }

    fn info(&self) -> Arc<InitializeRequestParams> {
        let capabilities = self.capabilities.clone().unwrap_or_else(every_capability);
        let mut info = InitializeRequestParams::new(capabilities, self.client_info.clone());
        info.protocol_version = self.legacy_version.clone();
        Arc::new(info)
    }
}

/// Returns every capability that a caller may be asked for. A request of the server that the caller
/// does not support is answered with an error.
fn every_capability() -> ClientCapabilities {
    let mut capabilities = ClientCapabilities::builder()
        .enable_elicitation()
        .enable_roots()
        .enable_roots_list_changed()
        .enable_sampling()
        .enable_sampling_tools()
        .build();
    capabilities.elicitation = Some(
        ElicitationCapability::new()
            .with_form(FormElicitationCapability::default())
            .with_url(UrlElicitationCapability::default()),
    );
    capabilities
}
