//! One connection to a server.

use std::{
    any::Any,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rmcp::{
    RoleClient,
    model::{
        ClientNotification, DiscoverResult, InitializeRequestParams, ProtocolVersion,
        ServerPeerInfo, ServerResult,
    },
    service::{ClientLifecycleMode, Peer, RunningService, serve_client_with_lifecycle},
    transport::{IntoTransport, Transport},
};
use tokio_util::sync::CancellationToken;

use super::{
    capabilities::ClaimedCapabilities,
    direct::DirectSender,
    end::End,
    errors,
    listen::Subscribed,
    route::{ConnectionHandler, Routes, RoutingTransport},
    stats::UpstreamCounters,
};
use crate::{
    CallContext, Error, Lossless,
    caller::Era,
    protocol::methods::Method,
    util::lock,
    wire::{
        Reading, Source,
        answers::{Expected, ReadResult},
        description::HandshakeText,
    },
};

/// An established connection.
pub(super) struct Connection {
    pub(super) peer: Peer<RoleClient>,
    pub(super) routes: Arc<Routes>,
    pub(super) info: Arc<ServerPeerInfo>,
    /// The text of the handshake, if rmcp has not read it by itself.
    described: Option<HandshakeText>,
    pub(super) era: Era,
    pub(super) kind: Kind,
    pub(super) subscribed: Subscribed,
    /// The way to send single requests without rmcp's client loop, if the transport has one.
    pub(super) direct: Option<Box<dyn DirectSender>>,
    level_is_set: AtomicBool,
    /// `true` while the server is [checked](super::liveness).
    pub(super) is_checked: AtomicBool,
    pub(super) runtime: tokio::runtime::Handle,
    lost: CancellationToken,
    end: End,
    /// Ends the connection when its last user is gone.
    owner: ConnectionOwner,
}

/// The kind of transport of a connection, as far as it matters to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The server is in this process: it also gets the parts of a request that are not in the
    /// message.
    InProcess,
    /// The server may forget a session, and then says so without having done anything.
    Http,
    Other,
}

impl Kind {
    /// Returns `true` if the transport says which call a request of the server belongs to.
    pub(super) fn names_calls(self) -> bool {
        matches!(self, Self::InProcess | Self::Http)
    }
}

/// The properties of a connection that its transport determines.
pub(super) struct TransportProfile {
    pub(super) kind: Kind,
    /// The end of the connection, if the transport knows its reason.
    pub(super) end: End,
    pub(super) direct: Option<Box<dyn DirectSender>>,
}

impl TransportProfile {
    pub(super) fn of(kind: Kind) -> Self {
        Self {
            kind,
            end: End::default(),
            direct: None,
        }
    }
}

/// The party that keeps a connection alive: the upstream, or the owner of its client.
pub(super) enum ConnectionOwner {
    Upstream(Mutex<Option<RunningService<RoleClient, ConnectionHandler>>>),
    /// The owner of the client serves the connection.
    Foreign {
        _client: Option<Arc<dyn Any + Send + Sync>>,
    },
}

/// The interval at which the upstream checks a connection that the client's owner serves.
const LOST_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The settings of a handshake.
#[derive(Clone)]
pub(super) struct Handshake {
    pub(super) upstream: Arc<str>,
    pub(super) info: Arc<InitializeRequestParams>,
    pub(super) lifecycle: ClientLifecycleMode,
    pub(super) claims: Arc<ClaimedCapabilities>,
    pub(super) counters: Arc<UpstreamCounters>,
}

impl Handshake {
    /// Returns the routes of a connection that is to be made.
    fn routes(&self) -> Arc<Routes> {
        Arc::new(Routes::new(self.counters.clone(), self.claims.clone()))
    }
}

impl Connection {
    /// Performs the handshake over a transport, and serves the connection from then on. The
    /// transport may use the routes of the connection's calls.
    pub(super) async fn establish_with<T, E, A>(
        transport: impl FnOnce(Arc<Routes>) -> T,
        handshake: Handshake,
        profile: TransportProfile,
    ) -> Result<Self, Error>
    where
        T: IntoTransport<RoleClient, E, A>,
        E: std::error::Error + Send + Sync + 'static,
        A: 'static,
    {
        let handler = ConnectionHandler {
            routes: handshake.routes(),
            lost: CancellationToken::new(),
            info: handshake.claims.client_info(&handshake.info, profile.kind),
        };
        let transport =
            RoutingTransport::new(transport(handler.routes.clone()).into_transport(), &handler);
        let running = serve(handler.clone(), transport, handshake.lifecycle)
            .await
            .map_err(|error| errors::of_connect(&handshake.upstream, error))?;
        let peer = running.peer().clone();
        Self::over(
            peer,
            handler,
            profile,
            ConnectionOwner::Upstream(Mutex::new(Some(running))),
            &handshake.upstream,
        )
    }

    /// Uses a connection that the client's owner made and serves.
    pub(super) fn foreign(
        peer: Peer<RoleClient>,
        handshake: &Handshake,
        owner: ConnectionOwner,
    ) -> Result<Self, Error> {
        let handler = ConnectionHandler {
            routes: handshake.routes(),
            lost: CancellationToken::new(),
            info: handshake.info.clone(),
        };
        handler.routes.keep_early_progress();
        let profile = TransportProfile::of(Kind::Other);
        Self::over(peer, handler, profile, owner, &handshake.upstream)
    }

