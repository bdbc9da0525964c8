//! `subscriptions/listen`: requests that stay open while notifications flow.

pub(crate) mod except_listens;
pub(crate) mod resources;
