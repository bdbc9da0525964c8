//! Helpers that know nothing of the protocol.

pub(crate) mod backoff;
#[cfg(any(feature = "auth-client", feature = "http-client"))]
pub(crate) mod endpoint;
#[cfg(any(
    feature = "audit",
    feature = "auth",
    feature = "cache",
    feature = "gateway",
    feature = "retry"
))]
pub(crate) mod glob;
pub(crate) mod log_limit;
pub(crate) mod panics;
