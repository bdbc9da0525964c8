//! What an upstream over HTTP promises, whatever a server sends.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

#[path = "../common/mod.rs"]
mod common;

mod answers;
mod endpoints;
mod events;
mod gateway;
mod sent_directly;
mod server;
mod sessions;
mod streams;
mod unreadable;
