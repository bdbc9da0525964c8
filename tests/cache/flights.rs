//! One call for all who ask the same at the same time.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures::future::join_all;
use rmcp::model::{CallToolResult, ContentBlock, ErrorData};
use rmcp_layers::{CacheStatus, Error, McpRequest, McpResponse, Upstream};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::lab::*;
use crate::common::soon;

#[tokio::test]
async fn a_hundred_identical_reads_make_one_call() {
    let setup = Setup::listed(quiet()).await;
    let reads = join_all((0..100).map(|_| setup.said(plain("gated"))));
    let open = async {
        setup.lab.running(1).await;
        setup.lab.open();
    };
    let (said, ()) = tokio::join!(reads, open);
    assert_eq!(said.len(), 100);
    assert!(said.iter().all(|(text, _)| text == "gated {} #1"));
    assert_eq!(setup.lab.calls("gated"), 1);
    let stats = setup.cache.stats();
    assert_eq!((stats.shared, stats.in_flight), (99, 0));
}

#[tokio::test]
async fn a_hundred_identical_resource_reads_make_one_call() {
    let setup = Setup::new(quiet());
    let uri = "x://ttl-60000";
    let reads = (0..100).map(|_| setup.said(McpRequest::read_resource(uri)));
    let said = join_all(reads).await;
    assert!(said.iter().all(|(text, _)| text == "#1"));
    assert_eq!(setup.lab.calls(uri), 1);
}

#[tokio::test]
async fn a_payment_called_twice_at_once_runs_twice() {
    let setup = Setup::listed(quiet()).await;
    let (one, two) = tokio::join!(setup.said(plain("pay")), setup.said(plain("pay")));
    assert_ne!(one.0, two.0);
    assert_eq!(setup.lab.calls("pay"), 2);
}

