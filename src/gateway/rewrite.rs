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
use crate::{Caller, Lossless, Principal, listen::change::Change};

/// The rewriting of one member's answers to one caller.
#[derive(Clone)]
pub(super) struct Outward {
    pub(super) member: Arc<ActiveMember>,
    pub(super) seal: Seal,
    pub(super) principal: Option<Principal>,
}

impl Outward {
    pub(super) fn uri(&self, uri: &mut String) -> bool {
        self.member.uris.put_before(uri)
    }

    fn meta(&self, meta: &mut Option<MetaObject>) -> bool {
        app_views::rewrite_meta(&self.member.uris, meta)
    }

    pub(super) fn sealed(&self, kind: SealKind, value: &mut String) -> bool {
        *value = self
            .seal
            .seal(kind, &self.member.name, value, self.principal.as_ref());
        true
    }

    /// Rewrites any result but a complete list, which is merged instead. A result that mentions
    /// nothing of the member stays as it came.
    pub(super) fn result(&self, result: &mut Lossless<ServerResult>) {
        if self.may_rewrite(result) {
            result.change_in_place(|result| self.rewrite(result));
        }
    }

    /// Returns `false` for the results that are the most frequent and have nothing to rewrite.
    fn may_rewrite(&self, result: &ServerResult) -> bool {
        match result {
            ServerResult::InputRequiredResult(_)
            | ServerResult::CreateTaskResult(_)
            | ServerResult::GetTaskResult(_) => true,
            _ => self.member.uris.is_set(),
        }
    }

    /// Returns `true` if it has changed the result.
    fn rewrite(&self, result: &mut ServerResult) -> bool {
        match result {
            ServerResult::InputRequiredResult(wanted) => wanted
                .request_state
                .as_mut()
                .is_some_and(|state| self.sealed(SealKind::State, state)),
            ServerResult::CreateTaskResult(created) => {
                self.sealed(SealKind::Task, &mut created.task.task_id)
            }
            ServerResult::GetTaskResult(task) => {
                self.payload(&mut task.task.payload);
                self.sealed(SealKind::Task, &mut task.task.task.task_id)
            }
            _ if !self.member.uris.is_set() => false,
            ServerResult::CallToolResult(result) => {
                self.content(&mut result.content) | self.meta(&mut result.meta)
            }
            ServerResult::GetPromptResult(result) => {
                let mut any = self.meta(&mut result.meta);
                for message in &mut result.messages {
                    any |= self.block(&mut message.content);
                }
                any
            }
            ServerResult::ReadResourceResult(result) => {
                let mut any = self.meta(&mut result.meta);
                for contents in &mut result.contents {
                    any |= self.contents(contents);
                }
                any
            }
            // The list of a directory, not the complete list.
            ServerResult::ListResourcesResult(result) => {
                let mut any = self.meta(&mut result.meta);
                for resource in &mut result.resources {
                    any |= resource.rewrite_uris(&self.member.uris);
                }
                any
            }
            ServerResult::GetSkillResult(result) => {
                result.skill.rewrite_uris(&self.member.uris) | self.meta(&mut result.meta)
            }
            _ => false,
        }
    }

    /// Rewrites the result that a task of revision 2025-11-25 has ended with.
    pub(super) fn result_of_task(&self, result: &mut Lossless<ServerResult>) {
        if self.member.uris.is_set() && matches!(**result, ServerResult::CustomResult(_)) {
            result.change_json(|json| {
                json.as_object_mut()
                    .is_some_and(|result| self.json_content(result))
            });
        }
    }

    fn content(&self, content: &mut [ContentBlock]) -> bool {
        let mut any = false;
        for block in content {
            any |= self.block(block);
        }
        any
    }

    fn block(&self, block: &mut ContentBlock) -> bool {
        match block {
            ContentBlock::Text(text) => self.meta(&mut text.meta),
            ContentBlock::Image(image) => self.meta(&mut image.meta),
            ContentBlock::Audio(audio) => self.meta(&mut audio.meta),
            ContentBlock::Resource(embedded) => {
                self.contents(&mut embedded.resource) | self.meta(&mut embedded.meta)
            }
            ContentBlock::ResourceLink(link) => link.rewrite_uris(&self.member.uris),
            _ => false,
        }
    }

    fn contents(&self, contents: &mut ResourceContents) -> bool {
        match contents {
            ResourceContents::TextResourceContents { uri, meta, .. }
            | ResourceContents::BlobResourceContents { uri, meta, .. } => {
                self.uri(uri) | self.meta(meta)
            }
            _ => false,
        }
    }

    fn payload(&self, payload: &mut TaskPayload) -> bool {
        match payload {
            TaskPayload::Completed { result } if self.member.uris.is_set() => {
                self.json_content(result)
            }
            _ => false,
        }
    }

    /// A finished task has its tool's result as JSON.
    fn json_content(&self, result: &mut JsonObject) -> bool {
        let mut any = app_views::rewrite_json_meta(&self.member.uris, result);
        let blocks = result.get_mut("content").and_then(Value::as_array_mut);
        for block in blocks.into_iter().flatten() {
            let Some(block) = block.as_object_mut() else {
                continue;
            };
            any |= app_views::rewrite_json_meta(&self.member.uris, block);
            let uri = match block.get("type").and_then(Value::as_str) {
                Some("resource_link") => block.get_mut("uri"),
                Some("resource") => {
                    let resource = block.get_mut("resource").and_then(Value::as_object_mut);
                    resource.and_then(|resource| {
                        any |= app_views::rewrite_json_meta(&self.member.uris, resource);
                        resource.get_mut("uri")
                    })
                }
                _ => None,
            };
            if let Some(Value::String(uri)) = uri {
                any |= self.uri(uri);
            }
        }
        any
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

    /// Rewrites a notification of a call, and counts the change that it announces.
    pub(super) fn notification_of_call(&self, notification: &mut ServerNotification) {
        if let Some(change) = Change::of(notification) {
            self.member.changes.count(change);
        }
        self.notification(notification);
    }

    /// Returns the caller for a call, with notifications rewritten.
    pub(super) fn rewriting_caller(&self, caller: &Caller) -> Caller {
        let outward = self.clone();
        caller.filter_map_notifications(move |mut notification| {
            outward.notification_of_call(&mut notification);
            Some(notification)
        })
    }
}
