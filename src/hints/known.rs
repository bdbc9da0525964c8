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

/// For how many audiences hints are remembered. Past it, all are forgotten: they come back with the next lists.
const MAX_AUDIENCES: usize = 1_024;
/// How many tools are remembered for one audience. Those beyond have no hints.
const MAX_TOOLS: usize = 10_000;

/// The hints of the tools that have been listed, by who was told them.
#[derive(Default)]
pub(crate) struct KnownHints {
    by_audience: RwLock<HashMap<Audience, HashMap<Arc<str>, ToolHints>>>,
    version: AtomicU64,
}

impl KnownHints {
    /// Notes what an answer to `tools/list` says, if this is one.
    pub(crate) fn learn(&self, asked_by: &Audience, response: &McpResponse) {
        if let ServerResult::ListToolsResult(listed) = &response.result {
            self.learn_list(asked_by, listed);
        }
    }

    fn learn_list(&self, asked_by: &Audience, listed: &ListToolsResult) {
        let mut all = self
            .by_audience
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_AUDIENCES && !all.contains_key(asked_by) {
            all.clear();
        }
        if listed.cache_scope == Some(CacheScope::Public) {
            note(all.entry(Audience::everybody()).or_default(), &listed.tools);
        }
        note(all.entry(asked_by.clone()).or_default(), &listed.tools);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Another number after each change: what was decided by the hints under the same one still holds.
    #[cfg(feature = "cache")]
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Forgets all: the tools have changed.
    pub(crate) fn forget(&self) {
        self.by_audience
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
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
