//! What the cache promises, over real connections.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; callers and servers of older revisions use it"
)]

#[path = "../common/mod.rs"]
mod common;

mod changes;
mod eras;
mod flights;
mod keeping;
mod lab;
mod model;
mod people;
mod resources;
mod shared;
