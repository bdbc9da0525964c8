//! The client end of a stack: [`McpClient`].

mod answers;
mod builder;
mod call;
mod call_sink;
mod calls;
mod handler;
mod mcp_client;
mod pages;
mod progress;
mod subscription;
mod tasks;
mod timeouts;
mod tool_call;

pub use builder::McpClientBuilder;
pub use mcp_client::McpClient;
pub use progress::ProgressCall;
pub use subscription::Subscription;
pub use tool_call::ToolCall;
