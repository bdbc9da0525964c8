//! What every store promises. `cargo test` runs it with the store in memory, and `tests/interop`
//! with a real Redis.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::join_all;
use rmcp_layers::store::{Lease, LeaseError, MAX_COUNT, Store};

/// Runs all of it. `unit` is a time that is long beside a call of the store, and `pass` lets a time
/// pass for it.
pub async fn run(store: Arc<dyn Store>, unit: Duration, pass: impl AsyncFn(Duration)) {
    a_value_lasts_until_it_is_removed_or_expires(&*store, unit, &pass).await;
    a_value_is_added_once(&*store, unit, &pass).await;
    a_value_is_replaced_only_if_it_is_the_expected_one(&*store, unit, &pass).await;
    replicas_that_take_turns_lose_no_change(&store).await;
    a_counter_counts_to_its_limit_and_back_to_zero(&*store).await;
    a_counter_expires_when_its_period_ends(&*store, unit, &pass).await;
    a_counter_is_decremented_once_for_a_marker(&*store, unit, &pass).await;
    replicas_do_not_overspend_a_counter_together(&store).await;
    one_replica_holds_a_lease_at_a_time(&store, unit, &pass).await;
    a_lease_that_expired_is_lost_and_its_holder_notices(&store, unit, &pass).await;
    a_lease_that_is_dropped_is_free_at_once(&store, unit).await;
    work_under_a_lease_runs_as_long_as_it_is_renewed(&store, unit, &pass).await;
    work_under_a_lost_lease_is_dropped(&store, unit, &pass).await;
}

async fn value(store: &dyn Store, key: &str) -> Option<Vec<u8>> {
    let found = store.get(&[key.into()]).await.unwrap();
    found.into_iter().next().unwrap().map(|found| found.value)
}

async fn a_value_lasts_until_it_is_removed_or_expires(
    store: &dyn Store,
    unit: Duration,
    pass: impl AsyncFn(Duration),
) {
    let bytes = vec![0, 255, b'\n', b'\r'];
    store.set(b"v:1", bytes.clone(), Some(unit)).await.unwrap();
    store.set(b"v:2", Vec::new(), None).await.unwrap();
    let keys = ["v:1", "v:none", "v:2"].map(|key| key.as_bytes().to_vec());
    let found = store.get(&keys).await.unwrap();
    let first = found[0].as_ref().unwrap();
    assert_eq!(first.value, bytes);
    assert!(
        first
            .remaining
            .is_some_and(|left| !left.is_zero() && left <= unit)
    );
    assert_eq!(found[1], None);
    assert_eq!(store.get(&[]).await.unwrap(), []);
    let last = found[2].as_ref().unwrap();
    assert_eq!((&*last.value, last.remaining), (&[][..], None));
    // The last write wins, with its own expiry.
    store.set(b"v:2", b"b".to_vec(), Some(unit)).await.unwrap();
    pass(unit * 2).await;
    assert_eq!(
        (value(store, "v:1").await, value(store, "v:2").await),
        (None, None)
    );
    store
        .set(b"v:1", b"c".to_vec(), Some(Duration::MAX))
        .await
        .unwrap();
    assert_eq!(value(store, "v:1").await.as_deref(), Some(&b"c"[..]));
    store.remove(b"v:1").await.unwrap();
    store.remove(b"v:1").await.unwrap();
    assert_eq!(value(store, "v:1").await, None);
}

async fn a_value_is_added_once(store: &dyn Store, unit: Duration, pass: impl AsyncFn(Duration)) {
    assert!(
        store
            .add(b"a:1", b"first".to_vec(), Some(unit))
            .await
            .unwrap()
    );
    assert!(!store.add(b"a:1", b"second".to_vec(), None).await.unwrap());
    assert_eq!(value(store, "a:1").await.as_deref(), Some(&b"first"[..]));
    pass(unit * 2).await;
    assert!(store.add(b"a:1", b"third".to_vec(), None).await.unwrap());
    assert_eq!(value(store, "a:1").await.as_deref(), Some(&b"third"[..]));
    store.set(b"a:2", b"set".to_vec(), None).await.unwrap();
    assert!(!store.add(b"a:2", b"added".to_vec(), None).await.unwrap());
}

async fn a_value_is_replaced_only_if_it_is_the_expected_one(
    store: &dyn Store,
    unit: Duration,
    pass: impl AsyncFn(Duration),
) {
    let set = async |expected: Option<&str>, value: Option<&str>, time| {
        let value = value.map(|value| value.as_bytes().to_vec());
        let expected = expected.map(str::as_bytes);
        store
            .compare_and_set(b"c:1", expected, value, time)
            .await
            .unwrap()
    };
    assert!(!set(Some("a"), Some("b"), None).await);
    assert!(
        !set(Some(""), Some("b"), None).await,
        "an empty value is not a missing one"
    );
    assert!(set(None, None, None).await);
    assert!(set(None, Some("a"), None).await);
    assert!(!set(None, Some("b"), None).await);
    assert!(!set(None, None, None).await);
    assert!(!set(Some("b"), Some("c"), None).await);
    assert!(!set(Some("b"), None, None).await);
    assert_eq!(value(store, "c:1").await.as_deref(), Some(&b"a"[..]));
    assert!(set(Some("a"), Some(""), Some(unit)).await);
    assert_eq!(value(store, "c:1").await.as_deref(), Some(&b""[..]));
    pass(unit * 2).await;
    assert!(
        !set(Some(""), Some("c"), None).await,
        "an expired value is a missing one"
    );
    assert!(set(None, Some("d"), Some(unit)).await);
    // The new value has an expiry of its own, here none.
    assert!(set(Some("d"), Some("e"), None).await);
    pass(unit * 2).await;
    assert!(set(Some("e"), None, None).await);
    assert_eq!(value(store, "c:1").await, None);
}

