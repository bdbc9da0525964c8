//! Requests that were sent and are not answered. Dropping one cancels it at the server.

use std::{sync::Arc, time::Duration};

use rmcp::{
    RoleClient,
    model::{CancelledNotification, CancelledNotificationParam, ProgressToken, RequestId},
    service::{RequestHandle, ServiceError},
};

use super::{
    connection::Connection,
    route::{CompletedCall, Route, Routes},
};

/// The route of a call that was sent directly, as long as messages can come for it.
pub(super) struct EnteredRoute<'a> {
    routes: &'a Routes,
    id: RequestId,
}

impl<'a> EnteredRoute<'a> {
    pub(super) fn new(routes: &'a Arc<Routes>, id: RequestId, route: Route) -> Self {
        routes.enter(id.clone(), None, route);
        Self { routes, id }
    }
}

impl Drop for EnteredRoute<'_> {
    fn drop(&mut self) {
        self.routes.leave(&self.id);
    }
}

/// A request that was sent and is not answered. Dropping it cancels the request at the server.
pub(super) struct RequestInFlight<'a> {
    pub(super) connection: &'a Arc<Connection>,
    pub(super) handle: Option<RequestHandle<RoleClient>>,
}

impl RequestInFlight<'_> {
    /// Ends the request: the answer has arrived.
    pub(super) fn complete(mut self) -> CompletedCall {
        let Some(handle) = self.handle.take() else {
            return CompletedCall::default();
        };
        let routes = &self.connection.routes;
        routes.complete(&handle.id, Some(&handle.progress_token))
    }
}

impl Drop for RequestInFlight<'_> {
    fn drop(&mut self) {
        let Some(handle) = self.handle.take() else {
            return;
        };
        let (connection, routes) = (self.connection, &self.connection.routes);
        routes.abandon(&handle.id, Some(&handle.progress_token));
        send_cancelled(connection, handle.cancel(Some(CANCELLED.to_owned())));
    }
}

/// A request that rmcp's client loop does not know, or whose answer it gives to another part.
/// Dropping it before the answer cancels the request at the server.
pub(super) struct EnteredRequest<'a> {
    connection: &'a Arc<Connection>,
    id: RequestId,
    token: Option<ProgressToken>,
    is_answered: bool,
}

impl<'a> EnteredRequest<'a> {
    pub(super) fn new(
        connection: &'a Arc<Connection>,
        id: RequestId,
        token: Option<ProgressToken>,
        route: Route,
    ) -> Self {
        connection.routes.enter(id.clone(), token.clone(), route);
        Self {
            connection,
            id,
            token,
            is_answered: false,
        }
    }

    /// Ends the request: the answer has arrived.
    pub(super) fn complete(mut self) -> CompletedCall {
        self.is_answered = true;
        let routes = &self.connection.routes;
        routes.complete(&self.id, self.token.as_ref())
    }
}

impl Drop for EnteredRequest<'_> {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        let routes = &self.connection.routes;
        routes.abandon(&self.id, self.token.as_ref());
        let peer = self.connection.peer.clone();
        let params =
            CancelledNotificationParam::new(Some(self.id.clone()), Some(CANCELLED.to_owned()));
        let cancelled = CancelledNotification::new(params).into();
        let sending = async move { peer.send_notification(cancelled).await };
        send_cancelled(self.connection, sending);
    }
}

/// The reason in a cancellation to a server.
const CANCELLED: &str = "the caller does not wait for it any more";

/// The time a cancellation keeps a connection that has no other user.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// Tells the server of a cancellation. The connection is kept until then: rmcp sends nothing more
/// once its client has been dropped.
fn send_cancelled(
    connection: &Arc<Connection>,
    sending: impl Future<Output = Result<(), ServiceError>> + Send + 'static,
) {
    if connection.is_lost() {
        return;
    }
    let kept = connection.clone();
    connection.runtime.spawn(async move {
        let mut sending = std::pin::pin!(sending);
        let in_time = tokio::time::timeout(CANCEL_TIMEOUT, &mut sending).await;
        drop(kept);
        let sent = match in_time {
            Ok(sent) => sent,
            Err(_) => sending.await,
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "the server could not be told of a cancellation");
        }
    });
}
