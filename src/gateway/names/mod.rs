//! Outward names: the names and URIs by which callers know a member's items.

pub(super) mod app_views;
pub(super) mod filter;
pub(super) mod nearest;
pub(super) mod prefix;
pub(super) mod style;
pub(super) mod uris;
