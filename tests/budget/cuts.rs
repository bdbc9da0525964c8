//! What a cut result is, for a caller.

use rmcp::model::*;
use rmcp_layers::{
    McpRequest,
    budget::{KeptText, OnSchemaMisfit, ResultLimits},
    code,
};
use serde_json::{Value, json};

use super::{
    common::{Client, tool},
    office::*,
};

fn structured(result: &CallToolResult) -> &Value {
    result
        .structured_content
        .as_ref()
        .expect("structured content")
}

#[tokio::test]
async fn a_cut_text_says_what_it_lacks_and_how_to_get_it() {
    let setup = Setup::new(layer());
    let cut = setup.ask(call("lines", 10_000)).await.unwrap();
    let all = text(&cut);
    assert!(all.starts_with("line 0: the quick"));
    assert!(all.contains("[TRUNCATED: "), "{}", &all[all.len() - 300..]);
    assert!(all.contains(&format!(
        "Call read_result with {{\"id\":\"{}\"}}",
        kept_id(&cut)
    )));
    let end = Setup::new(layer().kept_text(KeptText::Tail));
    let cut = text(&end.ask(call("lines", 10_000)).await.unwrap());
    assert!(cut.contains("line 9999:") && !cut.contains("line 0:"));
}

#[tokio::test]
async fn json_text_that_is_cut_is_json() {
    let setup = Setup::new(layer());
    let cut = setup.ask(call("json", 10_000)).await.unwrap();
    let value: Value = serde_json::from_str(&first(&cut)).unwrap();
    let items = value["items"].as_array().unwrap();
    assert!(items.len() > 10 && items.len() < 10_000, "{}", items.len());
    assert_eq!(items[0], json!({ "id": 0, "name": "item number 0" }));
    assert_eq!(value["total"], 10_000);
}

#[tokio::test]
async fn structured_content_that_is_cut_is_valid_by_the_output_schema() {
    let setup = Setup::new(layer());
    for client in [
        Client::legacy("legacy", setup.stack.clone()).await,
        Client::modern("modern", setup.stack.clone()).await,
    ] {
        let tools = client.peer.list_all_tools().await.unwrap();
        let schema = tools.iter().find(|tool| tool.name == "items").unwrap();
        let schema = Value::Object((**schema.output_schema.as_ref().unwrap()).clone());
        let cut = client.call(tool("items", json!({ "count": 10_000 }))).await;
        assert_eq!(cut.is_error, Some(false));
        let value = structured(&cut);
        jsonschema::validate(&schema, value).unwrap();
        assert!(value["items"].as_array().unwrap().len() < 10_000);
        assert!(cut.meta.unwrap()["rmcp-layers/budget"]["saved"].as_u64() > Some(10_000));
    }
}

#[tokio::test]
async fn where_no_cut_is_valid_the_answer_is_an_error_without_structured_content() {
    // The layer has seen no list: it asks for the schema by itself.
    let setup = Setup::new(layer());
    let cut = setup.ask(call("exact", 1)).await.unwrap();
    assert!(is_error(&cut), "{:?}", cut.result);
    assert_eq!(cut.as_tool_result().unwrap().structured_content, None);
    assert_eq!(setup.office.events.count("tools/list"), 1);
    let rest = read(json!({ "id": kept_id(&cut), "pointer": "/items/2999/name" }));
    assert_eq!(first(&setup.ask(rest).await.unwrap()), "item number 2999");
    setup.ask(call("exact", 1)).await.unwrap();
    assert_eq!(setup.office.events.count("tools/list"), 1);
}

#[tokio::test]
async fn without_output_schemas_structured_content_is_cut_freely() {
    let builder = layer().on_schema_misfit(OnSchemaMisfit::DropStructured);
    let setup = Setup::new(builder);
    let cut = setup.ask(call("exact", 1)).await.unwrap();
    assert!(!is_error(&cut));
    assert!(report(&cut).charged <= USABLE * 3 / 10);
    assert_eq!(setup.office.events.count("tools/list"), 0);
}

#[tokio::test]
async fn a_result_beyond_the_limits_is_not_delivered() {
    let limits = ResultLimits::default().max_bytes(50_000);
    let setup = Setup::new(layer().result_limits(limits));
    let answer = setup.ask(call("lines", 10_000)).await.unwrap();
    assert!(
        is_error(&answer) && text(&answer).contains("`max_bytes`"),
        "{}",
        text(&answer)
    );
    assert!(report(&answer).charged < 200);
    let error = setup
        .ask(McpRequest::read_resource("file:///big"))
        .await
        .unwrap_err();
    assert_eq!(ErrorData::from(error).code, code::TOO_LARGE);
    // Nothing of it is reserved any more.
    let left = USABLE - report(&answer).charged;
    assert_eq!(setup.available(&call("lines", 1)).await, left);
}
