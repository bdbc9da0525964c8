//! Who is calling, what they may do, and a record of it.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

#[path = "../common/mod.rs"]
mod common;
mod line;
mod shop;
mod tokens;

mod apart;
mod as_sent;
mod attacks;
mod audit;
mod guard;
mod http;
mod key_sets;
mod log_files;
mod scopes;
mod servers;
mod sinks;
mod tasks;
mod unreadable;
mod visibility;
