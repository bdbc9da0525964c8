//! Repeats calls that are safe to repeat, and stops calls to a failing server.
//!
//! Requires the feature `retry`.
//!
//! [`RetryLayer`] repeats failed calls if that is safe. A
//! [`CircuitBreakerLayer`](breaker::CircuitBreakerLayer) refuses calls for a while after too many
//! failures. Use them together or separately:
//!
//! ```
//! use std::time::Duration;
//!
//! use rmcp_layers::{
//!     McpClient, Upstream,
//!     retry::{RetryLayer, RetryPolicy, breaker::CircuitBreakerLayer},
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
//! // The server fails once; the caller does not notice.
//! let client = McpClient::new(stack);
//! let result = client.call_tool("search_web").argument("query", "tower").await?;
//! assert_eq!(result.content[0].as_text().map(|text| &*text.text), Some("found"));
//! assert_eq!(handle.stats().opened, 0);
//! # Ok(())
//! # }
//! ```
//!
//! # When to use
//!
//! - Retry over an upstream that is restarted, redeployed or reached over a network: calls outlive
//!   a short outage.
//! - The breaker, if calls to a dead server would otherwise wait for their timeouts, one after
//!   another.
//! - Neither over a [`Handler`](crate::Handler): a failure within this process repeats.
//!
//! # Outcomes and retries
//!
//! An [`Outcome`](crate::Outcome) describes the end of a call, and its table lists which outcomes
//! are repeatable. In short:
//!
//! | the call | is repeated |
//! |---|---|
//! | provably did not run: no connection, not sent, HTTP 429, refused for now by an inner layer (a breaker, a limit) | for any method |
//! | may have run: a lost connection, a timeout, HTTP 5xx, an internal error (-32603) | if it is safe to repeat |
//! | ran, and its result has `isError` | if the operator's [rule](RetryPolicy::retry_tool_errors) says so |
//! | fails in the same way again: -32602, -32601, any other JSON-RPC error, HTTP 4xx, a refusal by auth | never |
//! | succeeded, a round that asks for input and a task included | never |
//!
//! HTTP 503 does not prove that a call did not run: a proxy may send it for a request that it has
//! passed on. The `data.delivered` in another stack's error is not proof either.
//!
//! The first of these rules that applies decides whether a call is *safe to repeat*:
//!
//! 1. The operator's [setting](RetryPolicy::safe_to_repeat), for all calls or for a tool.
//! 2. A method that only reads is safe ([`is_read`](crate::RequestParts::is_read)). So are
//!    `logging/setLevel`, `resources/subscribe` and `resources/unsubscribe`, which set the same
//!    value again.
//! 3. A tool with `readOnlyHint` or `idempotentHint` is safe, if the operator
//!    [trusts](RetryLayerBuilder::trust_annotations) its server.
//! 4. All else is not safe, including custom methods, `tasks/update` and `tasks/cancel`.
//!
//! A later round of a multi-round request (MCP 2026-07-28, SEP-2322) is as safe as its tool. An
//! attempt is not repeated if the server asked the caller for sampling or elicitation, so that a
//! person does not have to answer twice. A `subscriptions/listen` is repeated only if it did not
//! run; a notification never.
//!
//! # Delays
//!
//! Delays grow and vary as the [`RetryPolicy`] says. A server may name a time for the next try:
//! HTTP `Retry-After`, or `retryAfterMs` or `retryAfter` in an error's data or in the `_meta` of a
//! result with `isError`. The retry waits for at least that time. If it is longer than the maximum
//! delay, the call ends with its last outcome.
//!
//! A call also ends at once if the delay would cross the caller's
//! [deadline](crate::CallContext::deadline), if the caller cancels it, or if the
//! [budget](RetryBudget) is spent. The error of such a call is that of its last attempt, unchanged.
//!
//! During a delay the call holds no place in the inner stack. A timeout of the caller (an
//! [`McpClient`](crate::McpClient)'s request timeout, tower's `timeout` outside) runs on meanwhile.
//!
//! # Attempts
//!
//! Each attempt has its own id. All attempts of a call that does more than read carry the same
//! [`IDEMPOTENCY_META_KEY`]. The caller receives progress only beyond what it has received before,
//! because progress must increase (MCP 2026-07-28, basic/utilities/progress).
//!
//! The response's [report](crate::CallReport::attempts) has the number of attempts.
//! [`on_retry`](RetryLayerBuilder::on_retry) and an event at the level DEBUG report each retry.
//!
//! # Ordering
//!
//! Put retry outside and the breaker inside, directly over an upstream. The breaker then counts
//! each attempt. A call that it refuses is repeated if the breaker allows a probe within the
//! maximum delay. In the other order, the breaker counts a call once, after all its attempts. In
//! either order, unsafe calls do not run twice. The attempts of several retry layers in one chain
//! multiply, so use one.
//!
//! A call that may be repeated is copied first. This takes about 0.3 µs for a small call, and 0.1
//! ms for 1 MiB of arguments.
//!
//! # Metrics
//!
//! [`RetryHandle::stats`] has the counters and the budget. Counters are also `tracing` events, in
//! the form that `tracing-opentelemetry` reads: `rmcp_layers.retry.retries` by `outcome`,
//! `rmcp_layers.retry.given_up` by `reason`.
//!
//! # Limits
//!
//! - Retries of a call: 100.
//! - Rules for tools: 1,000.
//! - Tool annotations: 1,024 callers and 10,000 tools for each. Beyond the first, all annotations
//!   are dropped until the next `tools/list`; beyond the second, tools have no annotations.

pub mod breaker;
mod budget;
mod call;
mod classify;
mod event;
mod handle;
mod layer;
mod observed;
mod policy;
mod service;

pub use budget::RetryBudget;
pub use classify::is_rate_limited;
pub use event::{IDEMPOTENCY_META_KEY, RETRY_META_KEY, RetryEvent};
pub use handle::{RetryHandle, RetryStats};
pub use layer::{RetryLayer, RetryLayerBuilder};
pub use policy::{Jitter, RetryPolicy, Strategy};
pub use service::Retry;
