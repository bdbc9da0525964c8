//! What the guard lets through, and what it takes off on the way in and out.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use jsonwebtoken::Algorithm;
use rmcp::model::*;
use rmcp_layers::{
    Audience, CallContext, Error, Handler, McpRequest, McpResponse, Principal,
    auth::{AuthError, AuthLayer, Rules, Scopes, TOKEN_META_KEY, Verified, Verifier},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::{Layer, Service, ServiceExt};

use crate::{
    common::{Client, Heard, demo::Demo, recorder, soon, tool},
    line::Line,
    shop::{Shop, ask, call, guarded, layer, names, over_http, rules, shown, token},
    tokens::{Issuer, by_secret, claims, now},
};

/// The bottom of a stack: notes what reaches it, and answers by the method.
#[tokio::test]
async fn nobody_is_let_in_without_a_token() {
    let shop = Shop::default();
    let mut line = Line::to(guarded(&shop, rules().unmatched(Scopes::none())));
    for method in [
        "tools/list",
        "tools/call",
        "server/discover",
        "acme/reindex",
    ] {
        let answer = line.ask(method, json!({ "name": "ant" }), json!({})).await;
        assert_eq!(answer["error"]["code"], -31401, "{method}: {answer}");
        assert_eq!(
            answer["error"]["message"],
            "refused by auth: a token is needed"
        );
    }
    assert_eq!(shop.count(), 0);
}

#[tokio::test]
async fn what_is_below_knows_who_it_is_and_never_sees_the_token() {
    let shop = Shop::default();
    let stack = guarded(&shop, rules());
    let token = token("x");
    let bearer = format!("bearer   {token}");
    let mut request = over_http("/mcp", &[("authorization", &bearer), ("x-other", "stays")]);
    request
        .context
        .meta
        .insert(TOKEN_META_KEY.to_owned(), token.clone().into());
    request.context.meta.insert("kept".to_owned(), 1.into());
    ask(&stack, request).await.unwrap();

    let seen = shop.last();
    let principal = seen.context.principal().unwrap();
    assert_eq!(principal.subject(), "alice");
    assert_eq!(principal.issuer(), Some(crate::tokens::ISSUER));
    assert_eq!(principal.scopes(), ["x"]);
    assert_eq!(principal.claims()["sub"], "alice");
    let parts = seen
        .context
        .extensions
        .get::<http::request::Parts>()
        .unwrap();
    assert!(!parts.headers.contains_key(AUTHORIZATION));
    assert_eq!(parts.headers["x-other"], "stays");
    assert!(seen.context.meta.get(TOKEN_META_KEY).is_none());
    assert_eq!(seen.context.meta.get("kept"), Some(&1.into()));
    let all = format!("{seen:?} {parts:?}");
    assert!(!all.contains(token.split('.').nth(2).unwrap()), "{all}");
}

#[tokio::test]
async fn a_token_that_is_not_looked_for_is_taken_off_all_the_same() {
    let shop = Shop::default();
    let stack = layer(rules())
        .token_from_http(false)
        .token_from_meta(false)
        .token_from(|_| Some(token("x")))
        .build()
        .unwrap()
        .layer(shop.clone());
    let mut request = over_http("/mcp", &[("authorization", "Basic YTpi")]);
    request
        .context
        .meta
        .insert(TOKEN_META_KEY.to_owned(), "other".into());
    ask(&stack, request).await.unwrap();
    let seen = shop.last();
    let parts = seen
        .context
        .extensions
        .get::<http::request::Parts>()
        .unwrap();
    assert!(!parts.headers.contains_key(AUTHORIZATION));
    assert!(seen.context.meta.get(TOKEN_META_KEY).is_none());
}

#[tokio::test]
async fn a_token_in_a_wrong_place_or_in_two_is_refused() {
    let stack = guarded(&Shop::default(), rules());
    let good = format!("Bearer {}", token("x"));
    let other = format!("Bearer {}", token("admin"));
    type Headers<'a> = Vec<(&'a str, &'a str)>;
    let rows: [(&str, &str, Headers<'_>); 8] = [
        (
            "in the query",
            "/mcp?access_token=abc",
            vec![("authorization", &good)],
        ),
        (
            "in the query, encoded",
            "/mcp?a=b&acces%73_token=abc",
            vec![("authorization", &good)],
        ),
        (
            "in the query, in capitals",
            "/mcp?ACCESS_TOKEN=abc",
            vec![("authorization", &good)],
        ),
        (
            "two headers",
            "/mcp",
            vec![("authorization", &good), ("authorization", &other)],
        ),
        (
            "the same twice",
            "/mcp",
            vec![("authorization", &good), ("authorization", &good)],
        ),
        (
            "another scheme",
            "/mcp",
            vec![("authorization", "Basic YTpi")],
        ),
        (
            "the scheme alone",
            "/mcp",
            vec![("authorization", "Bearer ")],
        ),
        (
            "no scheme",
            "/mcp",
            vec![("authorization", good.trim_start_matches("Bearer "))],
        ),
    ];
    for (how, uri, headers) in rows {
        let error = ask(&stack, over_http(uri, &headers)).await.unwrap_err();
        assert_eq!(error.code.0, -31401, "{how}: {error:?}");
    }
    let mut request = over_http("/mcp", &[("authorization", &good)]);
    let disagrees = token("admin").into();
    request
        .context
        .meta
        .insert(TOKEN_META_KEY.to_owned(), disagrees);
    let error = ask(&stack, request).await.unwrap_err();
    assert_eq!(error.code.0, -31401);
    assert_eq!(error.data.unwrap()["reason"], "invalid_request");
}

#[tokio::test]
async fn a_session_over_stdio_has_its_token_from_the_environment_and_http_never_has() {
    /// Cargo sets the variable for every test.
    struct Host;
    impl Verifier for Host {
        fn verify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Verified, AuthError>> {
            assert_eq!(token, "rmcp-layers");
            let host = Principal::new("host").with_scopes(["db:read"]);
            Box::pin(std::future::ready(Ok(Verified::new(host))))
        }
    }
    let shop = Shop::default();
    let stack = AuthLayer::builder(Host)
        .rules(rules().build().unwrap())
        .token_from_env("CARGO_PKG_NAME")
        .build()
        .unwrap()
        .layer(shop.clone());
    let mut line = Line::to(stack.clone());
    let answer = line
        .ask("tools/call", json!({ "name": "db__read" }), json!({}))
        .await;
    assert_eq!(answer["result"]["content"][0]["text"], "done", "{answer}");
    assert_eq!(shop.last().context.principal().unwrap().subject(), "host");

    let error = ask(&stack, over_http("/mcp", &[])).await.unwrap_err();
    assert_eq!(error.data.unwrap()["reason"], "missing_token");
    let missing = AuthLayer::builder(by_secret())
        .token_from_env("NO_SUCH_VARIABLE")
        .build();
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .contains("`NO_SUCH_VARIABLE`")
    );
}

#[tokio::test]
async fn an_answer_is_marked_as_its_principals() {
    let stack = guarded(&Shop::default(), rules());
    let answer = stack.oneshot(call("ant", "")).await.unwrap();
    let of = |subject: &str| {
        Audience::principal(&Principal::new(subject).with_issuer(crate::tokens::ISSUER))
    };
    assert!(answer.is_for(&of("alice")));
    assert!(!answer.is_for(&of("bob")));
    assert!(!answer.is_for(&Audience::anonymous()));
    assert!(!answer.is_for(&Audience::everybody()));
}

#[tokio::test]
async fn whoever_is_named_before_the_guard_counts_for_nothing() {
    let shop = Shop::default();
    let stack = guarded(&shop, rules());
    let mut forged = McpRequest::call_tool("zebra").build();
    forged
        .context
        .set_principal(Principal::new("root").with_scopes(["admin"]));
    assert_eq!(ask(&stack, forged).await.unwrap_err().code.0, -31401);
    let mut both = call("ant", "");
    both.context
        .set_principal(Principal::new("root").with_scopes(["admin"]));
    ask(&stack, both).await.unwrap();
    assert_eq!(shop.last().context.principal().unwrap().subject(), "alice");
}

#[tokio::test]
async fn rules_can_be_replaced_while_calls_come() {
    let layer = layer(rules()).build().unwrap();
    let handle = layer.handle();
    let stack = layer.layer(Shop::default());
    ask(&stack, call("ant", "")).await.unwrap();
    handle.set_rules(
        Rules::builder()
            .tool("zebra", Scopes::none())
            .build()
            .unwrap(),
    );
    ask(&stack, call("zebra", "")).await.unwrap();
    ask(&stack, call("ant", "")).await.unwrap_err();
    let listed = ask(&stack, shown(ListToolsRequest::default(), ""))
        .await
        .unwrap();
    assert_eq!(names(&listed), ["zebra"]);
}

#[tokio::test]
async fn an_older_client_shakes_hands_where_that_is_open_and_calls_with_its_token() {
    let layer = layer(Rules::builder().tool("add", Scopes::none()))
        .allow_unauthenticated(["server/discover", "notifications/*"])
        .build()
        .unwrap();
    let client = Client::legacy("old", layer.layer(Handler::new(Demo::default()))).await;
    let refused = client
        .peer
        .call_tool_once(tool("add", json!({ "a": 1 })))
        .await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("a token is needed")
    );
    let mut params = tool("add", json!({ "a": 1, "b": 1 }));
    let meta = params.meta.get_or_insert_default();
    meta.insert(TOKEN_META_KEY.to_owned(), token("").into());
    assert_eq!(crate::common::text(&client.call(params).await), "2");

    let wrong = AuthLayer::builder(by_secret())
        .allow_unauthenticated(["tools/list"])
        .build();
    assert!(
        wrong
            .unwrap_err()
            .to_string()
            .contains("`tools/list` needs a token")
    );
}

