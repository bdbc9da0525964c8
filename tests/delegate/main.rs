//! What delegation promises, over real transports.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

mod agents;
#[path = "../common/mod.rs"]
mod common;
mod desk;
mod extension;
#[path = "../common/faulty_store.rs"]
mod faulty_store;
mod misuse;
mod plans;
mod processes;
mod random_plans;
mod requests;
mod store;
mod tools;
mod worker;
