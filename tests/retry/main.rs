//! What retry and the circuit breaker promise, over real transports.

#[path = "../common/mod.rs"]
mod common;

mod attempts;
mod repeats;
mod server;
