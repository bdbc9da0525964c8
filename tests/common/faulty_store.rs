//! A store in memory that fails as a test says.

use std::time::Duration;

use futures::future::BoxFuture;
use rmcp_layers::store::{Increment, MemoryStore, Store, StoreError, Stored};

/// What becomes of the operations of a store.
pub trait Fault: Send + Sync + 'static {
    /// Does an operation with the store in memory, or fails.
    fn answer<'a, T: Send + 'a>(
        &'a self,
        operation: impl FnOnce(&'a MemoryStore) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>>;
}

/// A store with a fault.
pub struct Faulty<F>(pub F);

impl<F: Fault> Store for Faulty<F> {
    fn get<'a>(
        &'a self,
        keys: &'a [Vec<u8>],
    ) -> BoxFuture<'a, Result<Vec<Option<Stored>>, StoreError>> {
        self.0.answer(|store| store.get(keys))
    }

    fn set<'a>(
        &'a self,
        key: &'a [u8],
        value: Vec<u8>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.answer(|store| store.set(key, value, time_to_live))
    }

    fn remove<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.answer(|store| store.remove(key))
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a [u8],
        expected: Option<&'a [u8]>,
        value: Option<Vec<u8>>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.0
            .answer(|store| store.compare_and_set(key, expected, value, time_to_live))
    }

    fn increment<'a>(
        &'a self,
        key: &'a [u8],
        change: i64,
        limit: u64,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<Increment, StoreError>> {
        self.0
            .answer(|store| store.increment(key, change, limit, time_to_live))
    }

    fn decrement_once<'a>(
        &'a self,
        key: &'a [u8],
        amount: u64,
        marker: &'a [u8],
        time_to_live: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.0
            .answer(|store| store.decrement_once(key, amount, marker, time_to_live))
    }
}
