//! Calls to an rmcp [`ClientHandler`] without a connection to a server.

use std::{
    any::Any,
    sync::{Arc, Mutex},
};

use futures::{channel::mpsc, future::BoxFuture};
use rmcp::{
    ClientHandler, RoleClient,
    model::{
        ClientConfig, ClientJsonRpcMessage, ClientResult, CustomNotification, ErrorData,
        GetExtensions, GetMeta, NotificationMetaObject, ProtocolVersion, RequestId,
        RequestMetaObject, ServerCapabilities, ServerJsonRpcMessage, ServerNotification,
        ServerPeerInfo, ServerRequest,
    },
    service::{NotificationContext, RequestContext, serve_directly},
};
use tokio::sync::{OnceCell, oneshot};

use crate::{
    McpServer, Stack,
    util::{lock, panics},
};

/// The type-erased handler of a client.
pub(super) trait ErasedHandler: Send + Sync + 'static {
    /// Answers a server's request. Dropping the future cancels the token in the handler's context.
    fn request(
        self: Arc<Self>,
        request: ServerRequest,
        id: RequestId,
    ) -> BoxFuture<'static, Result<ClientResult, ErrorData>>;

    /// Passes a notification to the handler, and completes when the handler has processed it.
    fn notify(self: Arc<Self>, notification: ServerNotification) -> BoxFuture<'static, ()>;
}

/// A handler, and the connection that rmcp's contexts require.
///
/// rmcp creates a `Peer<RoleClient>` only for a connection. So there is one, in this process, to an
/// [`McpServer`] over the same stack: requests that the handler sends through its context's peer go
/// through the stack. Messages to the handler do not use the connection. The handler is called
/// directly, in order, inside the call they belong to.
pub(super) struct ConnectedHandler<H, S> {
    handler: Arc<H>,
    stack: Mutex<S>,
    link: OnceCell<Link>,
}

struct Link {
    context: NotificationContext<RoleClient>,
    /// Both ends: dropping them closes the connection.
    _ends: [Box<dyn Any + Send + Sync>; 2],
}

/// The number of messages that are buffered in either direction of the connection.
const LINK_BUFFER: usize = 64;

impl<H, S> ConnectedHandler<H, S>
where
    H: ClientHandler,
    S: Stack,
{
    pub(super) fn new(handler: H, stack: S) -> Self {
        Self {
            handler: Arc::new(handler),
            stack: Mutex::new(stack),
            link: OnceCell::new(),
        }
    }

    /// Returns the template for contexts. The connection is made at first use.
    async fn context(&self) -> Result<&NotificationContext<RoleClient>, ErrorData> {
        let link = self.link.get_or_try_init(|| self.connect()).await?;
        Ok(&link.context)
    }

    async fn connect(&self) -> Result<Link, ErrorData> {
        let (to_server, from_client) = mpsc::channel::<ClientJsonRpcMessage>(LINK_BUFFER);
        let (to_client, from_server) = mpsc::channel::<ServerJsonRpcMessage>(LINK_BUFFER);
        let stack = lock(&self.stack).clone();
        let server = serve_directly(McpServer::new(stack), (to_client, from_client), None);
        let (sender, introduced) = oneshot::channel();
        let service = ContextHandler {
            handler: self.handler.clone(),
            waiting: Mutex::new(Some(sender)),
        };
        // A modern peer: rmcp then sends the client's own description with each of its requests.
        let peer = ServerPeerInfo::new(ProtocolVersion::LATEST, ServerCapabilities::default());
        let client = serve_directly(service, (to_server, from_server), Some(peer));
        let hello = CustomNotification::new("notifications/rmcp-layers/introduction", None);
        let lost = || ErrorData::internal_error("the client handler cannot be connected", None);
        server
            .peer()
            .send_notification(hello.into())
            .await
            .map_err(|_| lost())?;
        let context = introduced.await.map_err(|_| lost())?;
        Ok(Link {
            context,
            _ends: [Box::new(client), Box::new(server)],
        })
    }

    async fn answer(
        &self,
        mut request: ServerRequest,
        id: RequestId,
    ) -> Result<ClientResult, ErrorData> {
        let mut context = RequestContext::new(id, self.context().await?.peer.clone());
        context.meta = std::mem::take(request.get_meta_mut());
        context.extensions = std::mem::take(request.extensions_mut());
        context.extensions.remove::<RequestMetaObject>();
        let _cancel = context.ct.clone().drop_guard();
        rmcp::Service::handle_request(&*self.handler, request, context).await
    }

    async fn tell(&self, mut notification: ServerNotification) -> Result<(), ErrorData> {
        let mut context = self.context().await?.clone();
        context.meta = std::mem::take(notification.get_meta_mut());
        context.extensions = std::mem::take(notification.extensions_mut());
        context.extensions.remove::<NotificationMetaObject>();
        rmcp::Service::handle_notification(&*self.handler, notification, context).await
    }
}

impl<H, S> ErasedHandler for ConnectedHandler<H, S>
where
    H: ClientHandler,
    S: Stack,
{
    fn request(
        self: Arc<Self>,
        request: ServerRequest,
        id: RequestId,
    ) -> BoxFuture<'static, Result<ClientResult, ErrorData>> {
        Box::pin(async move { panics::caught(self.answer(request, id)).await })
    }

    fn notify(self: Arc<Self>, notification: ServerNotification) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Err(error) = panics::caught(self.tell(notification)).await {
                tracing::warn!(%error, "the client handler failed on a notification");
            }
        })
    }
}

/// The handler at the end of the connection. It keeps the context of the first notification as the
/// template for all others, because rmcp has no public constructor for one.
struct ContextHandler<H> {
    handler: Arc<H>,
    waiting: Mutex<Option<oneshot::Sender<NotificationContext<RoleClient>>>>,
}

impl<H: ClientHandler> rmcp::Service<RoleClient> for ContextHandler<H> {
    async fn handle_request(
        &self,
        request: ServerRequest,
        context: RequestContext<RoleClient>,
    ) -> Result<ClientResult, ErrorData> {
        rmcp::Service::handle_request(&*self.handler, request, context).await
    }

    async fn handle_notification(
        &self,
        notification: ServerNotification,
        context: NotificationContext<RoleClient>,
    ) -> Result<(), ErrorData> {
        let waiting = lock(&self.waiting).take();
        if let Some(waiting) = waiting {
            let _ = waiting.send(context);
            return Ok(());
        }
        rmcp::Service::handle_notification(&*self.handler, notification, context).await
    }

    fn get_info(&self) -> ClientConfig {
        ClientHandler::get_info(&*self.handler)
    }
}
