//! What keeps callers apart, ends in time, and stays unsaid, whatever a server or another caller does.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

#[path = "../common/mod.rs"]
mod common;

mod cancelled;
mod errors;
mod fairness;
mod hops;
mod http;
mod limits;
mod panics;
mod raw;
mod sessions;
