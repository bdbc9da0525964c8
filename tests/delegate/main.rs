//! What delegation promises, over real transports.

#[path = "../common/mod.rs"]
mod common;
mod desk;
mod plans;
mod random_plans;
mod store;
