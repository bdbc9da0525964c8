//! A budget inside of another one.

use rmcp::model::*;
use rmcp_layers::{
    BoxStack, Error, McpRequest, McpResponse, Upstream,
    budget::{BudgetLayer, ContextBudget},
};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};

use super::{
    common::{Client, soon, tool},
    office::*,
};

/// A budget that cuts, inside of one that has room for what the inner one leaves.
fn nested() -> (BoxStack, Office) {
    let office = Office::default();
    let upstream = Upstream::in_process(office.clone());
    let inner = layer().page_tokens(1_000).build().unwrap().layer(upstream);
    let outer = BudgetLayer::builder(ContextBudget::new(1_000_000));
    (BoxStack::new(outer.build().unwrap().layer(inner)), office)
}

async fn ask(stack: &BoxStack, request: McpRequest) -> Result<McpResponse, Error> {
    soon("an answer", stack.clone().oneshot(request)).await
}

fn is_not_found(response: &McpResponse) -> bool {
    is_error(response) && text(response).contains("there is no result with this id")
}

#[tokio::test]
async fn what_an_inner_budget_has_cut_is_read_through_the_outer_one() {
    let (stack, _) = nested();
    let cut = ask(&stack, by("ann", call("lines", 1_000))).await.unwrap();
    let id = kept_id(&cut);
    let (mut all, mut arguments) = (String::new(), json!({ "id": id }));
    while !arguments.is_null() {
        let response = ask(&stack, by("ann", read(arguments))).await.unwrap();
        assert!(!is_error(&response), "{}", text(&response));
        assert!(report(&response).charged > 0);
        all.push_str(&first(&response));
        // The inner window has room for some pages only.
        if all.len() > lines(1_000).len() / 4 {
            break;
        }
        arguments = meta(&response)["page"]["next"].clone();
    }
    assert!(lines(1_000).starts_with(&all) && !all.is_empty());
    let uri = McpRequest::read_resource(format!("result://{id}?page=2"));
    let page = ask(&stack, by("ann", uri)).await.unwrap();
    let ServerResult::ReadResourceResult(page) = &*page.result else {
        panic!("not a resource");
    };
    let ResourceContents::TextResourceContents { text, .. } = &page.contents[0] else {
        panic!("not a text");
    };
    assert!(lines(1_000).contains(text.as_str()) && !text.is_empty());
}

#[tokio::test]
async fn a_result_of_an_inner_budget_is_not_found_by_another_principal() {
    let (stack, office) = nested();
    let cut = ask(&stack, by("ann", call("lines", 5_000))).await.unwrap();
    let id = kept_id(&cut);
    for who in ["ben", "cid"] {
        let foreign = ask(&stack, by(who, read(json!({ "id": id }))))
            .await
            .unwrap();
        assert!(is_not_found(&foreign), "{}", text(&foreign));
        let uri = McpRequest::read_resource(format!("result://{id}"));
        let error = ErrorData::from(ask(&stack, by(who, uri)).await.unwrap_err());
        assert_eq!(error.code, ErrorCode::RESOURCE_NOT_FOUND);
    }
    // The server has seen none of the reads.
    assert_eq!(office.events.count("read_result"), 0);
    assert_eq!(office.events.count(&format!("result://{id}")), 0);
}

#[tokio::test]
async fn both_budgets_keep_what_they_have_cut_themselves() {
    let office = Office::default();
    let upstream = Upstream::in_process(office);
    let inner = BudgetLayer::builder(ContextBudget::new(1_000_000)).build();
    let stack = layer()
        .build()
        .unwrap()
        .layer(inner.unwrap().layer(upstream));
    let stack = BoxStack::new(stack);
    let cut = ask(&stack, call("lines", 5_000)).await.unwrap();
    let found = json!({ "id": kept_id(&cut), "search": "line 4999:" });
    let found = ask(&stack, read(found)).await.unwrap();
    assert!(first(&found).contains("line 4999:"), "{}", first(&found));
}

#[tokio::test]
async fn an_id_is_passed_on_to_no_tool_of_another_kind() {
    let setup = Setup::new(layer());
    for _ in 0..3 {
        let unknown = read(json!({ "id": "0".repeat(32) }));
        assert!(is_not_found(&setup.ask(unknown).await.unwrap()));
        let malformed = read(json!({ "id": "none" }));
        assert!(is_not_found(&setup.ask(malformed).await.unwrap()));
    }
    assert_eq!(setup.office.events.count("read_result"), 0);
    // The layer remembers that there is no such tool.
    assert_eq!(setup.office.events.count("tools/list"), 1);
}

#[tokio::test]
async fn a_real_client_reads_through_two_budgets() {
    let (stack, _) = nested();
    let client = Client::modern("modern", stack).await;
    let cut = client.call(tool("lines", json!({ "count": 1_000 }))).await;
    let says: Value = cut.meta.as_ref().unwrap()["rmcp-layers/budget"].clone();
    let rest = json!({ "id": says["cut"]["id"], "page": 2 });
    let page = client.call(tool("read_result", rest)).await;
    let text = &page.content[0].as_text().unwrap().text;
    assert!(lines(1_000).contains(text.as_str()) && page.is_error != Some(true));
}
