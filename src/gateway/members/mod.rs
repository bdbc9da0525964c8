//! The members: each a stack under a name, with its options and its state.

pub(super) mod active_member;
pub(super) mod changes;
pub(super) mod member;
pub(super) mod options;
pub(super) mod per_caller;
pub(super) mod state;
pub(super) mod watch;
