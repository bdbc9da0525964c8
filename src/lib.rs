//! tower middleware for the Model Context Protocol.

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
pub use client::{McpClient, McpClientBuilder, ProgressCall, Subscription, ToolCall};
pub use error::{Delivered, Error, ErrorKind, Refusal, TimeoutError, TransportError, code};
pub use outcome::{Outcome, Repeat};
pub use principal::Principal;
pub use request::{CallContext, McpRequest, RequestParts, ToolCallBuilder};
pub use response::{McpResponse, ResponseParts};
pub use server::{Handler, McpServer};
