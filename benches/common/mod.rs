//! What the benches share: rounds, medians, the lines a script reads, and the layer every stack
//! wears.

#![allow(
    dead_code,
    unused_imports,
    reason = "each bench is a program of its own and uses a part of this"
)]

mod echo;
pub mod gateway;
pub mod lean;
pub mod process;
mod rounds;
pub mod serve;

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::future::{BoxFuture, ready};
use rmcp::model::{CallToolRequestParams, ServerResult};
use rmcp_layers::{Error, McpRequest, McpResponse};
use tower::{Layer, Service};

pub use self::{
    echo::Echo,
    rounds::{Rounds, figure, median},
};

/// How long rounds may go on.
pub struct Clock {
    until: Instant,
}

impl Clock {
    pub fn new(budget: Duration) -> Self {
        Self {
            until: Instant::now() + budget,
        }
    }

    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

/// The call that is measured.
pub fn echo() -> CallToolRequestParams {
    let arguments = serde_json::Map::from_iter([("text".to_owned(), "hello".into())]);
    CallToolRequestParams::new("echo").with_arguments(arguments)
}

/// Answers at once, with the same each time.
#[derive(Clone, Debug)]
pub struct Ready(pub Arc<ServerResult>);

impl Service<McpRequest> for Ready {
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, Result<McpResponse, Error>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        drop(request);
        let answer = McpResponse::new((*self.0).clone());
        Box::pin(ready(Ok(answer)))
    }
}

/// Does nothing, at the price of any real layer: a clone of what is below, and a future in a box.
#[derive(Clone, Copy, Debug)]
pub struct PassThrough;

impl<S> Layer<S> for PassThrough {
    type Service = PassedThrough<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PassedThrough { inner }
    }
}

/// The service of [`PassThrough`].
#[derive(Clone, Debug)]
pub struct PassedThrough<S> {
    inner: S,
}

impl<S> Service<McpRequest> for PassedThrough<S>
where
    S: Service<McpRequest> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        // The service that said it was ready is the one to call; its clone waits for the next.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        Box::pin(async move { inner.call(request).await })
    }
}