/// Each adds its letter to a record; a write in between is noticed and the change made again.
async fn replicas_that_take_turns_lose_no_change(store: &Arc<dyn Store>) {
    let turn = async |letter: u8| {
        loop {
            let before = value(&**store, "t:1").await;
            let mut after = before.clone().unwrap_or_default();
            after.push(letter);
            let set = store.compare_and_set(b"t:1", before.as_deref(), Some(after), None);
            if set.await.unwrap() {
                return;
            }
        }
    };
    join_all((b'a'..=b'z').map(turn)).await;
    let all: BTreeSet<u8> = value(&**store, "t:1").await.unwrap().into_iter().collect();
    assert_eq!(all.len(), 26);
}

async fn a_counter_counts_to_its_limit_and_back_to_zero(store: &dyn Store) {
    let add = async |change, limit| {
        let done = store.increment(b"n:1", change, limit, None).await.unwrap();
        assert_eq!(done.remaining, None);
        (done.accepted, done.value)
    };
    assert_eq!(add(6, 5).await, (false, 0));
    assert_eq!(value(store, "n:1").await, None);
    assert_eq!(add(-3, 5).await, (true, 0));
    assert_eq!(add(0, 5).await, (true, 0));
    assert_eq!(add(3, 5).await, (true, 3));
    assert_eq!(add(2, 5).await, (true, 5));
    assert_eq!(add(1, 5).await, (false, 5));
    assert_eq!(value(store, "n:1").await.as_deref(), Some(&b"5"[..]));
    // What is given back is accepted though a lower limit holds by now.
    assert_eq!(add(-1, 2).await, (true, 4));
    assert_eq!(add(0, 2).await, (true, 4));
    assert_eq!(add(i64::MIN, 5).await, (true, 0));
    let most = i64::try_from(MAX_COUNT).unwrap();
    assert_eq!(add(most, u64::MAX).await, (true, MAX_COUNT));
    assert_eq!(add(1, u64::MAX).await, (false, MAX_COUNT));
    assert_eq!(add(i64::MAX, u64::MAX).await, (false, MAX_COUNT));
    assert_eq!(add(-1, u64::MAX).await, (true, MAX_COUNT - 1));
    assert_eq!(
        value(store, "n:1").await.as_deref(),
        Some(&b"9007199254740990"[..])
    );
    for other in [
        "x",
        "",
        "+5",
        "-5",
        "1.5",
        " 5",
        "9007199254740992",
        "99999999999999999999",
    ] {
        store.set(b"n:2", other.into(), None).await.unwrap();
        for change in [-1, 0, 1] {
            let error = store.increment(b"n:2", change, 5, None).await.unwrap_err();
            assert!(error.to_string().contains("not a counter"), "{error}");
            assert!(!error.to_string().contains("n:2"), "{error}");
        }
        assert_eq!(value(store, "n:2").await.as_deref(), Some(other.as_bytes()));
    }
}

async fn a_counter_expires_when_its_period_ends(
    store: &dyn Store,
    unit: Duration,
    pass: impl AsyncFn(Duration),
) {
    let period = Some(unit * 4);
    let first = store.increment(b"n:3", 1, 2, period).await.unwrap();
    assert!(first.remaining.is_some_and(|left| left <= unit * 4));
    pass(unit * 3).await;
    // Neither more nor a refusal makes the period longer.
    let second = store.increment(b"n:3", 1, 2, period).await.unwrap();
    assert_eq!((second.accepted, second.value), (true, 2));
    assert!(second.remaining.is_some_and(|left| left <= unit));
    let third = store.increment(b"n:3", 1, 2, period).await.unwrap();
    assert_eq!((third.accepted, third.value), (false, 2));
    assert!(third.remaining.is_some_and(|left| left <= unit));
    pass(unit * 2).await;
    let next = store.increment(b"n:3", 1, 2, period).await.unwrap();
    assert_eq!((next.accepted, next.value), (true, 1));
}

