//! The result that a plan leads to.

use std::borrow::Cow;

use rmcp::model::{
    CallToolResult, ContentBlock, GetPromptResult, PromptMessage, ReadResourceResult,
    ResourceContents, Role, ServerResult, TextContent,
};
use serde::Serialize;
use serde_json::Value;

use super::cut::{NewBlock, NewStructured, Plan};
use crate::{
    Lossless,
    wire::{Edit, PartEdits, within_range},
};

/// Returns the result after the plan, with all that the plan does not change.
pub(super) fn assembled(original: &Lossless<ServerResult>, plan: &Plan) -> Lossless<ServerResult> {
    let mut edits = PartEdits::default();
    let result: ServerResult = match &**original {
        ServerResult::CallToolResult(tool) => tool_result(tool, plan, &mut edits).into(),
        ServerResult::ReadResourceResult(read) => read_result(read, plan, &mut edits).into(),
        ServerResult::GetPromptResult(prompt) => prompt_result(prompt, plan, &mut edits).into(),
        // No other result has parts that a plan could change.
        other => other.clone(),
    };
    original.with_edited_parts(result, &edits)
}

fn tool_result(tool: &CallToolResult, plan: &Plan, edits: &mut PartEdits) -> CallToolResult {
    let mut now = CallToolResult::default();
    now.result_type = tool.result_type.clone();
    now.is_error = tool.is_error;
    now.meta = tool.meta.clone();
    edits.list = "content";
    now.content = edited(&tool.content, plan, edits, changed_block);
    let texts = [&plan.added, &plan.note].into_iter().flatten();
    let texts = texts.map(|text| ContentBlock::text(text.as_str()));
    let link = plan.link.clone().map(ContentBlock::resource_link);
    for block in texts.chain(link) {
        add(&mut now.content, block, edits);
    }
    match &plan.structured {
        NewStructured::Same => now.structured_content = tool.structured_content.clone(),
        NewStructured::Json(json) => {
            now.structured_content = read_json(json);
            edits
                .members
                .push(("structuredContent", Some(json.clone())));
        }
        NewStructured::Dropped => edits.members.push(("structuredContent", None)),
    }
    if plan.became_error {
        now.is_error = Some(true);
        edits.members.push(("isError", Some("true".to_owned())));
    }
    now
}

fn read_result(
    read: &ReadResourceResult,
    plan: &Plan,
    edits: &mut PartEdits,
) -> ReadResourceResult {
    edits.list = "contents";
    let contents = edited(&read.contents, plan, edits, |contents, new| {
        let (ResourceContents::TextResourceContents {
            uri,
            mime_type,
            meta,
            ..
        }
        | ResourceContents::BlobResourceContents {
            uri,
            mime_type,
            meta,
            ..
        }) = contents
        else {
            return contents.clone();
        };
        let is_text = matches!(contents, ResourceContents::TextResourceContents { .. });
        match new {
            NewBlock::Text(text) => ResourceContents::TextResourceContents {
                uri: uri.clone(),
                // Words in the place of a blob are not of its type.
                mime_type: match is_text {
                    true => mime_type.clone(),
                    false => Some("text/plain".to_owned()),
                },
                text: text.clone(),
                meta: meta.clone(),
            },
            _ => contents.clone(),
        }
    });
    let mut now = ReadResourceResult::new(contents);
    now.result_type = read.result_type.clone();
    now.ttl_ms = read.ttl_ms;
    now.cache_scope = read.cache_scope;
    now.meta = read.meta.clone();
    if let Some(note) = &plan.note {
        let uri = read.contents.first().map_or("", |first| match first {
            ResourceContents::TextResourceContents { uri, .. }
            | ResourceContents::BlobResourceContents { uri, .. } => uri,
            _ => "",
        });
        let note = ResourceContents::text(note.as_str(), uri);
        add(&mut now.contents, note, edits);
    }
    now
}

fn prompt_result(prompt: &GetPromptResult, plan: &Plan, edits: &mut PartEdits) -> GetPromptResult {
    edits.list = "messages";
    let messages = edited(&prompt.messages, plan, edits, |message, new| {
        PromptMessage::new(message.role.clone(), changed_block(&message.content, new))
    });
    let mut now = GetPromptResult::new(messages);
    now.result_type = prompt.result_type.clone();
    now.description = prompt.description.clone();
    now.meta = prompt.meta.clone();
    if let Some(note) = &plan.note {
        let note = PromptMessage::new_text(Role::User, note.as_str());
        add(&mut now.messages, note, edits);
    }
    now
}

/// Returns the parts after the plan, and adds their edits.
fn edited<T: Clone + Serialize>(
    parts: &[T],
    plan: &Plan,
    edits: &mut PartEdits,
    change: impl Fn(&T, &NewBlock) -> T,
) -> Vec<T> {
    let mut now = Vec::new();
    for (part, new) in parts.iter().zip(&plan.blocks) {
        edits.parts.push(match new {
            NewBlock::Same => {
                now.push(part.clone());
                Edit::Keep
            }
            NewBlock::Dropped => Edit::Remove,
            new => {
                let changed = change(part, new);
                let json = serde_json::to_string(&changed).unwrap_or_default();
                now.push(changed);
                Edit::Replace(json)
            }
        });
    }
    now
}

fn add<T: Serialize>(parts: &mut Vec<T>, part: T, edits: &mut PartEdits) {
    edits
        .added
        .push(serde_json::to_string(&part).unwrap_or_default());
    parts.push(part);
}

fn changed_block(block: &ContentBlock, new: &NewBlock) -> ContentBlock {
    match (block, new) {
        (ContentBlock::Text(text), NewBlock::Text(now)) => {
            let mut changed = TextContent::new(now.as_str());
            changed.meta = text.meta.clone();
            changed.annotations = text.annotations.clone();
            ContentBlock::Text(changed)
        }
        (_, NewBlock::Text(now)) => ContentBlock::text(now.as_str()),
        (_, NewBlock::Link(link)) => ContentBlock::resource_link((**link).clone()),
        (same, _) => same.clone(),
    }
}

/// Returns the MIME type of a part, and the URI of a resource.
pub(super) fn kind_and_uri(result: &ServerResult, index: usize) -> (Option<&str>, Option<&str>) {
    let block = match result {
        ServerResult::CallToolResult(tool) => tool.content.get(index),
        ServerResult::GetPromptResult(prompt) => {
            prompt.messages.get(index).map(|message| &message.content)
        }
        ServerResult::ReadResourceResult(read) => {
            return read.contents.get(index).map_or((None, None), of_contents);
        }
        _ => None,
    };
    match block {
        Some(ContentBlock::Image(image)) => (Some(&image.mime_type), None),
        Some(ContentBlock::Audio(audio)) => (Some(&audio.mime_type), None),
        Some(ContentBlock::Resource(embedded)) => of_contents(&embedded.resource),
        _ => (None, None),
    }
}

fn of_contents(contents: &ResourceContents) -> (Option<&str>, Option<&str>) {
    match contents {
        ResourceContents::TextResourceContents { uri, mime_type, .. }
        | ResourceContents::BlobResourceContents { uri, mime_type, .. } => {
            (mime_type.as_deref(), Some(uri))
        }
        _ => (None, None),
    }
}

/// Reads JSON, with the nearest number in the place of one that is out of range.
pub(super) fn read_json(json: &str) -> Option<Value> {
    let read = serde_json::from_str(json);
    let read = read.or_else(|_| match within_range(json) {
        Cow::Borrowed(json) => serde_json::from_str(json),
        Cow::Owned(json) => serde_json::from_str(&json),
    });
    read.ok()
}
