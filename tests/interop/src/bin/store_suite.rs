//! What a store promises, with a real Redis: `store_suite URL`. It ends with a status of 0 if all of
//! it holds.
//!
//! Two connections take turns, as two processes would.

#[path = "../../../store/suite.rs"]
mod suite;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use rmcp_layers::store::{Increment, RedisStore, Store, StoreError, Stored};

/// Stores of one Redis, used in turn.
struct Turns(Vec<RedisStore>, AtomicUsize);

impl Turns {
    fn next(&self) -> &RedisStore {
        &self.0[self.1.fetch_add(1, Ordering::Relaxed) % self.0.len()]
    }
}

impl Store for Turns {
    fn get<'a>(
        &'a self,
        keys: &'a [Vec<u8>],
    ) -> BoxFuture<'a, Result<Vec<Option<Stored>>, StoreError>> {
        self.next().get(keys)
    }

    fn set<'a>(
        &'a self,
        key: &'a [u8],
        value: Vec<u8>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.next().set(key, value, time_to_live)
    }

    fn remove<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.next().remove(key)
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a [u8],
        expected: Option<&'a [u8]>,
        value: Option<Vec<u8>>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.next()
            .compare_and_set(key, expected, value, time_to_live)
    }

    fn increment<'a>(
        &'a self,
        key: &'a [u8],
        change: i64,
        limit: u64,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<Increment, StoreError>> {
        self.next().increment(key, change, limit, time_to_live)
    }

    fn decrement_once<'a>(
        &'a self,
        key: &'a [u8],
        amount: u64,
        marker: &'a [u8],
        time_to_live: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.next()
            .decrement_once(key, amount, marker, time_to_live)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("store_suite URL")?;
    let connect = || RedisStore::builder(&url).prefix("suite:").build();
    let stores = Turns(vec![connect()?, connect()?], AtomicUsize::new(0));
    // Redis has a clock of its own, which no test can stop.
    let unit = Duration::from_millis(250);
    suite::run(Arc::new(stores), unit, tokio::time::sleep).await;
    Ok(())
}
