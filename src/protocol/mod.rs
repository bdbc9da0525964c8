//! The protocol's methods, and messages that do not fit them.
//!
//! rmcp reads a message as the first type that fits. The last type, a custom message, fits any
//! method. A request of a known method with invalid params therefore arrives as a custom request,
//! without a type for layers to decide by. The functions here find such messages by the name of
//! their method.

mod as_sent;
#[cfg(any(feature = "auth", feature = "cache"))]
mod cache_hints;
pub(crate) mod json_text;
mod methods;
pub(crate) mod mrtr;
mod notifications;
pub(crate) mod outgoing;
pub(crate) mod pages;
pub(crate) mod results;
#[cfg(any(feature = "gateway", feature = "registry"))]
pub(crate) mod tool_schema;
mod unreadable;
pub(crate) mod unreadable_items;

pub(crate) use as_sent::read_from_client;
#[cfg(feature = "http-server")]
pub(crate) use as_sent::{SentOverHttp, body_as_sent};
#[cfg(any(feature = "auth", feature = "cache"))]
pub(crate) use cache_hints::cache_hints;
pub(crate) use notifications::{from_client, from_server};
#[cfg(any(feature = "audit", feature = "auth"))]
pub(crate) use unreadable::unreadable;
pub(crate) use unreadable::{
    Unreadable, as_sent_over_http, has_odd_progress_token, refuse, set_aside,
};