async fn a_counter_is_decremented_once_for_a_marker(
    store: &dyn Store,
    unit: Duration,
    pass: impl AsyncFn(Duration),
) {
    let take = async |amount, marker: &str| {
        let marker = marker.as_bytes();
        let taken = store.decrement_once(b"n:5", amount, marker, unit * 4).await;
        (taken.unwrap(), value(store, "n:5").await)
    };
    let count = |count: u64| Some(count.to_string().into_bytes());
    // A missing counter stays missing.
    assert_eq!(take(1, "m:0").await, (true, None));
    store
        .increment(b"n:5", 10, 10, Some(unit * 8))
        .await
        .unwrap();
    assert_eq!(take(3, "m:1").await, (true, count(7)));
    assert_eq!(take(3, "m:1").await, (false, count(7)));
    assert_eq!(take(3, "m:0").await, (false, count(7)));
    assert_eq!(take(3, "m:2").await, (true, count(4)));
    assert_eq!(take(u64::MAX, "m:3").await, (true, count(0)));
    pass(unit * 5).await;
    store.increment(b"n:5", 10, 10, None).await.unwrap();
    // The marker has expired, and the counter has its own time.
    assert_eq!(take(3, "m:1").await, (true, count(7)));
    pass(unit * 4).await;
    assert_eq!(value(store, "n:5").await, None);
    store.set(b"n:5", "x".into(), None).await.unwrap();
    let error = store.decrement_once(b"n:5", 1, b"m:4", unit).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("not a counter"), "{error}");
    assert_eq!(value(store, "m:4").await, None);
}

async fn replicas_do_not_overspend_a_counter_together(store: &Arc<dyn Store>) {
    let spend = |amount| async move {
        let done = store.increment(b"n:4", amount, 100, None).await.unwrap();
        if done.accepted { amount } else { 0 }
    };
    let spent = join_all((0..90).map(|n| spend(1 + n % 3))).await;
    let spent: i64 = spent.into_iter().sum();
    assert_eq!(
        value(&**store, "n:4").await,
        Some(spent.to_string().into_bytes())
    );
    assert!((98..=100).contains(&spent), "{spent}");
}

async fn one_replica_holds_a_lease_at_a_time(
    store: &Arc<dyn Store>,
    unit: Duration,
    pass: impl AsyncFn(Duration),
) {
    let acquire = async || Lease::acquire(store, "l:1", unit * 4).await.unwrap();
    let replicas = join_all((0..8).map(|_| acquire())).await;
    let mut held: Vec<Lease> = replicas.into_iter().flatten().collect();
    assert_eq!(held.len(), 1);
    let mut lease = held.pop().unwrap();
    assert!(lease.remaining() <= unit * 4 && lease.remaining() > unit);
    // A lease that is renewed outlives its time.
    for _ in 0..3 {
        pass(unit * 2).await;
        assert!(acquire().await.is_none());
        lease.renew().await.unwrap();
    }
    lease.release().await.unwrap();
    let next = acquire().await.expect("a lease that was released");
    next.release().await.unwrap();
}

async fn a_lease_that_expired_is_lost_and_its_holder_notices(
    store: &Arc<dyn Store>,
    unit: Duration,
    pass: impl AsyncFn(Duration),
) {
    let acquire = async || Lease::acquire(store, "l:2", unit).await.unwrap();
    let mut slow = acquire().await.unwrap();
    pass(unit * 2).await;
    assert_eq!(slow.remaining(), Duration::ZERO);
    let other = acquire().await.expect("a lease that has expired");
    assert_ne!(slow.token(), other.token());
    assert!(matches!(slow.renew().await, Err(LeaseError::Lost)));
    assert!(matches!(slow.renew().await, Err(LeaseError::Lost)));
    // It does not release what is another's now.
    assert!(matches!(slow.release().await, Err(LeaseError::Lost)));
    assert!(acquire().await.is_none());
    other.release().await.unwrap();
}

async fn a_lease_that_is_dropped_is_free_at_once(store: &Arc<dyn Store>, unit: Duration) {
    let acquire = async || Lease::acquire(store, "l:3", unit * 1_000).await.unwrap();
    drop(acquire().await.unwrap());
    for _ in 0..1_000 {
        if let Some(lease) = acquire().await {
            lease.release().await.unwrap();
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the lease is still held");
}

async fn work_under_a_lease_runs_as_long_as_it_is_renewed(
    store: &Arc<dyn Store>,
    unit: Duration,
    pass: impl AsyncFn(Duration),
) {
    let time = unit * 3;
    let acquire = async || Lease::acquire(store, "l:4", time).await.unwrap();
    let lease = acquire().await.unwrap();
    let work = async {
        for _ in 0..9 {
            pass(unit).await;
            assert!(acquire().await.is_none());
        }
        "done"
    };
    assert_eq!(lease.hold(work).await.unwrap(), "done");
    // It is released when the work is done.
    for _ in 0..1_000 {
        if let Some(lease) = acquire().await {
            lease.release().await.unwrap();
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the lease is still held");
}

async fn work_under_a_lost_lease_is_dropped(
    store: &Arc<dyn Store>,
    unit: Duration,
    pass: impl AsyncFn(Duration),
) {
    let lease = Lease::acquire(store, "l:5", unit * 3).await.unwrap();
    store.remove(b"l:5").await.unwrap();
    let work = async {
        pass(unit * 100).await;
        panic!("it ran on without the lease");
    };
    let lost: Result<(), LeaseError> = lease.unwrap().hold(work).await;
    assert!(matches!(lost, Err(LeaseError::Lost)));
}
