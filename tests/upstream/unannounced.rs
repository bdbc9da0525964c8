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
