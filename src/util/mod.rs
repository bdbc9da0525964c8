//! Helpers that know nothing of the protocol.

// Each feature uses its part of them.
#![cfg_attr(
    not(all(
        feature = "audit",
        feature = "auth",
        feature = "cache",
        feature = "retry"
    )),
    allow(dead_code, unused_imports, unused_macros)
)]

pub(crate) mod backoff;
pub(crate) mod deadline;
#[cfg(any(feature = "auth-client", feature = "http-client"))]
pub(crate) mod endpoint;
pub(crate) mod glob;
#[cfg(any(feature = "auth", feature = "http-server"))]
pub(crate) mod http_body;
pub(crate) mod http_head;
pub(crate) mod log_limit;
pub(crate) mod metrics;
pub(crate) mod panics;
pub(crate) mod run_to_end;
#[cfg(any(feature = "budget", feature = "delegate", feature = "json-schema"))]
pub(crate) mod schema;
pub(crate) mod shared_delay;
pub(crate) mod text;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, also after a panic of another thread that held it.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
