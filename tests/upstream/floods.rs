//! Servers that send more than a caller takes.

use std::sync::{Arc, atomic::AtomicUsize};

use futures::future::BoxFuture;
use rmcp_layers::{Caller, CallerSink, Error, McpResponse};
use tokio::task::JoinHandle;

use super::*;
use crate::common::log::Log;
use crate::wire::{Wire, questions, tools, wired};

/// A caller that takes notifications and questions, and is never done with any.
#[derive(Clone, Default)]
struct Stuck {
    asked: Arc<AtomicUsize>,
}

impl CallerSink for Stuck {
    fn notify(&self, _notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(std::future::pending())
    }

    fn request(&self, _request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::pending())
    }
}

/// Begins a call of the client's session whose caller is stuck.
fn stuck_call(
    client: &rmcp_layers::McpClient<Upstream>,
    stuck: &Stuck,
) -> JoinHandle<Result<McpResponse, Error>> {
    let client = client.clone();
    let call = McpRequest::call_tool("x").caller(Caller::new(stuck.clone()));
    let mut call = call.build();
    // A caller of an older revision, which may be asked.
    let version = ProtocolVersion::LATEST_WITH_INITIALIZE;
    call.context.meta.set_protocol_version(version);
    tokio::spawn(async move { client.send(call).await })
}

async fn ask(wire: &mut Wire, id: usize) {
    let (method, params) = questions()[0].clone();
    wire.send_request(method, &format!("q{id}"), params).await;
}

#[tokio::test(start_paused = true)]
async fn no_more_than_64_questions_wait_for_one_call() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let client = rmcp_layers::McpClient::new(upstream.clone());
    let stuck = Stuck::default();
    let call = stuck_call(&client, &stuck);
    let mut wire = wires.next(tools()).await;
    let id = wire.called().await;
    for question in 0..400 {
        ask(&mut wire, question).await;
        if question >= 64 {
            let refused = wire.answer_to(&format!("q{question}")).await;
            let why = refused["error"]["message"].as_str();
            assert!(why.is_some_and(|why| why.contains("64")), "{refused}");
        }
    }
    assert_eq!(stuck.asked.load(Ordering::Relaxed), 64);
    assert_eq!(upstream.stats().refused_requests, 400 - 64);
    wire.finish(&id).await;
    // Questions that its call did not wait for are refused with its end, and make room.
    let ended = wire.answer_to("q0").await;
    assert!(ended["error"].is_object(), "{ended}");
    call.abort();
    let again = stuck_call(&client, &stuck);
    wire.called().await;
    ask(&mut wire, 1_000).await;
    while stuck.asked.load(Ordering::Relaxed) == 64 {
        tokio::task::yield_now().await;
    }
    again.abort();
}

#[tokio::test(start_paused = true)]
async fn no_more_than_1024_questions_wait_on_one_connection() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let client = rmcp_layers::McpClient::new(upstream.clone());
    let stuck = Stuck::default();
    let mut calls = vec![stuck_call(&client, &stuck)];
    let mut wire = wires.next(tools()).await;
    for question in 0..1_024 {
        // Each goes to the newest call.
        if question % 64 == 0 {
            wire.called().await;
        }
        ask(&mut wire, question).await;
        if question % 64 == 63 {
            let all = question + 1;
            while stuck.asked.load(Ordering::Relaxed) < all {
                tokio::task::yield_now().await;
            }
            calls.push(stuck_call(&client, &stuck));
        }
    }
    wire.called().await;
    ask(&mut wire, 1_024).await;
    let refused = wire.answer_to("q1024").await;
    let why = refused["error"]["message"].as_str();
    assert!(why.is_some_and(|why| why.contains("1024")), "{refused}");
    assert_eq!(stuck.asked.load(Ordering::Relaxed), 1_024);
    for call in calls {
        call.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_reads_no_refusal_is_sent_a_bounded_number() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let client = rmcp_layers::McpClient::new(upstream.clone());
    let stuck = Stuck::default();
    let call = stuck_call(&client, &stuck);
    let mut wire = wires.next(tools()).await;
    let id = wire.called().await;
    for question in 0..20_000 {
        ask(&mut wire, question).await;
    }
    wire.finish(&id).await;
    soon("an answer", call).await.unwrap().unwrap();
    let stats = upstream.stats();
    assert!(stats.unanswered_requests > 10_000, "{stats:?}");
    assert_eq!(stats.refused_requests, 20_000 - 64);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_reads_no_answer_to_its_pings_is_sent_a_bounded_number() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let call = McpRequest::call_tool("x").build();
    let call = tokio::spawn(upstream.clone().oneshot(call));
    let mut wire = wires.next(tools()).await;
    let id = wire.called().await;
    for ping in 0..20_000 {
        wire.send_request("ping", &format!("p{ping}"), json!({}))
            .await;
    }
    wire.finish(&id).await;
    soon("an answer", call).await.unwrap().unwrap();
    let unanswered = upstream.stats().unanswered_requests;
    assert!(unanswered > 10_000, "{unanswered}");
    let answered = wire.answer_to("p0").await;
    assert_eq!(answered["result"], json!({}));
}

#[tokio::test(start_paused = true)]
async fn dropped_notifications_are_logged_once_a_second_with_their_number() {
    let (log, _guard) = Log::of_warnings();
    let (upstream, mut wires) = wired(Upstream::builder());
    let client = rmcp_layers::McpClient::new(upstream.clone());
    let stuck = Stuck::default();
    let call = stuck_call(&client, &stuck);
    let mut wire = wires.next(tools()).await;
    let id = wire.called().await;
    for _ in 0..10_000 {
        wire.log("and another").await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    wire.log("the last").await;
    wire.request("ping", "barrier", json!({})).await;
    let lines = log.lines_with("does not keep up");
    assert_eq!(lines.len(), 2, "{lines:?}");
    let dropped = upstream.stats().overflowed_notifications;
    assert!(dropped > 5_000, "{dropped}");
    let since = format!("dropped={}", dropped - 1);
    assert!(lines[1].contains(&since), "{lines:?}");
    wire.finish(&id).await;
    call.abort();
}

#[tokio::test(start_paused = true)]
async fn messages_for_no_single_caller_are_counted_and_logged_once_a_second() {
    let (log, _guard) = Log::of_warnings();
    let (upstream, mut wires) = wired(Upstream::builder());
    let served = McpServer::new(upstream.clone());
    let initialize = ClientLifecycleMode::Initialize;
    let (_ann, mut wire) = tokio::join!(
        Client::of(&served, "Ann", initialize.clone()),
        wires.next(tools())
    );
    let _bob = Client::of(&served, "Bob", initialize).await;
    for id in 0..1_000 {
        wire.log("whose?").await;
        wire.request("roots/list", &format!("r{id}"), json!({}))
            .await;
    }
    let stats = upstream.stats();
    assert_eq!(stats.unattributed_notifications, 1_000);
    assert_eq!(stats.refused_requests, 1_000);
    assert_eq!(log.lines_with("name no call").len(), 1);
    assert_eq!(log.lines_with("a server's request is refused").len(), 1);
}
