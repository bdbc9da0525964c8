//! The table of the lists that servers have: a row for each kind of item.

use rmcp::model::*;
use serde::de::DeserializeOwned;

use super::results::ResultRow;
use crate::Item;

/// A function of the types of a list.
pub(crate) trait WithList {
    type Output;
    /// Calls it with the type of an item and of a page, and the page's member with the items.
    fn call<T: DeserializeOwned, L: ResultRow>(self, items: &'static str) -> Self::Output;
}

macro_rules! lists {
    ($($Kind:ident: $Result:ident { $items:ident $member:literal: [$Item:ident($key:ident)] })*) => {
        /// A kind of list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum ListKind {
            $($Kind,)*
        }

        impl ListKind {
            /// Returns the kind of list that a result is.
            pub(crate) fn of(result: &ServerResult) -> Option<Self> {
                Some(match result {
                    $(ServerResult::$Result(_) => Self::$Kind,)*
                    _ => return None,
                })
            }

            /// Returns the member of the result that has the items.
            pub(crate) const fn member(self) -> &'static str {
                match self {
                    $(Self::$Kind => $member,)*
                }
            }

            /// Calls a function of the list's types.
            pub(crate) fn with_types<F: WithList>(self, function: F) -> F::Output {
                match self {
                    $(Self::$Kind => function.call::<$Item, $Result>($member),)*
                }
            }
        }

        /// Returns for each item of a list whether it is to be shown. Returns `None` if the result
        /// is not a list.
        pub(crate) fn shown(
            result: &ServerResult,
            shows: impl Fn(Item<'_>) -> bool,
        ) -> Option<(ListKind, Vec<bool>)> {
            Some(match result {
                $(ServerResult::$Result(list) => {
                    let shown = list.$items.iter().map(|item| shows(Item::$Item(&item.$key)));
                    (ListKind::$Kind, shown.collect())
                })*
                _ => return None,
            })
        }

        /// Removes the items of a list for which `shown` is `false`.
        pub(crate) fn retain(result: &mut ServerResult, shown: &[bool]) {
            let mut shown = shown.iter();
            let mut next = || shown.next().copied().unwrap_or_default();
            match result {
                $(ServerResult::$Result(list) => list.$items.retain(|_| next()),)*
                _ => {}
            }
        }
    };
}

lists! {
    Tools: ListToolsResult { tools "tools": [Tool(name)] }
    Prompts: ListPromptsResult { prompts "prompts": [Prompt(name)] }
    Resources: ListResourcesResult { resources "resources": [Resource(uri)] }
    ResourceTemplates: ListResourceTemplatesResult {
        resource_templates "resourceTemplates": [ResourceTemplate(uri_template)]
    }
    Skills: ListSkillsResult { skills "skills": [Skill(uri)] }
}
