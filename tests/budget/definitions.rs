//! Lists, and what the layer says in them.

use rmcp::model::*;
use rmcp_layers::{McpClient, McpRequest, McpResponse, Upstream, budget::OnSchemaMisfit};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};

use super::{
    common::{Client, script::scripted_lines, soon},
    office::*,
};

async fn tools(setup: &Setup) -> Vec<Tool> {
    let listed = setup.ask(McpRequest::list_tools()).await.unwrap();
    match listed.into_result() {
        ServerResult::ListToolsResult(listed) => listed.tools,
        other => panic!("not a list: {other:?}"),
    }
}

fn size(tool: &Tool) -> Value {
    let meta = tool.meta.as_ref();
    meta.and_then(|meta| meta.get("anthropic/maxResultSizeChars"))
        .cloned()
        .unwrap_or_default()
}

#[tokio::test]
async fn tools_declare_the_length_of_their_results_unless_they_do_so_themselves() {
    let setup = Setup::new(layer().exempt_tool("fail"));
    for tool in tools(&setup).await {
        let declared = match &*tool.name {
            "own" => json!(1_234),
            "fail" | "read_result" => Value::Null,
            _ => json!(500_000),
        };
        assert_eq!(size(&tool), declared, "{}", tool.name);
    }
    let setup = Setup::new(layer().declared_result_size(None));
    let undeclared = tools(&setup).await;
    assert!(
        undeclared
            .iter()
            .filter(|tool| tool.name != "own")
            .all(|tool| size(tool).is_null())
    );
}

#[tokio::test]
async fn output_schemas_are_hidden_only_if_structured_content_may_be_dropped() {
    let shown = |tools: Vec<Tool>| -> Vec<String> {
        let shown = tools.iter().filter(|tool| tool.output_schema.is_some());
        shown.map(|tool| tool.name.to_string()).collect()
    };
    let setup = Setup::new(layer());
    assert_eq!(shown(tools(&setup).await), ["items", "exact"]);
    let builder = layer()
        .on_schema_misfit(OnSchemaMisfit::DropStructured)
        .exempt_tool("exact");
    assert_eq!(shown(tools(&Setup::new(builder)).await), ["exact"]);
}

#[tokio::test]
async fn definitions_are_charged_for_once_and_reported() {
    let setup = Setup::new(layer().count_definitions(true));
    let listed = setup.ask(McpRequest::list_tools()).await.unwrap();
    let charged = report(&listed).charged;
    assert!(charged > 2_000, "{charged}");
    assert_eq!(setup.available(&call("lines", 1)).await, USABLE - charged);
    let again = setup.ask(McpRequest::list_tools()).await.unwrap();
    assert_eq!(again.report.budget, None);
    let prompts = setup
        .ask(McpRequest::new(ListPromptsRequest::default()))
        .await
        .unwrap();
    let charged = charged + report(&prompts).charged;
    assert_eq!(setup.available(&call("lines", 1)).await, USABLE - charged);
    // Another conversation pays for itself.
    let other = setup
        .ask(by("ann", McpRequest::list_tools()))
        .await
        .unwrap();
    assert_eq!(report(&other).charged, report(&listed).charged);

    let costs = setup.budget.definitions();
    assert_eq!((&*costs[0].name, costs[0].method), ("items", "tools/list"));
    assert!(costs[0].tokens > 2_000);
    assert!(
        costs
            .iter()
            .any(|cost| cost.method == "prompts/list" && &*cost.name == "story")
    );
    let sum: u64 = costs.iter().map(|cost| cost.tokens).sum();
    assert_eq!(sum, charged);
}

#[tokio::test]
async fn skills_are_charged_for_and_reported_by_their_uris() {
    let upstream = scripted_lines(Upstream::builder(), |request| {
        let skill = json!({
            "uri": "skill://writer/SKILL.md",
            "frontmatter": { "name": "writer", "description": "Writes reports. ".repeat(100) },
            "resources": "dynamic",
        });
        let id = &request["id"];
        let answer = json!({ "jsonrpc": "2.0", "id": id, "result": { "skills": [skill] } });
        Some(vec![answer.to_string()])
    });
    let layer = layer().count_definitions(true).build().unwrap();
    let stack = layer.layer(upstream);
    let list = || McpRequest::new(ListSkillsRequest::default());
    let listed = soon("a list", stack.clone().oneshot(list())).await.unwrap();
    let charged = report(&listed).charged;
    assert!(charged > 200, "{charged}");
    let costs = layer.handle().definitions();
    assert_eq!(costs.len(), 1);
    assert_eq!((costs[0].method, costs[0].tokens), ("skills/list", charged));
    assert_eq!(&*costs[0].name, "skill://writer/SKILL.md");
}

#[tokio::test]
async fn a_list_is_never_refused() {
    let setup = Setup::new(layer().count_definitions(true).max_fraction(1.0));
    setup.ask(call("lines", 10_000)).await.unwrap();
    assert!(is_error(&setup.ask(call("lines", 1)).await.unwrap()));
    assert_eq!(tools(&setup).await.len(), 9);
}

#[tokio::test]
async fn lists_of_definitions_are_not_counted_by_default() {
    let setup = Setup::new(layer());
    let listed = setup.ask(McpRequest::list_tools()).await.unwrap();
    assert_eq!(listed.report.budget, None);
    assert_eq!(meta(&listed), Value::Null);
    assert!(setup.budget.definitions().is_empty());
}

#[derive(Clone)]
struct Bare;
impl rmcp::ServerHandler for Bare {}

#[tokio::test]
async fn a_server_without_tools_and_resources_gets_those_of_the_layer() {
    let layer = layer().build().unwrap();
    let stack = layer.layer(Upstream::in_process(Bare));
    let client = Client::legacy("ann", stack.clone()).await;
    let info = client.peer.peer_info().unwrap();
    assert!(info.capabilities.tools.is_some() && info.capabilities.resources.is_some());
    let listed = client.peer.list_all_tools().await.unwrap();
    assert_eq!(
        listed.iter().map(|tool| &*tool.name).collect::<Vec<_>>(),
        ["read_result"]
    );
    assert!(client.peer.list_all_resources().await.unwrap().is_empty());
    assert!(
        client
            .peer
            .list_all_resource_templates()
            .await
            .unwrap()
            .is_empty()
    );
    let client = McpClient::new(stack);
    let answer: McpResponse = client.send(read(json!({ "id": "x" }))).await.unwrap();
    assert!(is_error(&answer));
}
