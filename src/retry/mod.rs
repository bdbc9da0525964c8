//! Repeats what is safe to repeat, and stops calling what is down.
//!
//! [`RetryLayer`] makes a call again that failed, where that does no harm. A
//! [`CircuitBreakerLayer`](breaker::CircuitBreakerLayer) refuses calls of what has failed too often, for a while. They
//! go together, and each goes alone:
//!
//! ```
//! use std::time::Duration;
//!
//! use rmcp_layers::{
//!     McpClient, Upstream,
//!     retry::{Attempts, RetryLayer, RetryPolicy, breaker::CircuitBreakerLayer},
//! };
//! use tower::ServiceBuilder;
//! # use std::sync::atomic::{AtomicBool, Ordering};
//! # use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
//! # #[derive(Default)]
//! # struct Search(AtomicBool);
//! # impl ServerHandler for Search {
//! #     async fn call_tool(
//! #         &self,
//! #         _request: CallToolRequestParams,
//! #         _context: RequestContext<RoleServer>,
//! #     ) -> Result<CallToolResponse, ErrorData> {
//! #         if !self.0.swap(true, Ordering::SeqCst) {
//! #             return Err(ErrorData::internal_error("out of memory", None));
//! #         }
//! #         Ok(CallToolResult::success(vec![ContentBlock::text("found")]).into())
//! #     }
//! # }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let upstream = Upstream::in_process(Search::default());
//! let policy = RetryPolicy::new().max_delay(Duration::from_secs(10));
//! let retry = RetryLayer::builder()
//!     .tool("search_*", policy.clone().safe_to_repeat(true))
//!     .policy(policy)
//!     .on_retry(|event| eprintln!("{}: again in {:?}", event.method, event.delay))
//!     .build()?;
//! let breaker = CircuitBreakerLayer::new();
//! let handle = breaker.handle();
//! let stack = ServiceBuilder::new().layer(retry).layer(breaker).service(upstream);
//!
//! // The server fails once; nobody notices.
//! let client = McpClient::new(stack);
//! let result = client.call_tool("search_web").argument("query", "tower").await?;
//! assert_eq!(result.content[0].as_text().map(|text| &*text.text), Some("found"));
//! assert_eq!(handle.counts().opened, 0);
//! # Ok(())
//! # }
//! ```
//!
//! # When to use it
//!
//! - Over an upstream that is restarted, redeployed or reached over a network: calls outlive a short outage.
//! - The breaker, where calls of a dead server would otherwise wait for their timeouts, one after another.
//! - Not over a [`Handler`](crate::Handler): what fails in this process fails again.
//!
//! # What is repeated
//!
//! [`Outcome`](crate::Outcome) says how a call ended, and its table what may be repeated. In short:
//!
//! | the call | is repeated |
//! |---|---|
//! | provably did not run: nobody there to connect to, not sent, HTTP 429, refused for now by a layer within (a breaker, a limit) | whatever its method |
//! | may have run: a lost connection, a timeout, HTTP 5xx, an internal error (-32603) | if it is safe to repeat |
//! | ran, and its result has `isError` | if the operator's [rule](RetryPolicy::retry_tool_errors) says so |
//! | fails in the same way again: -32602, -32601, any other JSON-RPC error, HTTP 4xx, a refusal by auth | never |
//! | succeeded, a round that asks for input and a task included | never |
//!
//! HTTP 503 proves nothing: a proxy sends it for a request that it has passed on. Nor does what another stack says in
//! its error's `data.delivered`.
//!
//! *Safe to repeat* is, in this order:
//!
//! 1. what the operator [says](RetryPolicy::safe_to_repeat), for all calls or for a tool;
//! 2. a method that only reads ([`is_read`](crate::RequestParts::is_read)), and `logging/setLevel`,
//!    `resources/subscribe` and `resources/unsubscribe`, which set what they have set before;
//! 3. a tool with `readOnlyHint` or `idempotentHint`, if the operator
//!    [trusts](RetryLayerBuilder::trust_annotations) its server;
//! 4. nothing else: custom methods, `tasks/update` and `tasks/cancel` are not.
//!
//! A later round of a multi-round request (MCP 2026-07-28, SEP-2322) is as safe as its tool. An attempt in which the
//! caller was asked something that a person or a model answers (sampling, elicitation) is not repeated: nobody is to
//! answer twice. A `subscriptions/listen` is made again only if it was never made; a notification never.
//!
//! # When
//!
//! Waits grow and are drawn as the [`RetryPolicy`] says. A server that says when to come back (HTTP `Retry-After`,
//! `retryAfterMs` or `retryAfter` in an error's data or in the `_meta` of a result with `isError`) is not asked before;
//! if that is longer than the longest wait, the call ends as it is. So it does, at once, if the wait would cross the
//! caller's [deadline](crate::CallContext::deadline), when the caller cancels, and when the [budget](RetryBudget) is
//! spent. An error that ends a call is the last attempt's own, unchanged.
//!
//! While a call waits it holds no place in the inner stack. A timeout of the caller's (an
//! [`McpClient`](crate::McpClient)'s idle timeout, tower's `timeout` outside) runs on meanwhile.
//!
//! # What an attempt carries
//!
//! Each has an id of its own and, unless it only reads, the same [`IDEMPOTENCY_META_KEY`]. The caller hears of progress
//! only what is further than it has heard: progress has to increase (MCP 2026-07-28, basic/utilities/progress).
//! [`Attempts`] in the response says how many there were, [`on_retry`](RetryLayerBuilder::on_retry) and `tracing` events
//! (target `rmcp_layers::retry`) tell of each.
//!
//! # Where to lay it
//!
//! Retry outside, breaker inside, right over an upstream: each attempt is counted, and what the breaker refuses is
//! made again if the breaker is to be tried within the longest wait. The other way about the breaker counts a call
//! only once, after all its attempts. Either way nothing runs twice that must not. Several retry layers in one chain
//! multiply: lay one.
//!
//! A call that may be repeated is copied first: some 0.3 µs for a small one, 0.1 ms for a mebibyte of arguments.
//!
//! # Bounds
//!
//! 100 retries of a call, 1,000 rules for tools. What tools say of themselves is kept for 1,024 callers and 10,000
//! tools each; past the first, all is forgotten until the next `tools/list`, past the second, tools have no hints.

mod attempts;
pub mod breaker;
mod call;
mod classify;
mod error;
mod layer;
mod policy;
mod service;
mod watched;

pub use crate::attempts::Attempts;
pub use attempts::{IDEMPOTENCY_META_KEY, RETRY_META_KEY, RetryEvent};
pub use classify::is_rate_limited;
pub use error::InvalidOption;
pub use layer::{RetryBudget, RetryLayer, RetryLayerBuilder};
pub use policy::{Jitter, RetryPolicy, Strategy};
pub use service::Retry;
