//! A server in this process, over typed channels.

use std::{borrow::Cow, sync::Arc};

use futures::StreamExt;
use rmcp::{
    RoleClient, RoleServer, ServerHandler,
    model::{
        ClientNotification, ClientRequest, ErrorData, JsonRpcMessage, ProtocolVersion,
        ServerConfig, ServerResult,
    },
    service::{
        NotificationContext, RequestContext, RxJsonRpcMessage, Service, TxJsonRpcMessage,
        serve_server,
    },
    transport::Transport,
};
use tokio::sync::mpsc::{self, error::SendError};

use crate::{
    Error,
    lines::begun,
    upstream::{
        connection::{Connection, Handshake, Kind, TransportProfile},
        route::Routes,
    },
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
    let (to_server, from_client) = futures::channel::mpsc::channel(IN_PROCESS_BUFFER);
    let (to_client, mut from_server) = mpsc::channel(IN_PROCESS_BUFFER);
    let transport = |routes| {
        let end = ServerEnd {
            from_client,
            to_client,
            routes,
        };
        tokio::spawn(async move {
            match serve_server(Caught(handler), end).await {
                Ok(running) => drop(running.waiting().await),
                Err(error) => tracing::debug!(%error, "an in-process server did not start"),
            }
        });
        let from_server = futures::stream::poll_fn(move |context| from_server.poll_recv(context));
        (to_server, from_server)
    };
    let profile = TransportProfile::of(Kind::InProcess);
    Connection::establish_with(transport, handshake, profile).await
}

/// The server's end of a connection.
///
/// A notification goes to its call at once, without a way through the client's loop: a tool may send
/// thousands.
struct ServerEnd {
    from_client: futures::channel::mpsc::Receiver<RxJsonRpcMessage<RoleServer>>,
    to_client: mpsc::Sender<RxJsonRpcMessage<RoleClient>>,
    routes: Arc<Routes>,
}

impl ServerEnd {
    /// Returns the message, unless it is a notification that has been delivered.
    fn undelivered(
        &self,
        message: RxJsonRpcMessage<RoleClient>,
    ) -> Option<RxJsonRpcMessage<RoleClient>> {
        match message {
            // The client's end says that it is gone.
            JsonRpcMessage::Notification(mut message) if !self.to_client.is_closed() => {
                message.notification = self.routes.deliver(message.notification)?;
                Some(JsonRpcMessage::Notification(message))
            }
            other => Some(other),
        }
    }
}

impl Transport<RoleServer> for ServerEnd {
    type Error = SendError<RxJsonRpcMessage<RoleClient>>;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let sending = self.undelivered(item).map(|message| {
            let to_client = self.to_client.clone();
            begun(async move { to_client.send(message).await })
        });
        async move {
            match sending {
                Some(sending) => sending.await,
                None => Ok(()),
            }
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        self.from_client.next().await.map(of_its_type)
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
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
