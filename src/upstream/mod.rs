//! The upstream: the innermost service of a stack, which is a connection to an MCP server.
//!
//! [`Upstream`] is the handle that callers share. A request takes this way:
//!
//! 1. `dispatch` gets a connection from `connections`, and translates between revisions.
//! 2. `reconnect` keeps one connection, which `connect` and `http` make.
//! 3. `call` sends the request and waits for the answer. `route` finds the call that each other
//!    message of the server belongs to.

mod builder;
mod call;
mod caller_end;
mod capabilities;
mod connect;
mod connection;
mod connections;
mod direct;
mod dispatch;
#[cfg_attr(
    not(feature = "child-process"),
    expect(dead_code, reason = "only a child process tells how it ended")
)]
mod end;
mod errors;
#[cfg(feature = "http-client")]
mod http;
mod listen;
mod liveness;
mod multi_round;
mod reconnect;
mod request_in_flight;
mod route;
mod service;
#[cfg(feature = "metrics")]
mod session_duration;
mod stats;

#[cfg(feature = "child-process")]
pub use self::connect::ChildProcess;
#[cfg(feature = "http-client")]
pub use self::http::HttpEndpoint;
pub use self::{
    builder::{Lifecycle, UpstreamBuilder},
    service::{Upstream, WeakUpstream},
    stats::UpstreamStats,
};
