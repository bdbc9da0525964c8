//! The fixtures under a stack: `McpServer`, nine layers that pass everything on, `Handler`.

use std::pin::Pin;
use std::task::{Context, Poll};

use rmcp::ServerHandler;
use rmcp_layers::delegate::{DelegateLayer, Orchestrator};
use rmcp_layers::{ConfigError, Handler, McpRequest, McpServer, ServiceBuilderExt};
use tower::{Layer, Service, ServiceBuilder};

/// Serves `handler` under nine layers. Every clone of what is returned serves one more session.
pub fn stacked<H: ServerHandler>(handler: H) -> impl ServerHandler + Clone {
    McpServer::new(nine_layers(Handler::new(handler)))
}

/// Serves `handler` under the tools of delegation, without agents.
pub fn delegating<H: ServerHandler>(handler: H) -> Result<impl ServerHandler + Clone, ConfigError> {
    let layer = DelegateLayer::new(Orchestrator::builder().build()?);
    let stack = ServiceBuilder::new()
        .delegate(layer)
        .service(Handler::new(handler));
    Ok(McpServer::new(stack))
}

/// A service under nine layers, as many as the crate has patterns.
pub type Nine<S> = Three<Three<Three<S>>>;
type Three<S> = PassedThrough<PassedThrough<PassedThrough<S>>>;

/// Puts nine layers around a service.
pub fn nine_layers<S>(service: S) -> Nine<S> {
    three_layers(three_layers(three_layers(service)))
}

fn three_layers<S>(service: S) -> Three<S> {
    ServiceBuilder::new()
        .layer(PassThrough)
        .layer(PassThrough)
        .layer(PassThrough)
        .service(service)
}

/// Does nothing, at the price of any real layer: a clone of what is below, and a future in a box.
#[derive(Clone, Copy)]
pub struct PassThrough;

impl<S> Layer<S> for PassThrough {
    type Service = PassedThrough<S>;

    fn layer(&self, below: S) -> Self::Service {
        PassedThrough { below }
    }
}

#[derive(Clone)]
pub struct PassedThrough<S> {
    below: S,
}

impl<S> Service<McpRequest> for PassedThrough<S>
where
    S: Service<McpRequest> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.below.poll_ready(context)
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        // The service that said it was ready is the one to call; its clone waits for the next.
        let next = self.below.clone();
        let mut below = std::mem::replace(&mut self.below, next);
        Box::pin(async move { below.call(request).await })
    }
}
