//! Who is calling, what they may do, and a record of it.

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod audit;
mod http;
