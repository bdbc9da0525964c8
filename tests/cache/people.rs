//! Two users never meet.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rmcp::model::*;
use rmcp_layers::{
    Error, Lifecycle, McpRequest, McpResponse, Principal, Upstream, cache::CacheLayer,
};
use serde_json::json;
use tower::{Layer, ServiceExt, service_fn};

use super::{
    common::{Client, Stack, soon, tool},
    lab::*,
};

#[tokio::test]
async fn nobody_gets_somebody_elses_answer() {
    let setup = Setup::listed(quiet().cache_tool("read")).await;
    let alice = setup.said(by("alice", plain("read"))).await;
    let bob = setup.said(by("bob", plain("read"))).await;
    let nobody = setup.said(plain("read")).await;
    assert_eq!(
        [&*alice.0, &*bob.0, &*nobody.0],
        ["read {} #1", "read {} #2", "read {} #3"]
    );
    assert_eq!(setup.said(by("alice", plain("read"))).await.0, alice.0);
}

#[tokio::test]
async fn nobody_waits_for_somebody_elses_call() {
    let setup = Setup::listed(quiet().cache_tool("gated")).await;
    let alice = tokio::spawn(setup.stack.clone().oneshot(by("alice", plain("gated"))));
    let bob = tokio::spawn(setup.stack.clone().oneshot(by("bob", plain("gated"))));
    setup.lab.running(2).await;
    setup.lab.open();
    let (alice, bob) = (alice.await.unwrap().unwrap(), bob.await.unwrap().unwrap());
    assert_ne!(text(&alice), text(&bob));
}

#[tokio::test]
async fn a_token_with_other_scopes_or_claims_gets_its_own_answer() {
    let setup = Setup::listed(quiet().cache_tool("read")).await;
    let ask = |scopes: &[&str], claims: serde_json::Value| {
        let principal = Principal::new("alice")
            .with_scopes(scopes.iter().copied())
            .with_claims(serde_json::from_value(claims).unwrap());
        let mut request = plain("read");
        request.context.set_principal(principal);
        setup.said(request)
    };
    let first = ask(&["read"], json!({ "tenant": 1, "exp": 10, "jti": "a" }))
        .await
        .0;
    // A renewed token is the same caller.
    let renewed = ask(&["read"], json!({ "tenant": 1, "exp": 99, "jti": "b" }))
        .await
        .0;
    assert_eq!(renewed, first);
    for (scopes, claims) in [
        (&["read", "admin"][..], json!({ "tenant": 1 })),
        (&["readadmin"][..], json!({ "tenant": 1 })),
        (&["read"][..], json!({ "tenant": 2 })),
        (&[][..], json!({ "tenant": 1 })),
    ] {
        assert_ne!(ask(scopes, claims).await.0, first);
    }
}

#[tokio::test]
async fn what_is_public_is_everybodys_and_what_is_private_is_not() {
    let setup = Setup::new(quiet());
    let read = |who: &str, uri: &str| setup.said(by(who, McpRequest::read_resource(uri)));
    let (public, private, silent) = (
        "x://ttl-9000/public",
        "x://ttl-9000/private",
        "x://ttl-9000/silent",
    );
    for uri in [public, private, silent] {
        read("alice", uri).await;
    }
    assert_eq!(read("bob", public).await.0, "#1");
    assert_eq!(read("bob", private).await.0, "#2");
    assert_eq!(read("bob", silent).await.0, "#2");
    assert_eq!(read("alice", private).await.0, "#1");
    assert_eq!(setup.said(McpRequest::read_resource(public)).await.0, "#1");
}

/// A stack that knows its callers by something that the cache does not see, and marks its answers.
fn marking(calls: Arc<AtomicUsize>) -> impl Stack {
    service_fn(move |request: McpRequest| {
        let calls = calls.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let count = calls.fetch_add(1, Ordering::Relaxed) + 1;
            let token = request.context.extensions.get::<&'static str>();
            let who = *token.unwrap_or(&"nobody");
            let mut response = match &*request.message {
                ClientRequest::ReadResourceRequest(read) => {
                    let contents = ResourceContents::text(who, read.params.uri.clone());
                    let result = ReadResourceResult::new(vec![contents])
                        .with_ttl_ms(60_000)
                        .with_cache_scope(CacheScope::Public);
                    McpResponse::new(result)
                }
                _ => McpResponse::new(CallToolResult::success(vec![ContentBlock::text(format!(
                    "{who} #{count}"
                ))])),
            };
            response.mark_private(&Principal::new(who));
            Ok::<_, Error>(response)
        }
    })
}

fn holding(token: &'static str, mut request: McpRequest) -> McpRequest {
    request.context.extensions.insert(token);
    request
}

