//! Removes items that the caller may not know of from lists and notifications.

use rmcp::model::{
    CacheScope, ClientRequest, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListSkillsResult, ListToolsResult, ServerNotification, ServerResult,
};

use super::Item;
use crate::{Error, protocol::results};

/// A function that returns `true` if an item is shown.
pub(super) trait Shows: Fn(Item<'_>) -> bool {}
impl<F: Fn(Item<'_>) -> bool> Shows for F {}

/// The kind of list that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Tools,
    Prompts,
    Resources,
    Templates,
    Skills,
}

impl List {
    pub(super) fn of(request: &ClientRequest) -> Option<Self> {
        match request {
            ClientRequest::ListToolsRequest(_) => Some(Self::Tools),
            ClientRequest::ListPromptsRequest(_) => Some(Self::Prompts),
            ClientRequest::ListResourcesRequest(_)
            | ClientRequest::ReadResourceDirectoryRequest(_) => Some(Self::Resources),
            ClientRequest::ListResourceTemplatesRequest(_) => Some(Self::Templates),
            ClientRequest::ListSkillsRequest(_) => Some(Self::Skills),
            _ => None,
        }
    }

    /// Returns `true` if a result is a list of any kind.
    pub(super) fn is_one(result: &ServerResult) -> bool {
        matches!(
            result,
            ServerResult::ListToolsResult(_)
                | ServerResult::ListPromptsResult(_)
                | ServerResult::ListResourcesResult(_)
                | ServerResult::ListResourceTemplatesResult(_)
                | ServerResult::ListSkillsResult(_)
        )
    }

    /// Converts the result into this list. rmcp may have parsed it as another type, which no filter
    /// would recognize.
    pub(super) fn expect(self, result: ServerResult) -> Result<ServerResult, Error> {
        Ok(match self {
            Self::Tools => ServerResult::ListToolsResult(results::expect(result)?),
            Self::Prompts => ServerResult::ListPromptsResult(results::expect(result)?),
            Self::Resources => ServerResult::ListResourcesResult(results::expect(result)?),
            Self::Templates => ServerResult::ListResourceTemplatesResult(results::expect(result)?),
            Self::Skills => ServerResult::ListSkillsResult(results::expect(result)?),
        })
    }
}

/// Removes hidden items from a list. Order and cursor stay, so a page may be short or empty.
pub(super) fn filter(result: &mut ServerResult, shows: impl Shows) {
    match result {
        ServerResult::ListToolsResult(ListToolsResult { tools, .. }) => {
            tools.retain(|tool| shows(Item::Tool(&tool.name)));
        }
        ServerResult::ListPromptsResult(ListPromptsResult { prompts, .. }) => {
            prompts.retain(|prompt| shows(Item::Prompt(&prompt.name)));
        }
        ServerResult::ListResourcesResult(ListResourcesResult { resources, .. }) => {
            resources.retain(|resource| shows(Item::Resource(&resource.uri)));
        }
        ServerResult::ListResourceTemplatesResult(ListResourceTemplatesResult {
            resource_templates,
            ..
        }) => {
            resource_templates
                .retain(|template| shows(Item::ResourceTemplate(&template.uri_template)));
        }
        ServerResult::ListSkillsResult(ListSkillsResult { skills, .. }) => {
            skills.retain(|skill| shows(Item::Skill(&skill.uri)));
        }
        _ => {}
    }
}

/// Sets the cache scope of a result to private (MCP 2026-07-28, SEP-2549). A server may declare it
/// public, but behind a guard it is not, and caches between here and the caller obey the scope.
pub(super) fn close(result: &mut ServerResult) {
    if let (_, Some(scope)) = results::cache_hints(result) {
        *scope = CacheScope::Private;
    }
}

/// Returns `true` if the notification names no hidden item.
pub(super) fn lets_pass(notification: &ServerNotification, shows: impl Shows) -> bool {
    match notification {
        ServerNotification::ResourceUpdatedNotification(updated) => {
            shows(Item::Resource(&updated.params.uri))
        }
        _ => true,
    }
}
