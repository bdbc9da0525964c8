//! What is taken out of memory, and when.

use rmcp::model::*;
use rmcp_layers::{
    Caller, McpRequest, Principal,
    cache::{CACHE_META_KEY, CacheLayer},
};
use serde_json::json;
use tower::ServiceExt;

use super::{common::recorder, lab::*};

fn updated(uri: &str) -> ServerNotification {
    ResourceUpdatedNotification::new(ResourceUpdatedNotificationParam::new(uri)).into()
}

fn tools_changed() -> ServerNotification {
    ToolListChangedNotification::default().into()
}

/// A caller's listen for everything, with these resources.
fn listen(uris: &[&str], caller: Caller) -> McpRequest {
    let mut filter = SubscriptionFilter::builder()
        .tools_list_changed()
        .prompts_list_changed()
        .resources_list_changed()
        .build();
    filter.resource_subscriptions = Some(uris.iter().map(|uri| (*uri).to_owned()).collect());
    let message = SubscriptionsListenRequest::new(SubscriptionsListenRequestParams::new(filter));
    let mut request = McpRequest::new(message);
    request.context.caller = caller;
    request
}

/// Waits until the caller is told, by which time the cache knows.
async fn told(
    received: &mut tokio::sync::mpsc::UnboundedReceiver<ServerNotification>,
) -> ServerNotification {
    super::common::soon("a notification", received.recv())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_listen_that_passes_tells_the_cache() {
    let setup =
        Setup::listed(quiet().cache_method("tools/list", std::time::Duration::from_secs(9))).await;
    let (caller, mut received) = recorder();
    let uri = "x://ttl-60000";
    let listening = tokio::spawn(setup.stack.clone().oneshot(listen(&[uri], caller)));
    told(&mut received).await;
    let read = || setup.said(McpRequest::read_resource(uri));
    read().await;
    setup
        .said(McpRequest::read_resource("x://ttl-60000/other"))
        .await;
    setup.said(plain("read")).await;

    setup.lab.change(updated(uri)).await;
    told(&mut received).await;
    assert_eq!(read().await.0, "#2");
    assert!(is_hit(
        setup
            .said(McpRequest::read_resource("x://ttl-60000/other"))
            .await
            .1
    ));
    assert!(is_hit(setup.said(plain("read")).await.1));

    setup.lab.change(tools_changed()).await;
    told(&mut received).await;
    assert!(is_hit(read().await.1));
    // The tool may be another one now: nothing is known of it until it is listed.
    setup.said(plain("read")).await;
    setup.said(plain("read")).await;
    assert_eq!(setup.lab.calls("read"), 3);

    setup
        .lab
        .change(ResourceListChangedNotification::default())
        .await;
    told(&mut received).await;
    assert_eq!(read().await.0, "#3");
    listening.abort();
}

#[tokio::test]
async fn a_resource_is_forgotten_when_a_part_of_it_has_changed() {
    let setup = Setup::listed(quiet()).await;
    let (caller, mut received) = recorder();
    let part = "x://ttl-60000/dir/part";
    let listening = tokio::spawn(setup.stack.clone().oneshot(listen(&[part], caller)));
    told(&mut received).await;
    let others = ["x://ttl-60000/di", "x://ttl-60000/dir/part/of"];
    let wholes = ["x://ttl-60000/", "x://ttl-60000/dir", part];
    for uri in others.into_iter().chain(wholes) {
        setup.said(McpRequest::read_resource(uri)).await;
    }
    setup.lab.change(updated(part)).await;
    told(&mut received).await;
    for uri in others {
        assert!(is_hit(setup.said(McpRequest::read_resource(uri)).await.1));
    }
    for uri in wholes {
        assert_eq!(setup.said(McpRequest::read_resource(uri)).await.0, "#2");
    }
    listening.abort();
}

#[tokio::test]
async fn an_answer_in_flight_while_its_change_is_told_is_not_kept() {
    let setup = Setup::listed(quiet().cache_tool("gated")).await;
    let (caller, mut received) = recorder();
    let listening = tokio::spawn(setup.stack.clone().oneshot(listen(&[], caller)));
    told(&mut received).await;
    let early = tokio::spawn(setup.stack.clone().oneshot(plain("gated")));
    setup.lab.running(1).await;
    setup.lab.change(tools_changed()).await;
    told(&mut received).await;
    // Who asks after the change does not get what was fetched before.
    let late = tokio::spawn(setup.stack.clone().oneshot(plain("gated")));
    setup.lab.running(2).await;
    setup.lab.open();
    let early = text(&early.await.unwrap().unwrap());
    let late = text(&late.await.unwrap().unwrap());
    assert_eq!((&*early, &*late), ("gated {} #1", "gated {} #2"));
    assert_eq!(setup.said(plain("gated")).await.0, late);
    listening.abort();
}

#[tokio::test]
async fn a_destructive_tool_is_not_kept_after_the_list_has_changed() {
    let setup = Setup::listed(quiet().cache_tool("*")).await;
    let (caller, mut received) = recorder();
    let listening = tokio::spawn(setup.stack.clone().oneshot(listen(&[], caller)));
    told(&mut received).await;
    setup.lab.change(tools_changed()).await;
    told(&mut received).await;
    for _ in 0..2 {
        setup.said(plain("wipe")).await;
    }
    assert_eq!(setup.lab.calls("wipe"), 2);
    listening.abort();
}

#[tokio::test]
async fn a_destructive_tool_is_not_kept_when_too_many_callers_have_listed() {
    let setup = Setup::listed(quiet().cache_tool("*")).await;
    for number in 0..1_100 {
        let list = by(&format!("user {number}"), McpRequest::list_tools());
        setup.ask(list).await.unwrap();
    }
    for _ in 0..2 {
        setup.said(plain("wipe")).await;
    }
    assert_eq!(setup.lab.calls("wipe"), 2);
}

#[tokio::test]
async fn a_list_from_before_a_change_makes_no_tool_safe() {
    for directives in [json!({}), json!({ "no-store": true })] {
        let setup = Setup::new(quiet().trust_annotations(true));
        let (caller, mut received) = recorder();
        let listening = tokio::spawn(setup.stack.clone().oneshot(listen(&[], caller)));
        told(&mut received).await;
        setup.lab.moody_is_safe(true);
        let early = with_meta(CACHE_META_KEY, directives, page("gated"));
        let early = tokio::spawn(setup.stack.clone().oneshot(early));
        setup.lab.running(1).await;
        setup.lab.moody_is_safe(false);
        setup.lab.change(tools_changed()).await;
        told(&mut received).await;
        setup.lab.open();
        early.await.unwrap().unwrap();
        for _ in 0..2 {
            setup.said(plain("moody")).await;
        }
        assert_eq!(setup.lab.calls("moody"), 2);
        listening.abort();
    }
}

#[tokio::test]
async fn the_cache_hears_of_changes_when_nobody_listens() {
    let setup = Setup::new(CacheLayer::builder().trust_annotations(true));
    setup.ask(McpRequest::list_tools()).await.unwrap();
    setup.lab.listening(1).await;
    setup.said(plain("read")).await;
    assert!(is_hit(setup.said(plain("read")).await.1));
    setup.lab.change(tools_changed()).await;
    let gone = async {
        while setup.cache.stats().entries > 0 {
            tokio::task::yield_now().await;
        }
    };
    super::common::soon("the eviction", gone).await;
    // One listen, however many calls there are; and none once the stack is gone.
    setup.said(plain("read")).await;
    setup.lab.listening(1).await;
    let Setup {
        lab,
        stack,
        upstream,
        ..
    } = setup;
    drop(stack);
    lab.listening(0).await;
    drop(upstream);
}

#[tokio::test]
async fn a_stack_without_listens_is_asked_once() {
    struct Deaf;
    impl rmcp::ServerHandler for Deaf {
        async fn call_tool(
            &self,
            _request: CallToolRequestParams,
            _context: rmcp::service::RequestContext<rmcp::RoleServer>,
        ) -> Result<CallToolResponse, rmcp::ErrorData> {
            Ok(CallToolResult::success(vec![ContentBlock::text("ok")]).into())
        }
    }
    let layer = CacheLayer::builder().cache_tool("*").build().unwrap();
    let cache = layer.handle();
    let stack = tower::ServiceBuilder::new()
        .layer(layer)
        .service(rmcp_layers::Upstream::in_process(Deaf));
    for n in 0..3 {
        stack
            .clone()
            .oneshot(call("any", json!({ "n": n })))
            .await
            .unwrap();
    }
    assert_eq!(cache.stats().entries, 3);
}

#[tokio::test]
async fn the_handle_forgets_what_it_is_told_to() {
    let setup = Setup::listed(
        quiet()
            .cache_tool("*")
            .cache_method("prompts/get", std::time::Duration::from_secs(9)),
    )
    .await;
    let read = McpRequest::read_resource("x://ttl-60000");
    let fill = || async {
        for who in ["alice", "bob"] {
            setup.said(by(who, plain("db__query"))).await;
            setup.said(by(who, plain("read"))).await;
        }
        setup.said(read.clone()).await;
        setup
            .said(McpRequest::get_prompt("hi", JsonObject::new()))
            .await;
    };
    fill().await;
    assert_eq!(setup.cache.stats().entries, 6);
    assert_eq!(setup.cache.invalidate_tool("db__*"), 2);
    assert_eq!(
        setup.cache.invalidate_principal(&Principal::new("alice")),
        1
    );
    assert_eq!(setup.cache.invalidate_resource("x://ttl-60000"), 1);
    assert_eq!(setup.cache.invalidate_request(&by("bob", plain("read"))), 1);
    assert_eq!(setup.cache.invalidate_request(&by("bob", plain("read"))), 0);
    assert_eq!(setup.cache.clear(), 1);
    assert_eq!(setup.cache.stats().invalidations, 6);
    fill().await;
    assert_eq!(setup.cache.stats().entries, 6);
}

#[tokio::test]
async fn a_request_is_forgotten_where_it_is_everybodys() {
    let setup = Setup::new(quiet());
    let read = || McpRequest::read_resource("x://ttl-60000/public");
    setup.said(by("alice", read())).await;
    assert_eq!(setup.cache.invalidate_request(&by("bob", read())), 1);
    assert_eq!(setup.said(read()).await.0, "#2");
}

#[tokio::test]
async fn a_request_is_forgotten_whatever_its_client_and_its_token_can_do() {
    let setup = Setup::new(quiet().cache_tool("*"));
    let (caller, _received) = recorder();
    let ask = |meta: &str| {
        let principal = Principal::new("alice").with_scopes(["read"]);
        let mut request = with_meta("vendor/locale", json!(meta), plain("read"));
        request.context.set_principal(principal);
        request.context.caller = caller.clone();
        request
    };
    for meta in ["de", "en"] {
        setup.said(ask(meta)).await;
    }
    let other = by("alice", call("read", json!({ "other": 1 })));
    setup.said(other.clone()).await;
    setup.said(by("bob", plain("read"))).await;
    // What an operator makes, who knows who is concerned and what was asked.
    let forgotten = setup.cache.invalidate_request(&by("alice", plain("read")));
    assert_eq!(forgotten, 2);
    assert!(is_hit(setup.said(other).await.1));
    assert!(is_hit(setup.said(by("bob", plain("read"))).await.1));
}
