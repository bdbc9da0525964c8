//! A limit on the calls that each caller has in flight.

mod layer;
mod service;

pub use layer::CallerLimitLayer;
pub use service::CallerLimit;
