//! What the store in memory promises, and leases over a store that fails.

#[path = "../common/faulty_store.rs"]
mod faulty_store;
mod suite;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::{BoxFuture, ready};
use rmcp_layers::store::{Lease, LeaseError, MemoryStore, Store, StoreError};
use tokio::time::{Instant, advance, sleep};

use crate::faulty_store::{Fault, Faulty};

#[tokio::test(start_paused = true)]
async fn a_store_in_memory_keeps_the_promises_of_a_store() {
    suite::run(Arc::new(MemoryStore::new()), Duration::from_secs(10), sleep).await;
}

async fn present(store: &MemoryStore, keys: &[Vec<u8>]) -> Vec<u8> {
    let found = store.get(keys).await.unwrap();
    let kept = keys.iter().zip(found);
    kept.filter_map(|(key, stored)| stored.map(|_| key[0]))
        .collect()
}

fn key(n: u8) -> Vec<u8> {
    vec![n; 10]
}

#[tokio::test(start_paused = true)]
async fn a_full_store_in_memory_evicts_the_least_recently_used() {
    let store = MemoryStore::with_max_bytes(1_000);
    let keys: Vec<_> = (0..20).map(key).collect();
    for key in &keys {
        store.set(key, vec![0; 240], None).await.unwrap();
    }
    assert_eq!(present(&store, &keys).await, [16, 17, 18, 19]);
    store.set(&key(16), vec![0; 740], None).await.unwrap();
    assert_eq!(present(&store, &keys).await, [16, 19]);
    // One that does not fit at all takes the one before it away, and no other.
    store.set(&key(16), vec![0; 1_000], None).await.unwrap();
    assert_eq!(present(&store, &keys).await, [19]);
    store.remove(&key(19)).await.unwrap();
    store.set(&key(1), vec![0; 990], None).await.unwrap();
    assert_eq!(present(&store, &keys).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn leases_and_counters_are_never_evicted() {
    let store = MemoryStore::with_max_bytes(1_000);
    let keys: Vec<_> = (0..20).map(key).collect();
    let time = Some(Duration::from_secs(60));
    assert!(store.add(&key(0), vec![0; 240], time).await.unwrap());
    store.increment(&key(1), 1, 5, None).await.unwrap();
    for key in &keys[2..] {
        store.set(key, vec![0; 240], None).await.unwrap();
    }
    assert_eq!(present(&store, &keys).await, [0, 1, 18, 19]);
    // They take the room of what may be evicted, and of nothing else.
    assert!(store.add(&key(2), vec![0; 240], time).await.unwrap());
    assert!(store.add(&key(3), vec![0; 240], time).await.unwrap());
    assert_eq!(present(&store, &keys).await, [0, 1, 2, 3]);
    let full = store.add(&key(4), vec![0; 240], time).await.unwrap_err();
    assert_eq!(full.to_string(), "the store in memory is full");
    let (first, longer) = (key(0), Some(vec![0; 500]));
    let set = store.compare_and_set(&first, Some(&[0; 240]), longer, time);
    set.await.unwrap_err();
    store.set(&key(5), vec![0; 240], None).await.unwrap();
    assert_eq!(present(&store, &keys).await, [0, 1, 2, 3]);
    // A counter goes on, and what has expired makes room.
    assert_eq!(store.increment(&key(1), 4, 5, None).await.unwrap().value, 5);
    advance(Duration::from_secs(60)).await;
    assert!(store.add(&key(4), vec![0; 900], None).await.unwrap());
    assert_eq!(present(&store, &keys).await, [1, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_store_in_memory_holds_no_more_than_ten_thousand_values() {
    let store = MemoryStore::new();
    let name = |n: u32| n.to_be_bytes().to_vec();
    store.set(b"set", vec![1], None).await.unwrap();
    for n in 0..10_000 {
        assert!(store.add(&name(n), vec![1], None).await.unwrap(), "{n}");
    }
    assert_eq!(store.get(&[b"set".to_vec()]).await.unwrap(), [None]);
    store.add(&name(10_000), vec![1], None).await.unwrap_err();
    assert!(!store.add(&name(0), vec![1], None).await.unwrap());
    let first = name(0);
    let swap = store.compare_and_set(&first, Some(&[1]), Some(vec![2]), None);
    assert!(swap.await.unwrap());
    store.remove(&name(0)).await.unwrap();
    assert!(store.add(&name(10_000), vec![1], None).await.unwrap());
}

/// A store that can be made to fail.
#[derive(Clone, Default)]
struct Flaky {
    store: MemoryStore,
    fails: Arc<AtomicBool>,
}

impl Flaky {
    fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }
}

impl Fault for Flaky {
    fn answer<'a, T: Send + 'a>(
        &'a self,
        operation: impl FnOnce(&'a MemoryStore) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        match self.fails.load(Ordering::Relaxed) {
            true => Box::pin(ready(Err(StoreError::new("out of order")))),
            false => operation(&self.store),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_outlives_an_outage_of_its_store_that_is_shorter() {
    let flaky = Flaky::default();
    let store: Arc<dyn Store> = Arc::new(Faulty(flaky.clone()));
    let lease = Lease::acquire(&store, "task", Duration::from_secs(30)).await;
    let work = async {
        flaky.fail(true);
        sleep(Duration::from_secs(25)).await;
        flaky.fail(false);
        sleep(Duration::from_secs(300)).await;
    };
    lease.unwrap().unwrap().hold(work).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_lost_when_its_store_fails_for_longer_than_it_lasts() {
    let flaky = Flaky::default();
    let store: Arc<dyn Store> = Arc::new(Faulty(flaky.clone()));
    let time = Duration::from_secs(30);
    let mut lease = Lease::acquire(&store, "task", time).await.unwrap().unwrap();
    flaky.fail(true);
    assert!(Lease::acquire(&store, "task", time).await.is_err());
    assert!(matches!(lease.renew().await, Err(LeaseError::Store(_))));
    assert_eq!(lease.remaining(), time);
    let began = Instant::now();
    let lost = lease.hold(std::future::pending::<()>()).await;
    assert!(matches!(lost, Err(LeaseError::Lost)));
    assert_eq!(began.elapsed(), time);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_attempt_to_acquire_a_lease_leaves_it_free() {
    struct Late(MemoryStore);
    impl Fault for Late {
        fn answer<'a, T: Send + 'a>(
            &'a self,
            operation: impl FnOnce(&'a MemoryStore) -> BoxFuture<'a, Result<T, StoreError>>,
        ) -> BoxFuture<'a, Result<T, StoreError>> {
            let done = operation(&self.0);
            Box::pin(async move {
                // The change is made, but its reply takes a while.
                let done = done.await;
                sleep(Duration::from_millis(10)).await;
                done
            })
        }
    }
    let store: Arc<dyn Store> = Arc::new(Faulty(Late(MemoryStore::new())));
    let time = Duration::from_secs(3_600);
    let acquire = || Lease::acquire(&store, "task", time);
    let dropped = tokio::time::timeout(Duration::from_millis(5), acquire()).await;
    assert!(dropped.is_err());
    sleep(Duration::from_secs(1)).await;
    assert!(acquire().await.unwrap().is_some());
}
