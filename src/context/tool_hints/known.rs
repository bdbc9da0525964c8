use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rmcp::model::{CacheScope, ListToolsResult, ServerResult, Tool};

use super::ToolHints;
use crate::{Audience, McpRequest, McpResponse};

/// Maximum number of audiences. Beyond it, all hints are dropped and learned again from the next
/// lists.
const MAX_AUDIENCES: usize = 1_024;
/// Maximum number of tools for one audience. Further ones have no hints.
const MAX_TOOLS: usize = 10_000;

/// The hints of the tools in the lists that have passed, by audience.
#[derive(Default)]
pub(crate) struct KnownHints {
    by_audience: RwLock<ByAudience>,
    version: AtomicU64,
    /// The number of tool changes.
    changes: AtomicU64,
}

type ByAudience = HashMap<Audience, HashMap<Arc<str>, ToolHints>>;

/// A `tools/list` request under way.
pub(crate) struct Asked {
    by: Audience,
    /// The number of tool changes at the time of the request.
    changes: u64,
}

impl KnownHints {
    /// Notes a list request before it is sent, because a list from before a change is outdated
    /// after it.
    pub(crate) fn ask(&self, by: Audience) -> Asked {
        let changes = self.changes.load(Ordering::Acquire);
        Asked { by, changes }
    }

    /// Learns the hints from a response, if it is one to `tools/list`.
    pub(crate) fn learn(&self, asked: &Asked, response: &McpResponse) {
        if let ServerResult::ListToolsResult(listed) = &*response.result {
            self.learn_list(asked, listed);
        }
    }

    fn learn_list(&self, asked: &Asked, listed: &ListToolsResult) {
        let mut all = self
            .by_audience
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if asked.changes != self.changes.load(Ordering::Acquire) {
            return;
        }
        if all.len() >= MAX_AUDIENCES && !all.contains_key(&asked.by) {
            forget_all(&mut all);
        }
        if listed.cache_scope == Some(CacheScope::Public) {
            note(all.entry(Audience::everybody()).or_default(), &listed.tools);
        }
        note(all.entry(asked.by.clone()).or_default(), &listed.tools);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Returns a number that changes with the hints. Decisions under the same number are still
    /// valid.
    #[cfg(feature = "cache")]
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Drops the hints that make a tool safe, after the tools have changed.
    pub(crate) fn forget(&self) {
        let mut all = self
            .by_audience
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        forget_all(&mut all);
        self.changes.fetch_add(1, Ordering::Release);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Returns the hints of the called tool. They come from an outer layer, else from the last list
    /// of its caller, else from public lists.
    pub(crate) fn of_call(&self, audience: &Audience, request: &McpRequest) -> Option<ToolHints> {
        if let Some(told) = request.context.extensions.get::<ToolHints>() {
            return Some(*told);
        }
        let name: &str = &request.as_tool_call()?.name;
        let all = self
            .by_audience
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let of = |audience: &Audience| all.get(audience)?.get(name).copied();
        of(audience).or_else(|| of(&Audience::everybody()))
    }
}

/// Drops all hints except the destructive ones, because those tools must not count as safe until
/// they are listed again.
fn forget_all(all: &mut ByAudience) {
    let mut destructive = HashMap::new();
    for (name, hints) in std::mem::take(all).into_values().flatten() {
        if hints.destructive && destructive.len() < MAX_TOOLS {
            let hints = ToolHints {
                destructive: true,
                ..ToolHints::default()
            };
            destructive.insert(name, hints);
        }
    }
    if !destructive.is_empty() {
        all.insert(Audience::everybody(), destructive);
    }
}

fn note(known: &mut HashMap<Arc<str>, ToolHints>, tools: &[Tool]) {
    for tool in tools {
        if known.len() < MAX_TOOLS || known.contains_key(&*tool.name) {
            known.insert(tool.name.as_ref().into(), ToolHints::of(tool));
        }
    }
}

impl fmt::Debug for KnownHints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownHints").finish_non_exhaustive()
    }
}
