//! The client ends of a stack: [`McpClient`], the top, and [`Upstream`], a bottom.

mod builder;
mod call;
mod calls;
mod handler;
mod mcp_client;
mod mrtr;
mod pages;
mod progress;
mod subscription;
mod tasks;
mod timeouts;
mod tool_call;
mod upstream;
mod way_back;

pub use builder::McpClientBuilder;
pub use mcp_client::McpClient;
pub use progress::ProgressCall;
pub use subscription::Subscription;
pub use tool_call::ToolCall;
pub use upstream::*;