/// Polls a future so many times, and says whether it has ended.
async fn poll_times<F: Future>(future: &mut std::pin::Pin<&mut F>, times: usize) -> bool {
    for _ in 0..times {
        let ended = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await;
        if ended {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

/// Waits at several points before and after the call of what is below.
fn with_await_points<S: super::common::Stack>(inner: S) -> impl super::common::Stack
where
    S::Error: Into<Error>,
{
    service_fn(move |request: McpRequest| {
        let inner = inner.clone();
        async move {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            let answer = inner.oneshot(request).await.map_err(Into::into);
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            answer
        }
    })
}

#[tokio::test]
async fn a_leader_cancelled_at_any_await_point_hands_the_flight_on() {
    for points in 0.. {
        let lab = Lab::default();
        let layer = quiet().cache_tool("read").build().unwrap();
        let cache = layer.handle();
        let stack = layer.layer(with_await_points(Upstream::in_process(lab.clone())));
        let mut leader = Box::pin(stack.clone().oneshot(plain("read")));
        let mut follower = Box::pin(stack.clone().oneshot(plain("read")));
        assert!(!poll_times(&mut leader.as_mut(), 1).await);
        assert!(!poll_times(&mut follower.as_mut(), 1).await);
        let leader_ended = poll_times(&mut leader.as_mut(), points).await;
        drop(leader);
        let answer = soon("the follower's answer", follower).await.unwrap();
        assert!(text(&answer).starts_with("read"));
        let hit = stack.oneshot(plain("read")).await.unwrap();
        assert!(is_hit(status(&hit)));
        assert!(lab.calls("read") <= 2);
        assert_eq!(cache.stats().in_flight, 0);
        if leader_ended {
            assert_eq!(lab.calls("read"), 1);
            assert!(points > 6, "the leader waited at {points} points");
            return;
        }
    }
}

#[tokio::test]
async fn leaders_cancelled_one_after_another_leave_nobody_hanging() {
    let setup = Setup::listed(quiet()).await;
    let mut calls: Vec<_> = (0..20)
        .map(|_| tokio::spawn(setup.stack.clone().oneshot(plain("gated"))))
        .collect();
    setup.lab.running(1).await;
    for call in calls.drain(..19) {
        call.abort();
        let _ = call.await;
    }
    setup.lab.open();
    let last = soon("the last call", calls.remove(0)).await.unwrap();
    assert!(last.is_ok());
    assert_eq!(setup.cache.stats().in_flight, 0);
}

#[tokio::test]
async fn a_cancelled_follower_cancels_nobody_else() {
    let setup = Setup::listed(quiet()).await;
    let leader = tokio::spawn(setup.stack.clone().oneshot(plain("gated")));
    setup.lab.running(1).await;
    let follower = tokio::spawn(setup.stack.clone().oneshot(plain("gated")));
    tokio::task::yield_now().await;
    follower.abort();
    assert!(follower.await.unwrap_err().is_cancelled());
    setup.lab.open();
    assert!(soon("the leader", leader).await.unwrap().is_ok());
    assert_eq!(setup.lab.calls("gated"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_followers_deadline_is_its_own() {
    let setup = Setup::listed(quiet()).await;
    let leader = tokio::spawn(setup.stack.clone().oneshot(plain("gated")));
    setup.lab.running(1).await;
    let mut hasty = plain("gated");
    hasty.context.deadline = Some(Instant::now() + Duration::from_secs(2));
    let began = Instant::now();
    assert!(setup.ask(hasty).await.unwrap_err().is_timeout());
    assert_eq!(began.elapsed().as_secs(), 2);
    setup.lab.open();
    assert!(leader.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_hangs_holds_its_followers_only_as_long_as_they_have_patience() {
    let setup = Setup::listed(quiet().follower_wait(Duration::from_secs(3))).await;
    let call = || tokio::spawn(setup.stack.clone().oneshot(plain("gated")));
    let leader = call();
    setup.lab.running(1).await;
    let began = Instant::now();
    let followers = [call(), call()];
    setup.lab.running(3).await;
    assert_eq!(began.elapsed().as_secs(), 3);
    // Who comes now waits for the one that took the leader's place, not for the leader.
    let late = call();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(setup.lab.calls("gated"), 3);
    leader.abort();
    setup.lab.running(2).await;
    setup.lab.open();
    for answer in followers.into_iter().chain([late]) {
        let answer = soon("an answer", answer).await.unwrap().unwrap();
        assert_ne!(text(&answer), "gated {} #1");
    }
    assert_eq!(setup.lab.calls("gated"), 3);
    assert_eq!(setup.cache.stats().in_flight, 0);
    assert!(is_hit(setup.said(plain("gated")).await.1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_holds_nobody_for_longer_than_half_a_minute_by_default() {
    let setup = Setup::listed(quiet()).await;
    let leader = tokio::spawn(setup.stack.clone().oneshot(plain("gated")));
    setup.lab.running(1).await;
    let follower = tokio::spawn(setup.stack.clone().oneshot(plain("gated")));
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert_eq!(setup.lab.calls("gated"), 1);
    setup.lab.running(2).await;
    setup.lab.open();
    assert!(leader.await.unwrap().is_ok() && follower.await.unwrap().is_ok());
}

/// A stack that fails at first: every call waits for a second, and says which it was.
fn failing(calls: Arc<AtomicUsize>, failures: usize) -> impl super::common::Stack {
    service_fn(move |_: McpRequest| {
        let count = calls.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if count <= failures {
                let error = ErrorData::internal_error(format!("failure {count}"), None);
                return Err(Error::from(error));
            }
            let said = vec![ContentBlock::text(format!("#{count}"))];
            Ok(McpResponse::new(CallToolResult::success(said)))
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_leaders_error_is_its_own_and_nobody_waits_for_more_than_one() {
    let calls = Arc::new(AtomicUsize::new(0));
    let stack = quiet().cache_tool("*").build().unwrap();
    let stack = stack.layer(failing(calls.clone(), 1));
    let began = Instant::now();
    let answers = join_all((0..10).map(|_| stack.clone().oneshot(plain("any")))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 1);
    assert_eq!(calls.load(Ordering::Relaxed), 10);
    assert_eq!(began.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_leaders_error_is_shared_if_the_operator_says_so() {
    let calls = Arc::new(AtomicUsize::new(0));
    let stack = quiet().cache_tool("*").share_errors(true).build().unwrap();
    let stack = stack.layer(failing(calls.clone(), 1));
    let answers = join_all((0..10).map(|_| stack.clone().oneshot(plain("any")))).await;
    assert!(answers.iter().all(Result::is_err));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    // Nothing of it is kept.
    assert!(stack.clone().oneshot(plain("any")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_for_others_is_waited_for_once() {
    let setup = Setup::new(quiet());
    let uri = "x://ttl-0";
    let read = || setup.said(McpRequest::read_resource(uri));
    let first = join_all((0..5).map(|_| read())).await;
    assert_eq!(setup.lab.calls(uri), 5);
    assert!(
        first
            .iter()
            .all(|(_, status)| *status == Some(CacheStatus::Miss))
    );
    join_all((0..5).map(|_| read())).await;
    assert_eq!(setup.lab.calls(uri), 10);
    assert_eq!(setup.cache.stats().shared, 0);
}

#[tokio::test]
async fn an_answer_too_long_to_keep_is_still_shared() {
    let setup = Setup::listed(quiet().max_item_bytes(100)).await;
    let big = || setup.ask(call("big", serde_json::json!({ "bytes": 1_000 })));
    let answers = join_all((0..10).map(|_| big())).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(
        (setup.lab.calls("big"), setup.cache.stats().entries),
        (1, 0)
    );
}

#[tokio::test]
async fn a_hit_needs_no_room_in_the_inner_stack() {
    let lab = Lab::default();
    let layer = quiet().cache_tool("read").build().unwrap();
    let upstream = Upstream::in_process(lab.clone());
    let stack = tower::ServiceBuilder::new()
        .layer(layer)
        .concurrency_limit(1)
        .service(upstream);
    stack.clone().oneshot(plain("read")).await.unwrap();
    let busy = tokio::spawn(stack.clone().oneshot(plain("gated")));
    lab.running(1).await;
    let hit = soon("a hit", stack.clone().oneshot(plain("read"))).await;
    assert!(is_hit(status(&hit.unwrap())));
    lab.open();
    busy.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_service_is_called_as_tower_says() {
    // The concurrency limit panics when it is called without having said that it is ready.
    let setup = Setup::listed(quiet()).await;
    let limited = tower::limit::ConcurrencyLimit::new(setup.stack.clone(), 1);
    let layer = quiet().cache_tool("*").build().unwrap();
    let mut stack = layer.layer(limited);
    poll_fn(|cx| stack.poll_ready(cx)).await.unwrap();
    let call = pin!(stack.call(plain("read")));
    assert!(call.await.is_ok());
}
