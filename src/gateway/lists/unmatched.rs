//! Options that match no item of their member.

use std::{collections::HashSet, sync::Arc};

use rmcp::model::{Prompt, Resource, ResourceTemplate, Skill, Tool};

use super::{
    cached_list::CachedList,
    list_item::ListItem,
    listed_member::ListedMember,
    option_checks::{OptionCheck, Pattern, UnmatchedOption, outward_names},
};
use crate::gateway::{members::state::MemberState, names::nearest::nearest};
use crate::util::lock;

impl ListedMember {
    /// Returns the options that match nothing in the lists that are known. A member that is down
    /// has none.
    pub(in crate::gateway) fn unmatched_options(&self) -> Vec<UnmatchedOption> {
        if matches!(self.state(), MemberState::Failed { .. }) {
            return Vec::new();
        }
        let unmatched = self.unmatched().into_iter();
        unmatched
            .filter_map(|index| self.unmatched_option(index))
            .collect()
    }

    /// Logs, once for each option, that it matches nothing. `list` is a new list of the member.
    /// Returns `true` if a filter matches nothing in it, so that it may be about items of other
    /// lists.
    pub(super) fn check_options<T: ListItem>(&self, list: &CachedList<T>) -> bool {
        if list.unmatched.is_empty() {
            return false;
        }
        for index in self.unmatched() {
            if lock(&self.checks.logged).insert(index)
                && let Some(UnmatchedOption {
                    option,
                    value,
                    nearest,
                }) = self.unmatched_option(index)
            {
                let member = &self.name;
                tracing::warn!(%member, option, value, ?nearest, "an option matches nothing");
            }
        }
        let mut checks = list
            .unmatched
            .iter()
            .filter_map(|index| self.checks.list.get(*index));
        checks.any(|check| matches!(check.value, Pattern::Glob(_)))
    }

    /// Returns the positions of the options that match nothing in any current list. An option about
    /// items whose list is not known is not among them.
    fn unmatched(&self) -> Vec<usize> {
        let tools = self.unmatched_of::<Tool>();
        let prompts = self.unmatched_of::<Prompt>();
        let uris = [
            self.unmatched_of::<Resource>(),
            self.unmatched_of::<ResourceTemplate>(),
            self.unmatched_of::<Skill>(),
        ];
        let is_in =
            |of: &Option<HashSet<usize>>, index| of.as_ref().is_some_and(|of| of.contains(&index));
        let is_unmatched = |(index, check): (usize, &OptionCheck)| {
            let is_unmatched = match check.value {
                Pattern::Tool(_) => is_in(&tools, index),
                Pattern::Prompt(_) => is_in(&prompts, index),
                Pattern::Glob(_) => {
                    let mut all = [&tools, &prompts].into_iter().chain(&uris);
                    all.all(|of| is_in(of, index))
                }
            };
            is_unmatched.then_some(index)
        };
        self.checks
            .list
            .iter()
            .enumerate()
            .filter_map(is_unmatched)
            .collect()
    }

    /// Returns the positions of the options that match nothing in any current list of this kind, if
    /// there is one.
    fn unmatched_of<T: ListItem>(&self) -> Option<HashSet<usize>> {
        let unmatched = self
            .current::<T>()
            .into_iter()
            .map(|list| list.unmatched.iter().copied().collect());
        unmatched.reduce(|all: HashSet<usize>, one| &all & &one)
    }

    /// Returns the cached lists that are current, or all of them if none is.
    fn current<T: ListItem>(&self) -> Vec<Arc<CachedList<T>>> {
        let change = self.change_count::<T>();
        let mut lists = T::of(&self.lists).cached.values();
        if lists.iter().any(|list| list.change == change) {
            lists.retain(|list| list.change == change);
        }
        lists
    }

    fn unmatched_option(&self, index: usize) -> Option<UnmatchedOption> {
        let OptionCheck { option, value } = self.checks.list.get(index)?;
        let (value, names) = match value {
            Pattern::Tool(name) => (name, self.own_names::<Tool>()),
            Pattern::Prompt(name) => (name, self.own_names::<Prompt>()),
            Pattern::Glob(glob) => {
                let lists = self.current::<Tool>();
                let tools = lists.first().map(|list| outward_names(self, &list.items));
                (glob, tools.unwrap_or_default())
            }
        };
        Some(UnmatchedOption {
            option,
            value: value.clone(),
            nearest: nearest(value, names.iter().map(|name| &**name), |_| true),
        })
    }

    fn own_names<T: ListItem>(&self) -> Vec<String> {
        let lists = self.current::<T>();
        let items = lists.first().into_iter().flat_map(|list| &list.items);
        items.map(|item| item.key().to_owned()).collect()
    }
}
