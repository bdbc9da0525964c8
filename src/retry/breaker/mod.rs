//! Stops calling what is down.

mod handle;
mod layer;
mod machine;
mod policy;
mod service;
mod state;
mod window;

pub use handle::{BreakerCounts, BreakerHandle, BreakerState, BreakerStatus, StateChange};
pub use layer::{CircuitBreakerLayer, CircuitBreakerLayerBuilder};
pub use policy::{BreakerPolicy, Span};
pub use service::CircuitBreaker;
