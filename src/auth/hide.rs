//! The common error for unknown items and for items that the caller may not know of.

use rmcp::model::{ErrorCode, ErrorData};
use serde_json::json;

use super::Item;
use crate::{
    Error, McpRequest, McpResponse,
    caller::Era,
    protocol::{methods, target::TargetKind},
};

/// The target of a request, and the form of the error if it is unknown.
#[derive(Clone, Debug)]
pub(super) struct NamedTarget {
    kind: Kind,
    name: String,
    era: Era,
}

/// Words before the noun in an error for an unknown item.
const BEFORE: [&[&str]; 6] = [
    &["unknown"],
    &["unrecognized"],
    &["no", "such"],
    &["not", "find"],
    &["cannot", "find"],
    &["not", "found"],
];
/// Words after the noun in such an error.
const AFTER: [&[&str]; 7] = [
    &["not", "found"],
    &["not", "exist"],
    &["does", "not", "exist"],
    &["doesn", "t", "exist"],
    &["is", "unknown"],
    &["is", "not", "known"],
    &["is", "not", "registered"],
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tool,
    Prompt,
    Resource,
    Task,
}

impl NamedTarget {
    /// Returns the target of the request, if it has a single one.
    pub(super) fn of(request: &McpRequest) -> Option<Self> {
        let target = methods::target(&request.message)?;
        let kind = match target.kind {
            TargetKind::Tool => Kind::Tool,
            TargetKind::Prompt => Kind::Prompt,
            TargetKind::Resource | TargetKind::Skill => Kind::Resource,
            TargetKind::Task => Kind::Task,
            TargetKind::Reference => return None,
        };
        Some(Self {
            kind,
            name: target.name.to_owned(),
            era: request.context.era(),
        })
    }

    /// Returns the tool that is called by a call of a tool that calls others.
    pub(super) fn of_inner_tool(request: &McpRequest) -> Option<Self> {
        request.inner_tool().map(|name| Self {
            kind: Kind::Tool,
            name: name.to_owned(),
            era: request.context.era(),
        })
    }

    /// Returns the target as a list item. Tasks are not listed.
    pub(super) fn item(&self) -> Option<Item<'_>> {
        match self.kind {
            Kind::Tool => Some(Item::Tool(&self.name)),
            Kind::Prompt => Some(Item::Prompt(&self.name)),
            Kind::Resource => Some(Item::Resource(&self.name)),
            Kind::Task => None,
        }
    }

    /// Returns the error for an unknown name (MCP 2026-07-28, Tools, Prompts and Resources, "Error
    /// Handling").
    pub(super) fn unknown_error(&self) -> Error {
        let name = &self.name;
        let (code, message, data) = match self.kind {
            Kind::Tool => (
                ErrorCode::INVALID_PARAMS,
                format!("Unknown tool: {name}"),
                json!({ "name": name }),
            ),
            Kind::Prompt => (
                ErrorCode::INVALID_PARAMS,
                format!("Unknown prompt: {name}"),
                json!({ "name": name }),
            ),
            Kind::Task => (
                ErrorCode::INVALID_PARAMS,
                format!("Unknown task: {name}"),
                json!({ "taskId": name }),
            ),
            Kind::Resource => {
                // Revisions before 2026-07-28 have a separate code for unknown resources.
                let code = match self.era {
                    Era::Modern => ErrorCode::INVALID_PARAMS,
                    Era::Legacy => ErrorCode::RESOURCE_NOT_FOUND,
                };
                let message = format!("Resource not found: {name}");
                (code, message, json!({ "uri": name }))
            }
        };
        ErrorData::new(code, message, Some(data)).into()
    }

    /// Returns `true` if the response says that the name is unknown. Servers use different words,
    /// in an error or in a tool's failure, and may suggest similar names. If such a response were
    /// distinguishable from a refusal, it would disclose which names exist.
    pub(super) fn is_reported_unknown(&self, answer: &Result<McpResponse, Error>) -> bool {
        match answer {
            // This code is specific to an unknown resource, whatever the message says.
            Err(Error::Protocol(error)) if error.code == ErrorCode::RESOURCE_NOT_FOUND => {
                self.kind == Kind::Resource || self.text_says_unknown(&error.message, false)
            }
            Err(Error::Protocol(error)) => {
                let may_say_so = matches!(
                    error.code,
                    ErrorCode::INVALID_PARAMS
                        | ErrorCode::METHOD_NOT_FOUND
                        | ErrorCode::INTERNAL_ERROR
                ) || error.code.0 == 0;
                may_say_so && self.text_says_unknown(&error.message, false)
            }
            Err(_) => false,
            Ok(response) => response.as_tool_result().is_some_and(|result| {
                let said = match result.content.as_slice() {
                    [only] => only.as_text(),
                    _ => None,
                };
                result.is_error == Some(true)
                    && said.is_some_and(|said| self.text_says_unknown(&said.text, true))
            }),
        }
    }

    /// `strict` requires the name in the text, because tools report "not found" about many things.
    fn text_says_unknown(&self, said: &str, strict: bool) -> bool {
        /// Longer texts are not about a name alone.
        const SHORT: usize = 1_000;
        if said.len() > SHORT + self.name.len() || (strict && !said.contains(&self.name)) {
            return false;
        }
        let noun = match self.kind {
            Kind::Tool => "tool",
            Kind::Prompt => "prompt",
            Kind::Resource => "resource",
            Kind::Task => "task",
        };
        let says_so = |said: &str| says_unknown(noun, said, strict);
        // The name is removed first, because it may contain such words itself. If it does not, the
        // full text is tried too: the name may occur within such a word.
        says_so(&said.replace(&self.name, " ")) || (!says_so(&self.name) && says_so(said))
    }
}

/// Returns `true` if a text says that a `noun` does not exist.
fn says_unknown(noun: &str, said: &str, strict: bool) -> bool {
    // Parts between colons are separate: "error executing tool x: file not found" does not match.
    said.to_ascii_lowercase()
        .split([':', ';', '\n'])
        .any(|part| {
            let words: Vec<_> = part
                .split(|letter: char| !letter.is_alphanumeric())
                .filter(|word| !word.is_empty())
                .collect();
            let mut nouns = words.iter().enumerate().filter(|(_, word)| **word == noun);
            nouns.any(|(at, _)| {
                let (before, after) = (&words[..at], &words[at + 1..]);
                BEFORE.iter().any(|words| before.ends_with(words))
                    || AFTER.iter().any(|words| after.starts_with(words))
                    || (!strict && before.ends_with(&["no"]))
            })
        })
}
