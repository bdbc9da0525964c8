//! Rewrites URIs and sealed values in a member's results and notifications for the caller.

use std::sync::Arc;

use rmcp::model::{
    ContentBlock, JsonObject, MetaObject, ResourceContents, ServerNotification, ServerResult,
    TaskPayload,
};
use serde_json::Value;

use super::{
    lists::list_item::ListItem,
    members::active_member::ActiveMember,
    names::app_views,
    seal::{Seal, SealKind},
};
use crate::{Caller, Principal, listen::change::Change};

/// The rewriting of one member's answers to one caller.
#[derive(Clone)]
pub(super) struct Outward {
    pub(super) member: Arc<ActiveMember>,
    pub(super) seal: Seal,
    pub(super) principal: Option<Principal>,
}

impl Outward {
    pub(super) fn uri(&self, uri: &mut String) {
        self.member.uris.put_before(uri);
    }

    fn meta(&self, meta: &mut Option<MetaObject>) {
        app_views::rewrite_meta(&self.member.uris, meta);
    }

    fn sealed(&self, kind: SealKind, value: &mut String) {
        *value = self
            .seal
            .seal(kind, &self.member.name, value, self.principal.as_ref());
    }

    /// Rewrites any result but a complete list, which is merged instead.
    pub(super) fn result(&self, result: &mut ServerResult) {
        match result {
            ServerResult::InputRequiredResult(wanted) => {
                if let Some(state) = &mut wanted.request_state {
                    self.sealed(SealKind::State, state);
                }
            }
            ServerResult::CreateTaskResult(created) => {
                self.sealed(SealKind::Task, &mut created.task.task_id);
            }
            ServerResult::GetTaskResult(task) => {
                self.sealed(SealKind::Task, &mut task.task.task.task_id);
                self.payload(&mut task.task.payload);
            }
            _ if !self.member.uris.is_set() => {}
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
                    resource.rewrite_uris(&self.member.uris);
                }
                self.meta(&mut result.meta);
            }
            ServerResult::GetSkillResult(result) => {
                result.skill.rewrite_uris(&self.member.uris);
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
            ContentBlock::ResourceLink(link) => link.rewrite_uris(&self.member.uris),
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
            && self.member.uris.is_set()
        {
            self.json_content(result);
        }
    }

    /// A finished task has its tool's result as JSON.
    fn json_content(&self, result: &mut JsonObject) {
        app_views::rewrite_json_meta(&self.member.uris, result);
        let blocks = result.get_mut("content").and_then(Value::as_array_mut);
        for block in blocks.into_iter().flatten() {
            let Some(block) = block.as_object_mut() else {
                continue;
            };
            app_views::rewrite_json_meta(&self.member.uris, block);
            let uri = match block.get("type").and_then(Value::as_str) {
                Some("resource_link") => block.get_mut("uri"),
                Some("resource") => {
                    let resource = block.get_mut("resource").and_then(Value::as_object_mut);
                    resource.and_then(|resource| {
                        app_views::rewrite_json_meta(&self.member.uris, resource);
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
                self.sealed(SealKind::Task, &mut status.params.task.task.task_id);
                self.payload(&mut status.params.task.payload);
            }
            _ => {}
        }
    }

    /// Returns the caller for a call, with notifications and requests rewritten.
    pub(super) fn rewriting_caller(&self, caller: &Caller) -> Caller {
        let outward = self.clone();
        caller.filter_map_notifications(move |mut notification| {
            if let Some(change) = Change::of(&notification) {
                outward.member.changes.count(change);
            }
            outward.notification(&mut notification);
            Some(notification)
        })
    }
}
