//! A member with its cached lists.

use std::{ops::Deref, sync::Arc, time::Duration};

use rmcp::model::{Resource, ResourceTemplate, Tool};
use tokio::time::Instant;

use super::{
    cached_list::{CachedList, ListCache},
    list_item::{ForEachItem, ListItem, PerItem},
    list_key::{ByListKey, ListKey},
    option_checks::Checks,
};
use crate::gateway::{members::active_member::ActiveMember, names::uris, notifier::ChangeNotifier};
use crate::{CallContext, ToolHints};

/// The maximum age of a list while a caller requests its pages.
const PAGING: Duration = Duration::from_secs(60);

/// A [`ListCache`] for each kind of item.
pub(in crate::gateway) struct Caches;

impl PerItem for Caches {
    type Of<T: ListItem> = ListCache<T>;
}

/// A member with its cached lists.
pub(in crate::gateway) struct ListedMember {
    member: Arc<ActiveMember>,
    pub(super) lists: ForEachItem<Caches>,
    pub(super) checks: Checks,
    pub(super) notifier: ChangeNotifier,
}

impl ListedMember {
    pub(in crate::gateway) fn new(member: ActiveMember, notifier: ChangeNotifier) -> Self {
        Self {
            checks: Checks::of(&member.options),
            member: Arc::new(member),
            lists: ForEachItem::default(),
            notifier,
        }
    }
}

impl Deref for ListedMember {
    type Target = Arc<ActiveMember>;

    fn deref(&self) -> &Arc<ActiveMember> {
        &self.member
    }
}

/// The result of a look-up in a cached list.
#[derive(Clone, Copy)]
pub(in crate::gateway) enum Presence {
    /// The item is listed, with its hints if they are known.
    Listed(Option<ToolHints>),
    Missing,
    /// The item is not in a list that may be outdated.
    MissingInOldList,
    /// No list is known.
    Unknown,
}

/// Returns `true` if the last run is older than `interval`, and records a run now.
fn mark_if_due(last: &ByListKey<Instant>, key: &ListKey, interval: Duration) -> bool {
    let now = Instant::now();
    let due = last.get(key).is_none_or(|then| now - then >= interval);
    if due {
        last.set(key.clone(), now);
    }
    due
}

/// The age that a list may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Age {
    Fresh,
    /// As old as a request of all its pages takes.
    Paging,
    /// Any age: only a list is needed, current or not.
    Any,
}

impl ListedMember {
    pub(in crate::gateway) fn change_count<T: ListItem>(&self) -> u64 {
        T::CHANGE.map_or(0, |change| self.changes.get(change))
    }

    pub(in crate::gateway) fn list_key(&self, context: &CallContext) -> ListKey {
        ListKey::of(context, self.is_per_session(context.era()))
    }

    /// Returns the cached list for a key, if there is one. The second value is `true` if the
    /// gateway itself would be given the same list, so that its own listen receives changes.
    pub(in crate::gateway) fn cached<T: ListItem>(
        &self,
        key: &ListKey,
    ) -> Option<(Arc<CachedList<T>>, bool)> {
        let cached = &T::of(&self.lists).cached;
        match cached.get(key) {
            Some(list) => Some((list, key.is_anonymous())),
            None => Some((cached.get(&key.for_all_callers())?, true)),
        }
    }

    pub(in crate::gateway) fn is_fresh<T: ListItem>(
        &self,
        key: &ListKey,
        list: &CachedList<T>,
        common: bool,
        age: Age,
    ) -> bool {
        if age == Age::Any {
            return true;
        }
        let now = Instant::now();
        let unchanged = list.change == self.change_count::<T>();
        let announced = common
            && !self.is_per_caller()
            && T::CHANGE.is_some_and(|change| self.changes.are_announced(key.era, change));
        unchanged
            && (announced
                || list.expires.is_some_and(|end| now < end)
                || (age == Age::Paging && now - list.fetched < PAGING))
    }

    /// Returns `true` if a missing list is to be fetched because of an unknown name: at most once
    /// in [`PAGING`].
    pub(in crate::gateway) fn begin_suggestion_fetch<T: ListItem>(
        &self,
        context: &CallContext,
    ) -> bool {
        let key = self.list_key(context);
        mark_if_due(&T::of(&self.lists).last_suggestion_fetch, &key, PAGING)
    }

    /// Returns `true` if the tools are to be listed for their hints. It is not done twice `within`
    /// this time.
    pub(in crate::gateway) fn begin_hint_fetch(&self, key: &ListKey, within: Duration) -> bool {
        mark_if_due(&Tool::of(&self.lists).last_hint_fetch, key, within)
    }

    /// Looks up an item in the list that is known for this caller.
    pub(in crate::gateway) fn presence<T: ListItem>(
        &self,
        context: &CallContext,
        inner: &str,
    ) -> Presence {
        let key = self.list_key(context);
        match self.cached::<T>(&key) {
            None => Presence::Unknown,
            Some((list, common)) => match list.keys.get(inner) {
                Some(index) => {
                    Presence::Listed(list.items.get(*index).and_then(|item| item.hints()))
                }
                None if self.is_fresh(&key, &list, common, Age::Fresh) => Presence::Missing,
                None => Presence::MissingInOldList,
            },
        }
    }

    /// Returns `true` if the list known for this caller has a template that fits this URI of the
    /// member.
    pub(in crate::gateway) fn has_template_of(&self, context: &CallContext, uri: &str) -> bool {
        let known = self.cached::<ResourceTemplate>(&self.list_key(context));
        known.is_some_and(|(list, _)| {
            let mut templates = list.items.iter();
            templates.any(|template| uris::fits(&template.uri_template, uri))
        })
    }

    /// Returns `true` if the list known for this caller has a resource with this URI of the member.
    pub(in crate::gateway) fn lists_uri(&self, context: &CallContext, uri: &str) -> bool {
        matches!(self.presence::<Resource>(context, uri), Presence::Listed(_))
    }
}
