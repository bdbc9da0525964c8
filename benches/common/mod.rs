//! What the benches share: rounds, medians, the lines a script reads, and the layer every stack wears.

#![allow(
    dead_code,
    reason = "each bench is a program of its own and uses a part of this"
)]

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::future::{BoxFuture, ready};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ServerCapabilities,
        ServerConfig, ServerResult,
    },
    service::RequestContext,
};
use rmcp_layers::{Error, McpRequest, McpResponse};
use tower::{Layer, Service};

/// A line for scripts.
pub fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.3} {unit}");
}

/// The middle one; the upper one of two.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The same round of measurement for each of several variants, again and again: what disturbs the machine
/// disturbs them all.
pub struct Rounds {
    names: Vec<&'static str>,
    /// By variant, then by round.
    values: Vec<Vec<f64>>,
}

impl Rounds {
    pub fn new(names: &[&'static str]) -> Self {
        Self {
            names: names.to_vec(),
            values: vec![Vec::new(); names.len()],
        }
    }

    /// Which variant is the `turn`th of a round. Each is first equally often.
    pub fn order(&self, round: usize) -> impl Iterator<Item = usize> + use<> {
        let count = self.names.len();
        (0..count).map(move |turn| (round + turn) % count)
    }

    pub fn add(&mut self, variant: usize, value: f64) {
        self.values[variant].push(value);
    }

    /// The median over the rounds.
    pub fn value(&self, variant: usize) -> f64 {
        median(&self.values[variant])
    }

    /// The median of the ratios to another variant in the same round.
    pub fn ratio(&self, variant: usize, to: usize) -> f64 {
        let pairs = self.values[variant].iter().zip(&self.values[to]);
        median(&pairs.map(|(value, base)| value / base).collect::<Vec<_>>())
    }

    /// All variants in a table, with their ratios to the first.
    pub fn print(&self, unit: &str) {
        for (variant, name) in self.names.iter().enumerate() {
            let value = self.value(variant);
            let ratio = self.ratio(variant, 0);
            println!("  {name:<44} {value:>10.2} {unit}   {ratio:>5.2}x");
        }
    }
}

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

/// A server with one tool, which says what it was told.
#[derive(Clone, Copy, Debug)]
pub struct Echo;

impl ServerHandler for Echo {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let text = arguments.get("text").and_then(|text| text.as_str());
        let content = ContentBlock::text(text.unwrap_or_default());
        Ok(CallToolResult::success(vec![content]).into())
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
