//! Probes of a half-open breaker that take long.

use std::time::Duration;

use rmcp_layers::retry::breaker::CircuitBreakerState;
use tokio::time::Instant;
use tower::{Layer, ServiceExt};

use crate::{
    breaking::{Held, builder, internal, is_refused, ok, policy},
    repeats::tool,
    server::{Server, Step},
};

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_gives_its_place_to_the_next() {
    let server = Server::new([Step::Hangup]);
    let policy = policy()
        .consecutive_failures(1)
        .probe_timeout(Duration::from_secs(20));
    let layer = builder(policy).build().unwrap();
    let stack = layer.layer(server.upstream());
    stack.clone().oneshot(tool("search")).await.unwrap_err();
    tokio::time::advance(Duration::from_secs(60)).await;
    server.then([Step::Silence, Step::Silence]);
    let probe = || tokio::spawn(stack.clone().oneshot(tool("search")));
    let (first, begun) = (probe(), Instant::now());
    tokio::time::sleep(Duration::from_secs(19)).await;
    assert!(is_refused(&stack.clone().oneshot(tool("search")).await));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = probe();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.count(), 3);
    // One at a time, still.
    let refused = stack.clone().oneshot(tool("search")).await;
    assert!(is_refused(&refused));
    assert!(refused.unwrap_err().retry_after().is_some());
    // The first goes, and has no place to give back.
    first.abort();
    let _ = first.await;
    assert!(is_refused(&stack.clone().oneshot(tool("search")).await));
    tokio::time::sleep(Duration::from_secs(20)).await;
    stack.clone().oneshot(tool("search")).await.unwrap();
    assert_eq!(layer.handle().state("search"), CircuitBreakerState::Closed);
    assert!(begun.elapsed() < Duration::from_secs(45));
    // What was let in before says nothing of what it is now.
    second.abort();
    stack.clone().oneshot(tool("search")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_comes_of_a_late_probe_counts_as_long_as_the_breaker_is_half_open() {
    for works in [true, false] {
        let held = Held::default();
        let policy = policy().consecutive_failures(1);
        let layer = builder(policy).build().unwrap();
        let stack = layer.layer(held.service());
        let call = || tokio::spawn(stack.clone().oneshot(tool("slow")));
        let failing = call();
        tokio::time::sleep(Duration::from_millis(1)).await;
        held.end("slow", internal());
        failing.await.unwrap().unwrap_err();
        tokio::time::advance(Duration::from_secs(60)).await;
        let (_first, _second) = (call(), tokio::time::sleep(Duration::from_secs(31)).await);
        let _third = call();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(held.count(), 3);
        held.end("slow", if works { ok() } else { internal() });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let expected = if works {
            CircuitBreakerState::Closed
        } else {
            CircuitBreakerState::Open
        };
        assert_eq!(layer.handle().state("slow"), expected);
    }
}
