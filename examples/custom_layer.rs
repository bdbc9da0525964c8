//! A layer of your own: a rate limit for each principal, the same on a server and on a client.
//!
//! Output of `cargo run --example custom_layer`:
//!
//! ```text
//! server: ann called echo
//! server: ann called echo
//! server: ann may call again in 60s
//! server: ben called echo
//! client: ann called echo
//! client: ann called echo
//! client: ann may call again in 60s
//! client: ben called echo
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use moka::{policy::EvictionPolicy, sync::Cache};
use rmcp::{tool, tool_router};
use rmcp_layers::{
    Error, Handler, McpClient, McpRequest, McpResponse, McpServer, Principal, Refusal, Stack,
    Upstream, code,
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

/// Lets each principal call tools so often in a window of time.
#[derive(Clone)]
struct RateLimitLayer {
    limit: u32,
    window: Duration,
    /// The calls of each principal. At most 10,000 principals are counted: the one that has been
    /// away for longest begins anew when another one comes.
    calls: Cache<(Option<String>, String), Arc<Calls>>,
}

/// The calls of a principal in its current window.
struct Calls {
    since: Instant,
    count: AtomicU32,
}

impl RateLimitLayer {
    fn new(limit: u32, window: Duration) -> Self {
        let calls = Cache::builder().max_capacity(10_000).time_to_live(window);
        // The default policy would turn new principals away, and never count them.
        let calls = calls.eviction_policy(EvictionPolicy::lru()).build();
        Self {
            limit,
            window,
            calls,
        }
    }

    fn check(&self, request: &McpRequest) -> Result<(), Refusal> {
        // Lists, reads, listens and notifications pass.
        if request.as_tool_call().is_none() {
            return Ok(());
        }
        // A subject is unique only within its issuer. Callers without a principal count as one.
        let principal = request.context.principal();
        let (issuer, subject) = principal.map_or((None, ""), Principal::identity);
        let key = (issuer.map(str::to_owned), subject.to_owned());
        let (since, count) = (Instant::now(), AtomicU32::new(0));
        let calls = self
            .calls
            .get_with(key, || Arc::new(Calls { since, count }));
        if calls.count.fetch_add(1, Ordering::Relaxed) < self.limit {
            return Ok(());
        }
        let left = self.window.saturating_sub(calls.since.elapsed());
        let refusal = Refusal::new("rate_limit", "too many calls; try again later");
        Err(refusal.with_code(code::TOO_MANY).with_retry_after(left))
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> RateLimit<S> {
        let layer = self.clone();
        RateLimit { layer, inner }
    }
}

#[derive(Clone)]
struct RateLimit<S> {
    layer: RateLimitLayer,
    inner: S,
}

impl<S: Stack> Service<McpRequest> for RateLimit<S> {
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, Result<McpResponse, Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // A call that is refused needs no room in the inner stack.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        let checked = self.layer.check(&request);
        let inner = self.inner.clone();
        Box::pin(async move {
            checked?;
            inner.oneshot(request).await.map_err(Into::into)
        })
    }
}

struct Echo;

#[tool_router(server_handler)]
impl Echo {
    #[tool(description = "Answers")]
    fn echo(&self) -> String {
        "echo".to_owned()
    }
}

#[tokio::main]
async fn main() {
    let limit = RateLimitLayer::new(2, Duration::from_secs(60));
    let authenticate = |mut request: McpRequest| {
        // Stands in for an `AuthLayer`. A real server does not take the user from the client's
        // `_meta`.
        let user = request
            .context
            .meta
            .get("user")
            .and_then(|user| user.as_str());
        if let Some(principal) = user.map(Principal::new) {
            request.context.set_principal(principal);
        }
        request
    };
    let stack = ServiceBuilder::new()
        .map_request(authenticate)
        .layer(limit)
        .service(Handler::new(Echo));
    let server = McpServer::new(stack);
    call("server", McpClient::new(Upstream::in_process(server))).await;

    let limit = RateLimitLayer::new(2, Duration::from_secs(60));
    let stack = ServiceBuilder::new()
        .layer(limit)
        .service(Upstream::in_process(Echo));
    call("client", McpClient::new(stack)).await;
}

async fn call(side: &str, client: McpClient<impl Stack>) {
    for user in ["ann", "ann", "ann", "ben"] {
        let call = client
            .call_tool("echo")
            .meta("user", user)
            .principal(Principal::new(user));
        match call.await {
            Ok(_) => println!("{side}: {user} called echo"),
            Err(error) => match error.retry_after() {
                Some(after) => println!("{side}: {user} may call again in {after:.0?}"),
                None => println!("{side}: {error}"),
            },
        }
    }
}
