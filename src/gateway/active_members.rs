//! The members of a gateway at one moment.

use std::{collections::HashMap, sync::Arc};

use super::{
    lists::{list_key::ListKey, listed_member::ListedMember},
    members::options::Overrides,
    names::prefix::Prefix,
};
use crate::{CallContext, ConfigError, Item, McpResponse, caller::Era};

/// The members at one moment, the highest priority first.
#[derive(Default)]
pub(super) struct ActiveMembers {
    pub(super) list: Vec<Arc<ListedMember>>,
    by_name: HashMap<Arc<str>, Arc<ListedMember>>,
    /// The members whose tools and prompts may be called by their own names.
    pub(super) unprefixed: Vec<Arc<ListedMember>>,
    /// The eras whose callers have a stack for each session at one of the members.
    by_session: Vec<Era>,
    renamed_tools: Renamed,
    renamed_prompts: Renamed,
}

/// Outward names that an operator gave, with the member and its own name.
type Renamed = HashMap<String, (Arc<ListedMember>, String)>;

impl ActiveMembers {
    pub(super) fn of(mut list: Vec<Arc<ListedMember>>) -> Result<Self, ConfigError> {
        list.sort_by_key(|member| (std::cmp::Reverse(member.priority), member.place));
        let by_name = list
            .iter()
            .map(|member| (member.name.clone(), member.clone()))
            .collect();
        let unprefixed = list
            .iter()
            .filter(|member| member.prefix != Prefix::Always)
            .cloned()
            .collect();
        Ok(Self {
            by_name,
            unprefixed,
            by_session: [Era::Legacy, Era::Modern]
                .into_iter()
                .filter(|era| list.iter().any(|member| member.is_per_session(*era)))
                .collect(),
            renamed_tools: renamed(&list, "rename", |member| &member.options.tools)?,
            renamed_prompts: renamed(&list, "rename_prompt", |member| &member.options.prompts)?,
            list,
        })
    }

    /// Marks an answer of all these members together as private, where one of them requires it.
    pub(super) fn mark_private(&self, response: &mut McpResponse, context: &CallContext) {
        for member in &self.list {
            member.mark_private(response, context.principal());
        }
    }

    /// Returns the key of a merged list for this caller.
    pub(super) fn list_key(&self, context: &CallContext) -> ListKey {
        ListKey::of(context, self.by_session.contains(&context.era()))
    }

    /// Returns the member with a tool or prompt that the operator has renamed to this name, and the
    /// member's own name for it.
    pub(super) fn renamed(&self, outward: Item<'_>) -> Option<&(Arc<ListedMember>, String)> {
        match outward {
            Item::Tool(name) => self.renamed_tools.get(name),
            Item::Prompt(name) => self.renamed_prompts.get(name),
            _ => None,
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<ListedMember>> {
        self.by_name.get(name)
    }
}

/// Returns the names that the operator gave to items of one kind.
fn renamed(
    list: &[Arc<ListedMember>],
    option: &'static str,
    overrides: impl Fn(&ListedMember) -> &Overrides,
) -> Result<Renamed, ConfigError> {
    let mut renamed = Renamed::new();
    for member in list {
        for (inner, said) in overrides(member) {
            let Some(name) = &said.name else { continue };
            if let Some((other, _)) = renamed.get(name) {
                let reason = format!(
                    "two items are renamed to `{name}`: one of `{}`, one of `{}`; use two names",
                    other.name, member.name
                );
                return Err(ConfigError::new("gateway", option, reason));
            }
            renamed.insert(name.clone(), (member.clone(), inner.clone()));
        }
    }
    Ok(renamed)
}

/// Returns the only element, if there is exactly one.
pub(super) fn only<'a>(
    mut members: impl Iterator<Item = &'a Arc<ListedMember>>,
) -> Option<&'a Arc<ListedMember>> {
    members.next().filter(|_| members.next().is_none())
}
