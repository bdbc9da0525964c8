//! tower layers for the Model Context Protocol, on the official Rust SDK, [`rmcp`].
//!
//! The messages are rmcp's own types, so no layer converts them to JSON to read them. They flow
//! through a [`tower::Service`], so any tower layer stacks anywhere. The whole crate in one
//! picture:
//!
//! ```text
//!  caller: an MCP client, an agent, a host
//!       │ ▲
//!       ▼ │ McpServer   top, server side: serves a stack over any rmcp transport
//!    or   │ McpClient   top, client side: typed calls into a stack
//!       │ ▲
//!  McpRequest McpResponse
//!       │ ▲
//!       ▼ │ layer · layer · layer      yours, tower's, and this crate's
//!       │ ▲
//!       ▼ │ Upstream    bottom: a connection to an MCP server
//!    or   │ Handler     bottom: any rmcp ServerHandler in this process
//!    or   │ Gateway     bottom: many named stacks as one
//! ```
//!
//! A *stack* is any `Service<McpRequest, Response = McpResponse>` whose error goes [into](Into)
//! [`Error`]. The trait [`Stack`] is the short form of this bound. Every part of the crate makes a
//! stack, wraps one, or stands at one of its two ends. A layer does not know between which ends it
//! stands, so the same layer serves clients and servers.
//!
//! # A client
//!
//! A connection to a server, with a cache, retries and a circuit breaker around it:
//!
//! ```
//! use std::time::Duration;
//!
//! use rmcp_layers::{
//!     McpClient, ServiceBuilderExt, Upstream,
//!     cache::CacheLayer,
//!     retry::{RetryLayer, breaker::CircuitBreakerLayer},
//! };
//! use tower::ServiceBuilder;
//! # use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
//! # struct Calculator;
//! # impl ServerHandler for Calculator {
//! #     async fn call_tool(
//! #         &self,
//! #         _request: CallToolRequestParams,
//! #         _context: RequestContext<RoleServer>,
//! #     ) -> Result<CallToolResponse, ErrorData> {
//! #         Ok(CallToolResult::success(vec![ContentBlock::text("3")]).into())
//! #     }
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), rmcp_layers::Error> {
//! // Or Upstream::http("https://…/mcp")?, or Upstream::child_process("server").
//! let upstream = Upstream::in_process(Calculator);
//! let cache = CacheLayer::builder().cache_tool_for("add", Duration::from_secs(60)).build()?;
//! let stack = ServiceBuilder::new()
//!     .cache(cache)
//!     .retry_calls(RetryLayer::new())
//!     .circuit_breaker(CircuitBreakerLayer::new())
//!     .service(upstream);
//!
//! let client = McpClient::new(stack);
//! let sum = client.call_tool("add").argument("a", 1).argument("b", 2).await?;
//! # assert_eq!(sum.content[0].as_text().map(|text| text.text.as_str()), Some("3"));
//! # Ok(())
//! # }
//! ```
//!
//! Put [`McpServer`] on top in place of [`McpClient`], and the program is a gateway.
//!
//! # A server
//!
//! A handler, some layers, and a transport:
//!
//! ```
//! use rmcp::{ServerHandler, ServiceExt};
//! use rmcp_layers::{Handler, McpServer, ServiceBuilderExt};
//! use tower::ServiceBuilder;
//!
//! struct Files;
//! impl ServerHandler for Files {}
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let calls = ServiceBuilder::new().load_shed().concurrency_limit(256);
//! let stack = ServiceBuilder::new()
//!     .except_listens(calls) // it limits calls, not sessions
//!     .service(Handler::new(Files));
//! let server = McpServer::new(stack);
//! # let (client_io, transport) = tokio::io::duplex(4096);
//! # let client = tokio::spawn(().serve(client_io));
//! let running = server.serve(transport).await?; // stdio(), a socket, an in-process channel, …
//! # client.await??.cancel().await?;
//! # running.waiting().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # A layer
//!
//! A layer is an ordinary tower layer. [`from_fn()`] turns a function that acts before and after a
//! request into a layer. tower's own `filter` and `map_request` match on the request:
//!
//! ```
//! use rmcp_layers::{Error, McpRequest, McpResponse, Refusal, code};
//! use tower::{Service, ServiceBuilder};
//!
//! fn without_deletions<S>(stack: S) -> impl Service<McpRequest, Response = McpResponse>
//! where
//!     S: Service<McpRequest, Response = McpResponse, Error = Error>,
//! {
//!     ServiceBuilder::new()
//!         .filter(|request: McpRequest| match request.as_tool_call() {
//!             Some(call) if call.name.starts_with("delete") => {
//!                 Err(Refusal::new("policy", "nothing is deleted here").with_code(code::FORBIDDEN))
//!             }
//!             _ => Ok(request),
//!         })
//!         .service(stack)
//! }
//! # struct Nothing;
//! # impl rmcp::ServerHandler for Nothing {}
//! # let _ = without_deletions(rmcp_layers::Upstream::in_process(Nothing));
//! ```
//!
//! # Order of layers
//!
//! Layers stack in any order: a different order changes what a call costs, not whether it is safe.
//! In the recommended order, from the outside in, no layer does work that an outer layer makes
//! needless:
//!
//! | layer | reason for its place |
//! |---|---|
//! | tower's `load_shed` and `concurrency_limit`, in [`ExceptListensLayer`] | they limit everything inside |
//! | [`metrics`] | it also records what other layers refuse or answer |
//! | [`audit`] | calls that `auth` refuses are on record too |
//! | [`auth`] | a call that is refused costs nothing further in, and inner layers know the [`Principal`] |
//! | [`CallerLimitLayer`], and others that key by principal | inside of `auth`, which sets the principal |
//! | [`progress`] | one timeout and one rate for a call and its repetitions |
//! | [`budget`] | what a model reads is charged for, wherever it comes from |
//! | [`delegate`] | the answers of its agents are charged for, and its tools are never cached |
//! | [`registry`] | its tools are guarded by `auth`, and their answers are never cached |
//! | [`cache`] | a hit is neither routed nor sent |
//! | [`Gateway`](gateway::Gateway) | routes to a member; each member has its own layers below |
//! | [`retry`] | repeats calls of one server |
//! | [`retry::breaker`] | counts each attempt, and lets the retry layer wait while it is open |
//! | [`CredentialLayer`](auth::CredentialLayer) | each attempt has a credential that is valid now |
//! | [`Upstream`] or [`Handler`] | the bottom |
//!
//! ```
//! # use std::time::Duration;
//! # use rmcp_layers::{
//! #     McpServer, Principal, ServiceBuilderExt, Upstream,
//! #     audit::AuditLog,
//! #     auth::{ApiKeys, AuthLayer, CredentialLayer, Credentials},
//! #     budget::{BudgetLayer, ContextBudget},
//! #     cache::CacheLayer,
//! #     delegate::{DelegateLayer, Orchestrator},
//! #     gateway::Gateway,
//! #     metrics::MetricsLayer,
//! #     registry::RegistryLayer,
//! #     retry::{RetryLayer, breaker::CircuitBreakerLayer},
//! # };
//! # use tower::ServiceBuilder;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let files = Upstream::http("http://127.0.0.1:8000/mcp")?;
//! # let keys = ApiKeys::new().key("k-3f9a5c1e77d04b2a", Principal::new("ann"))?;
//! # let audit = AuditLog::builder().memory(1_000).build()?;
//! # let auth = AuthLayer::builder(keys).build()?;
//! # let budget = BudgetLayer::builder(ContextBudget::new(128_000)).build()?;
//! # let orchestrator = Orchestrator::builder().build()?;
//! # let credential = CredentialLayer::new(Credentials::fixed("token-for-this-server")?);
//! let member = ServiceBuilder::new()
//!     .retry_calls(RetryLayer::new())
//!     .circuit_breaker(CircuitBreakerLayer::new())
//!     .credential(credential)
//!     .service(files);
//! let gateway = Gateway::builder().member("files", member).build()?;
//! let stack = ServiceBuilder::new()
//!     .except_listens(ServiceBuilder::new().load_shed().concurrency_limit(256))
//!     .metrics(MetricsLayer::new())
//!     .audit(audit.layer())
//!     .auth(auth)
//!     .budget(budget)
//!     .delegate(DelegateLayer::new(orchestrator))
//!     .registry(RegistryLayer::new())
//!     .cache(CacheLayer::new())
//!     .service(gateway);
//! let server = McpServer::new(stack);
//! # let _ = server;
//! # Ok(())
//! # }
//! ```
//!
//! # tower's own layers
//!
//! Each of them stacks between layers of this crate. Five rules:
//!
//! - **Counting and timing go in [`ExceptListensLayer`].** A `subscriptions/listen` stays open as long
//!   as its subscription. `concurrency_limit` would count it all that time, and `timeout` would end
//!   it.
//! - **`load_shed` goes right outside of the layer that limits.** The layers `budget`, `cache`,
//!   `delegate`, `registry`, `breaker` and [`from_fn()`] are always ready, because they may answer without the inner stack.
//!   A `load_shed` outside of them never sheds.
//! - **`buffer` goes outside of `rate_limit`.** A stack is `Clone`, which `RateLimit` is not:
//!
//!   ```
//!   # use std::time::Duration;
//!   # use rmcp_layers::{McpClient, Upstream};
//!   # use tower::ServiceBuilder;
//!   # struct Files;
//!   # impl rmcp::ServerHandler for Files {}
//!   # #[tokio::main(flavor = "current_thread")]
//!   # async fn main() {
//!   let stack = ServiceBuilder::new()
//!       .buffer(64)
//!       .rate_limit(10, Duration::from_secs(1))
//!       .service(Upstream::in_process(Files));
//!   let client = McpClient::new(stack);
//!   # let _ = client;
//!   # }
//!   ```
//! - **`map_err(Error::from)` goes outside of what boxes errors, where an [`Error`] is required.**
//!   `buffer`, `filter`, `load_shed` and `timeout` turn the error type into
//!   [`BoxError`](tower::BoxError). Layers and tops of this crate take either. A bound `Error =
//!   Error` does not, nor does `option_layer`, whose two branches have one error type:
//!
//!   ```
//!   # use std::time::Duration;
//!   # use rmcp_layers::{Error, McpClient, Upstream};
//!   # use tower::ServiceBuilder;
//!   # struct Files;
//!   # impl rmcp::ServerHandler for Files {}
//!   let limit: Option<Duration> = Some(Duration::from_secs(5));
//!   let timeout = limit.map(|limit| ServiceBuilder::new().map_err(Error::from).timeout(limit));
//!   let stack = ServiceBuilder::new()
//!       .option_layer(timeout)
//!       .service(Upstream::in_process(Files));
//!   let client = McpClient::new(stack);
//!   # let _ = client;
//!   ```
//! - **`map_err(Into::<Error>::into)` goes inside, over a generic stack.** tower's layers require
//!   an error that converts into `BoxError`. The error of an `impl Stack` is only known to convert
//!   into [`Error`].
//!
//! # Guarantees
//!
//! - **Order changes cost, never safety.** Layers stack in any order.
//! - **Transparent.** A layer passes on unchanged what it does not understand: unknown methods,
//!   unknown `_meta`, multi-round and task results.
//! - **Cancel-safe.** Dropping a call's future, wherever it waits, releases its resources and
//!   notifies the server (`notifications/cancelled`).
//! - **Bounded.** Every map and queue has a documented limit, and a documented behaviour at the
//!   limit.
//! - **Users are separated.** A server's messages for a call go to that call's caller, or are
//!   dropped.
//! - **One outcome.** [`Outcome`] is the only place that decides how a request ended, and every
//!   layer uses it.
//!
//! # Revisions of the protocol
//!
//! MCP 2024-11-05 to 2026-07-28 are supported on either side, as rmcp speaks them. Inside a stack,
//! the model is that of 2026-07-28. A request carries its own context, and notifications flow while
//! a request (`subscriptions/listen`, if need be) is open. The ends translate for older callers and
//! servers; see [`McpServer`] and [`Upstream`].
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `audit` | [`audit`]: a record of each call, with the decision on it |
//! | `auth` | [`auth`]: authentication and authorization |
//! | `auth-client` | `auth` with requests to an authorization server over HTTP: `Introspection`, `TokenExchange`, and with `jwt` also `Jwks::url` |
//! | `budget` | [`budget`]: results counted in tokens, and cut to what is left of a model's context |
//! | `cache` | the [`cache`] layer: answers from memory, separate for each caller; includes `store` |
//! | `child-process` | [`Upstream`] over a child process's standard input and output |
//! | `delegate` | [`delegate`]: tasks and plans that agents over MCP do; includes `store` |
//! | `gateway` | [`gateway`]: many stacks as one, and names for a stack |
//! | `http-client` | [`Upstream`] over streamable HTTP, without TLS |
//! | `http-server` | [`McpServer::http_service`], and [`LenientHttpLayer`] in front of rmcp's `StreamableHttpService` |
//! | `jwt` | `auth` with [`JwtVerifier`](auth::JwtVerifier) and [`Jwks`](auth::Jwks): signed tokens |
//! | `metrics` | [`metrics`]: spans, histograms and a summary of every request |
//! | `otel` | `metrics` with trace contexts of OpenTelemetry in `_meta` |
//! | `progress` | [`progress`]: reports of handlers, and a layer that makes progress lawful and light |
//! | `prometheus` | `metrics` with `configure_prometheus`: the convention's bounds on a Prometheus exporter |
//! | `rustls`, `native-tls` | `http-client` with TLS |
//! | `redis` | a [`store`] in Redis or Valkey; includes `store` |
//! | `registry` | the [`registry`] layer: tools registered while the server runs, and the health of all tools |
//! | `json-schema` | `registry` that checks arguments and results against the tools' schemas |
//! | `retry` | the [`retry`] layer: repeats calls that are safe to repeat; and the circuit [`breaker`](retry::breaker) |
//! | `store` | [`store`]: values, counters and leases that processes share |
//!
//! No feature is enabled by default. Serving over HTTP is possible without a feature of this crate:
//! rmcp's `transport-streamable-http-server` takes a [`McpServer`].

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(unreachable_pub)]
#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; callers and servers of older revisions use it"
)]

