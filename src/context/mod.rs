//! The context of a call, and the facts about the call that one layer states and others read.

pub(crate) mod audience;
#[cfg_attr(not(all(feature = "auth", feature = "http-client")), allow(dead_code))]
pub(crate) mod credential;
pub(crate) mod principal;
pub(crate) mod served_by;
pub(crate) mod tool_hints;
pub(crate) mod visibility;
