//! Progress notifications of a call.

use std::time::Duration;

use rmcp_layers::{ErrorKind, Lifecycle, McpRequest, Upstream};
use tokio::time::Instant;
use tower::ServiceExt;

use crate::{
    bottoms,
    common::{demo::Demo, piped, progress, recorder, said, soon, token},
    served,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_notifications_arrive_in_order_under_the_callers_token() {
    for (bottom, stack) in bottoms(&Demo::default()) {
        let outer = served(stack);
        let (caller, mut received) = recorder();
        let call = McpRequest::call_tool("progress")
            .argument("count", 1_000)
            .progress_token(token("mine"))
            .caller(caller)
            .build();
        let answer = soon("a thousand notifications", outer.oneshot(call)).await;
        assert_eq!(said(answer), "reported", "{bottom}");
        let expected: Vec<_> = (1..=1_000).map(|n| (token("mine"), f64::from(n))).collect();
        assert!(
            progress(&mut received) == expected,
            "{bottom}: not in order"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn progress_that_comes_before_the_requests_handle_arrives() {
    for (bottom, stack) in bottoms(&Demo::default()) {
        let outer = served(stack);
        for _ in 0..300 {
            let (caller, mut received) = recorder();
            let call = McpRequest::call_tool("progress")
                .argument("count", 1)
                .progress_token(token("mine"))
                .caller(caller)
                .build();
            soon("a call", outer.clone().oneshot(call)).await.unwrap();
            assert_eq!(progress(&mut received), [(token("mine"), 1.0)], "{bottom}");
        }
    }
}

#[tokio::test]
async fn a_caller_that_asked_for_no_progress_gets_none() {
    for (bottom, stack) in bottoms(&Demo::default()) {
        let (caller, mut received) = recorder();
        let call = McpRequest::call_tool("progress")
            .argument("count", 3)
            .caller(caller)
            .build();
        soon("a call", stack.oneshot(call)).await.unwrap();
        assert_eq!(progress(&mut received), [], "{bottom}");
    }
}

#[tokio::test(start_paused = true)]
async fn progress_starts_an_upstreams_patience_anew() {
    for legacy in [false, true] {
        let builder = Upstream::builder().request_timeout(Duration::from_secs(10));
        let builder = match legacy {
            false => builder,
            true => builder.lifecycle(Lifecycle::Initialize),
        };
        let upstream = piped(builder, &Demo::default());
        upstream.connect().await.unwrap();
        let slow = |rest: u64| {
            McpRequest::call_tool("slow")
                .argument("count", 5)
                .argument("apart", 8_000)
                .argument("rest", rest)
        };
        // Four times the timeout, but never silent for as long.
        let talking = slow(1).progress_token(token("mine")).build();
        assert_eq!(said(upstream.clone().oneshot(talking).await), "at last");
        let then_silent = slow(60_000).progress_token(token("mine")).build();
        let started = Instant::now();
        let error = upstream.clone().oneshot(then_silent).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let took = started.elapsed();
        assert!(took >= Duration::from_secs(50) && took < Duration::from_secs(51));
        assert_eq!(upstream.in_flight(), 0);
    }
}