#[cfg(any(feature = "audit", feature = "metrics"))]
mod arguments;
#[cfg(feature = "audit")]
pub mod audit;
#[cfg(feature = "auth")]
pub mod auth;
#[cfg(feature = "budget")]
pub mod budget;
mod builder;
#[cfg(feature = "cache")]
pub mod cache;
mod caller;
mod caller_limit;
mod client;
mod context;
#[cfg(feature = "delegate")]
pub mod delegate;
mod direct;
mod error;
mod from_fn;
#[cfg(feature = "gateway")]
pub mod gateway;
mod in_flight;
mod lines;
mod listen;
mod long_call;
#[cfg(feature = "metrics")]
pub mod metrics;
mod outcome;
#[cfg(feature = "progress")]
pub mod progress;
mod protocol;
#[cfg(feature = "registry")]
pub mod registry;
mod report;
mod request;
mod response;
#[cfg(feature = "retry")]
pub mod retry;
mod server;
mod stack;
#[cfg(feature = "store")]
pub mod store;
mod upstream;
mod util;
mod wire;

#[cfg(any(feature = "audit", feature = "metrics"))]
pub use arguments::ArgumentRules;
pub use builder::ServiceBuilderExt;
pub use caller::{Caller, CallerSink, MonotonicProgress};
pub use caller_limit::{CallerLimit, CallerLimitHandle, CallerLimitLayer, CallerLimitStats};
pub use client::{McpClient, McpClientBuilder, ProgressCall, Subscription, ToolCall};
pub use context::CallContext;
pub use context::audience::Audience;
pub use context::decision::{Decision, DecisionSlot};
pub use context::principal::Principal;
pub use context::served_by::ServedBy;
pub use context::tool_hints::ToolHints;
pub use context::visibility::{Item, Visibility};
pub use error::{
    ConfigError, Delivered, Error, ErrorKind, HttpRefusal, OnHttpRefusal, Refusal, TimeoutError,
    TransportError, code,
};
pub use from_fn::{FromFn, FromFnLayer, Next, from_fn};
pub use lines::Lines;
pub use listen::except_listens::{ExceptListens, ExceptListensLayer};
pub use outcome::{Ended, Outcome, Repeat};
pub use protocol::unreadable_items::UnreadableItem;
pub use report::{BudgetReport, CacheStatus, CallReport};
pub use request::{McpRequest, RequestParts, ToolCallBuilder};
pub use response::{McpResponse, ResponseParts, TypedResult};
pub use server::{Handler, McpServer, ServerHandle, ServerStats};
#[cfg(feature = "http-server")]
pub use server::{
    http_service::{HttpService, HttpServiceBody, HttpServiceFuture},
    lenient_http::{AnswerBody, LenientBody, LenientHttp, LenientHttpFuture, LenientHttpLayer},
};
pub use stack::{BoxStack, Stack};

#[cfg(feature = "child-process")]
pub use upstream::ChildProcess;
#[cfg(feature = "http-client")]
pub use upstream::HttpEndpoint;
pub use upstream::{Lifecycle, Upstream, UpstreamBuilder, UpstreamStats, WeakUpstream};
pub use wire::Lossless;

/// The README's examples are tested with the crate's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
