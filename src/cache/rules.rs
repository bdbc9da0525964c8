//! What may be kept, and for how long.

use std::{sync::Arc, time::Duration};

use rmcp::model::{CacheScope, ClientRequest, ServerResult};

use crate::{McpRequest, ToolHints, glob, protocol};

/// The methods whose answers may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    CallTool,
    ListTools,
    GetPrompt,
    ListPrompts,
    ReadResource,
    ListResources,
    ListTemplates,
    ListSkills,
    GetSkill,
    Discover,
}

/// What a change notification speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Group {
    Tools,
    Prompts,
    Resources,
    /// Nothing tells of changes here.
    Server,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::CallTool,
        Self::ListTools,
        Self::GetPrompt,
        Self::ListPrompts,
        Self::ReadResource,
        Self::ListResources,
        Self::ListTemplates,
        Self::ListSkills,
        Self::GetSkill,
        Self::Discover,
    ];

    /// The kind of a request, if its answer may be kept at all.
    pub fn of(request: &McpRequest) -> Option<Self> {
        Some(match &request.message {
            ClientRequest::CallToolRequest(_) => Self::CallTool,
            ClientRequest::ListToolsRequest(_) => Self::ListTools,
            ClientRequest::GetPromptRequest(_) => Self::GetPrompt,
            ClientRequest::ListPromptsRequest(_) => Self::ListPrompts,
            ClientRequest::ReadResourceRequest(_) => Self::ReadResource,
            ClientRequest::ListResourcesRequest(_) => Self::ListResources,
            ClientRequest::ListResourceTemplatesRequest(_) => Self::ListTemplates,
            ClientRequest::DiscoverRequest(_) => Self::Discover,
            ClientRequest::ListSkillsRequest(_) => Self::ListSkills,
            ClientRequest::GetSkillRequest(_) => Self::GetSkill,
            _ => return None,
        })
    }

    pub fn method(self) -> &'static str {
        match self {
            Self::CallTool => "tools/call",
            Self::ListTools => "tools/list",
            Self::GetPrompt => "prompts/get",
            Self::ListPrompts => "prompts/list",
            Self::ReadResource => "resources/read",
            Self::ListResources => "resources/list",
            Self::ListTemplates => "resources/templates/list",
            Self::ListSkills => "skills/list",
            Self::GetSkill => "skills/get",
            Self::Discover => "server/discover",
        }
    }

    pub fn group(self) -> Group {
        match self {
            Self::CallTool | Self::ListTools => Group::Tools,
            Self::GetPrompt | Self::ListPrompts => Group::Prompts,
            Self::Discover => Group::Server,
            _ => Group::Resources,
        }
    }

    /// Whether a result can say who may keep it. What cannot is never everybody's.
    pub fn has_scope(self) -> bool {
        !matches!(self, Self::CallTool | Self::GetPrompt)
    }

    /// Whether this is what the method answers with when it is done.
    pub fn fits(self, result: &ServerResult) -> bool {
        matches!(
            (self, result),
            (Self::CallTool, ServerResult::CallToolResult(_))
                | (Self::ListTools, ServerResult::ListToolsResult(_))
                | (Self::GetPrompt, ServerResult::GetPromptResult(_))
                | (Self::ListPrompts, ServerResult::ListPromptsResult(_))
                | (Self::ReadResource, ServerResult::ReadResourceResult(_))
                | (Self::ListResources, ServerResult::ListResourcesResult(_))
                | (
                    Self::ListTemplates,
                    ServerResult::ListResourceTemplatesResult(_)
                )
                | (Self::ListSkills, ServerResult::ListSkillsResult(_))
                | (Self::GetSkill, ServerResult::GetSkillResult(_))
                | (Self::Discover, ServerResult::DiscoverResult(_))
        )
    }
}

/// What a result says of how long and by whom it may be kept (MCP 2026-07-28, `server/utilities/caching`).
pub(super) fn said(result: &mut ServerResult) -> (Option<&mut u64>, Option<CacheScope>) {
    let (ttl, scope) = protocol::cache_hints(result);
    (ttl, scope.map(|scope| *scope))
}

/// Adds what the key must hold beside the request.
pub(super) type VaryBy = Arc<dyn Fn(&McpRequest, &mut Vec<u8>) + Send + Sync>;

/// The operator's settings, as they are asked.
pub(super) struct Rules {
    pub time_to_live: Duration,
    /// Globs of tools, the first that matches.
    pub tools: Vec<(String, Option<Duration>)>,
    pub never: Vec<String>,
    pub trust_annotations: bool,
    /// How long answers are kept of servers that do not say it.
    pub methods: Vec<(Kind, Duration)>,
    /// A server that says `ttlMs: 0` is taken for one that does not say it.
    pub zero_is_silence: bool,
    pub ignored_meta: Vec<String>,
    pub vary_by: Option<VaryBy>,
    pub share_errors: bool,
    pub follower_wait: Duration,
    pub stale_while_revalidate: Duration,
    pub stale_if_error: Duration,
    pub watch_changes: bool,
    pub max_watched_resources: usize,
    pub report_in_meta: bool,
    pub max_item_bytes: usize,
}

/// How few characters a gateway puts in front of a name: a member's name and a separator.
const SHORTEST_PREFIX: usize = 2;

/// Whether a tool is in the set that is never kept: by its name, or by any end of it that a gateway may have put
/// something in front of. A separator may be any characters of names, letters too, so nothing says where that ends.
pub(super) fn is_never(never: &[String], tool: &str) -> bool {
    let is_in_set = |name: &str| never.iter().any(|glob| glob::matches(glob, name));
    let ends = tool.char_indices().skip(SHORTEST_PREFIX);
    is_in_set(tool) || ends.filter_map(|(at, _)| tool.get(at..)).any(is_in_set)
}

impl Rules {
    pub fn ignores(&self, meta: &str) -> bool {
        self.ignored_meta.iter().any(|ignored| ignored == meta)
    }

    /// How long a tool's answers are kept, if it may be kept at all.
    pub fn tool_ttl(
        &self,
        tool: &str,
        hints: impl FnOnce() -> Option<ToolHints>,
    ) -> Option<Duration> {
        if is_never(&self.never, tool) {
            return None;
        }
        let hints = hints().unwrap_or_default();
        if hints.destructive {
            return None;
        }
        let rule = self
            .tools
            .iter()
            .find(|(glob, _)| glob::matches(glob, tool));
        match rule {
            Some((_, ttl)) => Some(ttl.unwrap_or(self.time_to_live)),
            None if self.trust_annotations && hints.read_only => Some(self.time_to_live),
            None => None,
        }
    }

    /// How long an answer of this method is kept whose server does not say it.
    pub fn silent_ttl(&self, kind: Kind) -> Option<Duration> {
        let rule = self.methods.iter().find(|(of, _)| *of == kind);
        rule.map(|(_, ttl)| *ttl)
    }

    /// How long what has expired may still be of use.
    pub fn grace(&self) -> Duration {
        self.stale_while_revalidate.max(self.stale_if_error)
    }
}
