//! Audit records: the decision on each call, and how the call ended.
//!
//! Requires the feature `audit`.
//!
//! An [`AuditLog`] sets what is recorded and which sinks the records go to.
//! [`AuditLayer`] writes the calls of any stack to it:
//!
//! ```
//! use rmcp_layers::{Decision, McpClient, Upstream, audit::{ArgumentRules, AuditFile, AuditLog}};
//! use tower::ServiceBuilder;
//! # use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
//! # struct Vault;
//! # impl ServerHandler for Vault {
//! #     async fn call_tool(
//! #         &self,
//! #         _request: CallToolRequestParams,
//! #         _context: RequestContext<RoleServer>,
//! #     ) -> Result<CallToolResponse, ErrorData> {
//! #         Ok(CallToolResult::success(vec![ContentBlock::text("open")]).into())
//! #     }
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = std::env::temp_dir().join(format!("rmcp-layers-audit-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let path = folder.join("audit.jsonl");
//! let audit = AuditLog::builder()
//!     .memory(1_000)
//!     .file(AuditFile::new(&path))
//!     .keep_arguments(ArgumentRules::new())
//!     .build()?;
//! let handle = audit.handle();
//!
//! let stack = ServiceBuilder::new()
//!     .layer(audit.layer())
//!     .service(Upstream::builder().name("vault").in_process(Vault));
//! let client = McpClient::new(stack);
//! client.call_tool("open").argument("password", "sesame").await?;
//!
//! let latest = &handle.recent(1)[0];
//! assert_eq!(latest.decision, Decision::Allowed);
//! assert_eq!(latest.name.as_deref(), Some("open"));
//! assert_eq!(latest.upstream.as_deref(), Some("vault"));
//! assert_eq!(latest.arguments.as_ref().unwrap()["password"], "[redacted]");
//!
//! handle.flush().await?;
//! rmcp_layers::audit::verify(&path)?;
//! # std::fs::remove_dir_all(folder)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Content of a record
//!
//! Each call has one [`AuditRecord`], which is written when the call has ended. A call that is
//! cancelled or panics has a record that says so. A listen is recorded when it is closed.
//!
//! The decision is the one that guarding layers further in state by
//! [`CallContext::state_decision`](crate::CallContext::state_decision), with the principal and the
//! reason. If no layer states one, a call that was let through counts as allowed, and a refusal
//! with [`code::UNAUTHENTICATED`](crate::code::UNAUTHENTICATED) or
//! [`code::FORBIDDEN`](crate::code::FORBIDDEN) as what its code says.
//!
//! A layer in front of the MCP service may refuse an HTTP request before there is a call.
//! [`AuditLog`] is an [`OnHttpRefusal`](crate::OnHttpRefusal), which such a layer takes: of this
//! crate, the `HttpAuthLayer` by `on_refusal`. The record has the HTTP status.
//!
//! A record never contains any part of a token. Arguments are recorded as a hash. The arguments
//! themselves are recorded only if [the operator asks for it](AuditLogBuilder::keep_arguments), and
//! values that look like secrets are redacted ([`ArgumentRules`]). Texts that callers choose are
//! bounded, and escaped where they are written.
//!
//! # Ordering
//!
//! Place this layer outside of the layers that refuse calls, such as `auth`, so that refused calls
//! are on record too. In another place it records the calls that reach it.
//!
//! # Sinks and limits
//!
//! | Sink | Description | Limit |
//! |---|---|---|
//! | [`memory`](AuditLogBuilder::memory) | a ring buffer, read by [`AuditHandle::recent`] | its length (the oldest record is evicted) |
//! | [`tracing`](AuditLogBuilder::tracing) | events with the target `rmcp_layers::audit` | set by the subscriber |
//! | [`file`](AuditLogBuilder::file) | lines of JSON in a hash chain, optionally with a [key](AuditFile::chain_key); see [`verify`] | a queue of 8,192 records, files of 64 MiB |
//! | [`sink`](AuditLogBuilder::sink) | your own [`AuditSink`] | a queue of 8,192 records |
//!
//! Files and custom sinks each have their own thread, so that calls never write on the runtime's
//! workers. A call reserves a place in each queue before it goes on, so that a call that was let
//! through can also be recorded. If a queue is full or its sink cannot write, [`WhenFull`] decides
//! whether the call is refused, waits, or goes on without a record. Each sink has its own setting,
//! and the strictest one decides.
//!
//! A record is written after its call. If the process is killed, the records of calls in flight and
//! the queued records are lost.

mod chain;
mod entry;
mod error;
mod file;
mod future;
mod handle;
mod layer;
mod log;
mod memory;
mod queue;
mod record;
mod service;
mod sink;

pub use chain::{VerifiedLog, verify, verify_all};
pub use error::AuditError;
pub use file::AuditFile;
pub use future::AuditFuture;
pub use handle::{AuditHandle, AuditStats, SinkStats};
pub use layer::AuditLayer;
pub use log::{AuditLog, AuditLogBuilder};
pub use record::{AuditPrincipal, AuditRecord};
pub use service::Audit;
pub use sink::{AuditSink, Durability, SinkOptions, WhenFull};

pub use crate::{ArgumentRules, Ended};
