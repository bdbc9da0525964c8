//! A server in this process, over typed channels.

use std::{borrow::Cow, sync::Arc};

use futures::{StreamExt, channel::mpsc};
use rmcp::{
    RoleClient, RoleServer, ServerHandler,
    model::{
        ClientNotification, ClientRequest, ErrorData, JsonRpcMessage, ProtocolVersion,
        ServerConfig, ServerResult,
    },
    service::{NotificationContext, RequestContext, RxJsonRpcMessage, Service, serve_server},
};

use crate::{
    Error,
    upstream::connection::{Connection, Handshake, Kind, TransportProfile},
    util::panics,
    wire::caller_results,
};

/// Limit of messages that wait between the two sides of an in-process connection.
const IN_PROCESS_BUFFER: usize = 64;

/// Serves a handler in this process, and connects to it.
pub(in crate::upstream) async fn connect_in_process<H: ServerHandler>(
    handler: Arc<H>,
    handshake: Handshake,
) -> Result<Connection, Error> {
    let (to_server, from_client) = mpsc::channel::<RxJsonRpcMessage<RoleServer>>(IN_PROCESS_BUFFER);
    let (to_client, from_server) = mpsc::channel::<RxJsonRpcMessage<RoleClient>>(IN_PROCESS_BUFFER);
    tokio::spawn(async move {
        let from_client = from_client.map(of_its_type);
        match serve_server(Caught(handler), (to_client, from_client)).await {
            Ok(running) => drop(running.waiting().await),
            Err(error) => tracing::debug!(%error, "an in-process server did not start"),
        }
    });
    let profile = TransportProfile::of(Kind::InProcess);
    Connection::establish_with(|_| (to_server, from_server), handshake, profile).await
}

/// Returns a client's result as the type that the handler asks for.
fn of_its_type(mut message: RxJsonRpcMessage<RoleServer>) -> RxJsonRpcMessage<RoleServer> {
    if let JsonRpcMessage::Response(response) = &mut message {
        caller_results::make_typed(&mut response.result);
    }
    message
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
