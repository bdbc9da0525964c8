//! Messages on the wire: what a peer wrote reaches the other one as it was written.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

#[path = "../common/mod.rs"]
mod common;
mod direct_calls;
mod documents;
mod gateway;
mod http_callers;
mod http_messages;
mod kinds;
mod lossless;
mod malformed;
mod members;
mod methods;
mod order;
mod params;
mod peers;
mod results;
mod servers;
mod surrogates;
mod tasks;