/// A bottom that keeps listens open, and tells of what it is told to.
#[derive(Clone, Default)]
pub struct Crier(pub Arc<Mutex<Vec<CallContext>>>, Arc<AtomicUsize>);

impl Service<McpRequest> for Crier {
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, Result<McpResponse, Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        if let ClientRequest::SubscriptionsListenRequest(listen) = &*request.message {
            let asked = &listen.params.notifications.resource_subscriptions;
            let count = asked.as_ref().map_or(0, Vec::len);
            self.1.store(count, Ordering::SeqCst);
        }
        self.0.lock().unwrap().push(request.context.clone());
        Box::pin(std::future::pending())
    }
}

fn updated(uri: &str) -> ServerNotification {
    ResourceUpdatedNotification::new(ResourceUpdatedNotificationParam::new(uri)).into()
}

fn uris(heard: &mut mpsc::UnboundedReceiver<ServerNotification>) -> Vec<String> {
    let mut uris = Vec::new();
    while let Ok(notification) = heard.try_recv() {
        match notification {
            ServerNotification::ResourceUpdatedNotification(updated) => {
                uris.push(updated.params.uri);
            }
            other => uris.push(format!("{other:?}").chars().take(8).collect()),
        }
    }
    uris
}

#[tokio::test(start_paused = true)]
async fn a_listen_hears_nothing_of_forbidden_resources_and_ends_with_its_token() {
    let crier = Crier::default();
    let started = tokio::time::Instant::now();
    let begun = SystemTime::now();
    let clock = move || begun + started.elapsed();
    let verifier = crate::tokens::verifier()
        .secret(crate::tokens::SECRET)
        .clock(clock)
        .build()
        .unwrap();
    let layer = AuthLayer::builder(verifier)
        .rules(rules().build().unwrap())
        .clock(clock)
        .build()
        .unwrap();
    let handle = layer.handle();
    let (caller, mut heard) = recorder();
    let mut filter = SubscriptionFilter::new();
    filter.resource_subscriptions = Some(vec!["file:///db__read".into(), "file:///secret".into()]);
    let listen = SubscriptionsListenRequest::new(SubscriptionsListenRequestParams::new(filter));
    let mut request = shown(listen, "db:read");
    request.context.caller = caller;
    let listening = tokio::spawn(layer.layer(crier.clone()).oneshot(request));
    tokio::task::yield_now().await;
    assert_eq!(
        crier.1.load(Ordering::SeqCst),
        1,
        "what is asked for is narrowed"
    );

    let below = crier.0.lock().unwrap()[0].caller.clone();
    below.notify(updated("file:///secret")).await.unwrap();
    below.notify(updated("file:///db__read")).await.unwrap();
    below
        .notify(ToolListChangedNotification::default().into())
        .await
        .unwrap();
    assert_eq!(uris(&mut heard), ["file:///db__read", "ToolList"]);
    handle.set_rules(Rules::builder().build().unwrap());
    below.notify(updated("file:///db__read")).await.unwrap();
    assert!(uris(&mut heard).is_empty());

    // Ten minutes, and the leeway.
    let ended = tokio::time::timeout(Duration::from_secs(700), listening).await;
    let error = ErrorData::from(ended.expect("an end").unwrap().unwrap_err());
    assert_eq!(error.code.0, -31401);
    assert!(started.elapsed() >= Duration::from_secs(600));
}

