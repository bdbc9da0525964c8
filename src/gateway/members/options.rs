//! The operator's options for a member's items.

use std::collections::HashMap;

use crate::Item;
use crate::gateway::names::{filter::Filter, style::versioned};

/// The operator's options for a member.
#[derive(Clone, Debug, Default)]
pub(in crate::gateway) struct Options {
    pub(in crate::gateway) tools: Overrides,
    pub(in crate::gateway) prompts: Overrides,
    pub(in crate::gateway) filter: Filter,
    /// The operator's trust in the tools' annotations, if it is set.
    pub(in crate::gateway) trusted: Option<bool>,
    pub(in crate::gateway) shared_lists: bool,
    pub(in crate::gateway) unlisted: bool,
}

/// The operator's overrides for single tools or prompts, by the member's own names.
pub(in crate::gateway) type Overrides = HashMap<String, Override>;

/// The operator's override for one tool or prompt.
#[derive(Clone, Debug, Default)]
pub(in crate::gateway) struct Override {
    pub(in crate::gateway) name: Option<String>,
    pub(in crate::gateway) hidden: bool,
    pub(in crate::gateway) description: Option<String>,
}

impl Options {
    /// Returns `true` if every item is exposed under the name that the gateway gives it.
    pub(in crate::gateway) fn change_nothing(&self) -> bool {
        self.tools.is_empty() && self.prompts.is_empty() && self.filter.is_empty()
    }

    /// Returns `true` if some item may be hidden.
    pub(in crate::gateway) fn may_hide(&self) -> bool {
        let hides = |overrides: &Overrides| overrides.values().any(|one| one.hidden);
        !self.filter.is_empty() || hides(&self.tools) || hides(&self.prompts)
    }

    /// Returns the override for an item, given by the member's own name.
    pub(in crate::gateway) fn override_of(&self, inner: Item<'_>) -> Option<&Override> {
        match inner {
            Item::Tool(name) => self.tools.get(name),
            Item::Prompt(name) => self.prompts.get(name),
            _ => None,
        }
    }

    /// Returns `true` if an item, given by the member's own name or URI, is exposed under this
    /// outward one. A hidden tool is hidden in all its versions, which calls append to its name.
    pub(in crate::gateway) fn expose(&self, inner: Item<'_>, outward: &str) -> bool {
        let exposed = |inner: Item<'_>, outward: &str| {
            self.override_of(inner).is_none_or(|one| {
                !one.hidden && one.name.as_deref().is_none_or(|name| name == outward)
            })
        };
        let base_exposed = || {
            let Item::Tool(name) = inner else { return true };
            let (tool, version) = versioned(name);
            version.is_empty()
                || outward.strip_suffix(version).is_none_or(|outward| {
                    !self.filter.denies(outward) && exposed(Item::Tool(tool), outward)
                })
        };
        self.filter.exposes(outward) && exposed(inner, outward) && base_exposed()
    }
}
