//! A response cache with separate entries for each caller.
//!
//! Requires the feature `cache`.
//!
//! [`CacheLayer`] wraps any stack. A caller receives only responses that the stack would have
//! returned to this same caller. The cache makes one call for callers that send the same request at
//! the same time:
//!
//! ```
//! use std::time::Duration;
//!
//! use rmcp_layers::{McpClient, Upstream, cache::CacheLayer};
//! use tower::ServiceBuilder;
//! # use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
//! # use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
//! # #[derive(Clone, Default)]
//! # struct Weather(Arc<AtomicUsize>);
//! # impl ServerHandler for Weather {
//! #     async fn call_tool(
//! #         &self,
//! #         _request: CallToolRequestParams,
//! #         _context: RequestContext<RoleServer>,
//! #     ) -> Result<CallToolResponse, ErrorData> {
//! #         self.0.fetch_add(1, Ordering::Relaxed);
//! #         Ok(CallToolResult::success(vec![ContentBlock::text("sunny")]).into())
//! #     }
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), rmcp_layers::Error> {
//! # let weather = Weather::default();
//! # let asked = weather.0.clone();
//! let layer = CacheLayer::builder()
//!     // Tool annotations count only if the operator trusts the servers.
//!     .cache_tool_for("forecast", Duration::from_secs(600))
//!     .never_cache("order_*")
//!     .build()?;
//! let cache = layer.handle();
//! let client = McpClient::new(ServiceBuilder::new().layer(layer).service(Upstream::in_process(weather)));
//!
//! for _ in 0..3 {
//!     client.call_tool("forecast").argument("city", "Oslo").await?;
//! }
//! assert_eq!(asked.load(Ordering::Relaxed), 1);
//! assert_eq!(cache.stats().hits, 2);
//!
//! cache.invalidate_tool("forecast");
//! client.call_tool("forecast").argument("city", "Oslo").await?;
//! assert_eq!(asked.load(Ordering::Relaxed), 2);
//! # Ok(())
//! # }
//! ```
//!
//! # Cached responses
//!
//! - `tools/call`, if the operator names the tool with
//!   [`cache_tool`](CacheLayerBuilder::cache_tool). If the operator
//!   [trusts](CacheLayerBuilder::trust_annotations) the servers, tools with `readOnlyHint: true` in
//!   a `tools/list` that has passed the cache are cached too.
//! - `resources/read`, the lists and `server/discover`, by their `ttlMs` and `cacheScope` (MCP
//!   2026-07-28, `server/utilities/caching`).
//! - These methods and `prompts/get` by [`cache_method`](CacheLayerBuilder::cache_method), if the
//!   response has no cache hints.
//!
//! Tools in the [never-cache set](CacheLayerBuilder::never_cache), and tools that a list marks with
//! `destructiveHint: true`, are never cached.
//!
//! Only final results are cached. Errors, `isError` results, tasks and rounds of multi-round
//! requests never are. A response that an inner layer [marked](crate::McpResponse::mark_private) as
//! private is not cached. The same holds for a call during which the server sent a request to its
//! caller, because the response depends on the caller's reply. Progress and log messages belong to
//! one run, so a hit has none.
//!
//! # Cache key
//!
//! An entry is for its caller's [`Audience`](crate::Audience), and within it for the same scopes
//! and claims. A response with `cacheScope: "public"` is for all callers. Two requests are the same
//! if all of these are equal:
//!
//! - the method, name and arguments; the order of keys and the form of numbers do not matter;
//! - the `_meta`, except for [ignored keys](CacheLayerBuilder::ignore_meta);
//! - the caller's protocol revision and capabilities.
//!
//! # Freshness and invalidation
//!
//! An entry is fresh for [`time_to_live`](CacheLayerBuilder::time_to_live) or the time of its rule,
//! but no longer than the server's `ttlMs`. The `ttlMs` of a hit is the remaining time. Ages are
//! measured with a monotonic clock, because the wall clock may jump.
//!
//! Change notifications invalidate entries earlier. A changed list invalidates the lists of its
//! kind and the responses of what it lists. An updated resource invalidates its own entries and
//! those of the resources that it is a part of. The cache receives notifications in two ways:
//!
//! - through [its own listen](CacheLayerBuilder::watch_changes), for the lists and for the
//!   [cached resources](CacheLayerBuilder::max_watched_resources);
//! - through a caller's listen that passes the cache.
//!
//! The cache does not see notifications that a server in a [`Handler`](crate::Handler) sends to its
//! callers' peers directly. Put such a server behind
//! [`Upstream::in_process`](crate::Upstream::in_process).
//!
//! # Request coalescing
//!
//! Callers that send a request while the same call is under way wait for its response. If the
//! caller that made the call goes away, the next one repeats it. If the call fails, or its response
//! is for its caller only, each of the others makes its own call at once. A caller therefore waits
//! for at most one failure, and never receives the failure of another caller (unless
//! [`share_errors`](CacheLayerBuilder::share_errors) is on).
//!
//! A caller waits at most until its own deadline and for
//! [`follower_wait`](CacheLayerBuilder::follower_wait) (default: 30 s). After a response that was
//! for its caller only, such calls are not coalesced for 10 s. Calls of tools that are not cached
//! are never coalesced: two orders of a payment run twice.
//!
//! # Ordering
//!
//! Put the cache outside of layers that do costly work (retry, budgets), so that hits avoid that
//! work. A layer that decides by the caller may stand on either side: it
//! [marks](crate::McpResponse::mark_private) the responses that it lets through.
//!
//! # Metrics
//!
//! [`CacheHandle::stats`] has the counters. Each is also a `tracing` event in the form that
//! `tracing-opentelemetry` reads, such as `rmcp_layers.cache.hits`, by `method`.

mod admission;
mod builder;
mod change_listener;
mod codec;
mod counters;
mod entry;
mod fetch;
mod handle;
mod key;
mod layer;
mod memory;
mod plan;
mod remote;
mod rules;
mod service;
mod single_flight;
mod state;
mod status;
mod watched_resources;

pub use builder::CacheLayerBuilder;
pub use handle::{CacheHandle, CacheStats};
pub use layer::CacheLayer;
pub use service::Cache;
pub use status::CACHE_META_KEY;
