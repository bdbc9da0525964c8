//! Questions that a server asks while no call is in flight.

use rmcp::{ClientHandler, ServiceExt as _};
use rmcp_layers::{
    McpClient, cache::CacheLayer, gateway::Gateway, registry::RegistryLayer, retry::RetryLayer,
};
use tower::ServiceBuilder;

use super::*;
use crate::wire::{questions, tools, wired};

#[tokio::test(start_paused = true)]
async fn a_question_before_the_only_session_is_held_for_it() {
    for (method, params) in questions().into_iter().take(3) {
        let (upstream, mut wires) = wired(Upstream::builder());
        let mut wire = wires.connect(&upstream, tools()).await;
        wire.send_request(method, "early", params.clone()).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let ann = Client::legacy("Ann", upstream).await;
        let answered = wire.answer_to("early").await;
        assert!(answered["result"].is_object(), "{method}: {answered}");
        // And once more, while nothing is in flight.
        let answered = wire.request(method, "idle", params).await;
        assert!(answered["result"].is_object(), "{method}: {answered}");
        drop(ann);
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_question_is_refused_when_no_session_comes() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let mut wire = wires.connect(&upstream, tools()).await;
    wire.send_request("roots/list", "early", json!({})).await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    let refused = wire.answer_to("early").await;
    assert!(refused["error"].is_object(), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn no_more_than_16_questions_are_held() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let mut wire = wires.connect(&upstream, tools()).await;
    for id in 0..20 {
        let id = format!("q{id}");
        wire.send_request("roots/list", &id, json!({})).await;
    }
    let refused = wire.answer_to("q16").await;
    assert!(refused["error"].is_object(), "{refused}");
    let ann = Client::legacy("Ann", upstream).await;
    let answered = wire.answer_to("q15").await;
    assert!(answered["result"].is_object(), "{answered}");
    drop(ann);
}

#[tokio::test(start_paused = true)]
async fn roots_are_asked_for_though_the_list_in_flight_is_answered_first() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let (ann, mut wire) = wires.session("Ann", upstream).await;
    let peer = ann.peer.peer().clone();
    let listing = tokio::spawn(async move { peer.list_tools(None).await });
    let list = wire.read(|message| message["method"] == "tools/list").await;
    wire.send_request("roots/list", "roots", json!({})).await;
    wire.answer(&list["id"], json!({ "tools": [] })).await;
    let answered = wire.answer_to("roots").await;
    assert!(answered["result"].is_object(), "{answered}");
    soon("the list", listing).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_is_asked_through_every_layer() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let (other, mut others) = wired(Upstream::builder());
    let gateway = Gateway::builder()
        .member("one", upstream)
        .member("other", other)
        .build()
        .unwrap();
    let stack = ServiceBuilder::new()
        .layer(RegistryLayer::new())
        .layer(CacheLayer::new())
        .layer(RetryLayer::builder().build().unwrap())
        .service(gateway);
    let (ann, mut wire, _other) = tokio::join!(
        Client::legacy("Ann", stack),
        wires.next(tools()),
        others.next(tools())
    );
    for (method, params) in questions().into_iter().take(3) {
        let answered = wire.request(method, method, params).await;
        assert!(answered["result"].is_object(), "{method}: {answered}");
    }
    drop(ann);
}

/// A client that says of itself what it is told to.
#[derive(Clone)]
struct Can(ClientCapabilities);

impl ClientHandler for Can {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(self.0.clone(), Implementation::new("can", "0"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_is_told_of_no_capability_that_the_only_caller_lacks() {
    let cases = [
        (ClientCapabilities::default(), vec![]),
        (
            ClientCapabilities::builder().enable_roots().build(),
            vec!["roots"],
        ),
        (
            ClientCapabilities::builder().enable_sampling().build(),
            vec!["sampling"],
        ),
        (
            ClientCapabilities::builder().enable_elicitation().build(),
            vec!["elicitation"],
        ),
    ];
    for (capabilities, wanted) in cases {
        let (upstream, mut wires) = wired(Upstream::builder());
        let pipe = common::pipe_to(McpServer::new(upstream));
        let connecting = Can(capabilities.clone()).serve(pipe);
        let (client, wire) = tokio::join!(connecting, wires.next(tools()));
        let claimed = &wire.handshake["capabilities"];
        let claimed: Vec<_> = claimed.as_object().unwrap().keys().collect();
        assert_eq!(claimed, wanted);
        drop(client);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_is_told_of_no_capability_by_a_caller_that_cannot_be_asked() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let client = McpClient::new(upstream);
    let calling = tokio::spawn(async move { client.call_tool("x").await });
    let mut wire = wires.next(tools()).await;
    assert_eq!(wire.handshake["capabilities"], json!({}));
    let id = wire.called().await;
    wire.finish(&id).await;
    soon("an answer", calling).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn capabilities_that_the_operator_sets_are_claimed_as_they_are() {
    let set = ClientCapabilities::builder().enable_roots().build();
    let (upstream, mut wires) = wired(Upstream::builder().capabilities(set));
    let pipe = common::pipe_to(McpServer::new(upstream));
    let connecting = Can(ClientCapabilities::default()).serve(pipe);
    let (client, wire) = tokio::join!(connecting, wires.next(tools()));
    assert_eq!(wire.handshake["capabilities"], json!({ "roots": {} }));
    drop(client);
}
