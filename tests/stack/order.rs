//! The recommended order of layers, and the rules for tower's own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use rmcp::model::*;
use rmcp_layers::{
    BoxStack, Error, ErrorKind, McpClient, McpRequest, Principal, ServiceBuilderExt, Stack,
    TransportError, Upstream,
    auth::{ApiKeys, AuthLayer, CredentialLayer, Credentials, Rules, TOKEN_META_KEY},
    budget::{BudgetLayer, ContextBudget},
    cache::CacheLayer,
    delegate::{Agent, DelegateLayer, Mapping, Orchestrator},
    from_fn,
    gateway::Gateway,
    registry::{RegisteredTool, RegistryLayer},
    retry::{
        RetryLayer,
        breaker::{CircuitBreakerLayer, CircuitBreakerPolicy, CircuitBreakerState},
    },
};
use serde_json::json;
use tokio::time::Instant;
use tower::{Layer, ServiceBuilder, ServiceExt};

use crate::common::{Client, Heard, demo::Demo, piped, said, soon, text, tool};

const ANN: &str = "k-3f9a5c1e77d04b2a";
const BEN: &str = "k-77d04b2a3f9a5c1e";

fn auth() -> AuthLayer {
    let keys = ApiKeys::new()
        .key(ANN, Principal::new("ann").with_scopes(["use"]))
        .and_then(|keys| keys.key(BEN, Principal::new("ben").with_scopes(["use"])));
    let rules = Rules::builder().tool("*", "use").method("*", "use").build();
    let layer = AuthLayer::builder(keys.unwrap()).rules(rules.unwrap());
    layer.build().unwrap()
}

/// A layer that counts calls of tools.
fn counting<S: Stack>(
    count: &Arc<AtomicUsize>,
) -> impl Layer<S, Service: Stack<Error = Error>> + use<S> {
    failing(0, count)
}

/// A layer that counts calls of tools, and fails the first ones before they reach the server.
fn failing<S: Stack>(
    failures: usize,
    count: &Arc<AtomicUsize>,
) -> impl Layer<S, Service: Stack<Error = Error>> + use<S> {
    let count = count.clone();
    from_fn(move |request, next| {
        let is_call = request.as_tool_call().is_some();
        let fails = is_call && count.fetch_add(1, Ordering::Relaxed) < failures;
        async move {
            if fails {
                return Err(TransportError::not_delivered("refused").into());
            }
            next.run(request).await
        }
    })
}

fn add(key: Option<&str>) -> McpRequest {
    let call = McpRequest::call_tool("add")
        .argument("a", 1)
        .argument("b", 2);
    match key {
        Some(key) => call.meta(TOKEN_META_KEY, key).build(),
        None => call.build(),
    }
}

#[tokio::test]
async fn the_recommended_order_serves_calls_lists_and_listens() {
    let demo = Demo::default();
    let member = ServiceBuilder::new()
        .retry_calls(RetryLayer::new())
        .circuit_breaker(CircuitBreakerLayer::new())
        .credential(CredentialLayer::new(
            Credentials::fixed("token-for-this-server").unwrap(),
        ))
        .service(piped(Upstream::builder(), &demo));
    let gateway = Gateway::builder().member("demo", member).build().unwrap();
    let registry = RegistryLayer::new();
    let tools = registry.handle();
    let stack = ServiceBuilder::new()
        .except_listens(ServiceBuilder::new().load_shed().concurrency_limit(256))
        .auth(auth())
        .registry(registry)
        .cache(CacheLayer::new())
        .service(gateway);
    let mut client = Client::legacy("caller", {
        ServiceBuilder::new()
            .map_request(|mut request: McpRequest| {
                let meta = &mut request.context.meta;
                meta.insert(TOKEN_META_KEY.to_owned(), json!(ANN));
                request
            })
            .service(stack)
    })
    .await;

    let sum = client
        .call(tool("demo__add", json!({ "a": 1, "b": 2 })))
        .await;
    assert_eq!(text(&sum), "3");
    let names = |tools: Vec<Tool>| -> Vec<_> {
        tools
            .into_iter()
            .map(|tool| tool.name.into_owned())
            .collect()
    };
    let listed = names(client.peer.list_all_tools().await.unwrap());
    assert_eq!(listed, ["demo__add", "demo__echo"]);

    demo.until("a listen at the server", |seen| !seen.listening.is_empty())
        .await;
    let hello = RegisteredTool::builder("hello")
        .handler(|_: JsonObject, _context| async { Ok::<_, Error>("hello".to_owned()) })
        .build();
    tools.register(hello.unwrap()).unwrap();
    assert_eq!(client.hear("the change").await, Heard::Tools);
    let listed = names(client.peer.list_all_tools().await.unwrap());
    assert_eq!(listed, ["hello", "demo__add", "demo__echo"]);
}

