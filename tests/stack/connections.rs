//! The connection of an upstream: attempts, loss, and unreadable answers.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rmcp_layers::{ErrorKind, McpRequest, Upstream};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;

use crate::common::{demo::Demo, pipe_to, script::scripted, soon};

#[tokio::test(start_paused = true)]
async fn attempts_to_connect_are_spaced_and_shared() {
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let noted = attempts.clone();
    let upstream = Upstream::builder()
        .name("absent")
        .reconnect_backoff(Duration::from_secs(4), Duration::from_secs(60))
        .transport(move || {
            noted.lock().unwrap().push(Instant::now());
            async { Err::<tokio::io::DuplexStream, _>(io::Error::other("nobody home")) }
        });
    let call = || upstream.clone().oneshot(McpRequest::list_tools());
    let error = call().await.unwrap_err();
    assert!(error.is_not_delivered());
    assert!(error.to_string().contains("nobody home"), "{error}");
    assert_eq!(attempts.lock().unwrap().len(), 1);
    // Meanwhile calls fail at once, and say when it is worth coming back.
    for _ in 0..100 {
        let error = call().await.unwrap_err();
        let after = error.retry_after().expect("a time to come back");
        assert!(after >= Duration::from_secs(2) && after <= Duration::from_secs(4));
    }
    assert_eq!(attempts.lock().unwrap().len(), 1);
    // In the background the time between attempts doubles, to its cap.
    tokio::time::sleep(Duration::from_secs(600)).await;
    let attempts = attempts.lock().unwrap().clone();
    let gaps: Vec<_> = attempts.windows(2).map(|two| two[1] - two[0]).collect();
    for (n, gap) in gaps.iter().enumerate() {
        let whole =
            Duration::from_secs(4 * 2_u64.pow(n.min(4) as u32)).min(Duration::from_secs(60));
        assert!(
            *gap >= whole / 2 && *gap <= whole + Duration::from_millis(10),
            "gap {n}: {gap:?}"
        );
    }
    assert!(gaps.len() > 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_attempt_serves_all_who_wait_for_it() {
    let demo = Demo::default();
    let made = Arc::new(AtomicUsize::new(0));
    let counted = made.clone();
    let upstream = Upstream::builder().transport(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let near = pipe_to(demo.clone());
        async move { Ok::<_, io::Error>(near) }
    });
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..200 {
        calls.spawn(
            upstream
                .clone()
                .oneshot(McpRequest::call_tool("add").build()),
        );
    }
    for answer in soon("two hundred calls", calls.join_all()).await {
        answer.unwrap();
    }
    assert_eq!(made.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_lost_connection_fails_its_calls_at_once_and_the_next_succeeds() {
    let upstream = scripted(Upstream::builder().name("fickle"), |request| {
        let id = &request["id"];
        match request["params"]["name"].as_str() {
            Some("leave") => None,
            Some("hold") => Some(Vec::new()),
            _ => Some(vec![
                json!({ "jsonrpc": "2.0", "id": id, "result": { "content": [], "resultType": "complete" } })
                    .to_string(),
            ]),
        }
    });
    let call = |name: &str| {
        let call = upstream
            .clone()
            .oneshot(McpRequest::call_tool(name).build());
        async move { soon("a call", call).await }
    };
    let held = tokio::spawn(call("hold"));
    soon("a call in flight", async {
        while upstream.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let error = call("leave").await.unwrap_err();
    assert!(error.is_transport() && !error.is_not_delivered(), "{error}");
    assert!(error.to_string().contains("fickle"), "{error}");
    assert!(held.await.unwrap().unwrap_err().is_transport());
    call("stay").await.unwrap();
    assert_eq!(upstream.in_flight(), 0);
}

/// rmcp's own line transport drops what it cannot read, so nothing but the silence is seen here. Our own
/// (`tests/lines`) says so at once.
#[tokio::test(start_paused = true)]
async fn an_unreadable_answer_ends_its_call_when_the_servers_time_is_over() {
    let unreadable: [fn(&Value) -> String; 3] = [
        |id| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":["#),
        |id| format!(r#"{{"jsonrpc":"1.0","id":{id},"result":{{}}}}"#),
        |id| {
            let text = "x".repeat(17 * 1024 * 1024);
            let content = json!([{ "type": "text", "text": text }]);
            json!({ "jsonrpc": "2.0", "id": id, "result": { "content": content } }).to_string()
        },
    ];
    for line in unreadable {
        let patience = Duration::from_secs(60);
        let builder = Upstream::builder().request_timeout(patience);
        let upstream = scripted(builder, move |request| {
            Some(match request["params"]["name"].as_str() {
                Some("readable") => vec![
                    json!({
                        "jsonrpc": "2.0",
                        "id": request["id"],
                        "result": { "content": [], "resultType": "complete" },
                    })
                    .to_string(),
                ],
                _ => vec![line(&request["id"])],
            })
        });
        let call = |name| {
            upstream
                .clone()
                .oneshot(McpRequest::call_tool(name).build())
        };
        call("readable").await.unwrap();
        let started = Instant::now();
        let error = call("unreadable").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(started.elapsed().as_secs(), patience.as_secs());
        call("readable").await.unwrap();
    }
}
