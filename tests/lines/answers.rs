//! Answers that cannot be read.

use std::{io, time::Duration};

use rmcp_layers::{
    ChildProcess, Delivered, Error, Lifecycle, Lines, McpRequest, McpResponse, Upstream,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    task::JoinHandle,
    time::Instant,
};
use tower::ServiceExt;

use crate::{CHILD, Script, common::soon};

async fn call(upstream: &Upstream, name: &str) -> Result<McpResponse, Error> {
    let call = McpRequest::call_tool(name).build();
    soon(name, upstream.clone().oneshot(call)).await
}

/// A call in flight.
async fn begin(upstream: &Upstream, name: &'static str) -> JoinHandle<Result<McpResponse, Error>> {
    let before = upstream.in_flight();
    let upstream = upstream.clone();
    let begun = tokio::spawn({
        let upstream = upstream.clone();
        async move { call(&upstream, name).await }
    });
    soon("a call in flight", async {
        while upstream.in_flight() == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    begun
}

fn assert_unreadable(answer: Result<McpResponse, Error>, why: &str) {
    let error = answer.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("fickle") && text.contains(why), "{text}");
    let Error::Transport(error) = error else {
        panic!("{text}");
    };
    assert_eq!(error.delivered(), Delivered::Yes);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_answer_fails_its_call_at_once_and_no_other() {
    let script = Script::default();
    let upstream = script.upstream();
    let held = begin(&upstream, "hold").await;
    let started = Instant::now();
    for (name, why) in [
        ("cut off", "not JSON (column 54)"),
        ("no JSON", "not JSON"),
        ("no message", "not an MCP message"),
        ("no error", "not an MCP message"),
        (
            "too long",
            "longer than `max_message_bytes`, 16777216 bytes",
        ),
        ("too long, id last", "longer than `max_message_bytes`"),
    ] {
        assert_unreadable(call(&upstream, name).await, why);
        call(&upstream, "readable").await.unwrap();
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert!(!held.is_finished());
    call(&upstream, "release one").await.unwrap();
    held.await.unwrap().unwrap();
    assert_eq!(upstream.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_an_id_fails_the_only_call_in_flight() {
    let script = Script::default();
    let upstream = script.upstream();
    let started = Instant::now();
    for name in ["nameless", "nameless, too long"] {
        assert_unreadable(
            call(&upstream, name).await,
            "the server's answer to `tools/call` cannot be read",
        );
        call(&upstream, "readable").await.unwrap();
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(upstream.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_an_id_fails_the_call_that_is_left_when_others_are_answered() {
    let script = Script::default();
    let upstream = script.upstream();
    let others = [
        begin(&upstream, "hold").await,
        begin(&upstream, "hold").await,
    ];
    let nameless = begin(&upstream, "nameless").await;
    let started = Instant::now();
    // Those that began later are none of those that it may be for.
    call(&upstream, "readable").await.unwrap();
    call(&upstream, "release one").await.unwrap();
    assert!(!nameless.is_finished());
    call(&upstream, "release one").await.unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
    assert_unreadable(nameless.await.unwrap(), "not JSON");
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(upstream.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn two_answers_without_an_id_fail_the_two_calls_that_are_left() {
    let script = Script::default();
    let upstream = script.upstream();
    let other = begin(&upstream, "hold").await;
    let nameless = [
        begin(&upstream, "nameless").await,
        begin(&upstream, "nameless, too long").await,
    ];
    call(&upstream, "release one").await.unwrap();
    other.await.unwrap().unwrap();
    for call in nameless {
        assert_unreadable(
            call.await.unwrap(),
            "the server's answer to `tools/call` cannot be read",
        );
    }
    // Nothing of it is left for later calls.
    call(&upstream, "readable").await.unwrap();
    assert_eq!(upstream.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_cancelled_call_fails_nobody_else() {
    let script = Script::default();
    let upstream = script.upstream();
    let kept = begin(&upstream, "hold").await;
    let left = begin(&upstream, "nameless").await;
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    call(&upstream, "readable").await.unwrap();
    assert!(!kept.is_finished());
    call(&upstream, "release one").await.unwrap();
    kept.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_server_logs_on_its_output_is_passed_over() {
    let script = Script::default();
    let upstream = script.upstream();
    call(&upstream, "log").await.unwrap();
}

#[tokio::test]
async fn a_childs_unreadable_answer_fails_its_call_at_once() {
    let child = ChildProcess::new(std::env::current_exe().unwrap())
        .args(["--exact", "serve_as_script", "--nocapture", "--quiet"])
        .env(CHILD, "1")
        .quiet()
        .max_message_bytes(1024 * 1024);
    let upstream = Upstream::builder()
        .name("fickle")
        .lifecycle(Lifecycle::Discover)
        .child_process(child);
    let held = begin(&upstream, "hold").await;
    for (name, why) in [
        ("cut off", "not JSON"),
        ("no message", "not an MCP message"),
        (
            "too long, id last",
            "longer than `max_message_bytes`, 1048576 bytes",
        ),
    ] {
        assert_unreadable(call(&upstream, name).await, why);
    }
    call(&upstream, "release one").await.unwrap();
    held.await.unwrap().unwrap();
    upstream.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_handshake_fails_the_attempt_at_once() {
    let upstream = Upstream::builder().name("fickle").lines(|| {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            let (read, mut write) = tokio::io::split(far);
            let mut lines = BufReader::new(read).lines();
            while lines.next_line().await.unwrap().is_some() {
                write
                    .write_all(b"{\"jsonrpc\":\"2.0\",\"res\n")
                    .await
                    .unwrap();
            }
        });
        async move { Ok::<_, io::Error>(Lines::from(tokio::io::split(near))) }
    });
    let started = Instant::now();
    let error = soon("an attempt", upstream.connect()).await.unwrap_err();
    assert!(error.is_not_delivered(), "{error}");
    assert!(error.to_string().contains("cannot be read"), "{error}");
    assert_eq!(started.elapsed(), Duration::ZERO);
}
