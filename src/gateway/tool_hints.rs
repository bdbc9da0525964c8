//! Tool hints for a trusted member's own layers.

use std::{sync::Arc, time::Duration};

use rmcp::model::Tool;

use super::{
    lists::{
        cached_list::CachedList,
        list_item::ListItem,
        listed_member::{Age, ListedMember},
    },
    lookup::{by_name::FoundItem, known_lists::LOOKUP_TIMEOUT},
    members::watch::watch_member,
    shared::Shared,
};
use crate::{CallContext, ToolHints};

/// The intervals at which a list is fetched for its hints: after a change, and after no list came.
const AFTER_CHANGE: Duration = Duration::from_secs(1);
const AFTER_NONE: Duration = Duration::from_secs(5);

impl Shared {
    /// Returns the hints of the found tool. For a trusted member they are those of the member's
    /// list for this caller.
    ///
    /// A retry decision needs the hints when the member is already gone and cannot be asked. The
    /// first call therefore fetches the list and waits for it briefly. A list that has changed, or
    /// may have, is fetched concurrently with the call and is used until the new one arrives.
    pub(super) async fn tool_hints(
        &self,
        found: &FoundItem,
        context: &CallContext,
    ) -> Option<ToolHints> {
        let member = &found.member;
        if member.options.trusted != Some(true) {
            return found.hints;
        }
        let key = member.list_key(context);
        let list = match member.cached::<Tool>(&key) {
            Some((list, common)) => {
                if !member.is_fresh(&key, &list, common, Age::Paging)
                    && member.begin_hint_fetch(&key, AFTER_CHANGE)
                {
                    drop(member.fetch::<Tool>(context, key));
                }
                list
            }
            None if member.begin_hint_fetch(&key, AFTER_NONE) => {
                Box::pin(self.first(member, context)).await?
            }
            None => return None,
        };
        let index = list.keys.get(&*found.inner)?;
        list.items.get(*index).and_then(|tool| tool.hints())
    }

    async fn first(
        &self,
        member: &Arc<ListedMember>,
        context: &CallContext,
    ) -> Option<Arc<CachedList<Tool>>> {
        watch_member(member, context);
        let timeout = LOOKUP_TIMEOUT.min(self.rules.list_timeout);
        let part = member.list_part::<Tool>(context, Age::Paging, self.rules.list_timeout);
        tokio::time::timeout(timeout, part).await.ok()?.list
    }
}

/// Sets the hints that the member's own layers receive, given the tool's annotations if they are
/// known, and the operator's trust in them.
pub(super) fn apply(hints: Option<ToolHints>, trusted: Option<bool>, context: &mut CallContext) {
    let extensions = &mut context.extensions;
    let outer = extensions.get::<ToolHints>().copied();
    let applied = match trusted {
        None => None,
        Some(true) => hints.filter(|_| outer.is_none()),
        // A claim that a tool is destructive is believed even of an untrusted member. It stays,
        // too, where an outer layer has made it. All other hints are removed.
        Some(false) => Some(ToolHints {
            destructive: [hints, outer]
                .into_iter()
                .flatten()
                .any(|hints| hints.destructive),
            ..ToolHints::default()
        }),
    };
    if let Some(applied) = applied {
        extensions.insert(applied);
    }
}
