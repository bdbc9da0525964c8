//! What a member says, in the words of the gateway: URIs and sealed values in results and notifications.

use futures::future::BoxFuture;
use rmcp::model::{
    ClientResult, ContentBlock, JsonObject, ResourceContents, ServerNotification, ServerRequest,
    ServerResult, Skill, SkillResources, TaskPayload,
};
use serde_json::Value;
use std::sync::Arc;

use super::{
    seat::{Change, Seat},
    state::{Seal, Sealed},
    uris,
};
use crate::{Caller, CallerSink, Error, Principal};

/// How one member's answers to one caller are rewritten.
#[derive(Clone)]
pub(super) struct Outward {
    pub(super) seat: Arc<Seat>,
    pub(super) seal: Seal,
    pub(super) principal: Option<Principal>,
}

impl Outward {
    pub(super) fn uri(&self, uri: &mut String) {
        if self.seat.prefixes_uris() {
            *uri = uris::prefixed(&self.seat.name, uri);
        }
    }

    fn sealed(&self, kind: Sealed, value: &mut String) {
        *value = self
            .seal
            .seal(kind, &self.seat.name, value, self.principal.as_ref());
    }

    /// The result of anything but a list of everything, which is merged.
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
            ServerResult::CallToolResult(result) => self.content(&mut result.content),
            ServerResult::GetPromptResult(result) => {
                for message in &mut result.messages {
                    self.block(&mut message.content);
                }
            }
            ServerResult::ReadResourceResult(result) => {
                for contents in &mut result.contents {
                    self.contents(contents);
                }
            }
            // A directory's, not the list of all.
            ServerResult::ListResourcesResult(result) => {
                for resource in &mut result.resources {
                    self.uri(&mut resource.uri);
                }
            }
            ServerResult::GetSkillResult(result) => self.skill(&mut result.skill),
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
            ContentBlock::Resource(embedded) => self.contents(&mut embedded.resource),
            ContentBlock::ResourceLink(link) => self.uri(&mut link.uri),
            _ => {}
        }
    }

    fn contents(&self, contents: &mut ResourceContents) {
        match contents {
            ResourceContents::TextResourceContents { uri, .. }
            | ResourceContents::BlobResourceContents { uri, .. } => self.uri(uri),
            _ => {}
        }
    }

    fn skill(&self, skill: &mut Skill) {
        let mut uri = skill.uri.clone();
        self.uri(&mut uri);
        skill_files(skill, &uri);
        skill.uri = uri;
    }

    fn payload(&self, payload: &mut TaskPayload) {
        if let TaskPayload::Completed { result } = payload
            && self.seat.prefixes_uris()
        {
            self.json_content(result);
        }
    }

    /// A finished task brings its tool's result as JSON.
    fn json_content(&self, result: &mut JsonObject) {
        let blocks = result.get_mut("content").and_then(Value::as_array_mut);
        for block in blocks.into_iter().flatten() {
            let holder = match block.get("type").and_then(Value::as_str) {
                Some("resource_link") => Some(&mut *block),
                Some("resource") => block.get_mut("resource"),
                _ => None,
            };
            if let Some(Value::String(uri)) = holder.and_then(|holder| holder.get_mut("uri")) {
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

    /// The way back for a call: to the same caller, in the gateway's words.
    pub(super) fn way_back(&self, caller: &Caller) -> Caller {
        let outward = self.clone();
        caller.wrap(|caller| WayBack { caller, outward })
    }
}

/// Gives a skill's files the prefix that `outward` has before the skill's own URI.
pub(super) fn skill_files(skill: &mut Skill, outward: &str) {
    let Some(prefix) = outward.strip_suffix(skill.uri.as_str()) else {
        return;
    };
    if let SkillResources::Files(files) = &mut skill.resources {
        for file in files {
            file.uri.insert_str(0, prefix);
        }
    }
}

struct WayBack {
    caller: Caller,
    outward: Outward,
}

impl CallerSink for WayBack {
    fn notify(&self, mut notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        if let Some(change) = Change::of(&notification) {
            self.outward.seat.changed(change);
        }
        self.outward.notification(&mut notification);
        Box::pin(self.caller.notify(notification))
    }

    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(self.caller.request(request))
    }
}
