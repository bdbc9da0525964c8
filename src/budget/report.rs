use rmcp::model::ServerResult;
use serde_json::{Map, Value};

use super::{Conversation, ledger::Balance};
use crate::{BudgetReport, McpResponse};

/// The `_meta` key of a result for its tokens: `charged`, `saved` and `left`, and `cut` or `page` if
/// it was cut or is a page of a kept result. The tool that reads kept results has the same key.
pub const BUDGET_META_KEY: &str = "rmcp-layers/budget";

/// The `_meta` key of a tool, for the length up to which Claude Code shows its results to the model.
pub const RESULT_SIZE_META_KEY: &str = "anthropic/maxResultSizeChars";

/// A threshold of a conversation's budget that a charge has crossed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ThresholdCrossed {
    /// The conversation. `None` if the call belongs to none.
    pub conversation: Option<Conversation>,
    /// The threshold, in percent of the usable window.
    pub percent: u8,
    /// The tokens that are used. With a store, they include the shares of calls in flight.
    pub used: u64,
    /// The tokens of the window without its reserved parts.
    pub usable: u64,
}

/// Writes the report of a response, in its `CallReport` and, if `in_meta`, in its `_meta`.
pub(super) fn write(
    response: &mut McpResponse,
    charged: u64,
    saved: u64,
    balance: Option<&Balance>,
    more: Map<String, Value>,
    in_meta: bool,
) {
    let left = balance.map_or(0, |balance| balance.available);
    response.report.budget = Some(BudgetReport::new(charged, saved, left));
    if !in_meta {
        return;
    }
    // A result that this layer has not cut may be a cut or a page of an inner budget.
    let more = match more.is_empty() {
        true => inner_facts(&response.result),
        false => more,
    };
    let mut meta = Map::with_capacity(3 + more.len());
    for (name, tokens) in [("charged", charged), ("saved", saved), ("left", left)] {
        meta.insert(name.to_owned(), tokens.into());
    }
    meta.extend(more);
    response
        .result
        .set_meta(BUDGET_META_KEY, Value::Object(meta));
    // What is left is one conversation's, so that no cache may return it to another.
    response.mark_session_private();
}

/// Returns the facts of an inner budget's cut or page.
fn inner_facts(result: &ServerResult) -> Map<String, Value> {
    let meta = match result {
        ServerResult::CallToolResult(tool) => &tool.meta,
        ServerResult::ReadResourceResult(read) => &read.meta,
        ServerResult::GetPromptResult(prompt) => &prompt.meta,
        _ => return Map::new(),
    };
    let report = meta.as_ref().and_then(|meta| meta.get(BUDGET_META_KEY));
    let facts = ["cut", "page"].into_iter().filter_map(|name| {
        let fact = report?.get(name)?;
        Some((name.to_owned(), fact.clone()))
    });
    facts.collect()
}
