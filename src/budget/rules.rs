use super::ledger::Request;
use crate::{McpRequest, util::glob};

/// A kind of result that is charged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResultKind {
    /// The result of `tools/call`.
    Tool,
    /// The result of `resources/read`.
    Resource,
    /// The result of `prompts/get`.
    Prompt,
}

/// The shares of calls.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub max_fraction: f64,
    pub by_kind: Vec<(ResultKind, f64)>,
    /// Globs of names. The first that matches applies.
    pub by_tool: Vec<(String, f64)>,
    pub min_to_call: u64,
    /// Globs of names of tools that are not charged for.
    pub exempt: Vec<String>,
}

impl Rules {
    /// Returns the share that a request asks for.
    pub(super) fn request(&self, kind: ResultKind, request: &McpRequest) -> Request {
        let by_tool = || {
            let name = tool_of(request)?;
            let rule = self
                .by_tool
                .iter()
                .find(|(rule, _)| glob::matches(rule, name));
            rule.map(|(_, fraction)| *fraction)
        };
        let by_kind = || {
            let rule = self.by_kind.iter().find(|(of, _)| *of == kind);
            rule.map(|(_, fraction)| *fraction)
        };
        Request {
            max_fraction: by_tool().or_else(by_kind).unwrap_or(self.max_fraction),
            min_to_call: self.min_to_call,
        }
    }

    /// Returns `true` if a call is not charged for.
    pub(super) fn is_exempt(&self, request: &McpRequest) -> bool {
        !self.exempt.is_empty() && tool_of(request).is_some_and(|name| self.is_exempt_tool(name))
    }

    pub(super) fn is_exempt_tool(&self, name: &str) -> bool {
        self.exempt.iter().any(|rule| glob::matches(rule, name))
    }
}

/// Returns the name of the called tool, also of one that is called through a registry's
/// `call_tool`.
fn tool_of(request: &McpRequest) -> Option<&str> {
    let called = request.as_tool_call().map(|call| &*call.name);
    request.inner_tool().or(called)
}
