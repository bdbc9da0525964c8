//! The last progress and the result, over lines and over HTTP.

use std::time::Duration;

use futures::StreamExt;
use rmcp_layers::{
    Error, Lines, McpClient, McpRequest, McpServer, ServiceBuilderExt, Upstream,
    progress::ProgressLayer,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    time::Instant,
};
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneService};

use crate::common::{Http, demo::Demo, piped, recorder, soon, token};

fn stack() -> impl crate::common::Stack {
    ServiceBuilder::new()
        .progress(ProgressLayer::new())
        .service(piped(Upstream::builder(), &Demo::default()))
}

/// Messages of a server over lines, with the times of their arrival.
async fn over_lines(calls: u64, arguments: Value) -> Vec<(Instant, Value)> {
    let (near, far) = tokio::io::duplex(1 << 20);
    let server = McpServer::new(stack());
    tokio::spawn(async move {
        let lines = Lines::from(tokio::io::split(far));
        if let Ok(running) = rmcp::ServiceExt::serve(server, lines).await {
            let _ = running.waiting().await;
        }
    });
    let (read, mut write) = tokio::io::split(near);
    let mut read = BufReader::new(read).lines();
    let mut seen = Vec::new();
    let begin = json!({ "jsonrpc": "2.0", "id": "init", "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": { "name": "raw", "version": "0" },
    } });
    let begun = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    for message in [begin, begun] {
        write
            .write_all(format!("{message}\n").as_bytes())
            .await
            .unwrap();
    }
    for id in 0..calls {
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {
            "name": arguments["tool"], "arguments": arguments, "_meta": { "progressToken": id },
        } });
        write
            .write_all(format!("{call}\n").as_bytes())
            .await
            .unwrap();
        loop {
            let line = soon("a line", read.next_line()).await.unwrap().unwrap();
            let message: Value = serde_json::from_str(&line).unwrap();
            let ends = message["id"] == id;
            seen.push((Instant::now(), message));
            if ends {
                break;
            }
        }
    }
    seen
}

// On a paused clock, the reader has read all that is written before the clock moves on.
#[tokio::test(start_paused = true)]
async fn over_lines_no_progress_comes_right_before_its_result() {
    let apart = json!({ "tool": "slow", "count": 3, "apart": 150, "rest": 1 });
    let seen = over_lines(20, apart).await;
    let mut last: Option<Instant> = None;
    let (mut reports, mut results) = (0, 0);
    for (at, message) in seen {
        if message["method"] == "notifications/progress" {
            reports += 1;
            last = Some(at);
        } else if message["id"].is_number() {
            results += 1;
            if let Some(last) = last.take() {
                let gap = at.duration_since(last);
                assert!(gap >= Duration::from_millis(20), "{gap:?}");
            }
        }
    }
    assert_eq!(results, 20);
    // The demo's later steps do not increase.
    assert_eq!(reports, 20);
}

#[tokio::test(start_paused = true)]
async fn over_lines_a_result_replaces_progress_that_has_not_waited() {
    let at_once = json!({ "tool": "progress", "count": 50 });
    let begun = Instant::now();
    let seen = over_lines(20, at_once).await;
    let of_progress = |message: &Value| message["method"] == "notifications/progress";
    assert!(!seen.iter().any(|(_, message)| of_progress(message)));
    assert!(
        begun.elapsed() < Duration::from_millis(10),
        "a result waited"
    );
}

#[tokio::test(start_paused = true)]
async fn over_lines_a_result_right_after_progress_that_was_sent_waits() {
    let seen = over_lines(
        1,
        json!({ "tool": "slow", "count": 1, "apart": 5, "rest": 21 }),
    )
    .await;
    let times: Vec<_> = seen.iter().rev().take(2).map(|(at, _)| *at).collect();
    assert_eq!(seen[seen.len() - 2].1["method"], "notifications/progress");
    let gap = times[0].duration_since(times[1]);
    assert!(
        gap >= Duration::from_millis(20) && gap < Duration::from_millis(23),
        "{gap:?}"
    );
}

/// The same stack with layers around that wrap the caller.
fn wrapped() -> impl crate::common::Stack {
    ServiceBuilder::new()
        .map_request(|mut request: McpRequest| {
            let caller = &request.context.caller;
            request.context.caller = caller.filter_map_notifications(Some);
            request
        })
        .service(stack())
}

#[tokio::test(start_paused = true)]
async fn to_a_client_in_this_process_progress_is_sent_at_once_and_no_result_waits() {
    for client in [
        McpClient::new(BoxCloneService::new(stack().map_err(Into::<Error>::into))),
        McpClient::new(BoxCloneService::new(wrapped().map_err(Into::<Error>::into))),
    ] {
        let begun = Instant::now();
        let slow = client.call_tool("slow").argument("count", 1);
        let slow = slow.argument("apart", 5).argument("rest", 100);
        let mut slow = slow.with_progress();
        assert_eq!(slow.next().await.map(|report| report.progress), Some(1.0));
        let taken = begun.elapsed();
        assert!(taken < Duration::from_millis(10), "{taken:?}");
        soon("the result", slow).await.unwrap();
        let begun = Instant::now();
        let mut call = client
            .call_tool("progress")
            .argument("count", 50)
            .with_progress();
        let mut last = None;
        while let Some(report) = call.next().await {
            last = Some(report.progress);
        }
        soon("the result", call).await.unwrap();
        assert_eq!(last, Some(50.0));
        let taken = begun.elapsed();
        assert!(taken < Duration::from_millis(10), "{taken:?}");
    }
}

#[tokio::test]
async fn over_http_the_last_progress_comes_before_the_result() {
    let http = Http::serve(McpServer::new(stack())).await;
    let client = Upstream::builder().http(http.url.as_str()).unwrap();
    for _ in 0..20 {
        let (caller, mut received) = recorder();
        let call = McpRequest::call_tool("progress")
            .argument("count", 50)
            .progress_token(token("mine"))
            .caller(caller)
            .build();
        soon("a call", client.clone().oneshot(call)).await.unwrap();
        let reports = crate::reported(&mut received);
        assert_eq!(reports.last().unwrap().progress, 50.0);
        assert!(reports.len() <= 4, "{}", reports.len());
    }
}
