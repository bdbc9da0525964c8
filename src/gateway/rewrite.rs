//! Rewrites URIs and sealed values in a member's results and notifications for the caller.

use rmcp::model::{
    ContentBlock, JsonObject, MetaObject, ResourceContents, ServerNotification, ServerResult,
    TaskPayload,
};
use serde_json::Value;
use std::sync::Arc;

use super::{
    active_member::Seat,
    lists::list_item::Listed,
    names::uris,
    seal::{Seal, Sealed},
};
use crate::{Caller, Principal, listen::change::Change};

/// The rewriting of one member's answers to one caller.
#[derive(Clone)]
pub(super) struct Outward {
    pub(super) seat: Arc<Seat>,
    pub(super) seal: Seal,
    pub(super) principal: Option<Principal>,
}

impl Outward {
    pub(super) fn uri(&self, uri: &mut String) {
        self.seat.put_outward(uri);
    }

    fn meta(&self, meta: &mut Option<MetaObject>) {
        ui_in_meta(&self.seat, meta);
    }

    fn sealed(&self, kind: Sealed, value: &mut String) {
        *value = self
            .seal
            .seal(kind, &self.seat.name, value, self.principal.as_ref());
    }

    /// Rewrites any result but a complete list, which is merged instead.
    pub(super) fn result(&self, result: &mut ServerResult) {
        match result {
            ServerResult::InputRequiredResult(wanted) => {
                if let Some(state) = &mut wanted.request_state {
                    self.sealed(Sealed::State, state);
                }
            }
            ServerResult::CreateTaskResult(created) => {
                self.sealed(Sealed::Task, &mut created.task.task_id);
            }
            ServerResult::GetTaskResult(task) => {
                self.sealed(Sealed::Task, &mut task.task.task.task_id);
                self.payload(&mut task.task.payload);
            }
            _ if !self.seat.prefixes_uris() => {}
            ServerResult::CallToolResult(result) => {
                self.content(&mut result.content);
                self.meta(&mut result.meta);
            }
            ServerResult::GetPromptResult(result) => {
                for message in &mut result.messages {
                    self.block(&mut message.content);
                }
                self.meta(&mut result.meta);
            }
            ServerResult::ReadResourceResult(result) => {
                for contents in &mut result.contents {
                    self.contents(contents);
                }
                self.meta(&mut result.meta);
            }
            // The list of a directory, not the complete list.
            ServerResult::ListResourcesResult(result) => {
                for resource in &mut result.resources {
                    resource.put_outward(&self.seat);
                }
                self.meta(&mut result.meta);
            }
            ServerResult::GetSkillResult(result) => {
                result.skill.put_outward(&self.seat);
                self.meta(&mut result.meta);
            }
            _ => {}
        }
    }

    fn content(&self, content: &mut [ContentBlock]) {
        for block in content {
            self.block(block);
        }
    }

    fn block(&self, block: &mut ContentBlock) {
        match block {
            ContentBlock::Text(text) => self.meta(&mut text.meta),
            ContentBlock::Image(image) => self.meta(&mut image.meta),
            ContentBlock::Audio(audio) => self.meta(&mut audio.meta),
            ContentBlock::Resource(embedded) => {
                self.contents(&mut embedded.resource);
                self.meta(&mut embedded.meta);
            }
            ContentBlock::ResourceLink(link) => link.put_outward(&self.seat),
            _ => {}
        }
    }

    fn contents(&self, contents: &mut ResourceContents) {
        match contents {
            ResourceContents::TextResourceContents { uri, meta, .. }
            | ResourceContents::BlobResourceContents { uri, meta, .. } => {
                self.uri(uri);
                self.meta(meta);
            }
            _ => {}
        }
    }

    fn payload(&self, payload: &mut TaskPayload) {
        if let TaskPayload::Completed { result } = payload
            && self.seat.prefixes_uris()
        {
            self.json_content(result);
        }
    }

    /// A finished task has its tool's result as JSON.
    fn json_content(&self, result: &mut JsonObject) {
        ui_in_json(&self.seat, result);
        let blocks = result.get_mut("content").and_then(Value::as_array_mut);
        for block in blocks.into_iter().flatten() {
            let Some(block) = block.as_object_mut() else {
                continue;
            };
            ui_in_json(&self.seat, block);
            let uri = match block.get("type").and_then(Value::as_str) {
                Some("resource_link") => block.get_mut("uri"),
                Some("resource") => {
                    let resource = block.get_mut("resource").and_then(Value::as_object_mut);
                    resource.and_then(|resource| {
                        ui_in_json(&self.seat, resource);
                        resource.get_mut("uri")
                    })
                }
                _ => None,
            };
            if let Some(Value::String(uri)) = uri {
                self.uri(uri);
            }
        }
    }

    pub(super) fn notification(&self, notification: &mut ServerNotification) {
        match notification {
            ServerNotification::ResourceUpdatedNotification(update) => {
                self.uri(&mut update.params.uri);
            }
            ServerNotification::TaskStatusNotification(status) => {
                self.sealed(Sealed::Task, &mut status.params.task.task.task_id);
                self.payload(&mut status.params.task.payload);
            }
            _ => {}
        }
    }

    /// Returns the caller for a call, with notifications and requests rewritten.
    pub(super) fn way_back(&self, caller: &Caller) -> Caller {
        let outward = self.clone();
        caller.filter_map_notifications(move |mut notification| {
            if let Some(change) = Change::of(&notification) {
                outward.seat.changed(change);
            }
            outward.notification(&mut notification);
            Some(notification)
        })
    }
}

/// Makes the URIs of an app's views in a `_meta` outward: entries that are such a URI, such as
/// `ui/resourceUri`, and values in `ui` (SEP-1865). The declarations of origins and permissions
/// stay as they are.
pub(super) fn ui_in_meta(seat: &Seat, meta: &mut Option<MetaObject>) {
    if let Some(meta) = meta {
        ui_in_entries(seat, &mut meta.0);
    }
}

/// Does the same for the `_meta` of an untyped object.
fn ui_in_json(seat: &Seat, object: &mut JsonObject) {
    if let Some(Value::Object(meta)) = object.get_mut("_meta") {
        ui_in_entries(seat, meta);
    }
}

fn ui_in_entries(seat: &Seat, meta: &mut JsonObject) {
    for (key, value) in meta {
        match value {
            Value::String(_) => ui_in_value(seat, value),
            Value::Object(ui) if key == "ui" => {
                let views = ui
                    .iter_mut()
                    .filter(|(key, _)| !matches!(key.as_str(), "csp" | "domain" | "permissions"));
                views.for_each(|(_, value)| ui_in_value(seat, value));
            }
            _ => {}
        }
    }
}

fn ui_in_value(seat: &Seat, value: &mut Value) {
    match value {
        Value::String(uri) if uris::is_ui(uri) => seat.put_outward(uri),
        Value::Array(values) => values.iter_mut().for_each(|value| ui_in_value(seat, value)),
        Value::Object(values) => values
            .iter_mut()
            .for_each(|(_, value)| ui_in_value(seat, value)),
        _ => {}
    }
}
