//! Metrics: spans, histograms and a summary of every request.
//!
//! Requires the feature `metrics`.
//!
//! [`MetricsLayer`] records each request that passes, once, when it has ended: also those that are
//! cancelled or panic. Its handle has a [summary](MetricsHandle::summary):
//!
//! ```
//! use rmcp_layers::{McpClient, Upstream, metrics::MetricsLayer};
//! use tower::ServiceBuilder;
//! # use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
//! # struct Weather;
//! # impl ServerHandler for Weather {
//! #     async fn list_tools(
//! #         &self,
//! #         _request: Option<PaginatedRequestParams>,
//! #         _context: RequestContext<RoleServer>,
//! #     ) -> Result<ListToolsResult, ErrorData> {
//! #         let tool = Tool::new("forecast", "Tells the weather.", JsonObject::new());
//! #         Ok(ListToolsResult::with_all_items(vec![tool]))
//! #     }
//! #     async fn call_tool(
//! #         &self,
//! #         _request: CallToolRequestParams,
//! #         _context: RequestContext<RoleServer>,
//! #     ) -> Result<CallToolResponse, ErrorData> {
//! #         Ok(CallToolResult::success(vec![ContentBlock::text("sunny")]).into())
//! #     }
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let layer = MetricsLayer::new();
//! let metrics = layer.handle();
//! let upstream = Upstream::builder().name("weather").in_process(Weather);
//! let client = McpClient::new(ServiceBuilder::new().layer(layer).service(upstream));
//! client.list_all_tools().await?; // from here on, names of tools are known
//! client.call_tool("forecast").argument("city", "Oslo").await?;
//!
//! let summary = metrics.summary();
//! assert_eq!(summary.all.by_tool[0].calls, 1);
//! assert_eq!(&*summary.all.by_upstream[0].name, "weather");
//! println!("{summary}");
//! # Ok(())
//! # }
//! ```
//!
//! # Spans
//!
//! Each request has a span of `tracing`, by OpenTelemetry's
//! [semantic conventions for MCP](https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/mcp.md).
//! Its target is `rmcp_layers::metrics`, and its level INFO. Without a subscriber that enables it,
//! nothing is made for it.
//!
//! | Attributes | Contents |
//! |---|---|
//! | `otel.name`, `otel.kind`, `otel.status_code` | `tools/call search`; `server` or `client`; `ERROR` of a failure |
//! | `mcp.method.name`, `mcp.resource.uri` | the request |
//! | `mcp.protocol.version` | the revision of the caller, or of the upstream |
//! | `mcp.session.id` | of the caller, or of an upstream over HTTP, if there is a session |
//! | `jsonrpc.request.id` | the caller's id; an upstream receives another one |
//! | `gen_ai.operation.name`, `gen_ai.tool.name`, `gen_ai.prompt.name` | `execute_tool` for a call of a tool |
//! | `gen_ai.tool.call.arguments`, `gen_ai.tool.call.result` | only [if asked for](MetricsLayerBuilder::keep_arguments), redacted |
//! | `error.type` | `tool_error`, the JSON-RPC code of a peer's error, or the outcome: `timeout`, `cancelled`, `refused`, `transport_failure`, `unreadable_answer`, `panicked` |
//! | `rpc.response.status_code` | the JSON-RPC code of the answer |
//! | `network.transport`, `network.protocol.name`, `network.protocol.version` | of the caller, or of the upstream |
//! | `client.address`, `client.port` | on the side of a server: a `SocketAddr` in the extensions of the HTTP request, if the application puts one there |
//! | `server.address`, `server.port` | on the side of a client: of the upstream that served the request |
//! | `rmcp_layers.arguments.hash` | the SHA-256 hash of the arguments, as in audit records; none of more than 256 KiB |
//! | `rmcp_layers.principal.hash`, `enduser.id` | the principal, [in the form that is set](MetricsLayerBuilder::principal) |
//! | `rmcp_layers.outcome`, `.duration_ms`, `.upstream`, `.cache.status`, `.attempts`, `.result.tokens` | what is known at the end; `attempts` from the second on |
//!
//! The span ends with the request. It is never a child of the span in which rmcp serves a whole
//! session, because spans are exported with their root.
//!
//! With the feature `otel`, the trace context of the request (`traceparent`, `tracestate` and
//! `baggage` in `_meta`) is the parent on the side of a server, and the ambient span and the trace
//! context of the HTTP request are linked. Without one in `_meta`, that of the HTTP request is the
//! parent. The span's own context goes into the `_meta` of the request, for the next hop.
//! Notifications of a client are handled alike. On the side of a server, the context also goes,
//! without the baggage, into the `_meta` of notifications and requests to the caller. The messages of
//! a [`Handler`](crate::Handler) by rmcp's own peer are not among them; the handler finds the context in
//! the `meta` of its `RequestContext`, and can copy it. The subscriber needs the layer of
//! `tracing-opentelemetry`.
//!
//! # Histograms and counters
//!
//! They go to the recorder of the `metrics` facade, which the application installs
//! before the first request.
//!
//! | Name | Kind | Labels |
//! |---|---|---|
//! | `mcp.server.operation.duration`, `mcp.client.operation.duration` | histogram, seconds | `mcp.method.name`, `gen_ai.operation.name`, `gen_ai.tool.name`, `gen_ai.prompt.name`, `error.type`, `rpc.response.status_code`, `rmcp_layers.upstream` |
//! | `mcp.server.session.duration` | histogram, seconds, of sessions before 2026-07-28 | `mcp.protocol.version` |
//! | `mcp.client.session.duration` | the same, recorded by each [`Upstream`](crate::Upstream) that makes its connections | `mcp.protocol.version`, `network.transport`, `network.protocol.name`, `server.address`, `server.port`, `rmcp_layers.upstream` |
//! | `rmcp_layers.requests.in_flight` | gauge, without listens | `side` |
//! | `rmcp_layers.result.tokens` | counter, of the tokens that a [budget](crate::CallReport::budget) further in has charged | as the durations, and `side` |
//! | `rmcp_layers.refusals` | counter | `layer`, `side` |
//! | `rmcp_layers.cache.hits` and others of the cache | counters | `method` |
//! | `rmcp_layers.retry.retries`, `.given_up` | counters | `outcome`, `reason` |
//! | `rmcp_layers.breaker.changes`, `.refused` | counters | `state` |
//!
//! The facade carries no bounds of histograms. `configure_prometheus` of the feature `prometheus`
//! sets [`BUCKETS`] on a Prometheus exporter.
//!
//! # Log
//!
//! [`log_calls`](MetricsLayerBuilder::log_calls) adds an event for each request, with its id. rmcp
//! logs the content of notifications at INFO and of requests and results at DEBUG. The filter
//! `info,rmcp=warn,rmcp_layers=info` keeps arguments and results out of the log. (The third
//! directive is needed because `rmcp` also matches the targets of this crate.)
//!
//! # Ordering
//!
//! Outermost, the layer also records the requests that other layers refuse or answer. Around an
//! [`Upstream`](crate::Upstream), with [`Side::Client`], it records each attempt.
//!
//! # Security
//!
//! Arguments, results and messages of errors are in no metric, span or log, unless the operator
//! asks for the first two. A name that a caller invents is no label; it is in spans and
//! [`FinishedCall`]s, with a bounded length.
//!
//! # Limits
//!
//! | What | Limit |
//! |---|---|
//! | combinations of labels | 1,000 ([`max_series`](MetricsLayerBuilder::max_series); further requests are `_OTHER`) |
//! | memory for one of them | 15 KiB for all time, and for each of the 7 parts of a window; less for latencies below a minute |
//! | names of tools and of prompts that are known | 10,000 each, of 256 bytes (others are `_OTHER`) |
//! | latency | 1 h (longer ones count as 1 h), in steps of 1 % |
//! | failures that are kept | 100 ([`keep_failures`](MetricsLayerBuilder::keep_failures); the oldest is dropped) |
//! | requests that wait for a reader of [`FinishedCalls`] | 1,024 (the oldest is dropped and counted) |
//! | sessions that are measured at once | 10,000 (further ones are not) |
//!
//! A tool or prompt is known once a list that passed the layer has shown it, or by
//! [`known_tools`](MetricsLayerBuilder::known_tools).

mod builder;
mod convention;
mod finished;
mod future;
mod handle;
mod known_names;
mod labels;
mod layer;
mod origin;
#[cfg(feature = "prometheus")]
mod prometheus;
mod recording;
mod series;
mod service;
mod sessions;
mod shared;
mod span;
mod summary;
mod tally;
#[cfg(feature = "otel")]
mod trace_context;

pub use builder::MetricsLayerBuilder;
pub use convention::{BUCKETS, Side, names};
pub use finished::{FinishedCall, FinishedCalls};
pub use future::MetricsFuture;
pub use handle::{MetricsHandle, MetricsStats};
pub use layer::MetricsLayer;
#[cfg(feature = "prometheus")]
pub use prometheus::configure_prometheus;
pub use service::Metrics;
pub use span::PrincipalRecord;
pub use summary::{Period, Row, Summary};

pub use crate::ArgumentRules;
