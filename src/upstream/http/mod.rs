//! Upstreams over streamable HTTP.

mod answer;
mod client;
mod connect;
mod direct;
mod endpoint;
pub(super) mod error_facts;
mod event_stream;
mod exchange;
mod failure;
mod forgotten_session;
mod post_order;
mod response_head;
mod response_stream;
mod session_stream;

pub use self::endpoint::HttpEndpoint;
