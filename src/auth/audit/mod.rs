//! A record of every decision, and of how the call then ended.
//!
//! An [`Audit`] is what is recorded and where it goes. [`AuthLayer`](crate::auth::AuthLayer) and the HTTP companion
//! write their decisions to one, and [`AuditLayer`] writes the calls of any stack:
//!
//! ```
//! use rmcp_layers::{McpClient, Upstream, auth::audit::{ArgumentRules, Audit, AuditFile, Decided}};
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
//! let audit = Audit::builder()
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
//! assert_eq!(latest.decision, Decided::Allowed);
//! assert_eq!(latest.name.as_deref(), Some("open"));
//! assert_eq!(latest.upstream.as_deref(), Some("vault"));
//! assert_eq!(latest.arguments.as_ref().unwrap()["password"], "[redacted]");
//!
//! handle.flush().await?;
//! rmcp_layers::auth::audit::verify(&path)?;
//! # std::fs::remove_dir_all(folder)?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is on record
//!
//! One record a call, written when it has ended: see [`AuditRecord`]. A call that is cancelled or panics is on
//! record as such. A listen is when it is closed. An HTTP request that the companion refuses has a record of its
//! own, with its status.
//!
//! Nothing of a token is in a record. Arguments are hashed, and themselves on record only if
//! [asked for](AuditBuilder::keep_arguments), without what looks like a secret ([`ArgumentRules`]). Texts that
//! callers choose are bounded, and escaped where they are written.
//!
//! # Where it goes
//!
//! | sink | what it is | its bound |
//! |---|---|---|
//! | [`memory`](AuditBuilder::memory) | a ring, read by [`AuditHandle::recent`] | its length; the oldest record goes |
//! | [`tracing`](AuditBuilder::tracing) | events of the target `rmcp_layers::audit` | the subscriber's |
//! | [`file`](AuditBuilder::file) | lines of JSON, chained by their hashes, with a [key](AuditFile::chain_key) where one is given; [`verify`] | a queue of 8,192 records, files of 64 MiB |
//! | [`sink`](AuditBuilder::sink) | your own [`AuditSink`] | a queue of 8,192 records |
//!
//! The last two have a thread each: nothing is written where calls run. A call takes its place in their queues
//! before it goes on, so that what was let through can be recorded. When there is none, or the sink cannot write,
//! [`WhenFull`] says what happens: the call is refused, waits, or goes on without a record. With several sinks,
//! each has its own choice, and the strictest holds.

mod arguments;
mod chain;
mod entry;
mod error;
mod file;
mod handle;
mod layer;
mod log;
mod memory;
mod queue;
mod record;
mod service;
mod sink;

pub use arguments::ArgumentRules;
pub use chain::{VerifiedLog, verify, verify_all};
pub(crate) use entry::Verdict;
pub use error::AuditError;
pub use file::AuditFile;
pub use handle::{AuditHandle, SinkCounts};
pub use layer::AuditLayer;
pub(crate) use log::RefusedHttp;
pub use log::{Audit, AuditBuilder};
pub use record::{AuditRecord, Decided, Ended, Who};
pub use service::Audited;
pub use sink::{AuditSink, Durability, SinkOptions, WhenFull};
