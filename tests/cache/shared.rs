//! What several processes share, here several layers over one store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::{BoxFuture, pending};
use rmcp::model::*;
use rmcp_layers::{
    CacheStatus, Error, McpRequest, McpResponse, Principal,
    cache::{CACHE_META_KEY, CacheLayer},
    store::{Increment, MemoryStore, Store, StoreError, Stored},
};
use serde_json::json;
use tokio::time::{Instant, advance};
use tower::{Layer, ServiceExt, service_fn};

use super::lab::*;

/// Two gateways over one store, each with a server of its own that counts.
fn two(store: &MemoryStore) -> (Setup, Setup) {
    let builder = || quiet().cache_tool("*").store(store.clone());
    (Setup::new(builder()), Setup::new(builder()))
}

/// Lets what was put into the background be done.
async fn settled() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_has_fetched_the_other_has_not_to() {
    let (one, two) = two(&MemoryStore::new());
    let (said, _) = one.said(call("read", json!({ "a": 1 }))).await;
    settled().await;
    advance(Duration::from_secs(5)).await;
    let (same, status) = two.said(call("read", json!({ "a": 1.0 }))).await;
    assert_eq!(same, said);
    let (age, ttl) = (Duration::from_secs(5), Duration::from_secs(295));
    assert_eq!(status, Some(CacheStatus::Hit { age, ttl }));
    assert_eq!(
        (two.lab.calls("read"), two.cache.stats().store_hits),
        (0, 1)
    );
    // From its own memory now, and no longer than the first one would keep it.
    assert!(is_hit(two.said(call("read", json!({ "a": 1 }))).await.1));
    advance(Duration::from_secs(295)).await;
    assert_eq!(
        two.said(call("read", json!({ "a": 1 }))).await.1,
        Some(CacheStatus::Miss)
    );
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_answer_comes_back_as_what_it_was() {
    let store = MemoryStore::new();
    let all = |store: &MemoryStore| {
        let kept = Duration::from_secs(60);
        Setup::new(
            quiet()
                .cache_tool("*")
                .ignore_zero_ttl(true)
                .cache_method("tools/list", kept)
                .cache_method("resources/read", kept)
                .cache_method("prompts/get", kept)
                .cache_method("prompts/list", kept)
                .cache_method("resources/templates/list", kept)
                .store(store.clone()),
        )
    };
    let (one, two) = (all(&store), all(&store));
    for request in [
        plain("read"),
        McpRequest::list_tools(),
        McpRequest::read_resource("x://a"),
        McpRequest::get_prompt("hi", JsonObject::new()),
        McpRequest::new(ListPromptsRequest::default()),
        McpRequest::new(ListResourcesRequest::default()),
        McpRequest::new(ListResourceTemplatesRequest::default()),
    ] {
        let fetched = one.ask(request.clone()).await.unwrap();
        settled().await;
        let shared = two.ask(request).await.unwrap();
        assert!(is_hit(status(&shared)), "{:?}", shared.result);
        let (shared, fetched) = (shared.into_result(), fetched.into_result());
        assert_eq!(format!("{shared:?}"), format!("{fetched:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_public_answer_is_everybodys_and_the_others_are_not() {
    let (one, two) = two(&MemoryStore::new());
    let (public, private) = ("x://ttl-9000/public", "x://ttl-9000/private");
    for uri in [public, private] {
        one.said(by("alice", McpRequest::read_resource(uri))).await;
    }
    settled().await;
    for (who, uri, calls) in [
        ("bob", public, 0),
        ("alice", private, 0),
        ("bob", private, 1),
    ] {
        two.said(by(who, McpRequest::read_resource(uri))).await;
        assert_eq!(two.lab.calls(uri), calls, "{who} {uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_stays_private_on_its_way_through_the_store() {
    let store = MemoryStore::new();
    let inner = || {
        service_fn(|_: McpRequest| async {
            let said = vec![ContentBlock::text("alice's")];
            let mut response = McpResponse::new(CallToolResult::success(said));
            response.mark_private(&Principal::new("alice"));
            Ok::<_, Error>(response)
        })
    };
    let layer = || {
        quiet()
            .cache_tool("*")
            .store(store.clone())
            .build()
            .unwrap()
    };
    let ask = || by("alice", plain("inbox"));
    let first = layer().layer(inner());
    first.clone().oneshot(ask()).await.unwrap();
    settled().await;
    let shared = layer().layer(inner()).oneshot(ask()).await.unwrap();
    assert!(is_hit(status(&shared)));
    assert!(!shared.is_for(&rmcp_layers::Audience::anonymous()));
}

#[tokio::test(start_paused = true)]
async fn what_one_forgets_the_others_forget_within_a_second() {
    let (one, two) = two(&MemoryStore::new());
    for setup in [&one, &two] {
        setup.said(plain("read")).await;
        settled().await;
    }
    assert_eq!(two.lab.calls("read"), 0);
    assert_eq!(one.cache.invalidate_tool("read"), 1);
    settled().await;
    advance(Duration::from_millis(1_100)).await;
    settled().await;
    assert_eq!(two.said(plain("read")).await.1, Some(CacheStatus::Miss));
    settled().await;
    // And what was fetched since then is shared again.
    assert!(is_hit(one.said(plain("read")).await.1));
    assert_eq!((one.lab.calls("read"), two.lab.calls("read")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_flight_while_another_forgets_is_outdated() {
    let (one, two) = two(&MemoryStore::new());
    one.said(plain("read")).await;
    let early = tokio::spawn(one.stack.clone().oneshot(plain("gated")));
    one.lab.running(1).await;
    two.cache.clear();
    settled().await;
    one.lab.open();
    early.await.unwrap().unwrap();
    settled().await;
    two.lab.open();
    assert_eq!(two.said(plain("gated")).await.1, Some(CacheStatus::Miss));
}

/// How a store may fail.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Failing {
    Not,
    Refuses,
    Hangs,
    Flips,
    Truncates,
    Foreign,
    OtherKey,
}

#[derive(Clone)]
struct Unreliable {
    store: MemoryStore,
    failing: Failing,
    used: Arc<AtomicBool>,
}

impl Unreliable {
    fn new(store: &MemoryStore, failing: Failing) -> Self {
        Self {
            store: store.clone(),
            failing,
            used: Arc::default(),
        }
    }
}

impl Store for Unreliable {
    fn get<'a>(
        &'a self,
        keys: &'a [Vec<u8>],
    ) -> BoxFuture<'a, Result<Vec<Option<Stored>>, StoreError>> {
        self.used.store(true, Ordering::Relaxed);
        Box::pin(async move {
            match self.failing {
                Failing::Refuses => return Err(StoreError::new("no")),
                Failing::Hangs => pending().await,
                _ => {}
            }
            let mut found = self.store.get(keys).await?;
            for (key, stored) in keys.iter().zip(&mut found) {
                let Some(stored) = stored.as_mut().filter(|_| key.starts_with(b"a:")) else {
                    continue;
                };
                match self.failing {
                    Failing::Flips => {
                        let last = stored.value.len() - 20;
                        stored.value[last] ^= 1;
                    }
                    Failing::Truncates => stored.value.truncate(stored.value.len() - 1),
                    Failing::Foreign => stored.value = b"{\"content\":[]}".to_vec(),
                    Failing::OtherKey => stored.value[40] ^= 1,
                    _ => {}
                }
            }
            Ok(found)
        })
    }

    fn set<'a>(
        &'a self,
        key: &'a [u8],
        value: Vec<u8>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.set(key, value, time_to_live)
    }

    fn remove<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.remove(key)
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a [u8],
        expected: Option<&'a [u8]>,
        value: Option<Vec<u8>>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.store
            .compare_and_set(key, expected, value, time_to_live)
    }

    fn increment<'a>(
        &'a self,
        key: &'a [u8],
        change: i64,
        limit: u64,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<Increment, StoreError>> {
        self.store.increment(key, change, limit, time_to_live)
    }

    fn decrement_once<'a>(
        &'a self,
        key: &'a [u8],
        amount: u64,
        marker: &'a [u8],
        time_to_live: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.store.decrement_once(key, amount, marker, time_to_live)
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_exactly_what_was_stored_is_a_miss() {
    let store = MemoryStore::new();
    let one = Setup::new(quiet().cache_tool("*").store(store.clone()));
    one.said(plain("read")).await;
    settled().await;
    for failing in [
        Failing::Flips,
        Failing::Truncates,
        Failing::Foreign,
        Failing::OtherKey,
        Failing::Not,
    ] {
        let store = Unreliable::new(&store, failing);
        let layer = CacheLayer::builder().watch_changes(false).cache_tool("*");
        let two = Setup::new(layer.store(store));
        let (_, status) = two.said(plain("read")).await;
        assert_eq!(is_hit(status), failing == Failing::Not, "{failing:?}");
        assert_eq!(two.cache.stats().store_failures, 0);
        if failing != Failing::Not {
            // It has put its own there.
            settled().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_or_hangs_fails_and_delays_no_call() {
    for (failing, delay) in [(Failing::Refuses, 0), (Failing::Hangs, 100)] {
        let store = Unreliable::new(&MemoryStore::new(), failing);
        let setup = Setup::new(quiet().cache_tool("*").store(store.clone()));
        let began = Instant::now();
        setup.said(call("read", json!({ "n": 0 }))).await;
        assert_eq!(began.elapsed().as_millis(), delay);
        // Nobody else waits for it.
        store.used.store(false, Ordering::Relaxed);
        for n in 1..20 {
            setup.said(call("read", json!({ "n": n }))).await;
        }
        assert_eq!(began.elapsed().as_millis(), delay);
        assert!(!store.used.load(Ordering::Relaxed));
        assert!(is_hit(setup.said(call("read", json!({ "n": 7 }))).await.1));
        assert_eq!(setup.cache.stats().store_failures, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_in_memory_holds_no_more_bytes_than_it_may() {
    let store = MemoryStore::with_max_bytes(4_000);
    let (one, other) = two(&store);
    let uri = |n: usize| format!("x://ttl-60000/{n}");
    let read = |n: usize| McpRequest::read_resource(uri(n));
    for n in 0..40 {
        one.said(read(n)).await;
        settled().await;
    }
    // The last is shared, the first is not any more.
    other.said(read(39)).await;
    other.said(read(0)).await;
    assert_eq!(
        (other.lab.calls(&uri(39)), other.lab.calls(&uri(0))),
        (0, 1)
    );
}

/// A store that takes its time.
struct Slow(MemoryStore);

impl Store for Slow {
    fn get<'a>(
        &'a self,
        keys: &'a [Vec<u8>],
    ) -> BoxFuture<'a, Result<Vec<Option<Stored>>, StoreError>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.0.get(keys).await
        })
    }
    fn set<'a>(
        &'a self,
        key: &'a [u8],
        value: Vec<u8>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.set(key, value, time_to_live)
    }
    fn remove<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.remove(key)
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a [u8],
        expected: Option<&'a [u8]>,
        value: Option<Vec<u8>>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.0.compare_and_set(key, expected, value, time_to_live)
    }

    fn increment<'a>(
        &'a self,
        key: &'a [u8],
        change: i64,
        limit: u64,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<Increment, StoreError>> {
        self.0.increment(key, change, limit, time_to_live)
    }

    fn decrement_once<'a>(
        &'a self,
        key: &'a [u8],
        amount: u64,
        marker: &'a [u8],
        time_to_live: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.0.decrement_once(key, amount, marker, time_to_live)
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_an_answer_from_the_store_learns_its_age() {
    let store = MemoryStore::new();
    let one = Setup::new(quiet().store(store.clone()));
    let two = Setup::new(quiet().store(Slow(store)));
    let read = || McpRequest::read_resource("x://ttl-60000");
    one.said(read()).await;
    settled().await;
    advance(Duration::from_secs(20)).await;
    let young = with_meta(CACHE_META_KEY, json!({ "max-age": 10 }), read());
    let (leader, follower, choosy) =
        tokio::join!(two.ask(read()), two.ask(read()), two.said(young));
    for answer in [leader, follower] {
        let ServerResult::ReadResourceResult(read) = answer.unwrap().into_result() else {
            panic!("not read");
        };
        assert!(read.ttl_ms.unwrap() <= 40_000, "{:?}", read.ttl_ms);
    }
    assert_eq!(choosy.1, Some(CacheStatus::Miss));
    assert_eq!(two.lab.calls("x://ttl-60000"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_the_store_is_kept_no_longer_than_its_reader_keeps_any() {
    let store = MemoryStore::new();
    let keeps = |seconds| {
        let tools = quiet().cache_tool_for("read", Duration::from_secs(seconds));
        Setup::new(tools.store(store.clone()))
    };
    let (long, short) = (keeps(600), keeps(10));
    long.said(plain("read")).await;
    settled().await;
    advance(Duration::from_secs(5)).await;
    let (age, ttl) = (Duration::from_secs(5), Duration::from_secs(5));
    let (_, status) = short.said(plain("read")).await;
    assert_eq!(status, Some(CacheStatus::Hit { age, ttl }));
    advance(Duration::from_secs(6)).await;
    assert_eq!(short.said(plain("read")).await.1, Some(CacheStatus::Miss));
}
