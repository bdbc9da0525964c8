//! A limit on the calls that each caller has in flight.

mod handle;
mod layer;
mod service;

pub use handle::{CallerLimitHandle, CallerLimitStats};
pub use layer::CallerLimitLayer;
pub use service::CallerLimit;
