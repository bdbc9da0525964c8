//! `subscriptions/listen`: requests that stay open while notifications flow.

pub(crate) mod change;
pub(crate) mod except_listens;
mod message;
mod open;
mod reopen;
pub(crate) mod resources;

pub(crate) use self::{
    change::{changes_in, is_change, list_changes, wants},
    message::{acknowledgment, request, with_subscription_id},
    open::{ACKNOWLEDGE_WITHIN, ListenCall, OpenListen, open},
    reopen::Reopen,
    resources::RefusedSubscriptions,
};
