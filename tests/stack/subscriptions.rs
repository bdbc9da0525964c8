//! Change notifications, by sessions and by listens.

use std::{sync::Arc, time::Duration};

use rmcp::{model::*, service::ClientLifecycleMode};
use rmcp_layers::{McpRequest, McpServer, Refusal, Upstream, from_fn};
use serde_json::json;
use tokio::sync::Notify;
use tower::ServiceBuilder;

use crate::{
    bottoms,
    common::{Client, Heard, demo::Demo, soon, tool},
};

#[tokio::test]
async fn changes_reach_the_sessions_that_subscribed_and_no_other() {
    for index in 0..bottoms(&Demo::default()).len() {
        let demo = Demo::default();
        let (bottom, stack) = bottoms(&demo).swap_remove(index);
        let server = McpServer::new(stack);
        let initialize = ClientLifecycleMode::Initialize;
        let mut ann = Client::of(&server, "Ann", initialize.clone()).await;
        let mut bob = Client::of(&server, "Bob", initialize).await;
        let updated = |uri: &str| {
            ResourceUpdatedNotification::new(ResourceUpdatedNotificationParam::new(uri))
        };

        // The lists' changes, to all, without asking.
        if bottom == "in-process" || bottom == "pipe" {
            demo.until(bottom, |seen| seen.listening.len() == 2).await;
        } else {
            settled(&ann, &bob).await;
        }
        demo.change(ToolListChangedNotification::default()).await;
        assert_eq!(ann.hear(bottom).await, Heard::Tools);
        assert_eq!(bob.hear(bottom).await, Heard::Tools);

        // A resource's, to the one who subscribed to it.
        let subscribe = |client: &Client, uri: &str| {
            let (peer, params) = (client.peer.peer().clone(), SubscribeRequestParams::new(uri));
            async move { peer.subscribe(params).await }
        };
        subscribe(&ann, "demo://a").await.unwrap();
        subscribe(&bob, "demo://b").await.unwrap();
        demo.change(updated("demo://a")).await;
        assert_eq!(
            ann.hear(bottom).await,
            Heard::Updated("demo://a".to_owned()),
            "{bottom}"
        );
        bob.hears_nothing().await;
        demo.change(updated("demo://b")).await;
        assert_eq!(
            bob.hear(bottom).await,
            Heard::Updated("demo://b".to_owned()),
            "{bottom}"
        );
        ann.hears_nothing().await;

        // And no more once it has unsubscribed.
        let done = UnsubscribeRequestParams::new("demo://a");
        soon(bottom, ann.peer.unsubscribe(done)).await.unwrap();
        let gone = |uris: Option<&Vec<String>>| {
            uris.is_none_or(|uris| !uris.iter().any(|uri| uri == "demo://a"))
        };
        demo.until(bottom, |seen| {
            gone(Some(&seen.subscribed))
                && seen
                    .listening
                    .iter()
                    .all(|filter| gone(filter.resource_subscriptions.as_ref()))
        })
        .await;
        demo.change(updated("demo://a")).await;
        demo.change(updated("demo://b")).await;
        assert_eq!(
            bob.hear(bottom).await,
            Heard::Updated("demo://b".to_owned()),
            "{bottom}"
        );
        ann.hears_nothing().await;
    }
}

/// Both sessions have had the time to open what they listen with.
async fn settled(ann: &Client, bob: &Client) {
    for client in [ann, bob] {
        for _ in 0..20 {
            client.call(tool("add", json!({}))).await;
        }
    }
}

#[tokio::test]
async fn a_modern_listen_yields_what_it_asked_for() {
    for index in 0..bottoms(&Demo::default()).len() {
        let demo = Demo::default();
        let (bottom, stack) = bottoms(&demo).swap_remove(index);
        let client = Client::modern("listener", stack).await;
        let filter = SubscriptionFilter::builder()
            .tools_list_changed()
            .resource_subscription("demo://a")
            .build();
        let mut listen = soon(bottom, client.peer.listen(filter.clone()))
            .await
            .unwrap();
        assert_eq!(*listen.acknowledged(), filter, "{bottom}");
        if bottom == "legacy pipe" {
            demo.until(bottom, |seen| seen.subscribed == ["demo://a"])
                .await;
        } else {
            demo.until(bottom, |seen| seen.listening.len() == 1).await;
        }
        demo.change(ToolListChangedNotification::default()).await;
        let heard = soon(bottom, listen.next()).await.unwrap().unwrap();
        assert!(
            matches!(heard, ServerNotification::ToolListChangedNotification(_)),
            "{bottom}: {heard:?}"
        );
        for uri in ["demo://b", "demo://a"] {
            demo.change(ResourceUpdatedNotification::new(
                ResourceUpdatedNotificationParam::new(uri),
            ))
            .await;
        }
        let heard = soon(bottom, listen.next()).await.unwrap().unwrap();
        let ServerNotification::ResourceUpdatedNotification(update) = heard else {
            panic!("{bottom}: {heard:?}");
        };
        assert_eq!(update.params.uri, "demo://a", "{bottom}");
        drop(listen);
        demo.until(bottom, |seen| {
            seen.listening.is_empty() && seen.subscribed.is_empty()
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn listens_that_a_layer_ends_are_opened_again_more_and_more_seldom() {
    let stack = ServiceBuilder::new()
        .timeout(Duration::from_secs(1))
        .service(Upstream::in_process(Demo::default()));
    let mut client = Client::legacy("ann", stack).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let mut told = 0;
    while client.heard.try_recv().is_ok() {
        told += 1;
    }
    assert!(
        (10..60).contains(&told),
        "{told} spurious changes in ten minutes"
    );
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_replaces_a_lost_listen_announces_the_changes_of_the_gap() {
    let (demo, cut) = (Demo::default(), Arc::new(Notify::new()));
    let cuts = cut.clone();
    let stack = ServiceBuilder::new()
        .layer(from_fn(move |request: McpRequest, next| {
            let cuts = cuts.clone();
            async move {
                if request.method() != "subscriptions/listen" {
                    return next.run(request).await;
                }
                tokio::select! {
                    answer = next.run(request) => answer,
                    () = cuts.notified() => {
                        let minute = Duration::from_secs(60);
                        Err(Refusal::new("test", "restarting").with_retry_after(minute).into())
                    }
                }
            }
        }))
        .service(Upstream::in_process(demo.clone()));
    let mut client = Client::legacy("ann", stack).await;
    demo.until("a listen", |seen| seen.listening.len() == 1)
        .await;
    cut.notify_one();
    demo.until("its end", |seen| seen.listening.is_empty())
        .await;
    demo.change(ToolListChangedNotification::default()).await;

    let subscribe = SubscribeRequestParams::new("demo://a");
    let subscribe = client.peer.subscribe(subscribe);
    soon("a subscription", subscribe).await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(20), client.heard.recv());
    assert_eq!(told.await.ok().flatten(), Some(Heard::Tools));
}
