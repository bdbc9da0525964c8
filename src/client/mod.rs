//! The client ends of a stack: [`Upstream`], a bottom.

mod upstream;

pub use upstream::*;
