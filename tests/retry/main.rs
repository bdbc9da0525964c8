//! What retry and the circuit breaker promise, over real transports.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

#[path = "../common/mod.rs"]
mod common;

mod attempts;
mod breaking;
mod handling;
mod model;
mod probes;
mod repeats;
mod server;
mod transports;
