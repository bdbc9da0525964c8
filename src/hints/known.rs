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

/// For how many audiences hints are remembered. Past it, they are forgotten: they come back with the next lists.
const MAX_AUDIENCES: usize = 1_024;
/// How many tools are remembered for one audience. Those beyond have no hints.
const MAX_TOOLS: usize = 10_000;

/// The hints of the tools that have been listed, by who was told them.
#[derive(Default)]
pub(crate) struct KnownHints {
    by_audience: RwLock<ByAudience>,
    version: AtomicU64,
    /// How often the tools have changed.
    changes: AtomicU64,
}

type ByAudience = HashMap<Audience, HashMap<Arc<str>, ToolHints>>;

/// Somebody has asked for the tools.
pub(crate) struct Asked {
    by: Audience,
    /// After so many changes.
    changes: u64,
}

impl KnownHints {
    /// Notes who asks for the tools, before they do: what was asked before a change says nothing after it.
    pub(crate) fn ask(&self, by: Audience) -> Asked {
        let changes = self.changes.load(Ordering::Acquire);
        Asked { by, changes }
    }

    /// Notes what an answer to `tools/list` says, if this is one.
    pub(crate) fn learn(&self, asked: &Asked, response: &McpResponse) {
        if let ServerResult::ListToolsResult(listed) = &response.result {
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

    /// Another number after each change: what was decided by the hints under the same one still holds.
    #[cfg(feature = "cache")]
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Forgets what makes a tool safe: the tools have changed.
    pub(crate) fn forget(&self) {
        let mut all = self
            .by_audience
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        forget_all(&mut all);
        self.changes.fetch_add(1, Ordering::Release);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The hints of the tool that is called: what an outer layer says, else what its caller was told last,
    /// else what everybody is told.
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

/// Forgets all but which tools destroy something: until they are listed again nobody may take them for harmless.
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
