//! What the budget promises, over real transports.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

#[path = "../common/mod.rs"]
mod common;
mod cuts;
mod definitions;
#[path = "../common/faulty_store.rs"]
mod faulty_store;
mod hostile;
mod http;
mod kept;
mod nested;
mod office;
mod order;
#[allow(dead_code, reason = "its other tests use the rest")]
#[path = "../wire/peers.rs"]
mod peers;
mod people;
mod shares;
mod store;
mod text;
