//! An example of a custom layer: it counts the calls in flight, so that a shutdown can wait for
//! them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use rmcp::model::ClientRequest;
use rmcp_layers::McpRequest;
use tokio::sync::Notify;
use tower::{Layer, Service, layer::layer_fn};

/// The count, shared by the layer and the shutdown.
#[derive(Clone, Default)]
pub struct InFlight(Arc<Count>);

#[derive(Default)]
struct Count {
    calls: AtomicUsize,
    idle: Notify,
}

impl InFlight {
    /// Returns the layer that counts.
    pub fn layer<S>(&self) -> impl Layer<S, Service = Counted<S>> + Clone + use<S> {
        let count = self.clone();
        layer_fn(move |inner| Counted {
            inner,
            count: count.clone(),
        })
    }

    /// Waits until no call is in flight.
    pub async fn idle(&self) {
        loop {
            let idle = self.0.idle.notified();
            if self.0.calls.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }

    fn enter(&self) -> Guard {
        self.0.calls.fetch_add(1, Ordering::AcqRel);
        Guard(self.clone())
    }
}

/// One call. It leaves the count however it ends: answered, failed or dropped.
struct Guard(InFlight);

impl Drop for Guard {
    fn drop(&mut self) {
        let Guard(InFlight(count)) = self;
        if count.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            count.idle.notify_waiters();
        }
    }
}

/// A counted service.
#[derive(Clone)]
pub struct Counted<S> {
    inner: S,
    count: InFlight,
}

impl<S> Service<McpRequest> for Counted<S>
where
    S: Service<McpRequest>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        // A listen stays open until its session ends, so a shutdown does not wait for it.
        let listens = matches!(
            request.message,
            ClientRequest::SubscriptionsListenRequest(_)
        );
        let guard = (!listens).then(|| self.count.enter());
        let call = self.inner.call(request);
        Box::pin(async move {
            let _guard = guard;
            call.await
        })
    }
}
