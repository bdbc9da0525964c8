//! Stops calling what is down.
//!
//! A breaker counts how calls of one key end: a tool, by default. *Closed*, it lets all pass. After too many failures
//! it is *open*, and refuses at once, so that callers do not wait for a dead server and the server is left alone to
//! come back. When the open time is over it is *half open*: one call passes as a probe, others are refused while it is
//! in flight, and what comes of it closes the breaker or opens it again. A probe that takes longer than its
//! [time](BreakerPolicy::probe_timeout) (30 s) lets the next one pass.
//!
//! ```
//! use std::time::Duration;
//!
//! use rmcp_layers::{
//!     Error, McpRequest, TransportError,
//!     retry::breaker::{BreakerPolicy, BreakerState, CircuitBreakerLayer},
//! };
//! use tower::{Layer, ServiceExt, service_fn};
//! # use rmcp_layers::McpResponse;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = BreakerPolicy::new()
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
//! assert_eq!(handle.state("search"), BreakerState::Open);
//! let refused = dead.oneshot(McpRequest::call_tool("search").build()).await.unwrap_err();
//! assert!(refused.is_refused());
//! assert_eq!(refused.retry_after(), Some(Duration::from_secs(30)));
//! # Ok(())
//! # }
//! ```
//!
//! # What counts
//!
//! | how a call ends | closed | half open |
//! |---|---|---|
//! | what [counts against](crate::Outcome::counts_against) the server: a transport failure, a timeout, an internal error ([not by default](BreakerPolicy::count_internal_errors) where one breaker is for a whole server); results with `isError` that the operator [counts](BreakerPolicy::count_tool_errors) | a failure | opens it again |
//! | a result: complete, `isError`, a round that asks for input, a task | a success | closes it |
//! | another answer, such as -32602 for the caller's own bad input, or HTTP 401 | nothing | closes it: whoever answers is there |
//! | refused by a layer within, cancelled, dropped | nothing | gives the probe's place back |
//!
//! So a caller's bad input opens nothing, and does not hide failures either. A call that was let in before the breaker
//! changed says nothing of what it is now, however late it ends.
//!
//! Callers share a breaker on purpose, as they share the server whose health it is; what one of them makes a tool fail
//! with by arguments of theirs (an internal error, a timeout) does count. Where that matters,
//! [`key_by`](CircuitBreakerLayerBuilder::key_by) keeps them apart.
//!
//! # What a refused caller sees
//!
//! A [refusal](crate::Refusal) by `breaker`, as [`UNAVAILABLE`](crate::code::UNAVAILABLE), which names the key, with
//! the state in its data and the time until the next probe as `retryAfterMs`; 100 ms while probes are in flight; none
//! if it was opened by hand, because then nobody knows when that ends. The call did not run, so a retry layer outside may make it again.
//!
//! # What passes
//!
//! Notifications and `subscriptions/listen` go through no breaker: a listen is open as long as it is useful, and would
//! be a probe without end.
//!
//! # Seeing it
//!
//! [`BreakerHandle`] reads the states and sets them. Each change is told to
//! [`on_state_change`](CircuitBreakerLayerBuilder::on_state_change) and as a `tracing` event (target
//! `rmcp_layers::breaker`). All is on tokio's clock: the wall clock jumping changes nothing.
//!
//! # Bounds
//!
//! [1,000 keys](CircuitBreakerLayerBuilder::max_keys) by default. Nothing is kept of a key that has only succeeded,
//! unless rates are counted; nothing is ever kept of names that are only answered with errors such as -32602.

mod handle;
mod layer;
mod machine;
mod policy;
mod service;
mod state;
mod window;

pub use handle::{BreakerCounts, BreakerHandle, BreakerState, BreakerStatus, StateChange};
pub use layer::{CircuitBreakerLayer, CircuitBreakerLayerBuilder};
pub use policy::{BreakerPolicy, Span};
pub use service::CircuitBreaker;
