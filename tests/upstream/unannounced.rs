//! Changes that an older server tells of though it did not announce them.

use rmcp_layers::{McpClient, cache::CacheLayer, gateway::Gateway};
use tower::ServiceBuilder;

use super::*;
use crate::wire::{Wire, wired};

fn capabilities() -> Value {
    json!({
        "tools": { "listChanged": false },
        "prompts": {},
        "resources": { "listChanged": false },
    })
}

async fn lists_tool(wire: &mut Wire, name: &str) {
    let list = wire.read(|message| message["method"] == "tools/list").await;
    let tool = json!({ "name": name, "inputSchema": { "type": "object" } });
    wire.answer(&list["id"], json!({ "tools": [tool] })).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_not_announced_reaches_a_session_and_a_listen() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let (mut ann, mut wire) = tokio::join!(
        Client::legacy("Ann", upstream.clone()),
        wires.next(capabilities())
    );
    let (caller, mut heard) = recorder();
    let everything = SubscriptionFilter::builder()
        .tools_list_changed()
        .prompts_list_changed()
        .resources_list_changed()
        .build();
    let listen = SubscriptionsListenRequestParams::new(everything);
    let mut listen = McpRequest::new(SubscriptionsListenRequest::new(listen));
    listen.context.caller = caller;
    let listening = tokio::spawn(upstream.oneshot(listen));
    // The acknowledgment promises only what was announced.
    let acknowledged = soon("an acknowledgment", heard.recv()).await.unwrap();
    let ServerNotification::SubscriptionsAcknowledgedNotification(acknowledged) = acknowledged
    else {
        panic!("not an acknowledgment: {acknowledged:?}");
    };
    let promised = acknowledged.params.notifications;
    assert_ne!(promised.tools_list_changed, Some(true));
    for list in ["tools", "prompts", "resources"] {
        let method = format!("notifications/{list}/list_changed");
        wire.notify(&method, json!({})).await;
        soon("a change", heard.recv()).await.unwrap();
    }
    assert_eq!(ann.hear("the change").await, Heard::Tools);
    listening.abort();
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_not_announced_evicts_what_a_cache_keeps() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let cache = CacheLayer::builder()
        .cache_method("tools/list", Duration::from_secs(600))
        .build()
        .unwrap();
    let client = McpClient::new(ServiceBuilder::new().layer(cache).service(upstream));
    let listing = || {
        let client = client.clone();
        tokio::spawn(async move { client.list_all_tools().await })
    };
    let first = listing();
    let mut wire = wires.next(capabilities()).await;
    lists_tool(&mut wire, "before").await;
    assert_eq!(
        soon("a list", first).await.unwrap().unwrap()[0].name,
        "before"
    );
    // The cache's own listen begins beside the request.
    tokio::time::sleep(Duration::from_millis(10)).await;
    let kept = soon("a list", listing()).await.unwrap().unwrap();
    assert_eq!(kept[0].name, "before");

    wire.notify("notifications/tools/list_changed", json!({}))
        .await;
    wire.request("ping", "barrier", json!({})).await;
    let anew = listing();
    lists_tool(&mut wire, "after").await;
    assert_eq!(
        soon("a list", anew).await.unwrap().unwrap()[0].name,
        "after"
    );
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_not_announced_passes_a_gateway() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let (other, mut others) = wired(Upstream::builder());
    let gateway = Gateway::builder()
        .member("one", upstream)
        .member("other", other)
        .build()
        .unwrap();
    let (mut ann, mut wire, _other) = tokio::join!(
        Client::legacy("Ann", gateway),
        wires.next(capabilities()),
        others.next(capabilities())
    );
    wire.notify("notifications/tools/list_changed", json!({}))
        .await;
    assert_eq!(ann.hear("the change").await, Heard::Tools);
}

async fn updated(wire: &mut Wire) {
    let update = json!({ "uri": "memo://insights" });
    wire.notify("notifications/resources/updated", update).await;
    wire.request("ping", "barrier", json!({})).await;
}

#[tokio::test(start_paused = true)]
async fn an_update_of_a_server_without_subscriptions_reaches_its_only_caller() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let served = McpServer::new(upstream);
    let initialize = ClientLifecycleMode::Initialize;
    let (mut ann, mut wire) = tokio::join!(
        Client::of(&served, "Ann", initialize.clone()),
        wires.next(capabilities())
    );
    let heard = Heard::Updated("memo://insights".to_owned());
    updated(&mut wire).await;
    assert_eq!(ann.hear("an update while nothing is called").await, heard);

    let (peer, called) = (ann.peer.peer().clone(), tool("x", json!({})));
    let call = tokio::spawn(async move { peer.call_tool_once(called).await });
    let id = wire.called().await;
    updated(&mut wire).await;
    assert_eq!(ann.hear("an update during a call").await, heard);
    wire.finish(&id).await;
    soon("the answer", call).await.unwrap().unwrap();

    let mut bob = Client::of(&served, "Bob", initialize).await;
    let (peer, called) = (bob.peer.peer().clone(), tool("x", json!({})));
    let call = tokio::spawn(async move { peer.call_tool_once(called).await });
    let id = wire.called().await;
    updated(&mut wire).await;
    wire.finish(&id).await;
    soon("the answer", call).await.unwrap().unwrap();
    tokio::task::yield_now().await;
    assert!(bob.heard.try_recv().is_err(), "Bob heard something");
    assert!(ann.heard.try_recv().is_err(), "Ann heard something");
}

#[tokio::test(start_paused = true)]
async fn an_update_that_no_listen_asked_for_is_dropped_where_there_are_subscriptions() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let capabilities = json!({ "resources": { "subscribe": true } });
    let (mut ann, mut wire) = tokio::join!(
        Client::legacy("Ann", upstream.clone()),
        wires.next(capabilities)
    );
    updated(&mut wire).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(ann.heard.try_recv().is_err(), "Ann heard something");
}

#[tokio::test(start_paused = true)]
async fn an_update_that_was_not_asked_for_passes_a_gateway_in_the_gateways_words() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let (other, mut others) = wired(Upstream::builder());
    let gateway = Gateway::builder()
        .member("one", upstream)
        .member("other", other)
        .build()
        .unwrap();
    let (mut ann, mut wire, _other) = tokio::join!(
        Client::legacy("Ann", gateway),
        wires.next(capabilities()),
        others.next(capabilities())
    );
    updated(&mut wire).await;
    let Heard::Updated(uri) = ann.hear("the update").await else {
        panic!("not an update");
    };
    assert_ne!(uri, "memo://insights");
    assert!(uri.ends_with("memo://insights"), "{uri}");
}