#[tokio::test(start_paused = true)]
async fn a_cache_outside_of_auth_keeps_and_shares_nothing_private() {
    let calls = Arc::new(AtomicUsize::new(0));
    let layer = quiet().cache_tool("inbox").build().unwrap();
    let (cache, stack) = (layer.handle(), layer.layer(marking(calls.clone())));
    let ask = |token| stack.clone().oneshot(holding(token, plain("inbox")));
    let (alice, bob) = tokio::join!(ask("alice"), ask("bob"));
    assert!(text(&alice.unwrap()).starts_with("alice"));
    assert!(text(&bob.unwrap()).starts_with("bob"));
    assert!(text(&ask("bob").await.unwrap()).starts_with("bob"));
    // Nor does a server's "public" make public what auth has marked.
    let read = |token| {
        stack
            .clone()
            .oneshot(holding(token, McpRequest::read_resource("x://inbox")))
    };
    assert_eq!(text(&read("alice").await.unwrap()), "alice");
    assert_eq!(text(&read("bob").await.unwrap()), "bob");
    assert_eq!(
        (calls.load(Ordering::Relaxed), cache.stats().entries),
        (5, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn an_inner_caches_hit_stays_private_for_an_outer_one() {
    // The outer cache does not know who calls; between the two somebody finds out.
    let calls = Arc::new(AtomicUsize::new(0));
    let layer = || quiet().cache_tool("inbox").build().unwrap();
    let inner = layer().layer(marking(calls.clone()));
    let authenticates = tower::util::MapRequest::new(inner, |mut request: McpRequest| {
        let token = request.context.extensions.get::<&'static str>().copied();
        request
            .context
            .set_principal(Principal::new(token.unwrap_or("nobody")));
        request
    });
    let stack = layer().layer(authenticates);
    let ask = |token| stack.clone().oneshot(holding(token, plain("inbox")));
    for _ in 0..2 {
        assert!(text(&ask("alice").await.unwrap()).starts_with("alice"));
        assert!(text(&ask("bob").await.unwrap()).starts_with("bob"));
    }
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn callers_known_by_what_they_show_are_apart() {
    let setup = Setup::listed(quiet().cache_tool("read")).await;
    let showing = |header: &str, value: &str| {
        let builder = http::Request::builder().header(header, value);
        let (parts, ()) = builder.body(()).unwrap().into_parts();
        let mut request = plain("read");
        request.context.extensions.insert(parts);
        setup.said(request)
    };
    let alice = showing("authorization", "Bearer a").await.0;
    assert_ne!(showing("authorization", "Bearer b").await.0, alice);
    assert_ne!(showing("cookie", "session=c").await.0, alice);
    let key = showing("x-api-key", "a").await.0;
    assert_ne!(showing("x-api-key", "b").await.0, key);
    assert_ne!(showing("x-forwarded-user", "alice").await.0, key);
    assert_eq!(showing("authorization", "Bearer a").await.0, alice);
    // What is not about the caller makes no difference.
    let plain = showing("accept", "*/*").await.0;
    assert_eq!(showing("user-agent", "x").await.0, plain);
}

#[tokio::test]
async fn two_stacks_under_one_layer_answer_for_themselves() {
    let layer = quiet().cache_tool("read").build().unwrap();
    let (one, two) = (Lab::default(), Lab::default());
    let first = layer.layer(Upstream::in_process(one.clone()));
    let second = layer.layer(Upstream::in_process(two.clone()));
    first.oneshot(plain("read")).await.unwrap();
    second.oneshot(plain("read")).await.unwrap();
    assert_eq!((one.calls("read"), two.calls("read")), (1, 1));
}

#[tokio::test]
async fn an_answer_for_which_the_caller_was_asked_is_its_own() {
    let lab = Lab::default();
    let layer = quiet().cache_tool("*").build().unwrap();
    let upstream = Upstream::builder().lifecycle(Lifecycle::Initialize);
    let stack = layer.layer(upstream.in_process(lab.clone()));
    let alice = Client::legacy("Alice", stack.clone()).await;
    let bob = Client::legacy("Bob", stack).await;
    for (client, name) in [(&alice, "Alice"), (&bob, "Bob"), (&alice, "Alice")] {
        let said = client.call(tool("ask", json!({}))).await;
        assert!(super::common::text(&said).contains(name), "{said:?}");
    }
    assert_eq!(lab.calls("ask"), 3);
    // What did not ask is kept.
    alice.call(tool("read", json!({}))).await;
    alice.call(tool("read", json!({}))).await;
    assert_eq!(lab.calls("read"), 1);
}

#[tokio::test]
async fn callers_of_both_generations_are_served() {
    let lab = Lab::default();
    let layer = CacheLayer::builder().cache_tool("read").build().unwrap();
    let cache = layer.handle();
    let stack = layer.layer(rmcp_layers::Handler::new(lab.clone()));
    let legacy = Client::legacy("old", stack.clone()).await;
    let modern = Client::modern("new", stack).await;
    for client in [&legacy, &modern, &legacy, &modern] {
        let said = soon("a call", client.call(tool("read", json!({})))).await;
        assert!(super::common::text(&said).starts_with("read"));
    }
    assert_eq!(lab.calls("read"), 2);
    assert_eq!(cache.stats().hits, 2);
}
