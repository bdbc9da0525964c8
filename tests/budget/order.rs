//! The budget beside other layers, in either order.

use std::time::Duration;

use rmcp::model::*;
use rmcp_layers::{
    BoxStack, Error, McpClient, McpRequest, McpResponse, Principal, ServiceBuilderExt, Upstream,
    auth::{ApiKeys, AuthLayer, Rules},
    cache::CacheLayer,
    gateway::Gateway,
    registry::{RegisteredTool, RegistryLayer, SearchMode},
    retry::{RetryLayer, RetryPolicy},
};
use serde_json::json;
use tower::{BoxError, ServiceBuilder, ServiceExt};

use super::{common::soon, office::*};

async fn ask(stack: &BoxStack, request: McpRequest) -> Result<McpResponse, Error> {
    soon("an answer", stack.clone().oneshot(request)).await
}

fn cache() -> CacheLayer {
    let cache = CacheLayer::builder().watch_changes(false);
    cache
        .cache_tool_for("lines", Duration::from_secs(60))
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_cache_hit_inside_is_charged_for() {
    let office = Office::default();
    let stack = ServiceBuilder::new()
        .budget(layer().build().unwrap())
        .cache(cache())
        .service(Upstream::in_process(office.clone()));
    let stack = BoxStack::new(stack);
    let first = report(&ask(&stack, call("lines", 100)).await.unwrap());
    let second = report(&ask(&stack, call("lines", 100)).await.unwrap());
    assert_eq!(office.events.count("lines"), 1);
    assert_eq!(
        (second.charged, second.left),
        (first.charged, first.left - first.charged)
    );
}

#[tokio::test]
async fn a_cache_outside_keeps_no_result_of_a_budget() {
    let office = Office::default();
    let stack = ServiceBuilder::new()
        .cache(cache())
        .budget(layer().build().unwrap())
        .service(Upstream::in_process(office.clone()));
    let stack = BoxStack::new(stack);
    let (mut left, mut ids) = (USABLE, Vec::new());
    for _ in 0..2 {
        let cut = ask(&stack, call("lines", 5_000)).await.unwrap();
        left -= report(&cut).charged;
        assert_eq!(report(&cut).left, left);
        ids.push(kept_id(&cut));
    }
    assert_eq!(office.events.count("lines"), 2);
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn rules_of_auth_hold_for_the_tool_that_reads_kept_results() {
    let reader = Principal::new("reader").with_scopes(["read"]);
    let keys = ApiKeys::new().key("k-3f9a5c1e77d04b2a", reader).unwrap();
    let rules = Rules::builder()
        .tool("lines", "read")
        .tool("read_result", "rest")
        .resource("result://*", "read")
        .build()
        .unwrap();
    let auth = AuthLayer::builder(keys).rules(rules).build().unwrap();
    let stack = ServiceBuilder::new()
        .auth(auth)
        .budget(layer().build().unwrap())
        .service(Upstream::in_process(Office::default()));
    let stack = BoxStack::new(stack);
    let with_key = |mut request: McpRequest| {
        let head = http::Request::builder().header("authorization", "Bearer k-3f9a5c1e77d04b2a");
        let (parts, ()) = head.body(()).unwrap().into_parts();
        request.context.extensions.insert(parts);
        request
    };
    let cut = ask(&stack, with_key(call("lines", 5_000))).await.unwrap();
    // The note does not name a tool that the caller may not call.
    assert!(
        text(&cut).contains("Read the resource result://"),
        "{}",
        text(&cut)
    );
    let id = kept_id(&cut);
    assert!(
        ask(&stack, with_key(read(json!({ "id": id }))))
            .await
            .is_err()
    );
    let uri = McpRequest::read_resource(format!("result://{id}"));
    ask(&stack, with_key(uri)).await.unwrap();
}

fn registered() -> RegistryLayer {
    let registry = RegistryLayer::builder()
        .search(SearchMode::Only)
        .build()
        .unwrap();
    let many = RegisteredTool::builder("many")
        .handler(|_: JsonObject, _| async { Ok::<_, BoxError>(lines(10_000)) })
        .build()
        .unwrap();
    registry.handle().register(many).unwrap();
    registry
}

#[tokio::test]
async fn results_of_registered_tools_inside_are_charged_for_by_their_own_name() {
    let budget = layer().max_fraction_of_tool("many", 0.05).build().unwrap();
    let stack = ServiceBuilder::new()
        .budget(budget)
        .registry(registered())
        .service(Upstream::in_process(Office::default()));
    let stack = BoxStack::new(stack);
    let called = McpRequest::call_tool("call_tool")
        .argument("name", "many")
        .build();
    let cut = ask(&stack, called).await.unwrap();
    assert!(report(&cut).charged <= USABLE / 20);
    let rest = ask(&stack, read(json!({ "id": kept_id(&cut) })))
        .await
        .unwrap();
    assert!(!is_error(&rest));
}

#[tokio::test]
async fn a_registry_outside_passes_reads_on() {
    let stack = ServiceBuilder::new()
        .registry(registered())
        .budget(layer().build().unwrap())
        .service(Upstream::in_process(Office::default()));
    let stack = BoxStack::new(stack);
    let cut = ask(&stack, call("lines", 5_000)).await.unwrap();
    let rest = ask(&stack, read(json!({ "id": kept_id(&cut) })))
        .await
        .unwrap();
    assert!(!is_error(&rest));
}

#[tokio::test]
async fn a_refused_call_is_not_repeated() {
    let office = Office::default();
    let retry = RetryLayer::builder()
        .tool("*", RetryPolicy::default())
        .build()
        .unwrap();
    let stack = ServiceBuilder::new()
        .retry_calls(retry)
        .budget(layer().max_fraction(1.0).build().unwrap())
        .service(Upstream::in_process(office.clone()));
    let client = McpClient::new(stack);
    client.send(call("lines", 10_000)).await.unwrap();
    let refused = client.send(call("lines", 1)).await.unwrap();
    assert!(is_error(&refused));
    assert_eq!(
        (refused.report.attempts, office.events.count("lines")),
        (1, 1)
    );
}

#[tokio::test]
async fn a_budget_of_a_gateways_member_is_read_by_its_outward_names() {
    let member = || {
        ServiceBuilder::new()
            .budget(layer().build().unwrap())
            .service(Upstream::in_process(Office::default()))
    };
    let gateway = Gateway::builder()
        .member("one", member())
        .member("two", member())
        .build()
        .unwrap();
    let stack = BoxStack::new(gateway);
    for name in ["one", "two"] {
        let called = call(&format!("{name}__lines"), 5_000);
        let cut = ask(&stack, called).await.unwrap();
        let content = &cut.as_tool_result().unwrap().content;
        let link = content.iter().find_map(|block| block.as_resource_link());
        let uri = link.expect("a link").uri.clone();
        ask(&stack, McpRequest::read_resource(uri)).await.unwrap();
        let tool = format!("{name}__read_result");
        let rest = McpRequest::call_tool(tool).argument("id", kept_id(&cut));
        let rest = ask(&stack, rest.build()).await.unwrap();
        assert!(!is_error(&rest), "{}", text(&rest));
    }
}
