//! Stacks whose type is erased.

use std::time::Duration;

use rmcp_layers::{
    BoxStack, Error, ErrorKind, Handler, McpClient, McpRequest, Upstream, gateway::Gateway,
};
use serde_json::json;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, load_shed::LoadShedLayer};

use crate::{
    common::{Client, demo::Demo, piped, progress, recorder, said, soon, text, token, tool},
    served,
};

fn is_send_and_sync<T: Clone + Send + Sync + 'static>(_: &T) {}

/// Stacks of four types, one of them not `Sync`.
fn stacks(demo: &Demo) -> Vec<BoxStack> {
    let not_sync = std::cell::Cell::new(0);
    let marked = ServiceBuilder::new()
        .map_request(move |request: McpRequest| {
            not_sync.set(not_sync.get() + 1);
            request
        })
        .service(piped(Upstream::builder(), demo));
    let boxes_errors = ServiceBuilder::new()
        .timeout(Duration::from_secs(20))
        .service(Handler::new(demo.clone()));
    let boxed_twice = BoxStack::new(BoxStack::new(Upstream::in_process(demo.clone())));
    vec![
        BoxStack::new(Handler::new(demo.clone())),
        BoxStack::new(marked),
        BoxStack::new(boxes_errors),
        boxed_twice,
    ]
}

#[tokio::test]
async fn stacks_of_any_type_serve_from_one_collection() {
    let demo = Demo::default();
    for (at, stack) in stacks(&demo).into_iter().enumerate() {
        is_send_and_sync(&stack);
        let client = Client::modern("caller", stack).await;
        let sum = client.call(tool("add", json!({ "a": 1, "b": 2 }))).await;
        assert_eq!(text(&sum), "3", "{at}");
    }
}

#[tokio::test]
async fn a_boxed_stack_passes_progress_and_cancellation() {
    let demo = Demo::default();
    for (at, stack) in stacks(&demo).into_iter().enumerate() {
        let (caller, mut received) = recorder();
        let call = McpRequest::call_tool("progress")
            .argument("count", 3)
            .progress_token(token("mine"))
            .caller(caller);
        let outer = served(stack);
        assert_eq!(said(outer.clone().oneshot(call.build()).await), "reported");
        assert_eq!(progress(&mut received).len(), 3, "{at}");

        let before = demo.seen().cancelled;
        let call = outer.clone().oneshot(McpRequest::call_tool("wait").build());
        let call = tokio::spawn(call);
        demo.until("the call", |seen| seen.waiting == 1).await;
        call.abort();
        demo.until("the end of the call", |seen| {
            seen.waiting == 0 && seen.cancelled > before
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_passes_through_a_boxed_stack() {
    let demo = Demo::default();
    let one_at_a_time = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(piped(Upstream::builder(), &demo));
    let stack = LoadShedLayer::new().layer(BoxStack::new(one_at_a_time));

    let first = tokio::spawn(stack.clone().oneshot(McpRequest::call_tool("wait").build()));
    demo.until("the first call", |seen| seen.waiting == 1).await;
    let second = stack.clone().oneshot(McpRequest::list_tools()).await;
    let error = Error::from(second.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    first.abort();
    demo.until("the end of the first call", |seen| seen.waiting == 0)
        .await;
    let client = McpClient::new(stack);
    assert_eq!(client.list_all_tools().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_ready_clone_does_not_hold_room_for_another() {
    let demo = Demo::default();
    let one_at_a_time = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(Handler::new(demo.clone()));
    let mut held = BoxStack::new(one_at_a_time);
    let other = held.clone();
    let answer = held.ready().await.unwrap().call(McpRequest::list_tools());
    assert!(answer.await.is_ok());
    let late = other.oneshot(McpRequest::list_tools());
    assert!(soon("the other clone's call", late).await.is_ok());
}

#[tokio::test]
async fn boxed_stacks_are_members_of_a_gateway() {
    let demo = Demo::default();
    let mut builder = Gateway::builder();
    for (at, stack) in stacks(&demo).into_iter().enumerate() {
        builder = builder.member(format!("s{at}"), stack);
    }
    let client = Client::modern("caller", builder.build().unwrap()).await;
    let sum = client
        .call(tool("s2__add", json!({ "a": 20, "b": 22 })))
        .await;
    assert_eq!(text(&sum), "42");
    let tools = client.peer.list_all_tools().await.unwrap();
    assert_eq!(tools.len(), 8);
}
