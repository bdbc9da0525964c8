use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

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
    Inner, Upstream,
    claims::Claims,
    connection::Handshake,
    dial::{Foreign, InProcess, Make},
    slot::{Dial, Settings, Slot},
    stats::Counters,
};
use crate::{backoff::Backoff, unreadable::UnreadableLog};

/// From here on a time limit is none: clocks cannot be trusted to count so far.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Which handshake begins a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lifecycle {
    /// Asks `server/discover` first and falls back to `initialize` with a server that does not know it.
    /// One connection serves all callers.
    #[default]
    Auto,
    /// Keeps a connection by `initialize` for callers that began with it, and another by
    /// `server/discover` for those that did not, each made when it is needed. Where a server speaks both,
    /// nothing has to be translated between revisions: each caller finds the server as it would find it
    /// without anything in between. The price is a second session, or a second child process with a
    /// memory of its own, when callers of both kinds come. With a server that speaks but one way, one
    /// connection serves all callers.
    MatchCaller,
    /// `initialize`, the handshake of revisions before 2026-07-28.
    Initialize,
    /// `server/discover` and nothing else.
    Discover,
}

/// Settings of an [`Upstream`]; the last call names what to connect to.
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
/// | [`capabilities`](Self::capabilities) | those of the caller that the connection is made for |
#[derive(Clone, Debug)]
#[must_use = "name what to connect to, to make the upstream"]
pub struct UpstreamBuilder {
    pub(super) name: Option<Arc<str>>,
    timeout: Option<Duration>,
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
            timeout: Some(Duration::from_secs(300)),
            connect_timeout: Duration::from_secs(30),
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
            in_background: true,
            lifecycle: None,
            client_info: Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
            capabilities: None,
            legacy_version: ProtocolVersion::LATEST_WITH_INITIALIZE,
        }
    }

    /// The name by which errors and logs speak of it.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How long the server may say nothing about a request before the request fails. Progress and other
    /// messages for the request start the time anew; while the caller is asked something it stands still.
    ///
    /// A server sends progress only for a request with a progress token, and gets one only if the caller gave one.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = (timeout < NEVER).then_some(timeout);
        self
    }

    /// Lets requests wait for ever. Do this only under a layer that ends them.
    pub fn without_request_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// How long one attempt to connect may take, handshake included.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The waiting times between attempts to connect: they double from `first` to `most`, and each is
    /// drawn between half of itself and the whole. `first` is at least 1 ms, so that it does double, and `most`
    /// at least as long.
    pub fn reconnect_backoff(mut self, first: Duration, most: Duration) -> Self {
        let first = first.max(Duration::from_millis(1));
        self.backoff = Backoff::new(first, most.max(first));
        self
    }

    /// Whether a lost connection is made again before somebody needs it.
    pub fn reconnect_in_background(mut self, yes: bool) -> Self {
        self.in_background = yes;
        self
    }

    /// Which handshake begins a connection.
    pub fn lifecycle(mut self, lifecycle: Lifecycle) -> Self {
        self.lifecycle = Some(lifecycle);
        self
    }

    /// The revision to ask for where the handshake is `initialize`: by default the newest that has it,
    /// 2025-11-25.
    pub fn initialize_version(mut self, version: ProtocolVersion) -> Self {
        self.legacy_version = version;
        self
    }

    /// What the server is told of the client.
    pub fn client_info(mut self, client_info: Implementation) -> Self {
        self.client_info = client_info;
        self
    }

    /// Sets the capabilities that a connection claims in its handshake, once for all callers.
    ///
    /// Default: those of the caller that the connection is made for, of elicitation, roots and
    /// sampling. Where no caller is known (see [`Upstream::connect`]), all three. Where the
    /// connection before had several callers, none, until a caller needs another. Over HTTP and in
    /// this process, where the transport says which call a request of the server belongs to,
    /// elicitation and sampling are always claimed.
    ///
    /// A server on 2026-07-28 is told with each request what its caller can do, whatever is set here.
    pub fn capabilities(mut self, capabilities: ClientCapabilities) -> Self {
        self.capabilities = Some(capabilities);
        self
    }

    /// A server in this process, over typed channels.
    pub fn in_process<H: ServerHandler>(self, handler: H) -> Upstream {
        let handler = Arc::new(handler);
        self.build("in-process", Lifecycle::Auto, move |handshake| {
            Box::new(InProcess {
                handler: handler.clone(),
                handshake,
            })
        })
    }

    /// Any rmcp transport. `make` makes one for each connection.
    ///
    /// rmcp's own transport over a reader and a writer passes over answers that are no JSON or longer than
    /// 16 MiB, so that their calls end only with the [`request_timeout`](Self::request_timeout). Give
    /// [`lines`](Self::lines) the reader and the writer instead.
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
            Box::new(Make::new(make.clone(), handshake))
        })
    }

    /// An rmcp client that is connected already, and stays its owner's: it is not connected again when it
    /// is lost.
    ///
    /// Calls, lists, errors, cancellation, `_meta` and time limits work as over a connection of the
    /// upstream's own, and progress starts the [`request_timeout`](Self::request_timeout) anew.
    ///
    /// rmcp gives such a client's notifications, and the server's requests, to the handler that the
    /// client was made with. They come through the upstream if that handler passes them on:
    ///
    /// - [`Upstream::forward_notification`] for progress, log lines and changes. Without it,
    ///   callers get no progress, and a `subscriptions/listen` yields nothing. rmcp handles each
    ///   notification in a task of its own, so that two may change places, or come after the
    ///   answer.
    /// - [`Upstream::forward_request`] for sampling, elicitation and roots.
    ///
    /// What the client claimed in its handshake stays as it is.
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
            Box::new(Foreign {
                peer: peer.clone(),
                keep: None,
                handshake,
            })
        })
    }

    /// An rmcp client that is connected already. It is kept alive by the upstream; what
    /// [`peer`](Self::peer) says of notifications and requests of the server holds here too.
    pub fn running<H: Service<RoleClient>>(
        self,
        running: RunningService<RoleClient, H>,
    ) -> Upstream {
        let peer = running.peer().clone();
        let keep: Arc<dyn std::any::Any + Send + Sync> = Arc::new(running);
        self.build("client", Lifecycle::Auto, move |handshake| {
            let keep = Some(keep.clone());
            Box::new(Foreign {
                peer: peer.clone(),
                keep,
                handshake,
            })
        })
    }

    /// Puts an upstream together from what dials for it.
    pub(super) fn build(
        self,
        kind: &str,
        lifecycle: Lifecycle,
        dial: impl Fn(Handshake) -> Box<dyn Dial>,
    ) -> Upstream {
        let name = self.name.clone().unwrap_or_else(|| kind.into());
        let lifecycle = self.lifecycle.unwrap_or(lifecycle);
        let claims = Arc::new(Claims::new(self.capabilities.is_some()));
        let counters = Arc::new(Counters::new(name.clone()));
        let handshake = |mode| Handshake {
            upstream: name.clone(),
            info: self.info(),
            lifecycle: mode,
            claims: claims.clone(),
            counters: counters.clone(),
        };
        let slot = |mode| {
            let settings = Settings {
                name: name.clone(),
                backoff: self.backoff,
                connect_timeout: self.connect_timeout,
                in_background: self.in_background,
            };
            Slot::new(settings, dial(handshake(mode)))
        };
        let first = slot(self.mode(lifecycle));
        let second =
            (lifecycle == Lifecycle::MatchCaller).then(|| slot(self.mode(Lifecycle::Auto)));
        Upstream {
            inner: Arc::new(Inner {
                name,
                timeout: self.timeout,
                first,
                second,
                only: OnceLock::new(),
                level: Mutex::default(),
                unreadable: UnreadableLog::default(),
                claims,
                counters,
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

/// Everything that a caller may be asked for. A request of the server for something that the caller
/// in question cannot do is answered with an error.
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
