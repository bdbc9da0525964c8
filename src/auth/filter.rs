//! Lists and notifications, without what the caller may not know of.

use rmcp::model::{
    CacheScope, ClientRequest, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListSkillsResult, ListToolsResult, ServerNotification, ServerResult,
};

use super::Item;
use crate::{Error, protocol, results};

/// Whether something is shown.
pub(super) trait Sight: Fn(Item<'_>) -> bool {}
impl<F: Fn(Item<'_>) -> bool> Sight for F {}

/// Which list a request asks for.
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

    /// Whether a result is a list, of whatever kind.
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

    /// The answer as this list. rmcp may have read it as something else, which no filter would know.
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

/// Takes off a list what is not shown. Order and cursor stay: a page may come out short, or empty.
pub(super) fn filter(result: &mut ServerResult, shows: impl Sight) {
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

/// Says on the wire that an answer is for its caller alone, where its server says that it is for everybody (MCP
/// 2026-07-28, SEP-2549): what is behind a guard is not, and caches on the way to the caller go by it.
pub(super) fn close(result: &mut ServerResult) {
    if let (_, Some(scope)) = protocol::cache_hints(result) {
        *scope = CacheScope::Private;
    }
}

/// The notification, if it names nothing that is not shown.
pub(super) fn lets_pass(notification: &ServerNotification, shows: impl Sight) -> bool {
    match notification {
        ServerNotification::ResourceUpdatedNotification(updated) => {
            shows(Item::Resource(&updated.params.uri))
        }
        _ => true,
    }
}
