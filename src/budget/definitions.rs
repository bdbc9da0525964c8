use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex},
};

use lru::LruCache;
use rmcp::model::ServerResult;
use serde::Serialize;

use super::TokenCounter;
use crate::{protocol::lists::ListKind, util::lock};

/// Maximum number of definitions in the report. Further ones are counted, and not reported.
const MAX_REPORTED: usize = 10_000;
/// The number of pages whose counts are remembered.
const MAX_PAGES: usize = 256;

/// The cost of a definition that a list shows to a model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DefinitionCost {
    /// The method of the list: `tools/list`, `prompts/list` or `skills/list`.
    pub method: &'static str,
    /// The name of the tool or the prompt, or the URI of the skill.
    pub name: Arc<str>,
    /// Its tokens, with its description and its schemas.
    pub tokens: u64,
}

/// Counts definitions.
pub(super) struct Definitions {
    counter: Arc<dyn TokenCounter>,
    warn_above: Option<u64>,
    reported: Mutex<HashMap<(&'static str, Arc<str>), u64>>,
    /// The tokens of pages that were counted, by digest.
    counted: Mutex<LruCache<u64, u64>>,
}

/// A page of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageCost {
    /// The same for the same definitions, in each process.
    pub digest: u64,
    pub tokens: u64,
}

impl Definitions {
    pub(super) fn new(counter: Arc<dyn TokenCounter>, warn_above: Option<u64>) -> Self {
        Self {
            counter,
            warn_above,
            reported: Mutex::default(),
            counted: Mutex::new(LruCache::unbounded()),
        }
    }

    /// Returns the cost of a page of a list, and reports its definitions. It is slow: call it on a
    /// thread for blocking work.
    pub(super) fn count(&self, listed: &ServerResult) -> Option<PageCost> {
        let (method, items) = items(listed)?;
        let mut hasher = DefaultHasher::new();
        (method, &items).hash(&mut hasher);
        let digest = hasher.finish();
        if let Some(tokens) = lock(&self.counted).get(&digest).copied() {
            return Some(PageCost { digest, tokens });
        }
        let mut tokens = 0_u64;
        for (name, json) in items {
            let cost = u64::try_from(self.counter.count(&json)).unwrap_or(u64::MAX);
            tokens = tokens.saturating_add(cost);
            self.note(method, name.into(), cost);
        }
        let mut counted = lock(&self.counted);
        if counted.len() >= MAX_PAGES {
            counted.pop_lru();
        }
        counted.put(digest, tokens);
        Some(PageCost { digest, tokens })
    }

    fn note(&self, method: &'static str, name: Arc<str>, tokens: u64) {
        let mut reported = lock(&self.reported);
        let key = (method, name.clone());
        if reported.len() >= MAX_REPORTED && !reported.contains_key(&key) {
            return;
        }
        let is_known = reported.insert(key, tokens) == Some(tokens);
        drop(reported);
        if let Some(most) = self.warn_above.filter(|most| tokens > *most && !is_known) {
            tracing::warn!(method, %name, tokens, most, "a definition takes much of the context");
        }
    }

    /// Returns the costs of all definitions, the highest first.
    pub(super) fn report(&self) -> Vec<DefinitionCost> {
        let reported = lock(&self.reported);
        let costs = reported
            .iter()
            .map(|((method, name), tokens)| DefinitionCost {
                method,
                name: name.clone(),
                tokens: *tokens,
            });
        let mut costs: Vec<_> = costs.collect();
        drop(reported);
        costs.sort_by(|a, b| b.tokens.cmp(&a.tokens).then_with(|| a.name.cmp(&b.name)));
        costs
    }
}

/// Returns the names of the definitions of a list, and their JSON.
fn items(listed: &ServerResult) -> Option<(&'static str, Vec<(String, String)>)> {
    fn json<T: Serialize>(item: &T) -> String {
        serde_json::to_string(item).unwrap_or_default()
    }
    Some(match (ListKind::of(listed)?, listed) {
        (ListKind::Tools, ServerResult::ListToolsResult(list)) => {
            let items = list
                .tools
                .iter()
                .map(|tool| (tool.name.to_string(), json(tool)));
            ("tools/list", items.collect())
        }
        (ListKind::Prompts, ServerResult::ListPromptsResult(list)) => {
            let items = list
                .prompts
                .iter()
                .map(|prompt| (prompt.name.clone(), json(prompt)));
            ("prompts/list", items.collect())
        }
        (ListKind::Skills, ServerResult::ListSkillsResult(list)) => {
            let items = list
                .skills
                .iter()
                .map(|skill| (skill.uri.clone(), json(skill)));
            ("skills/list", items.collect())
        }
        _ => return None,
    })
}
