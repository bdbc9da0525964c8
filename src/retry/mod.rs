//! Repeats what is safe to repeat, and stops calling what is down.

mod attempts;
pub mod breaker;
mod call;
mod classify;
mod error;
mod layer;
mod policy;
mod service;
mod watched;

pub use attempts::{Attempts, IDEMPOTENCY_META_KEY, RETRY_META_KEY, RetryEvent};
pub use classify::is_rate_limited;
pub use error::InvalidOption;
pub use layer::{RetryBudget, RetryLayer, RetryLayerBuilder};
pub use policy::{Jitter, RetryPolicy, Strategy};
pub use service::Retry;
