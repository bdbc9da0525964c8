//! State that several processes share.
//!
//! Requires the feature `store`.
//!
//! By default, the state of this crate is in the memory of its process. If several processes must
//! share state, give the layer a [`Store`]:
//!
//! - [`RedisStore`] (feature `redis`) for processes on any machine;
//! - [`MemoryStore`] for several layers in one process and for tests;
//! - or your own implementation.
//!
//! A store only holds bytes. The layer that uses it defines their meaning, checks what it reads,
//! and decides how it works on if the store fails.
//!
//! # Operations
//!
//! | need | operation |
//! |---|---|
//! | a copy that saves work, such as a cached response | [`set`](Store::set) and [`get`](Store::get): the last write wins |
//! | an amount that replicas cannot overspend together | [`increment`](Store::increment) with a limit |
//! | an amount that goes back once, however often that is tried | [`decrement_once`](Store::decrement_once) with a marker |
//! | a record that replicas change in turn | [`compare_and_set`](Store::compare_and_set) |
//! | work that one replica does once | [`add`](Store::add) of a marker |
//! | work that one replica does at a time | [`Lease`] |
//!
//! # Counters
//!
//! [`increment`](Store::increment) checks the limit and adds in one step. A budget first reserves
//! the estimated cost of a call and returns the difference afterwards. The key contains the
//! principal and the start of the period, so a period ends by the expiry of its counter:
//!
//! ```
//! use std::time::Duration;
//!
//! use rmcp_layers::store::{MemoryStore, Store};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), rmcp_layers::store::StoreError> {
//! let store = MemoryStore::new();
//! let (key, day) = (b"budget:ann:2026-07-28", Some(Duration::from_secs(86_400)));
//!
//! assert!(store.increment(key, 700, 1_000, day).await?.accepted);
//! let second = store.increment(key, 700, 1_000, day).await?;
//! assert!(!second.accepted);
//! assert_eq!(second.value, 700);
//!
//! // The first call has cost 250 in the end.
//! store.increment(key, -450, 1_000, day).await?;
//! assert!(store.increment(key, 700, 1_000, day).await?.accepted);
//! # Ok(())
//! # }
//! ```
//!
//! If an increment fails, it may have happened. A budget that must not be overspent treats the
//! amount as spent. To give it back, [`decrement_once`](Store::decrement_once) can be repeated until
//! it succeeds.
//!
//! # Leases
//!
//! A [`Lease`] is an exclusive right that expires unless its holder renews it. If the holder dies,
//! another replica takes the lease and continues the work:
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use rmcp_layers::store::{Lease, MemoryStore, Store};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), rmcp_layers::store::LeaseError> {
//! # async fn run_task() -> &'static str { "done" }
//! let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
//! match Lease::acquire(&store, "lease:task-17", Duration::from_secs(30)).await? {
//!     // `hold` renews the lease, and drops the work if the lease is lost.
//!     Some(lease) => assert_eq!(lease.hold(run_task()).await?, "done"),
//!     None => println!("another replica runs it"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A process that is suspended, or a store that loses writes in a failover, can make two processes
//! believe for a moment that they hold the same lease. Effects that must happen once need a second
//! guard: write the result by [`compare_and_set`](Store::compare_and_set), and keep the
//! [token](Lease::token) of the holder in the record that is compared.
//!
//! # Limits
//!
//! See [`MemoryStore`] and [`RedisStore`]. Values that were written by [`set`](Store::set) may be
//! evicted before they expire. Values of the other operations may not: a store without room for
//! them returns an error.

mod error;
mod interface;
mod lease;
mod memory;
#[cfg(feature = "redis")]
mod redis;

#[cfg(feature = "redis")]
pub use self::redis::{RedisStore, RedisStoreBuilder};
pub use error::StoreError;
pub use interface::{Increment, MAX_COUNT, Store, Stored};
pub use lease::{Lease, LeaseError};
pub use memory::MemoryStore;
