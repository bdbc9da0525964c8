//! Results of a server that is hostile, or careless.

use rmcp_layers::{
    McpRequest, McpResponse, Upstream,
    budget::{Budget, BudgetLayerBuilder},
};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};

use super::{
    office::*,
    peers::{LEGACY, Road, Server},
};

/// A budget before a server whose every result is this.
async fn answering(builder: BudgetLayerBuilder, result: &str) -> Budget<Upstream> {
    let (server, _seen) = Server::answering(LEGACY, result);
    builder.build().unwrap().layer(server.by(Road::Lines).await)
}

async fn ask(stack: &Budget<Upstream>, request: McpRequest) -> McpResponse {
    stack.clone().oneshot(request).await.unwrap()
}

#[tokio::test]
async fn long_names_cost_little_in_the_error_of_a_read() {
    let members: serde_json::Map<String, Value> = (0..20)
        .map(|n| (format!("{n} {}", "a b1 ".repeat(5_000)), json!([1, 2, 3])))
        .collect();
    let result = json!({ "content": [], "structuredContent": members });
    let stack = answering(layer(), &result.to_string()).await;
    let cut = ask(&stack, call("x", 1)).await;
    let id = kept_id(&cut);
    let answer = ask(&stack, read(json!({ "id": id, "pointer": "/nope" }))).await;
    assert!(
        report(&answer).charged < 2_000,
        "{}",
        report(&answer).charged
    );
}

#[tokio::test]
async fn links_that_were_left_out_are_read_as_they_were() {
    let links: Vec<_> = (0..3_000)
        .map(|n| json!({ "type": "resource_link", "uri": format!("file:///dir/{n}"), "name": format!("n{n}") }))
        .collect();
    let stack = answering(layer(), &json!({ "content": links }).to_string()).await;
    let cut = ask(&stack, call("x", 1)).await;
    let blocks = &cut.as_tool_result().unwrap().content;
    assert!(blocks.len() < 3_000);
    let answer = ask(
        &stack,
        read(json!({ "id": kept_id(&cut), "pointer": "/content/2999" })),
    )
    .await;
    assert!(
        first(&answer).contains("file:///dir/2999"),
        "{}",
        first(&answer)
    );
}

#[tokio::test]
async fn long_names_are_not_repeated_in_the_report_of_a_cut() {
    let lists: serde_json::Map<String, Value> = (0..20)
        .map(|n| (format!("m{n}"), json!((0..2_000).collect::<Vec<_>>())))
        .collect();
    let result = json!({ "content": [], "structuredContent": { "k".repeat(8_000): lists } });
    let stack = answering(layer(), &result.to_string()).await;
    let cut = ask(&stack, call("x", 1)).await;
    let size = meta(&cut).to_string().len();
    assert!(size < 10_000, "{size}");
}

#[tokio::test]
async fn the_cost_of_a_long_run_is_projected_from_its_own_tokens() {
    let result = json!({ "content": [{ "type": "text", "text": "=".repeat(4 << 20) }] });
    let stack = answering(layer(), &result.to_string()).await;
    let cut = ask(&stack, call("x", 1)).await;
    let total = meta(&cut)["cut"]["totalTokens"].as_u64().unwrap();
    assert!((30_000..200_000).contains(&total), "{total}");
}

#[tokio::test]
async fn contents_of_a_read_that_name_a_view_are_charged_for() {
    let result = json!({ "contents": [{ "uri": "ui://x", "text": lines(10_000) }] });
    let stack = answering(layer(), &result.to_string()).await;
    let answer = ask(&stack, McpRequest::read_resource("file:///x")).await;
    assert!(
        report(&answer).charged > 3_000,
        "{}",
        report(&answer).charged
    );
}
