//! Reading of results.

use rmcp::model::CallToolResult;
use serde_json::Value;

use super::Mapping;
use crate::delegate::TaskOutput;

/// Members beside the mark of a rejection that have its reason.
const REASONS: [&str; 3] = ["reason", "message", "error"];
/// Maximum length of a text in which JSON is looked for, in bytes.
const MAX_JSON_TEXT: usize = 1024 * 1024;

/// The output of a task, or the reason why the agent declines it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::delegate::agent) enum Answered {
    Output(TaskOutput),
    Rejected(String),
}

/// The text of a result, and the JSON in it.
#[derive(Clone)]
pub(in crate::delegate::agent) struct TaskText {
    pub(in crate::delegate::agent) text: String,
    /// The structured content, else the JSON of the text.
    pub(in crate::delegate::agent) json: Option<Value>,
    is_structured: bool,
}

impl TaskText {
    pub(in crate::delegate::agent) fn of(result: CallToolResult) -> Self {
        let texts = result.content.iter().filter_map(|block| block.as_text());
        let texts: Vec<&str> = texts.map(|text| &*text.text).collect();
        let text = texts.join("\n");
        let is_structured = result.structured_content.is_some();
        let json = result.structured_content.or_else(|| {
            let may_be = text.starts_with(['{', '[']) && text.len() <= MAX_JSON_TEXT;
            may_be.then(|| serde_json::from_str(&text).ok()).flatten()
        });
        Self {
            text,
            json,
            is_structured,
        }
    }

    /// Returns the text, or the JSON if there is none.
    pub(in crate::delegate::agent) fn into_text(self) -> String {
        match self.json {
            Some(json) if self.text.is_empty() => json.to_string(),
            _ => self.text,
        }
    }

    fn at(&self, pointer: &str) -> Option<&Value> {
        let value = self.json.as_ref()?.pointer(pointer)?;
        (!value.is_null()).then_some(value)
    }
}

impl Mapping {
    /// Reads the result that ends a task.
    pub(in crate::delegate::agent) fn read(&self, result: TaskText) -> Answered {
        if let Some(reason) = self.rejection(&result) {
            return Answered::Rejected(reason);
        }
        let text_at = |place: &String| result.at(place).map(text_of);
        let number_at = |place: &Option<String>| result.at(place.as_deref()?);
        let named = self.answer.iter().find_map(text_at);
        let thread = self.thread.as_ref().and_then(text_at);
        let tokens = number_at(&self.tokens).and_then(Value::as_u64);
        let cost = number_at(&self.cost).and_then(Value::as_f64);
        let structured = result.json.filter(|_| result.is_structured);
        let answer = named.unwrap_or_else(|| match &structured {
            Some(structured) if result.text.is_empty() => structured.to_string(),
            _ => result.text,
        });
        let output = TaskOutput {
            answer,
            structured,
            thread,
            tokens,
            cost,
        };
        Answered::Output(output)
    }

    fn rejection(&self, result: &TaskText) -> Option<String> {
        let (place, value) = self.rejected.as_ref().filter(|_| result.is_structured)?;
        let beside = result.json.as_ref()?;
        if beside.pointer(place) != Some(value) {
            return None;
        }
        let parent = place.rfind('/').map_or("", |end| &place[..end]);
        let parent = beside.pointer(parent);
        let reason = REASONS
            .iter()
            .find_map(|name| parent?.get(name))
            .map(text_of);
        Some(reason.unwrap_or_else(|| result.text.clone()))
    }
}

/// Returns a string as it is, and another value as JSON.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::ContentBlock;
    use serde_json::json;

    use super::*;

    fn text(text: &str) -> TaskText {
        TaskText::of(CallToolResult::success(vec![ContentBlock::text(text)]))
    }

    fn output(mapping: &Mapping, result: TaskText) -> TaskOutput {
        match mapping.read(result) {
            Answered::Output(output) => output,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_is_where_the_mapping_says() {
        let codex = json!({ "threadId": "t1", "content": "done" });
        let structured = TaskText::of(CallToolResult::structured(codex.clone()));
        for result in [structured, text(&codex.to_string())] {
            let output = output(&Mapping::codex(), result);
            assert_eq!(
                (&*output.answer, output.thread.as_deref()),
                ("done", Some("t1"))
            );
        }
        assert_eq!(output(&Mapping::codex(), text("plain")).answer, "plain");
        let usage = Mapping::tool("a")
            .tokens("/usage/tokens")
            .cost("/usage/usd");
        let used = json!({ "usage": { "tokens": 12, "usd": 0.5 } });
        let output = output(&usage, TaskText::of(CallToolResult::structured(used)));
        assert_eq!((output.tokens, output.cost), (Some(12), Some(0.5)));
    }

    #[test]
    fn an_agent_declines_by_structured_content_only() {
        let declined = json!({ "status": "rejected", "reason": "no tools for it" });
        let mapping = Mapping::execute_task();
        let structured = TaskText::of(CallToolResult::structured(declined.clone()));
        let reason = "no tools for it".to_owned();
        assert_eq!(mapping.read(structured), Answered::Rejected(reason));
        let said = output(&mapping, text(&declined.to_string()));
        assert_eq!(said.answer, declined.to_string());
    }
}
