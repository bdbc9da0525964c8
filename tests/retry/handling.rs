//! How breakers are bounded, set by hand and stacked.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rmcp::model::*;
use rmcp_layers::{
    McpRequest, TransportError,
    retry::{
        Jitter, RetryLayer, RetryPolicy,
        breaker::{
            CircuitBreakerHandle, CircuitBreakerLayer, CircuitBreakerLayerBuilder,
            CircuitBreakerPolicy, CircuitBreakerState, RateWindow,
        },
    },
};
use serde_json::json;
use tokio::time::Instant;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

use crate::{
    breaking::{Held, answers, builder, internal, is_refused, ok, policy},
    common::soon,
    repeats::tool,
    server::{Server, Step},
};

#[tokio::test(start_paused = true)]
async fn made_up_names_do_not_push_an_open_breaker_out() {
    let layer = builder(policy()).max_keys(10).build().unwrap();
    let handle = layer.handle();
    let call = answers(&layer, vec![internal(); 1_000]);
    for _ in 0..5 {
        let _ = call("victim").await;
    }
    for name in 0..200 {
        let _ = call(&format!("made up {name}")).await;
    }
    assert_eq!(handle.stats().keys, 10);
    assert_eq!(handle.state("victim"), CircuitBreakerState::Open);
    // Not even if they open breakers of their own; then further names have none.
    for name in 0..20 {
        for _ in 0..5 {
            let _ = call(&format!("open {name}")).await;
        }
    }
    assert_eq!(handle.stats().keys, 10);
    assert!(handle.stats().untracked > 0);
    assert_eq!(handle.state("victim"), CircuitBreakerState::Open);
    assert!(is_refused(&call("victim").await));
    // Names that nobody calls any more make room.
    tokio::time::advance(Duration::from_secs(121)).await;
    for _ in 0..5 {
        let _ = call("new").await;
    }
    assert_eq!(handle.state("new"), CircuitBreakerState::Open);
    assert!(handle.stats().keys <= 10);
}

#[tokio::test(start_paused = true)]
async fn it_is_opened_closed_and_reset_by_hand() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let layer = CircuitBreakerLayer::builder()
        .on_state_change(move |change| {
            let line = (change.key.to_owned(), change.from, change.to);
            noted.lock().unwrap().push(line);
        })
        .max_keys(2)
        .build()
        .unwrap();
    let handle: CircuitBreakerHandle = layer.handle();
    let call = answers(&layer, vec![]);
    assert!(handle.force_open("act"));
    let refused = call("act").await;
    assert!(is_refused(&refused));
    assert_eq!(refused.unwrap_err().retry_after(), None);
    tokio::time::advance(Duration::from_secs(3_600)).await;
    assert!(is_refused(&call("act").await));
    handle.reset("act");
    call("act").await.unwrap();

    let call = answers(&layer, vec![internal(); 15]);
    assert!(handle.force_close("act"));
    for _ in 0..10 {
        assert!(!is_refused(&call("act").await));
    }
    assert_eq!(handle.state("act"), CircuitBreakerState::ForcedClosed);
    handle.reset_all();
    for _ in 0..5 {
        let _ = call("act").await;
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    call("act").await.unwrap();
    use CircuitBreakerState::{Closed, ForcedClosed, ForcedOpen, HalfOpen, Open};
    let expected = [
        (Closed, ForcedOpen),
        (ForcedOpen, Closed),
        (Closed, ForcedClosed),
        (ForcedClosed, Closed),
        (Closed, Open),
        (Open, HalfOpen),
        (HalfOpen, Closed),
    ];
    let seen: Vec<_> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|(_, from, to)| (*from, *to))
        .collect();
    assert_eq!(seen, expected);
    let counts = handle.stats();
    assert_eq!((counts.opened, counts.closed, counts.refused), (1, 3, 2));
    // Only so many can be set by hand.
    assert!(handle.force_open("one") && handle.force_open("two"));
    assert!(!handle.force_open("three"));
}

