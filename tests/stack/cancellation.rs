//! Cancellation of calls, wherever it happens.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rmcp::model::*;
use rmcp_layers::{Handler, McpClient, McpRequest, McpResponse, Upstream};
use serde_json::json;
use tower::ServiceExt;

use crate::{
    bottoms,
    common::{Client, demo::Demo, piped, piped_legacy, recorder, said, soon, token, tool},
    except, served,
};

#[tokio::test]
async fn dropping_a_calls_future_cancels_the_handler() {
    let demo = Demo::default();
    let mut count = 0;
    for (bottom, stack) in bottoms(&demo) {
        for outer in [served(stack.clone()), served(served(stack))] {
            let call = outer.clone().oneshot(McpRequest::call_tool("wait").build());
            let call = tokio::spawn(call);
            count += 1;
            demo.until(bottom, |seen| seen.started == count && seen.waiting == 1)
                .await;
            call.abort();
            demo.until(bottom, |seen| seen.cancelled == count && seen.waiting == 0)
                .await;
            assert_eq!(outer.in_flight(), 0, "{bottom}");
        }
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_its_calls() {
    let demo = Demo::default();
    for (before, (bottom, stack)) in bottoms(&demo).into_iter().enumerate() {
        let client = Client::legacy("leaver", stack).await;
        let peer = client.peer.peer().clone();
        let call = tokio::spawn(async move { peer.call_tool_once(tool("wait", json!({}))).await });
        let count = before + 1;
        demo.until(bottom, |seen| seen.started == count).await;
        drop(client);
        demo.until(bottom, |seen| seen.cancelled == count && seen.waiting == 0)
            .await;
        call.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_calls_cancelled_anywhere_leave_nothing_behind() {
    for legacy in [false, true] {
        let demo = Demo::default();
        let inner = match legacy {
            false => piped(Upstream::builder(), &demo),
            true => piped_legacy(&demo),
        };
        let outer = served(inner.clone());
        outer
            .clone()
            .oneshot(McpRequest::call_tool("add").build())
            .await
            .unwrap();
        let tasks = || {
            tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks()
        };
        let mut baseline = tasks();
        // Tasks of the handshakes end in their own time.
        soon("a settled start", async {
            for _ in 0..200 {
                tokio::task::yield_now().await;
                baseline = tasks();
            }
        })
        .await;

        let started = std::time::Instant::now();
        for _ in 0..50 {
            let mut calls = tokio::task::JoinSet::new();
            for n in 0..100 {
                let name = ["add", "wait", "progress", "wait"][n % 4];
                let (caller, _received) = recorder();
                let call = McpRequest::call_tool(name)
                    .argument("count", 20)
                    .progress_token(token("mine"))
                    .caller(caller)
                    .build();
                let call = outer.clone().oneshot(call);
                let polls = rand::random_range(0..12);
                calls.spawn(async move {
                    let mut call = std::pin::pin!(call);
                    for _ in 0..polls {
                        tokio::select! {
                            biased;
                            _ = &mut call => return,
                            () = tokio::task::yield_now() => {}
                        }
                    }
                });
            }
            soon("a hundred cancelled calls", calls.join_all()).await;
        }
        demo.until("the end of every call", |seen| seen.waiting == 0)
            .await;
        soon("the end of every task", async {
            while tasks() > baseline || outer.in_flight() > 0 || inner.in_flight() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let seen = demo.seen();
        assert_eq!(seen.started, seen.cancelled);
        assert!(seen.started > 0, "no call got as far as the server");
        assert!(started.elapsed() < Duration::from_secs(60));
        let still = outer.oneshot(McpRequest::call_tool("add").argument("a", 4).build());
        assert_eq!(said(still.await), "4");
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_state_cannot_be_read_is_cancelled() {
    let cancelled = Arc::new(AtomicUsize::new(0));
    let count = cancelled.clone();
    let stack = except(
        Handler::new(Demo::default()),
        move |request| match request.method() {
            "tools/call" => {
                let created = json!({
                    "resultType": "task",
                    "taskId": "t",
                    "status": "working",
                    "createdAt": "2026-07-28T00:00:00Z",
                    "lastUpdatedAt": "2026-07-28T00:00:00Z",
                    "ttlMs": null,
                });
                let created: CreateTaskResult = serde_json::from_value(created).unwrap();
                Some(Ok(McpResponse::new(ServerResult::CreateTaskResult(
                    created,
                ))))
            }
            "tasks/get" => Some(Ok(McpResponse::new(EmptyResult {}))),
            "tasks/cancel" => {
                count.fetch_add(1, Ordering::SeqCst);
                Some(Ok(McpResponse::new(EmptyResult {})))
            }
            _ => None,
        },
    );
    let tasks = ClientCapabilities::builder().enable_tasks().build();
    let client = McpClient::builder(stack).capabilities(tasks).build();
    let error = client.call_tool("task").await.unwrap_err();
    assert!(error.is_transport(), "{error}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cancelled.load(Ordering::SeqCst), 1);
}
