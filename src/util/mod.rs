//! Helpers that know nothing of the protocol.

pub(crate) mod backoff;
#[cfg(any(feature = "auth-client", feature = "http-client"))]
pub(crate) mod endpoint;
#[cfg(any(
    feature = "auth",
    feature = "cache",
    feature = "gateway",
    feature = "retry"
))]
pub(crate) mod glob;
pub(crate) mod log_limit;
#[cfg(any(feature = "cache", feature = "retry"))]
pub(crate) mod metrics;
pub(crate) mod panics;