#[tokio::test(start_paused = true)]
async fn one_breaker_for_a_whole_upstream() {
    let server = Server::new(vec![Step::Hangup; 5]);
    let layer = CircuitBreakerLayer::builder()
        .one_key("files")
        .build()
        .unwrap();
    let stack = layer.layer(server.upstream());
    for name in ["a", "b", "c", "d", "e"] {
        stack.clone().oneshot(tool(name)).await.unwrap_err();
    }
    let error = stack
        .clone()
        .oneshot(McpRequest::read_resource("file:///a"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("`files`"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn one_broken_tool_does_not_close_a_whole_upstream() {
    let one_key = |policy: CircuitBreakerPolicy| {
        let layer = CircuitBreakerLayer::builder().one_key("files");
        layer.policy(policy).build().unwrap()
    };
    let layer = one_key(CircuitBreakerPolicy::new());
    let call = answers(&layer, (0..20).map(|_| internal()));
    for _ in 0..20 {
        call("broken").await.unwrap_err();
    }
    call("sound").await.unwrap();

    // An answer shows that the server is back.
    let lost = || Err(TransportError::new("the connection was lost").into());
    let layer = one_key(CircuitBreakerPolicy::new().consecutive_failures(1));
    let call = answers(&layer, [lost(), internal()]);
    call("any").await.unwrap_err();
    assert!(is_refused(&call("any").await));
    tokio::time::advance(Duration::from_secs(60)).await;
    call("broken").await.unwrap_err();
    call("sound").await.unwrap();

    let layer = one_key(CircuitBreakerPolicy::new().count_internal_errors(true));
    let call = answers(&layer, (0..5).map(|_| internal()));
    for _ in 0..5 {
        call("broken").await.unwrap_err();
    }
    assert!(is_refused(&call("sound").await));
}

#[tokio::test(start_paused = true)]
async fn it_refuses_at_once_though_the_stack_within_is_busy() {
    let held = Held::default();
    let layer = CircuitBreakerLayer::new();
    let stack = ServiceBuilder::new()
        .layer(layer.clone())
        .concurrency_limit(1)
        .service(held.service());
    let busy = tokio::spawn(stack.clone().oneshot(tool("slow")));
    tokio::task::yield_now().await;
    layer.handle().force_open("act");
    let refused = soon("the refusal", stack.clone().oneshot(tool("act"))).await;
    assert!(is_refused(&refused));
    assert_eq!(held.count(), 1);
    busy.abort();
}

#[tokio::test(start_paused = true)]
async fn listens_and_notifications_pass_an_open_breaker() {
    let layer = CircuitBreakerLayer::builder()
        .one_key("all")
        .build()
        .unwrap();
    layer.handle().force_open("all");
    let stack = layer.layer(service_fn(|_: McpRequest| async { ok() }));
    let listen = SubscriptionsListenRequestParams::new(SubscriptionFilter::default());
    let listen = McpRequest::new(SubscriptionsListenRequest::new(listen));
    stack.clone().oneshot(listen).await.unwrap();
    let notice = RootsListChangedNotification::default();
    let notice = McpRequest::notification(notice, tool("x").into_parts().1);
    stack.clone().oneshot(notice).await.unwrap();
    assert!(is_refused(&stack.oneshot(McpRequest::list_tools()).await));
}

#[tokio::test(start_paused = true)]
async fn the_wall_clock_jumping_changes_nothing() {
    // Nothing here reads it: tokio's clock stands still while the machine's goes on, and nothing happens.
    let layer = builder(
        policy()
            .consecutive_failures(1)
            .open_for(Duration::from_millis(20)),
    )
    .build()
    .unwrap();
    let call = answers(&layer, [internal()]);
    let _ = call("act").await;
    std::thread::sleep(Duration::from_millis(60));
    assert!(is_refused(&call("act").await));
    tokio::time::advance(Duration::from_millis(20)).await;
    call("act").await.unwrap();
    // And retries wait by the same clock.
    let begun = std::time::Instant::now();
    let retry = RetryLayer::builder().policy(
        RetryPolicy::new()
            .base_delay(Duration::from_secs(20))
            .jitter(Jitter::None),
    );
    let server = Server::new([Step::Hangup]);
    let stack = retry.build().unwrap().layer(server.upstream());
    let read = Step::Result(json!({ "resultType": "complete", "contents": [] }));
    server.then([read]);
    let response = stack
        .oneshot(McpRequest::read_resource("file:///a"))
        .await
        .unwrap();
    assert_eq!(response.report.attempts, 2);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn retry_and_breaker_are_harmless_in_either_order() {
    // Outside of it, a retry waits for the breaker only as long as it waits for anything.
    let outside = |open_for| async move {
        let server = Server::new(vec![Step::Hangup; 1]);
        let breaker = builder(policy().consecutive_failures(1).open_for(open_for))
            .build()
            .unwrap();
        let retry = RetryPolicy::new().safe_to_repeat(true).jitter(Jitter::None);
        let stack = ServiceBuilder::new()
            .layer(RetryLayer::builder().policy(retry).build().unwrap())
            .layer(breaker)
            .service(server.upstream());
        let begun = Instant::now();
        let answer = stack.oneshot(tool("act")).await;
        (answer.is_ok(), server.count(), begun.elapsed().as_secs())
    };
    assert_eq!(outside(Duration::from_secs(10)).await, (true, 2, 10));
    assert_eq!(outside(Duration::from_secs(120)).await, (false, 1, 1));
    // Inside of it, the breaker sees what comes of all attempts.
    let server = Server::new(vec![Step::Hangup; 4]);
    let retry = RetryPolicy::new().safe_to_repeat(true);
    let breaker = builder(policy().consecutive_failures(2)).build().unwrap();
    let stack = ServiceBuilder::new()
        .layer(breaker.clone())
        .layer(RetryLayer::builder().policy(retry).build().unwrap())
        .service(server.upstream());
    stack.clone().oneshot(tool("act")).await.unwrap_err();
    assert_eq!(server.count(), 4);
    assert_eq!(breaker.handle().state("act"), CircuitBreakerState::Closed);
    // Nothing that may not run twice does.
    let server = Server::new([Step::Hangup]);
    for order in 0..2 {
        let (retry, breaker) = (RetryLayer::new(), CircuitBreakerLayer::new());
        let before = server.count();
        server.then(if order == 0 {
            vec![]
        } else {
            vec![Step::Hangup]
        });
        let error = if order == 0 {
            ServiceBuilder::new()
                .layer(retry)
                .layer(breaker)
                .service(server.upstream())
                .oneshot(tool("pay"))
                .await
        } else {
            ServiceBuilder::new()
                .layer(breaker)
                .layer(retry)
                .service(server.upstream())
                .oneshot(tool("pay"))
                .await
        };
        error.unwrap_err();
        assert_eq!(server.count() - before, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_hook_may_do() {
    // It is called with no lock held, so it can use the handle.
    let kept: Arc<Mutex<Option<CircuitBreakerHandle>>> = Arc::default();
    let handle = kept.clone();
    let layer = builder(policy().consecutive_failures(1))
        .on_state_change(move |change| {
            let handle = handle.lock().unwrap().clone().unwrap();
            assert_eq!(handle.state(change.key), change.to);
        })
        .build()
        .unwrap();
    *kept.lock().unwrap() = Some(layer.handle());
    let call = answers(&layer, [internal()]);
    let _ = call("act").await;
    tokio::time::advance(Duration::from_secs(60)).await;
    call("act").await.unwrap();
    kept.lock().unwrap().take();
}

#[test]
fn impossible_breakers_are_said_when_they_are_built() {
    let option = |builder: CircuitBreakerLayerBuilder| {
        builder
            .build()
            .map(|_| ())
            .map_err(|error| error.option().to_owned())
    };
    for (policy, wrong) in [
        (policy().consecutive_failures(0), "consecutive_failures"),
        (policy().consecutive_failures(None), "consecutive_failures"),
        (policy().failure_rate(0.0), "failure_rate"),
        (policy().failure_rate(f64::NAN), "failure_rate"),
        (policy().slow_calls(Duration::ZERO, 1.5), "slow_calls"),
        (policy().rate_window(RateWindow::Calls(0)), "rate_window"),
        (
            policy().rate_window(RateWindow::Time(Duration::ZERO)),
            "rate_window",
        ),
        (
            policy().failure_rate(0.5).rate_window(RateWindow::Calls(5)),
            "min_calls",
        ),
        (policy().min_calls(0), "min_calls"),
        (policy().open_for(Duration::ZERO), "open_for"),
        (policy().open_for(Duration::MAX), "open_for"),
        (
            policy().grow_open_time(0.5, Duration::from_secs(600)),
            "grow_open_time",
        ),
        (
            policy().grow_open_time(2.0, Duration::from_secs(1)),
            "grow_open_time",
        ),
        (policy().probes(0), "probes"),
        (policy().probe_timeout(Duration::ZERO), "probe_timeout"),
        (policy().successes(0), "successes"),
    ] {
        assert_eq!(option(builder(policy)), Err(wrong.to_owned()));
    }
    assert_eq!(
        option(CircuitBreakerLayer::builder().max_keys(0)),
        Err("max_keys".to_owned())
    );
}
