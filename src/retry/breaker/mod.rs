//! A circuit breaker: stops calls to a failing server.
//!
//! A breaker counts the outcomes of calls with one key, by default one tool.
//!
//! - *Closed*: all calls pass.
//! - *Open*, after too many failures: calls are refused at once. Callers do not wait for a dead
//!   server, and the server gets time to recover.
//! - *Half open*, when the open time is over: one call passes as a probe, and others are refused
//!   while it is in flight. Its outcome closes the breaker or opens it again. If a probe takes
//!   longer than its [timeout](CircuitBreakerPolicy::probe_timeout) (default: 30 s), the next one
//!   passes.
//!
//! ```
//! use std::time::Duration;
//!
//! use rmcp_layers::{
//!     Error, McpRequest, TransportError,
//!     retry::breaker::{CircuitBreakerPolicy, CircuitBreakerState, CircuitBreakerLayer},
//! };
//! use tower::{Layer, ServiceExt, service_fn};
//! # use rmcp_layers::McpResponse;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = CircuitBreakerPolicy::new()
//!     .consecutive_failures(3)
//!     .open_for(Duration::from_secs(30));
//! let layer = CircuitBreakerLayer::builder()
//!     .policy(policy)
//!     .on_state_change(|change| eprintln!("{} is {}", change.key, change.to.as_str()))
//!     .build()?;
//! let handle = layer.handle();
//! let dead = layer.layer(service_fn(|_: McpRequest| async {
//!     Err::<McpResponse, _>(Error::from(TransportError::new("connection reset")))
//! }));
//!
//! for _ in 0..3 {
//!     let call = McpRequest::call_tool("search").build();
//!     assert!(dead.clone().oneshot(call).await.unwrap_err().is_transport());
//! }
//! assert_eq!(handle.state("search"), CircuitBreakerState::Open);
//! let refused = dead.oneshot(McpRequest::call_tool("search").build()).await.unwrap_err();
//! assert!(refused.is_refused());
//! assert_eq!(refused.retry_after(), Some(Duration::from_secs(30)));
//! # Ok(())
//! # }
//! ```
//!
//! # Outcomes
//!
//! | outcome of a call | closed | half open |
//! |---|---|---|
//! | [counts against](crate::Outcome::counts_against) the server: a transport failure, a timeout, an internal error ([not by default](CircuitBreakerPolicy::count_internal_errors) if one breaker covers a whole server); results with `isError` that the operator [counts](CircuitBreakerPolicy::count_tool_errors) | a failure | opens it again |
//! | a result: complete, `isError`, a round that asks for input, a task | a success | closes it |
//! | another response, such as -32602 for the caller's own bad input, or HTTP 401 | ignored | closes it: the server is reachable |
//! | refused by an inner layer, cancelled, dropped | ignored | frees the probe's place |
//!
//! A caller's bad input therefore neither opens a breaker nor hides failures. A call that was
//! admitted before the last state change is ignored, no matter when it ends.
//!
//! Callers share a breaker, because they share the server whose health it tracks. Failures that one
//! caller provokes with its arguments (an internal error, a timeout) count for all. To separate
//! callers, use [`key_by`](CircuitBreakerLayerBuilder::key_by).
//!
//! # Refusals
//!
//! A refused caller gets a [refusal](crate::Refusal) by `breaker` with the code
//! [`UNAVAILABLE`](crate::code::UNAVAILABLE). It names the key, and its data has the state and the
//! time until the next probe as `retryAfterMs`. While probes are in flight, that time is 100 ms.
//! There is no such time if the breaker was opened by hand. The call did not run, so an outer retry
//! layer may repeat it.
//!
//! # Exempt requests
//!
//! Notifications and `subscriptions/listen` go through no breaker. A listen stays open as long as
//! it is useful, so it would be a probe without end.
//!
//! # Metrics
//!
//! [`CircuitBreakerHandle`] reads and controls the states. Each state change is reported to
//! [`on_state_change`](CircuitBreakerLayerBuilder::on_state_change) and by an event at the level
//! INFO. Counters are `tracing` events too, in the form that `tracing-opentelemetry` reads:
//! `rmcp_layers.breaker.changes` and `rmcp_layers.breaker.refused`, both by `state`. Times come
//! from tokio's clock, so changes of the wall clock have no effect.
//!
//! # Limits
//!
//! Default: [1,000 keys](CircuitBreakerLayerBuilder::max_keys). A key that has only succeeded takes
//! no memory, unless rates are counted. A key whose calls end only with errors such as -32602 never
//! takes memory.

mod handle;
mod layer;
mod machine;
mod policy;
mod service;
mod state;
mod window;

pub use handle::{
    CircuitBreakerHandle, CircuitBreakerState, CircuitBreakerStats, CircuitBreakerStatus,
    StateChange,
};
pub use layer::{CircuitBreakerLayer, CircuitBreakerLayerBuilder};
pub use policy::{CircuitBreakerPolicy, RateWindow};
pub use service::CircuitBreaker;
