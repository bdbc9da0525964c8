//! Results, and their cuts by the tokenizer of a model.

mod cuts;
mod properties;

use std::sync::Arc;

use rmcp::model::{
    CallToolResult, ContentBlock, ReadResourceResult, Resource, ResourceContents, ServerResult,
};
use serde_json::{Value, json};

use super::{parts::Parts, shrink::NOTE_MEMBER, *};
use crate::{
    McpRequest,
    budget::{MediaTokens, ResultLimits, TokenCounter, Tokenizer},
    caller::Era,
    wire::{
        Reading, Source,
        answers::{Expected, ReadResult},
    },
};

const MODEL: &str = "gpt-5";

fn fitter(policy: FitPolicy) -> Fitter {
    let counter = Arc::new(Tokenizer::for_model(MODEL));
    let media = MediaTokens::for_model(MODEL);
    Fitter::new(counter, media, ResultLimits::default(), policy)
}

fn count(text: &str) -> usize {
    Tokenizer::for_model(MODEL).count(text)
}

fn rest() -> Rest {
    Rest {
        note: "Call `read_result` with id \"r1\" for the rest.".to_owned(),
        uri: Some("result://r1".to_owned()),
    }
}

fn to_fit(result: impl Into<ServerResult>, share: usize, schema: Option<Value>) -> ToFit {
    let schema = schema.map(|schema| Arc::new(OutputSchema::new(schema)));
    let result = Lossless::new(result.into());
    let rest = Some(rest());
    ToFit {
        result,
        share,
        schema,
        rest,
    }
}

/// Returns the cost of a result, counted anew.
fn cost(result: &Lossless<ServerResult>) -> usize {
    let parts = Parts::of(result, &MediaTokens::for_model(MODEL));
    let repeats = parts.repeats(&ResultLimits::default());
    let counter = Tokenizer::for_model(MODEL);
    parts.measure(&repeats, usize::MAX, &counter).sum.tokens
}

async fn fitted(policy: FitPolicy, to_fit: ToFit) -> Fitted {
    let share = to_fit.share;
    let fitted = fitter(policy).fit(to_fit).await.unwrap();
    assert_eq!(fitted.cost, cost(&fitted.result), "{:?}", fitted.result);
    if fitted.cut.is_some() {
        assert!(
            fitted.cost <= share,
            "{} of {share}: {:?}",
            fitted.cost,
            fitted.result
        );
    }
    fitted
}

fn tool(result: &Lossless<ServerResult>) -> &CallToolResult {
    match &**result {
        ServerResult::CallToolResult(tool) => tool,
        other => panic!("no tool result: {other:?}"),
    }
}

fn texts(result: &Lossless<ServerResult>) -> Vec<&str> {
    let blocks = tool(result).content.iter();
    blocks
        .filter_map(|block| Some(block.as_text()?.text.as_str()))
        .collect()
}

fn links(result: &Lossless<ServerResult>) -> Vec<&Resource> {
    let links = tool(result).content.iter().filter_map(|block| match block {
        ContentBlock::ResourceLink(link) => Some(link),
        _ => None,
    });
    links.collect()
}

fn structured(value: Value) -> CallToolResult {
    let mut result = CallToolResult::success(vec![ContentBlock::text(value.to_string())]);
    result.structured_content = Some(value);
    result
}

fn rows(count: usize) -> Value {
    let row = |id: usize| json!({ "id": id, "name": format!("row {id}"), "tags": ["a", "b"] });
    json!({ "total": count, "rows": (0..count).map(row).collect::<Vec<_>>() })
}

fn rows_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "total": { "type": "integer" },
            "rows": {
                "type": "array",
                "minItems": 3,
                "items": {
                    "type": "object",
                    "properties": { "id": { "type": "integer" }, "name": { "type": "string" } },
                    "required": ["id", "name"],
                },
            },
        },
        "required": ["total", "rows"],
    })
}
