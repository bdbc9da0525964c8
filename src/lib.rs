//! tower middleware for the Model Context Protocol.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; callers and servers of older revisions use it"
)]

mod backoff;
mod caller;
mod client;
mod error;
mod outcome;
mod principal;
mod request;
mod response;
mod results;
mod server;

pub use caller::{Caller, CallerSink};
#[cfg(feature = "child-process")]
pub use client::ChildProcess;
#[cfg(feature = "http-client")]
pub use client::HttpEndpoint;
pub use client::{
    Lifecycle, McpClient, McpClientBuilder, ProgressCall, Subscription, ToolCall, Upstream,
    UpstreamBuilder,
};
pub use error::{Delivered, Error, ErrorKind, Refusal, TimeoutError, TransportError, code};
pub use outcome::{Outcome, Repeat};
pub use principal::Principal;
pub use request::{CallContext, McpRequest, RequestParts, ToolCallBuilder};
pub use response::{McpResponse, ResponseParts};
pub use server::{Handler, McpServer};
