//! The protocol: its tables, and messages that do not fit them.
//!
//! | file | contents |
//! |---|---|
//! | `methods.rs` | a row for each method of a request: its types, target, list, effect, capability |
//! | `results.rs` | a row for each result type: `resultType`, cache hints, `_meta`, empty result |
//! | `lists.rs` | a row for each kind of list: the types of its items and pages |
//! | `notifications.rs` | a row for each notification: its sender, scope, and the change it is of |
//! | `server_requests.rs` | the requests of a server to its client |
//! | `legacy_tasks.rs` | the tasks of revision 2025-11-25 |
//! | `target.rs` | the item that a request is about |
//! | `params.rs` | params, read as the type of their method |
//! | `unreadable.rs` | requests whose params do not fit their method |
//! | `unreadable_items.rs`, `tool_schema.rs` | items of lists that cannot be read, or that clients refuse |
//! | `pages.rs` | the pages of a list, to its end |
//! | `mrtr.rs` | multi-round requests |
//! | `json_text.rs`, `outgoing.rs` | messages at the wire |
//!
//! rmcp reads a message as the first type that fits. The last type, a custom message, fits any
//! method. A request of a known method with invalid params therefore arrives as a custom request,
//! without a type for layers to decide by. `unreadable.rs` finds such messages by the name of their
//! method.

// The tables are whole in every set of features, and each feature uses its part of them.
#![cfg_attr(
    not(all(
        feature = "audit",
        feature = "auth",
        feature = "cache",
        feature = "gateway",
        feature = "http-client",
        feature = "http-server",
        feature = "registry",
        feature = "retry",
    )),
    allow(dead_code, unused_imports)
)]

pub(crate) mod json_text;
pub(crate) mod legacy_tasks;
pub(crate) mod lists;
pub(crate) mod methods;
pub(crate) mod mrtr;
pub(crate) mod notifications;
pub(crate) mod outgoing;
pub(crate) mod pages;
mod params;
pub(crate) mod results;
pub(crate) mod server_requests;
pub(crate) mod target;
#[cfg(test)]
mod tests;
pub(crate) mod tool_schema;
mod unreadable;
pub(crate) mod unreadable_items;

pub(crate) use notifications::{from_client, from_server};
pub(crate) use unreadable::{Unreadable, has_odd_progress_token, refuse, set_aside, unreadable};
