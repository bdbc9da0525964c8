//! The options of a member that name items, compared with the member's lists.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, atomic::AtomicBool},
};

use super::{list_item::ListItem, text::Listed};
use crate::gateway::{
    members::{
        active_member::ActiveMember,
        options::{Options, Overrides},
    },
    names::style::versioned,
};
use crate::{Item, util::glob};

/// The maximum number of options of one member that are checked.
const MAX_CHECKED: usize = 1_000;

/// An option of a member that matches none of the member's items.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnmatchedOption {
    /// The option, by the name of its method: `rename`, `hide`, `describe`, the same with
    /// `_prompt`, `filter.allow` or `filter.deny`.
    pub option: &'static str,
    /// The member's own name that the option was given, or the filter's glob.
    pub value: String,
    /// The nearest existing names, nearest first. Limit: 3.
    pub nearest: Vec<String>,
}

/// The options of a member that are checked against its lists.
pub(in crate::gateway) struct Checks {
    pub(super) list: Vec<OptionCheck>,
    /// The options that were logged, by their positions.
    pub(super) logged: Mutex<HashSet<usize>>,
    /// The lists that no caller has asked for are fetched.
    pub(super) completing: AtomicBool,
}

pub(super) struct OptionCheck {
    pub(super) option: &'static str,
    pub(super) value: Pattern,
}

pub(super) enum Pattern {
    Tool(String),
    Prompt(String),
    /// It may match items of all kinds.
    Glob(String),
}

impl Checks {
    pub(super) fn of(options: &Options) -> Self {
        let mut list = Vec::new();
        // An item that is not listed may be called, and so be named by an option.
        if !options.unlisted {
            let tools = ["rename", "hide", "describe"];
            add(&mut list, tools, &options.tools, Pattern::Tool);
            let prompts = ["rename_prompt", "hide_prompt", "describe_prompt"];
            add(&mut list, prompts, &options.prompts, Pattern::Prompt);
            list.extend(options.filter.globs().map(|(option, glob)| OptionCheck {
                option,
                value: Pattern::Glob(glob.clone()),
            }));
        }
        list.truncate(MAX_CHECKED);
        Self {
            list,
            logged: Mutex::default(),
            completing: AtomicBool::new(false),
        }
    }

    /// Returns the positions of the options that match none of these items of `member`.
    pub(super) fn unmatched_by<T: ListItem>(
        &self,
        member: &ActiveMember,
        items: &[Listed<T>],
        keys: &HashMap<Box<str>, usize>,
    ) -> Box<[usize]> {
        let mut outward: Option<Vec<_>> = None;
        let mut unmatched = Vec::new();
        for (index, check) in self.list.iter().enumerate() {
            let is_matched = match (&check.value, T::item("")) {
                (Pattern::Tool(name), Item::Tool(_)) => {
                    keys.contains_key(&**name) || keys.contains_key(versioned(name).0)
                }
                (Pattern::Prompt(name), Item::Prompt(_)) => keys.contains_key(&**name),
                (Pattern::Glob(glob), _) => {
                    let names = outward.get_or_insert_with(|| outward_names(member, items));
                    names.iter().any(|name| glob::matches(glob, name))
                }
                _ => true,
            };
            if !is_matched {
                unmatched.push(index);
            }
        }
        unmatched.into()
    }
}

fn add(
    list: &mut Vec<OptionCheck>,
    [rename, hide, describe]: [&'static str; 3],
    overrides: &Overrides,
    value: fn(String) -> Pattern,
) {
    let mut overrides: Vec<_> = overrides.iter().collect();
    overrides.sort_unstable_by_key(|(name, _)| *name);
    for (name, given) in overrides {
        let options = [
            (rename, given.name.is_some()),
            (hide, given.hidden),
            (describe, given.description.is_some()),
        ];
        list.extend(
            options
                .iter()
                .filter(|(_, set)| *set)
                .map(|(option, _)| OptionCheck {
                    option,
                    value: value(name.clone()),
                }),
        );
    }
}

/// Returns all names that the items may have outside.
pub(super) fn outward_names<T: ListItem>(
    member: &ActiveMember,
    items: &[Listed<T>],
) -> Vec<String> {
    let names = items.iter().flat_map(|item| {
        let (name, other) = member.outward_names(T::item(item.key()));
        [Some(name), other]
    });
    names.flatten().map(|name| name.into_owned()).collect()
}
