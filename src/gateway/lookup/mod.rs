//! Look-up of the member that has a name or a URI.

pub(super) mod by_name;
pub(super) mod by_uri;
pub(super) mod collisions;
pub(super) mod errors;
pub(super) mod known_lists;
