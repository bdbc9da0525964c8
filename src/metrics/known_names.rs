use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

use rmcp::model::ServerResult;

use super::{convention::OTHER, span::MAX_TEXT};

/// Limit of known names of tools, and of prompts. Further ones are recorded as `_OTHER`, and so are
/// names of more than 256 bytes.
const MAX_NAMES: usize = 10_000;

/// The names of tools and prompts that may be labels: names in lists that have passed, and names
/// that the operator gave. Any other name is a caller's invention.
#[derive(Debug)]
pub(super) struct KnownNames {
    tools: RwLock<HashSet<Arc<str>>>,
    prompts: RwLock<HashSet<Arc<str>>>,
    other: Arc<str>,
}

/// A kind of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tool,
    Prompt,
}

impl KnownNames {
    pub(super) fn new(tools: Vec<Arc<str>>) -> Self {
        let known = Self {
            tools: RwLock::default(),
            prompts: RwLock::default(),
            other: OTHER.into(),
        };
        known.add(Kind::Tool, tools.iter().map(|name| &**name));
        known
    }

    /// Returns the name, if it is known.
    pub(super) fn get(&self, kind: Kind, name: &str) -> Option<Arc<str>> {
        let names = self.names(kind).read();
        let names = names.unwrap_or_else(PoisonError::into_inner);
        names.get(name).cloned()
    }

    /// Returns `_OTHER`.
    pub(super) fn other(&self) -> Arc<str> {
        self.other.clone()
    }

    /// Learns the names in a result, if it is a list of tools or prompts.
    pub(super) fn learn(&self, result: &ServerResult) {
        match result {
            ServerResult::ListToolsResult(list) => {
                self.add(Kind::Tool, list.tools.iter().map(|tool| &*tool.name));
            }
            ServerResult::ListPromptsResult(list) => {
                let names = list.prompts.iter().map(|prompt| &*prompt.name);
                self.add(Kind::Prompt, names);
            }
            _ => {}
        }
    }

    fn names(&self, kind: Kind) -> &RwLock<HashSet<Arc<str>>> {
        match kind {
            Kind::Tool => &self.tools,
            Kind::Prompt => &self.prompts,
        }
    }

    fn add<'a>(&self, kind: Kind, listed: impl Iterator<Item = &'a str>) {
        let known = self.names(kind).read();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        let new: Vec<_> = listed.filter(|name| !known.contains(*name)).collect();
        drop(known);
        if new.is_empty() {
            return;
        }
        let known = self.names(kind).write();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        for name in new {
            if known.len() < MAX_NAMES && name.len() <= MAX_TEXT {
                known.insert(name.into());
            }
        }
    }
}
