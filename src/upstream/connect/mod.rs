//! Dialers: the ways to make a connection.

mod attributing_transport;
#[cfg(feature = "child-process")]
mod child_process;
mod lines;

use std::{any::Any, borrow::Cow, marker::PhantomData, sync::Arc};

#[cfg(feature = "child-process")]
pub use child_process::ChildProcess;
use futures::{channel::mpsc, future::BoxFuture};
use rmcp::{
    RoleClient, RoleServer, ServerHandler,
    model::{
        ClientNotification, ClientRequest, ErrorData, ProtocolVersion, ServerConfig, ServerResult,
    },
    service::{NotificationContext, Peer, RequestContext, RxJsonRpcMessage, Service, serve_server},
    transport::IntoTransport,
};

use self::attributing_transport::AttributingTransport;
use super::{
    connection::{Connection, ConnectionOwner, Handshake, Kind, TransportProfile},
    errors,
    reconnect::Dial,
};
use crate::{Error, util::panics};

/// Limit of messages that wait between the two sides of an in-process connection.
const IN_PROCESS_BUFFER: usize = 64;

/// A dialer that serves a handler in this process.
pub(super) struct InProcess<H> {
    pub(super) handler: Arc<H>,
    pub(super) handshake: Handshake,
}

impl<H: ServerHandler> Dial for InProcess<H> {
    fn dial(&self) -> BoxFuture<'static, Result<Connection, Error>> {
        let handler = self.handler.clone();
        let handshake = self.handshake.clone();
        Box::pin(async move {
            let (to_server, from_client) =
                mpsc::channel::<RxJsonRpcMessage<RoleServer>>(IN_PROCESS_BUFFER);
            let (to_client, from_server) =
                mpsc::channel::<RxJsonRpcMessage<RoleClient>>(IN_PROCESS_BUFFER);
            tokio::spawn(async move {
                match serve_server(Caught(handler), (to_client, from_client)).await {
                    Ok(running) => drop(running.waiting().await),
                    Err(error) => tracing::debug!(%error, "an in-process server did not start"),
                }
            });
            let profile = TransportProfile::of(Kind::InProcess);
            Connection::establish_with(|_| (to_server, from_server), handshake, profile).await
        })
    }
}

/// A handler whose panics are answered with an error. rmcp runs the handler in tasks of its own,
/// out of reach of the call.
struct Caught<H>(Arc<H>);

impl<H: ServerHandler> Service<RoleServer> for Caught<H> {
    fn handle_request(
        &self,
        request: ClientRequest,
        context: RequestContext<RoleServer>,
    ) -> impl Future<Output = Result<ServerResult, ErrorData>> + Send + '_ {
        panics::caught(async move { self.0.handle_request(request, context).await })
    }

    fn handle_notification(
        &self,
        notification: ClientNotification,
        context: NotificationContext<RoleServer>,
    ) -> impl Future<Output = Result<(), ErrorData>> + Send + '_ {
        self.0.handle_notification(notification, context)
    }

    fn get_info(&self) -> ServerConfig {
        Service::get_info(&self.0)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Service::supported_protocol_versions(&self.0)
    }
}

/// A dialer that makes a transport for each connection.
pub(super) struct Make<F, A> {
    make: Arc<F>,
    handshake: Handshake,
    _adapter: PhantomData<fn() -> A>,
}

impl<F, A> Make<F, A> {
    pub(super) fn new(make: Arc<F>, handshake: Handshake) -> Self {
        Self {
            make,
            handshake,
            _adapter: PhantomData,
        }
    }
}

impl<T, E, A, F, Fut> Dial for Make<F, A>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: IntoTransport<RoleClient, E, A>,
    E: std::error::Error + Send + Sync + 'static,
    A: 'static,
{
    fn dial(&self) -> BoxFuture<'static, Result<Connection, Error>> {
        let made = (self.make)();
        let handshake = self.handshake.clone();
        Box::pin(async move {
            let transport = made
                .await
                .map_err(|error| errors::of_spawn(&handshake.upstream, "cannot connect", error))?;
            let inner = transport.into_transport();
            let transport = |routes| AttributingTransport { inner, routes };
            let profile = TransportProfile::of(Kind::Other);
            Connection::establish_with(transport, handshake, profile).await
        })
    }
}

/// A dialer that uses an existing client.
pub(super) struct Foreign {
    pub(super) peer: Peer<RoleClient>,
    pub(super) keep: Option<Arc<dyn Any + Send + Sync>>,
    pub(super) handshake: Handshake,
}

impl Dial for Foreign {
    fn dial(&self) -> BoxFuture<'static, Result<Connection, Error>> {
        let connection = if self.peer.is_transport_closed() {
            Err(errors::lost_for_good(&self.handshake.upstream))
        } else {
            let keep = ConnectionOwner::Foreign {
                _client: self.keep.clone(),
            };
            Connection::foreign(self.peer.clone(), &self.handshake, keep)
        };
        Box::pin(std::future::ready(connection))
    }

    fn is_final(&self) -> bool {
        true
    }
}
