//! Answers from memory, for each caller apart.
//!
//! [`CacheLayer`] stands in front of any stack. It returns only what the stack would have returned to this same
//! caller, and calls it once for those who ask the same at the same time:
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
//!     // What tools say of themselves counts only where the operator trusts their servers.
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
//! # What is kept
//!
//! - `tools/call`, where the operator says so ([`cache_tool`](CacheLayerBuilder::cache_tool)), or where the operator
//!   [trusts](CacheLayerBuilder::trust_annotations) the servers and the tool says that it changes nothing
//!   (`readOnlyHint: true`, in a `tools/list` that has passed the cache). Never the tools in the
//!   [never-cache set](CacheLayerBuilder::never_cache), or of which such a list said `destructiveHint: true`.
//! - `resources/read`, the lists and `server/discover` by their `ttlMs` and `cacheScope` (MCP 2026-07-28,
//!   `server/utilities/caching`), these and `prompts/get` by
//!   [`cache_method`](CacheLayerBuilder::cache_method) where the server says nothing.
//!
//! Of those, finished answers only: no error, no `isError`, no task, no round of a multi-round request. Nothing
//! that an inner layer [marked](crate::McpResponse::mark_private) as somebody else's, and no call during which the
//! server asked its caller something, because the answer depends on what that said. Progress and log messages are
//! about the run, not the answer: a hit has none.
//!
//! # For whom
//!
//! An answer is kept for its caller's [`Audience`](crate::Audience), and within it for the same scopes and claims;
//! what says `cacheScope: "public"` is kept for everybody. A request is the same if its method, name and arguments
//! are (neither the order of keys nor the form of numbers matters), and its `_meta`, except for
//! [keys that change nothing](CacheLayerBuilder::ignore_meta); and if its caller speaks the same revision with the
//! same capabilities.
//!
//! # For how long
//!
//! At most [`time_to_live`](CacheLayerBuilder::time_to_live), or what its rule says, and no longer than the server's
//! `ttlMs`. A hit's own `ttlMs` is what is left of it. Times are those of a monotonic clock: the wall clock may jump.
//! Change notifications end it sooner: a changed list takes with it the lists and the answers of what it lists, and
//! an updated resource what was read from it and from those that it is a part of. They are heard by a
//! [listen of the cache's own](CacheLayerBuilder::watch_changes), for the lists and for the
//! [resources](CacheLayerBuilder::max_watched_resources) that something is kept of, and where a caller's listen passes
//! the cache. Not heard is what a server in a [`Handler`](crate::Handler) tells its callers' peers past the stack:
//! put such a server behind [`Upstream::in_process`](crate::Upstream::in_process).
//!
//! # One call for many
//!
//! Those who ask the same while a call is under way wait for its answer. When the one who made the call goes away,
//! the next in line makes it again. When the call fails, or its answer is for its caller alone, each of the others
//! makes a call of its own, all at once: so nobody waits for more than one failure, and nobody gets somebody else's.
//! Nobody waits for longer than its own deadline and [`follower_wait`](CacheLayerBuilder::follower_wait) (30 s) for a
//! call that hangs.
//! For ten seconds after an answer that was its caller's alone, nobody waits for such calls. Calls of tools that are
//! not kept are never made one: a payment that is ordered twice is ordered twice.
//!
//! # In which order
//!
//! Outside of layers that cost something (retry, budgets), so that hits cost nothing. A layer that decides by who
//! is calling may stand on either side: it [marks](crate::McpResponse::mark_private) what it lets through.

mod codec;
mod counters;
mod entry;
mod flights;
mod handle;
mod key;
mod layer;
mod memory;
mod remote;
mod rules;
mod service;
mod state;
mod status;
mod watch;
mod watched;

pub use crate::cache_status::CacheStatus;
pub use handle::{CacheHandle, CacheStats};
pub use layer::{CacheLayer, CacheLayerBuilder};
pub use service::Cache;
pub use status::CACHE_META_KEY;