#[tokio::test]
async fn a_client_hears_of_the_resources_it_may_read() {
    let demo = Demo::default();
    let layer = layer(Rules::builder().resource("file:///a", Scopes::none()))
        .token_from(|_| Some(token("")))
        .build()
        .unwrap();
    let mut client = Client::legacy("reader", layer.layer(Handler::new(demo.clone()))).await;
    let subscribe = |uri: &str| client.peer.subscribe(SubscribeRequestParams::new(uri));
    soon("subscribing", subscribe("file:///a")).await.unwrap();
    demo.change(ResourceUpdatedNotification::new(
        ResourceUpdatedNotificationParam::new("file:///b"),
    ))
    .await;
    demo.change(ResourceUpdatedNotification::new(
        ResourceUpdatedNotificationParam::new("file:///a"),
    ))
    .await;
    assert_eq!(
        client.hear("an update").await,
        Heard::Updated("file:///a".into())
    );
}

#[tokio::test]
async fn a_remembered_token_ends_when_it_says() {
    let late = Arc::new(AtomicUsize::new(0));
    let clock = {
        let late = late.clone();
        move || SystemTime::now() + Duration::from_secs(late.load(Ordering::SeqCst) as u64)
    };
    let verifier = crate::tokens::verifier()
        .secret(crate::tokens::SECRET)
        .clock(clock)
        .build()
        .unwrap();
    let issuer = Issuer::secret(Algorithm::HS256);
    let mut short: Value = claims("alice", "x");
    short["exp"] = (now() + 10).into();
    let token = issuer.sign(&issuer.header(), &short);
    assert!(verifier.remembered(&token).is_none());
    verifier.verify(&token).await.unwrap();
    assert!(verifier.remembered(&token).is_some());
    assert!(verifier.remembered(&format!("{token}x")).is_none());
    late.store(39, Ordering::SeqCst);
    assert!(verifier.remembered(&token).is_some());
    late.store(41, Ordering::SeqCst);
    assert!(verifier.remembered(&token).is_none());
    let error = verifier.verify(&token).await.unwrap_err();
    assert_eq!(error.kind(), rmcp_layers::auth::AuthErrorKind::Expired);
}
