//! Progress: reports of handlers, and a layer that makes progress lawful and light.
//!
//! Requires the feature `progress`.
//!
//! A handler reports by the [`ProgressReporter`] of its call, which
//! [`CallContext::progress`](crate::CallContext::progress) returns. An rmcp `ServerHandler` gets it
//! by [`ProgressReporter::of_handler`]. [`ProgressLayer`] goes around any stack, whoever reports:
//!
//! ```
//! use std::time::Duration;
//!
//! use futures::StreamExt;
//! use rmcp_layers::{
//!     McpClient, Upstream,
//!     progress::{ProgressLayer, ProgressReporter},
//! };
//! use tower::ServiceBuilder;
//! # use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
//!
//! struct Trainer;
//!
//! impl ServerHandler for Trainer {
//!     async fn call_tool(
//!         &self,
//!         _request: CallToolRequestParams,
//!         context: RequestContext<RoleServer>,
//!     ) -> Result<CallToolResponse, ErrorData> {
//!         let mut steps = ProgressReporter::of_handler(&context).steps(["Fetching", "Training"]);
//!         steps.begin_next().await;
//!         steps.begin_next().await;
//!         let result = CallToolResult::success(vec![ContentBlock::text("trained")]);
//!         Ok(steps.finish().add_to(result).into())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), rmcp_layers::Error> {
//! let layer = ProgressLayer::builder().idle_timeout(Duration::from_secs(60)).build()?;
//! let stack = ServiceBuilder::new().layer(layer).service(Upstream::in_process(Trainer));
//! let mut call = McpClient::new(stack).call_tool("train").with_progress();
//! let mut last = String::new();
//! while let Some(report) = call.next().await {
//!     last = report.message.unwrap_or_default();
//! }
//! assert!(last.starts_with("Step 2 of 2: Training"));
//! let result = call.await?;
//! assert_eq!(result.content.len(), 2); // the text, and the times of the steps
//! # Ok(())
//! # }
//! ```
//!
//! # Progress that passes the layer
//!
//! - It strictly increases. Other progress is dropped, as the protocol demands.
//! - Its rate is bounded. Default: 10 notifications a second for each call. Of those that come
//!   sooner, the latest waits until its time has come. It has the latest message.
//! - Its message is bounded. Default: 1 KiB.
//! - Its token is that of the call. Progress with a foreign token is dropped, and logged once a
//!   second.
//! - None comes after the result. Over stdio and other line transports, none comes right before it
//!   either: some clients lose progress that they read together with the result, and some close the
//!   connection. So a notification waits for 20 ms, and a result that comes meanwhile replaces it:
//!   it says that the call is done. A result keeps the same
//!   [distance](ProgressLayerBuilder::result_gap) from a notification that was sent. Over HTTP and to
//!   a client in this process, progress is sent at once, and the last one before the result.
//!
//! # Timeouts
//!
//! [`timeout`](ProgressLayerBuilder::timeout) bounds a call, and
//! [`idle_timeout`](ProgressLayerBuilder::idle_timeout) its silence. A call that is ended is
//! cancelled at its server, and fails with [`Error::Timeout`](crate::Error::Timeout).
//! [Heartbeats](ProgressLayerBuilder::heartbeat) keep callers waiting that restart their timeouts at
//! progress.
//!
//! # Ordering
//!
//! Place the layer outside of `retry`, so that a call and its repetitions have one timeout. The
//! layer wraps the caller, so a [`Handler`](crate::Handler) below is reached through a connection
//! in this process.
//!
//! # Limits
//!
//! For each call, one notification waits and one is being sent, however slow the caller is. A
//! caller that reads nothing for 1 s gets the result without the last progress.

mod channel;
mod fan_out;
mod handle;
mod layer;
mod reporter;
mod service;
mod steps;

pub use handle::{ProgressHandle, ProgressStats};
pub use layer::{ProgressLayer, ProgressLayerBuilder};
pub use reporter::ProgressReporter;
pub use service::Progress;
pub use steps::{StepTime, Steps, StepsSummary};