#[tokio::test]
async fn a_call_without_a_token_reaches_nothing_behind_auth() {
    let count = Arc::new(AtomicUsize::new(0));
    let stack = ServiceBuilder::new()
        .auth(auth())
        .layer(counting(&count))
        .registry(RegistryLayer::new())
        .cache(CacheLayer::new())
        .service(piped(Upstream::builder(), &Demo::default()));
    assert!(stack.clone().oneshot(add(None)).await.is_err());
    assert_eq!(count.load(Ordering::Relaxed), 0);
    assert_eq!(said(stack.oneshot(add(Some(ANN))).await), "3");
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_hit_reaches_no_layer_inside_of_the_cache() {
    let (outside, inside) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let cache = CacheLayer::builder().cache_tool("add").build().unwrap();
    let stack = ServiceBuilder::new()
        .layer(counting(&outside))
        .cache(cache)
        .retry_calls(RetryLayer::new())
        .layer(counting(&inside))
        .service(piped(Upstream::builder(), &Demo::default()));
    for _ in 0..3 {
        assert_eq!(said(stack.clone().oneshot(add(None)).await), "3");
    }
    assert_eq!(outside.load(Ordering::Relaxed), 3);
    assert_eq!(inside.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn auth_and_cache_keep_callers_apart_in_either_order() {
    let cache = || CacheLayer::builder().cache_tool("add").build().unwrap();
    let demo = Demo::default();
    let upstream = piped(Upstream::builder(), &demo);
    let (first, second) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let outside = ServiceBuilder::new()
        .auth(auth())
        .cache(cache())
        .layer(counting(&first))
        .service(upstream.clone());
    let inside = ServiceBuilder::new()
        .cache(cache())
        .auth(auth())
        .layer(counting(&second))
        .service(upstream);
    for key in [ANN, BEN, ANN, BEN] {
        assert_eq!(said(outside.clone().oneshot(add(Some(key))).await), "3");
        assert_eq!(said(inside.clone().oneshot(add(Some(key))).await), "3");
    }
    assert!(outside.oneshot(add(None)).await.is_err());
    assert!(inside.oneshot(add(None)).await.is_err());
    // The order decides what a call costs.
    assert_eq!(first.load(Ordering::Relaxed), 2);
    assert!(second.load(Ordering::Relaxed) >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_inside_of_retry_counts_each_attempt_and_outside_each_call() {
    let breaker = || {
        let policy = CircuitBreakerPolicy::new().consecutive_failures(2);
        let breaker = CircuitBreakerLayer::builder().policy(policy);
        breaker.build().unwrap()
    };
    let demo = Demo::default();
    let upstream = piped(Upstream::builder(), &demo);

    let count = Arc::new(AtomicUsize::new(0));
    let inside = breaker();
    let handle = inside.handle();
    let stack = ServiceBuilder::new()
        .retry_calls(RetryLayer::new())
        .circuit_breaker(inside)
        .layer(failing(usize::MAX, &count))
        .service(upstream.clone());
    assert!(stack.oneshot(add(None)).await.is_err());
    assert_eq!(handle.state("add"), CircuitBreakerState::Open);
    assert_eq!(count.load(Ordering::Relaxed), 2);

    let count = Arc::new(AtomicUsize::new(0));
    let outside = breaker();
    let handle = outside.handle();
    let stack = ServiceBuilder::new()
        .circuit_breaker(outside)
        .retry_calls(RetryLayer::new())
        .layer(failing(usize::MAX, &count))
        .service(upstream);
    assert!(stack.oneshot(add(None)).await.is_err());
    assert_eq!(handle.state("add"), CircuitBreakerState::Closed);
    assert!(count.load(Ordering::Relaxed) > 2);
}

#[tokio::test(start_paused = true)]
async fn retries_take_new_room_for_each_attempt() {
    let count = Arc::new(AtomicUsize::new(0));
    let stack = ServiceBuilder::new()
        .retry_calls(RetryLayer::new())
        .concurrency_limit(1)
        .layer(failing(2, &count))
        .service(piped(Upstream::builder(), &Demo::default()));
    let calls = (0..4).map(|_| stack.clone().oneshot(add(None)));
    for answer in soon("four calls", futures::future::join_all(calls)).await {
        assert_eq!(said(answer), "3");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_behind_a_buffer_is_a_stack() {
    let stack = ServiceBuilder::new()
        .buffer(64)
        .rate_limit(2, Duration::from_secs(1))
        .service(Upstream::in_process(Demo::default()));
    let client = McpClient::new(stack);
    let started = Instant::now();
    for _ in 0..6 {
        assert_eq!(text(&client.call_tool("add").await.unwrap()), "0");
    }
    assert!(started.elapsed() >= Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn an_optional_timeout_is_a_stack_with_or_without_it() {
    let demo = Demo::default();
    for limit in [Some(Duration::from_secs(5)), None] {
        let timeout = limit.map(|limit| ServiceBuilder::new().map_err(Error::from).timeout(limit));
        let stack = ServiceBuilder::new()
            .option_layer(timeout)
            .service(piped(Upstream::builder(), &demo));
        let client = McpClient::builder(stack)
            .total_timeout(Duration::from_secs(10))
            .build();
        let started = Instant::now();
        let late = client.call_tool("wait").await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout);
        let waited = limit.unwrap_or(Duration::from_secs(10));
        assert_eq!(started.elapsed().as_secs(), waited.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn load_shed_sheds_right_outside_of_the_limit_and_not_outside_of_a_cache() {
    let demo = Demo::default();
    let sheds = ServiceBuilder::new()
        .cache(CacheLayer::new())
        .load_shed()
        .concurrency_limit(1)
        .service(piped(Upstream::builder(), &demo));
    let waits = ServiceBuilder::new()
        .load_shed()
        .cache(CacheLayer::new())
        .concurrency_limit(1)
        .service(piped(Upstream::builder(), &demo));

    let first = tokio::spawn(sheds.clone().oneshot(McpRequest::call_tool("wait").build()));
    demo.until("the first call", |seen| seen.waiting == 1).await;
    let second = sheds.oneshot(add(None)).await.unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Refused, "{second}");
    first.abort();
    demo.until("its end", |seen| seen.waiting == 0).await;

    let first = tokio::spawn(waits.clone().oneshot(McpRequest::call_tool("wait").build()));
    demo.until("the first call", |seen| seen.waiting == 1).await;
    let second = tokio::time::timeout(Duration::from_secs(60), waits.oneshot(add(None)));
    assert!(second.await.is_err(), "it waits");
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn a_timeout_ends_a_listen_unless_it_is_in_except_listens() {
    let demo = Demo::default();
    let limit = ServiceBuilder::new().timeout(Duration::from_secs(5));
    let filter = || SubscriptionFilter::builder().tools_list_changed().build();
    let ended = McpClient::new(limit.clone().service(piped(Upstream::builder(), &demo)));
    let stays = McpClient::new(
        ServiceBuilder::new()
            .except_listens(limit)
            .service(piped(Upstream::builder(), &demo)),
    );
    let mut ended = ended.listen(filter()).await.unwrap();
    let mut stays = stays.listen(filter()).await.unwrap();
    let started = Instant::now();
    let last = soon("the end", ended.next()).await;
    assert!(matches!(last, Some(Err(_))), "{last:?}");
    assert_eq!(started.elapsed().as_secs(), 5);
    tokio::time::sleep(Duration::from_secs(60)).await;
    demo.change(ToolListChangedNotification::default()).await;
    let heard = soon("the change", stays.next()).await;
    assert!(matches!(
        heard,
        Some(Ok(ServerNotification::ToolListChangedNotification(_)))
    ));
}

#[tokio::test]
async fn delegation_serves_in_either_order_with_auth_and_budget() {
    let demo = Demo::default();
    let upstream = || piped(Upstream::builder(), &demo);
    let delegate = async || {
        let orchestrator = Orchestrator::builder().build().unwrap();
        let mapping = Mapping::tool("echo").description("text");
        let agent = Agent::builder("echo", upstream()).mapping(mapping).build();
        orchestrator.register(agent.unwrap()).await.unwrap();
        DelegateLayer::new(orchestrator)
    };
    let budget = || {
        let budget = BudgetLayer::builder(ContextBudget::new(32_000));
        budget.build().unwrap()
    };
    let (outer, inner) = (budget(), budget());
    let (outside, inside) = (outer.handle(), inner.handle());
    let recommended = ServiceBuilder::new()
        .auth(auth())
        .budget(outer)
        .delegate(delegate().await)
        .service(upstream());
    let reversed = ServiceBuilder::new()
        .delegate(delegate().await)
        .budget(inner)
        .auth(auth())
        .service(upstream());
    let call = || {
        let call = McpRequest::call_tool("delegate_task").argument("description", "hello");
        let call = call.meta(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        );
        call.meta(TOKEN_META_KEY, ANN).build()
    };
    // The agent says what it has got: the trace, and not the caller's token.
    for stack in [
        BoxStack::new(recommended.clone()),
        BoxStack::new(reversed.clone()),
    ] {
        let got = said(stack.oneshot(call()).await);
        assert!(got.contains("0af7651916cd43dd8448eb211c80319c"), "{got}");
        assert!(!got.contains(ANN), "{got}");
    }
    assert_eq!(said(reversed.oneshot(add(Some(ANN))).await), "3");
    assert!(recommended.oneshot(add(None)).await.is_err());
    // The order decides who pays for the answers of agents.
    assert!(outside.stats().charged_tokens > 0);
    assert!(inside.stats().charged_tokens < outside.stats().charged_tokens);
}