    fn over(
        peer: Peer<RoleClient>,
        handler: ConnectionHandler,
        profile: TransportProfile,
        owner: ConnectionOwner,
        upstream: &Arc<str>,
    ) -> Result<Self, Error> {
        let info = peer.peer_info().ok_or_else(|| errors::lost(upstream))?;
        let resources = info.capabilities.resources.as_ref();
        if resources.and_then(|resources| resources.subscribe) != Some(true) {
            handler.routes.accept_unrequested_updates();
        }
        let era = Era::of(&info.protocol_version);
        let mut direct = profile.direct;
        if let Some(direct) = &mut direct {
            direct.set_version(&info.protocol_version);
        }
        Ok(Self {
            era,
            peer,
            described: handler.routes.described(),
            routes: handler.routes,
            info,
            kind: profile.kind,
            subscribed: Subscribed::default(),
            direct,
            level_is_set: AtomicBool::new(false),
            is_checked: AtomicBool::new(false),
            runtime: tokio::runtime::Handle::current(),
            lost: handler.lost,
            end: profile.end,
            owner,
        })
    }

    /// Returns how the connection ended, as far as that is known.
    pub(super) fn end(&self) -> &End {
        &self.end
    }

    /// Returns the id of the session with the server, if the transport has sessions with ids.
    #[cfg(feature = "metrics")]
    pub(super) fn session_id(&self) -> Option<&Arc<str>> {
        self.direct.as_deref()?.session_id()
    }

    /// Records the caller of a request, unless every message on the connection names its call.
    pub(super) fn record_caller(&self, context: &CallContext) {
        let direct = self.direct.as_deref();
        if !direct.is_some_and(DirectSender::names_calls) {
            self.routes.record_caller(context);
        }
    }

    /// Records the tools in a result, where calls of some cannot be sent directly.
    pub(super) fn record_tools(&self, result: &ServerResult) {
        if let Some(direct) = &self.direct {
            direct.record_tools(result);
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled() || self.peer.is_transport_closed()
    }

    /// Returns `true` if the server may answer a request with the error that it has forgotten the
    /// session.
    pub(super) fn may_be_forgotten(&self) -> bool {
        self.kind == Kind::Http && self.era == Era::Legacy
    }

    /// Releases a connection whose session the server has forgotten, and ends the listens. The
    /// calls in flight learn it one by one from their own answers; the listens would not.
    pub(super) fn retire(&self) {
        self.routes.end_listeners();
        self.lost.cancel();
    }

    /// Returns a token that is cancelled when the connection is lost. For a connection that the
    /// client's owner serves, it is never cancelled.
    pub(super) fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Records that the server has been told the log level. Returns `true` the first time.
    pub(super) fn mark_level_set(&self) -> bool {
        !self.level_is_set.swap(true, Ordering::AcqRel)
    }

    /// Returns `true` if the client's owner serves the connection, so that only answers arrive
    /// here.
    pub(super) fn is_foreign(&self) -> bool {
        matches!(self.owner, ConnectionOwner::Foreign { .. })
    }

    /// Resolves when the connection is lost. rmcp does not announce the end of a connection that
    /// the client's owner serves, so that such a connection is polled.
    pub(super) async fn until_lost(&self) {
        if self.is_foreign() {
            while !self.is_lost() {
                tokio::time::sleep(LOST_CHECK_INTERVAL).await;
            }
        } else {
            self.lost.cancelled().await;
        }
    }

    /// Returns the server's description of itself. The upstream translates between revisions, so it
    /// supports them all.
    pub(super) fn describe(&self) -> Lossless<ServerResult> {
        let described = ServerResult::DiscoverResult(self.typed_description());
        let text = self.described.as_ref();
        let text = text.and_then(|text| text.described(ProtocolVersion::KNOWN_VERSIONS));
        let reading = Reading::Result(ReadResult {
            expected: Expected::result_of(Method::Discover),
            era: self.era,
        });
        Lossless::from_source(described, text.map(|text| Source::new(text, reading)))
    }

    fn typed_description(&self) -> DiscoverResult {
        let mut described = DiscoverResult::new(
            ProtocolVersion::KNOWN_VERSIONS.to_vec(),
            self.info.capabilities.clone(),
        );
        described.instructions = self.info.instructions.clone();
        described.meta = self.info.meta.clone();
        if let Some(server_info) = self.info.server_info.clone() {
            described.set_server_info(server_info);
        }
        described
    }

    pub(super) async fn notify(
        &self,
        notification: ClientNotification,
    ) -> Result<(), rmcp::ServiceError> {
        self.peer.send_notification(notification).await
    }

    /// Ends the connection and waits until its transport is closed. A connection that the client's
    /// owner serves stays, but its calls and listens here end.
    pub(super) async fn close(&self) {
        let running = match &self.owner {
            ConnectionOwner::Upstream(running) => lock(running).take(),
            ConnectionOwner::Foreign { .. } => {
                // The server is still told of cancellations and unsubscriptions.
                self.routes.end_calls();
                None
            }
        };
        let Some(mut running) = running else { return };
        // rmcp waits for answers that are being sent, also if the server reads nothing.
        self.end.start_closing();
        self.routes.close();
        self.lost.cancel();
        match running.close().await {
            Ok(reason) => tracing::debug!(?reason, "a connection ended"),
            Err(error) => tracing::warn!(%error, "a connection's task failed"),
        }
    }
}

async fn serve<T>(
    handler: ConnectionHandler,
    transport: RoutingTransport<T>,
    lifecycle: ClientLifecycleMode,
) -> Result<RunningService<RoleClient, ConnectionHandler>, rmcp::service::ClientInitializeError>
where
    T: Transport<RoleClient> + Send + 'static,
{
    serve_client_with_lifecycle(handler, transport, lifecycle).await
}
