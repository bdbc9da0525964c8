//! tower layers for the Model Context Protocol, on the official Rust SDK, [`rmcp`].
//!
//! What flows is rmcp's own typed messages, so nothing is turned into JSON to be looked at; what they flow
//! through is a [`tower::Service`], so any tower layer stacks anywhere. One picture holds the crate:
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
//! A *stack* is any `Service<McpRequest, Response = McpResponse>` whose error goes [into](Into) [`Error`].
//! Everything in the crate makes one, wraps one, or stands at one of its two ends. A layer never knows
//! between which ends it stands, so one layer serves clients and servers alike.
//!
//! # A server
//!
//! A handler, some layers, and a transport:
//!
//! ```
//! use std::time::Duration;
//!
//! use rmcp::{ServerHandler, ServiceExt};
//! use rmcp_layers::{ExceptListens, Handler, McpServer};
//! use tower::ServiceBuilder;
//!
//! struct Files;
//! impl ServerHandler for Files {}
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let calls = ServiceBuilder::new().load_shed().concurrency_limit(256);
//! let stack = ServiceBuilder::new()
//!     .layer(ExceptListens::new(calls)) // it bounds calls, not sessions
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
//! # A client
//!
//! The same layers over a connection. Put [`McpServer`] on top instead of [`McpClient`], and it is a
//! gateway:
//!
//! ```
//! use rmcp_layers::{McpClient, Upstream};
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
//! // or Upstream::http("https://…/mcp")?, or Upstream::child_process("server")
//! let upstream = Upstream::in_process(Calculator);
//! let client = McpClient::new(ServiceBuilder::new().concurrency_limit(8).service(upstream));
//! let sum = client.call_tool("add").argument("a", 1).argument("b", 2).await?;
//! # assert_eq!(sum.content[0].as_text().map(|text| text.text.as_str()), Some("3"));
//! # Ok(())
//! # }
//! ```
//!
//! # A layer
//!
//! A layer is what it is everywhere in tower. What flows through it can be matched on:
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
//! # What holds everywhere
//!
//! - **Order changes cost, never safety.** Layers stack in any order.
//! - **Transparent.** What a layer does not understand it passes on untouched: unknown methods, unknown
//!   `_meta`, multi-round and task results.
//! - **Cancel-safe.** Dropping a call's future, wherever it waits, releases what it holds and tells the
//!   server (`notifications/cancelled`).
//! - **Bounded.** Every map and queue has a stated bound, and a stated behaviour at the bound.
//! - **Two users never meet.** What the server sends for one call goes to that call's caller, or nowhere.
//! - **One outcome.** How a request ended is read once, by [`Outcome`], and every layer asks it.
//!
//! # Revisions of the protocol
//!
//! MCP 2024-11-05 to 2026-07-28, as rmcp speaks them, on either side. The model inside a stack is that of
//! 2026-07-28: a request carries what it needs, and notifications flow while a request
//! (`subscriptions/listen`, if need be) is open. The ends translate for older callers and servers; see
//! [`McpServer`] and [`Upstream`].
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `auth` | [`auth`]: who is calling, what they may do, and a record of it |
//! | `auth-client` | `auth` with what asks an authorization server over HTTP |
//! | `cache` | the [`cache`] layer: answers from memory, for each caller apart; and [`store`] for what processes share |
//! | `child-process` | [`Upstream`] over a child process's standard input and output |
//! | `gateway` | [`gateway`]: many stacks as one, and names for a stack |
//! | `http-client` | [`Upstream`] over streamable HTTP, without TLS |
//! | `rustls`, `native-tls` | `http-client` with TLS |
//! | `redis` | `cache` with a store in Redis or Valkey |
//! | `registry` | the [`registry`] layer: tools registered while the server runs, and the health of all tools |
//! | `retry` | the [`retry`] layer: repeats what is safe to repeat; and the circuit [`breaker`](retry::breaker) |
//!
//! None is on by default. Serving over HTTP needs nothing here: it is rmcp's
//! `transport-streamable-http-server`.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; callers and servers of older revisions use it"
)]

#[cfg(any(feature = "cache", feature = "retry"))]
#[cfg_attr(not(feature = "retry"), allow(dead_code))]
mod attempts;
mod audience;
#[cfg(feature = "auth")]
pub mod auth;
mod backoff;
#[cfg(feature = "cache")]
pub mod cache;
#[cfg(feature = "cache")]
mod cache_status;
mod caller;
mod client;
#[cfg(any(feature = "auth", feature = "http-client"))]
#[cfg_attr(not(all(feature = "auth", feature = "http-client")), allow(dead_code))]
mod credential;
mod error;
mod except_listens;
#[cfg(feature = "gateway")]
pub mod gateway;
#[cfg(any(
    feature = "auth",
    feature = "cache",
    feature = "gateway",
    feature = "retry"
))]
mod glob;
mod hints;
mod lines;
mod log_limit;
mod outcome;
mod principal;
#[cfg(feature = "registry")]
pub mod registry;
mod request;
mod response;
mod results;
#[cfg(feature = "retry")]
pub mod retry;
mod served_by;
mod server;
mod sight;
#[cfg(feature = "cache")]
pub mod store;

pub use audience::Audience;
pub use caller::{Caller, CallerSink};
#[cfg(feature = "child-process")]
pub use client::ChildProcess;
#[cfg(feature = "http-client")]
pub use client::HttpEndpoint;
pub use client::{
    Lifecycle, McpClient, McpClientBuilder, ProgressCall, Subscription, ToolCall, Upstream,
    UpstreamBuilder, UpstreamStats, WeakUpstream,
};
pub use error::{Delivered, Error, ErrorKind, Refusal, TimeoutError, TransportError, code};
pub use except_listens::{ExceptListens, ExceptListensService};
pub use hints::ToolHints;
pub use lines::Lines;
pub use outcome::{Outcome, Repeat};
pub use principal::Principal;
pub use request::{CallContext, McpRequest, RequestParts, ToolCallBuilder};
pub use response::{McpResponse, ResponseParts};
pub use served_by::ServedBy;
pub use server::{Handler, McpServer};
pub use sight::{Item, Sight};

/// The README's examples are tested with the crate's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
