//! Ready-made sinks.

use futures::future::{BoxFuture, ready};
use rmcp::model::{
    ClientResult, ErrorCode, ErrorData, ServerNotification, ServerRequest,
    SubscriptionsAcknowledgedNotification,
};

use super::{Caller, CallerSink};
use crate::Error;

impl Caller {
    /// Passes each notification through `map`, which may inspect, change or drop it.
    #[must_use]
    pub fn filter_map_notifications(
        &self,
        map: impl Fn(ServerNotification) -> Option<ServerNotification> + Send + Sync + 'static,
    ) -> Self {
        self.filter_map(map, |_| {})
    }

    /// Calls `inspect` with each request of a server before the request is sent to the caller.
    #[must_use]
    pub fn inspect_requests(
        &self,
        inspect: impl Fn(&ServerRequest) + Send + Sync + 'static,
    ) -> Self {
        self.filter_map(Some, inspect)
    }

    /// Does the work of [`filter_map_notifications`](Self::filter_map_notifications) and of
    /// [`inspect_requests`](Self::inspect_requests).
    pub(crate) fn filter_map(
        &self,
        map: impl Fn(ServerNotification) -> Option<ServerNotification> + Send + Sync + 'static,
        inspect: impl Fn(&ServerRequest) + Send + Sync + 'static,
    ) -> Self {
        self.wrap(|inner| FilterMap {
            inner,
            map,
            inspect,
        })
    }

    /// Calls `inspect` with each notification of a listen before it is sent to the caller. Unlike a
    /// [wrapped](Self::wrap) caller, the new one does not count as layered.
    #[cfg(any(feature = "cache", feature = "gateway"))]
    pub(crate) fn inspect_listen(
        &self,
        inspect: impl Fn(&ServerNotification) + Send + Sync + 'static,
    ) -> Self {
        self.wrap_listen(|inner| FilterMap {
            inner,
            map: move |notification| {
                inspect(&notification);
                Some(notification)
            },
            inspect: |_: &ServerRequest| {},
        })
    }

    /// Refuses requests of a server with "method not found" (-32601), as a client without the
    /// capability does. Notifications pass.
    #[must_use]
    pub fn refuse_requests(&self) -> Self {
        self.wrap_listen(|inner| RefuseRequests { inner })
    }

    /// Gives the acknowledgment of a `subscriptions/listen` to `take` instead of the caller. Other
    /// notifications pass.
    #[must_use]
    pub fn take_acknowledgment(
        &self,
        take: impl Fn(SubscriptionsAcknowledgedNotification) -> BoxFuture<'static, Result<(), Error>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.wrap_listen(|inner| TakeAcknowledgment { inner, take })
    }
}

/// Returns the error for requests of a server to a caller that takes none.
pub(super) fn no_requests() -> Error {
    let message = "this caller takes no requests from a server";
    ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None).into()
}

struct FilterMap<M, I> {
    inner: Caller,
    map: M,
    inspect: I,
}

impl<M, I> CallerSink for FilterMap<M, I>
where
    M: Fn(ServerNotification) -> Option<ServerNotification> + Send + Sync + 'static,
    I: Fn(&ServerRequest) + Send + Sync + 'static,
{
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        match (self.map)(notification) {
            Some(notification) => Box::pin(self.inner.notify(notification)),
            None => Box::pin(ready(Ok(()))),
        }
    }

    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        (self.inspect)(&request);
        Box::pin(self.inner.request(request))
    }
}

struct RefuseRequests {
    inner: Caller,
}

impl CallerSink for RefuseRequests {
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.inner.notify(notification))
    }

    fn request(&self, _request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(ready(Err(no_requests())))
    }
}

struct TakeAcknowledgment<F> {
    inner: Caller,
    take: F,
}

impl<F> CallerSink for TakeAcknowledgment<F>
where
    F: Fn(SubscriptionsAcknowledgedNotification) -> BoxFuture<'static, Result<(), Error>>
        + Send
        + Sync
        + 'static,
{
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        match notification {
            ServerNotification::SubscriptionsAcknowledgedNotification(acknowledgment) => {
                (self.take)(acknowledgment)
            }
            other => Box::pin(self.inner.notify(other)),
        }
    }

    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(self.inner.request(request))
    }
}
