//! Rules for which responses are cached, and for how long.

use std::{sync::Arc, time::Duration};

use rmcp::model::{CacheScope, ServerResult};

use crate::{
    McpRequest, ToolHints,
    protocol::{methods::Method, results},
    util::glob,
};

/// The entries that one kind of change notification covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Group {
    Tools,
    Prompts,
    Resources,
    /// `server/discover`, for which there are no change notifications.
    Server,
}

impl Group {
    /// Returns the group of a method's responses. Returns `None` if they are never cached.
    pub(super) fn of(method: Method) -> Option<Self> {
        Some(match method {
            Method::CallTool | Method::ListTools => Self::Tools,
            Method::GetPrompt | Method::ListPrompts => Self::Prompts,
            Method::ReadResource
            | Method::ListResources
            | Method::ListResourceTemplates
            | Method::ListSkills
            | Method::GetSkill => Self::Resources,
            Method::Discover => Self::Server,
            _ => return None,
        })
    }
}

/// Returns the method of a request, if its response may be cached at all.
pub(super) fn cacheable(request: &McpRequest) -> Option<Method> {
    Method::of(&request.message).filter(|method| Group::of(*method).is_some())
}

/// Returns the `ttlMs` and the `cacheScope` of a result (MCP 2026-07-28,
/// `server/utilities/caching`).
pub(super) fn cache_hints(result: &mut ServerResult) -> (Option<&mut u64>, Option<CacheScope>) {
    let (ttl, scope) = results::cache_hints(result);
    (ttl, scope.map(|scope| *scope))
}

/// Appends the operator's part of the cache key.
pub(super) type VaryBy = Arc<dyn Fn(&McpRequest, &mut Vec<u8>) + Send + Sync>;

/// The operator's settings.
pub(super) struct Rules {
    pub time_to_live: Duration,
    /// Globs of tools. The first match applies.
    pub tools: Vec<(String, Option<Duration>)>,
    pub never: Vec<String>,
    pub trust_annotations: bool,
    /// Time to live of responses without cache hints.
    pub methods: Vec<(Method, Duration)>,
    /// `ttlMs: 0` counts as no hint.
    pub ignore_zero_ttl: bool,
    pub ignored_meta: Vec<String>,
    pub vary_by: Option<VaryBy>,
    pub share_errors: bool,
    pub follower_wait: Option<Duration>,
    pub stale_while_revalidate: Duration,
    pub stale_if_error: Duration,
    pub watch_changes: bool,
    pub max_watched_resources: usize,
    pub report_in_meta: bool,
    pub max_item_bytes: usize,
}

/// Minimum length of a gateway's prefix: a member's name and a separator.
const SHORTEST_PREFIX: usize = 2;

/// Returns `true` if a tool is in the never-cache set, by its name or by any suffix that follows a
/// possible gateway prefix. A separator may consist of any characters, so the end of a prefix is
/// unknown.
pub(super) fn is_never(never: &[String], tool: &str) -> bool {
    let is_in_set = |name: &str| never.iter().any(|glob| glob::matches(glob, name));
    let ends = tool.char_indices().skip(SHORTEST_PREFIX);
    is_in_set(tool) || ends.filter_map(|(at, _)| tool.get(at..)).any(is_in_set)
}

impl Rules {
    pub(super) fn ignores(&self, meta: &str) -> bool {
        self.ignored_meta.iter().any(|ignored| ignored == meta)
    }

    /// Returns the time to live of a tool's responses, if they may be cached at all.
    pub(super) fn tool_ttl(
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

    /// Returns the time to live of this method's responses without cache hints.
    pub(super) fn ttl_without_hints(&self, method: Method) -> Option<Duration> {
        let rule = self.methods.iter().find(|(of, _)| *of == method);
        rule.map(|(_, ttl)| *ttl)
    }

    /// Returns the time after expiry for which an entry may still be used.
    pub(super) fn grace(&self) -> Duration {
        self.stale_while_revalidate.max(self.stale_if_error)
    }
}
