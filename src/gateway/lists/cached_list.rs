//! The cached lists of a member.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use rmcp::model::{CacheScope, MetaObject, Resource, ResourceTemplate, Tool};
use tokio::time::Instant;

use super::{
    fetch::SharedFetch,
    list_item::ListItem,
    list_key::{ByListKey, ListKey},
};
use crate::gateway::{members::active_member::ActiveMember, names::uris};
use crate::{CallContext, ToolHints, context::audience::PrivateTo};

/// The maximum age of a list while a caller walks through its pages.
const PAGING: Duration = Duration::from_secs(60);

/// A fetched list of a member.
pub(in crate::gateway) struct CachedList<T> {
    pub(in crate::gateway) items: Vec<T>,
    /// The positions of the items, by the member's own names or URIs.
    pub(in crate::gateway) keys: HashMap<Box<str>, usize>,
    /// The audience that an inner layer set, if it is narrower than the key.
    pub(in crate::gateway) private: Option<PrivateTo>,
    /// Other callers of the key may be shown it too.
    pub(in crate::gateway) shareable: bool,
    pub(in crate::gateway) stamp: u64,
    /// The list's change count when the fetch began.
    pub(in crate::gateway) change: u64,
    pub(in crate::gateway) fetched: Instant,
    pub(in crate::gateway) expires: Option<Instant>,
    pub(in crate::gateway) ttl_ms: Option<u64>,
    pub(in crate::gateway) cache_scope: Option<CacheScope>,
    pub(in crate::gateway) meta: Option<MetaObject>,
}

/// One list of a member, cached by key.
pub(in crate::gateway) struct ListCache<T> {
    pub(in crate::gateway) known: ByListKey<Arc<CachedList<T>>>,
    pub(in crate::gateway) fetching: Mutex<HashMap<ListKey, SharedFetch<T>>>,
    /// The last fetch of the list that was made only to suggest names near an unknown one.
    last_suggestion_fetch: ByListKey<Instant>,
    /// The last fetch of the list that was made only for its tool hints.
    last_hint_fetch: ByListKey<Instant>,
    /// The warning that not all pages of the list are read was logged.
    pub(in crate::gateway) cut_short: AtomicBool,
}

impl<T> Default for ListCache<T> {
    fn default() -> Self {
        Self {
            known: ByListKey::default(),
            fetching: Mutex::default(),
            last_suggestion_fetch: ByListKey::default(),
            last_hint_fetch: ByListKey::default(),
            cut_short: AtomicBool::new(false),
        }
    }
}

impl<T> ListCache<T> {
    pub(in crate::gateway) fn fetching(&self) -> MutexGuard<'_, HashMap<ListKey, SharedFetch<T>>> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// As old as a walk through its pages takes.
    Paging,
    /// Any age: only a list is needed, current or not.
    Any,
}

impl ActiveMember {
    pub(in crate::gateway) fn change_count<T: ListItem>(&self) -> u64 {
        T::CHANGE.map_or(0, |change| self.changes(change))
    }

    pub(in crate::gateway) fn list_key(&self, context: &CallContext) -> ListKey {
        ListKey::of(context, self.is_per_session(context.era()))
    }

    /// Returns the cached list for a key, if there is one. The second value is `true` if the
    /// gateway itself would be given the same list, so that its own listen is told of changes.
    pub(in crate::gateway) fn cached<T: ListItem>(
        &self,
        key: &ListKey,
    ) -> Option<(Arc<CachedList<T>>, bool)> {
        let known = &T::shelf(&self.lists).known;
        match known.get(key) {
            Some(list) => Some((list, key.is_anonymous())),
            None => Some((known.get(&key.for_all_callers())?, true)),
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
        let told = common
            && !self.is_per_caller()
            && T::CHANGE.is_some_and(|change| self.announces(key.era, change));
        unchanged
            && (told
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
        mark_if_due(&T::shelf(&self.lists).last_suggestion_fetch, &key, PAGING)
    }

    /// Returns `true` if the tools are to be listed for their hints. It is not done twice `within`
    /// this time.
    pub(in crate::gateway) fn begin_hint_fetch(&self, key: &ListKey, within: Duration) -> bool {
        mark_if_due(&Tool::shelf(&self.lists).last_hint_fetch, key, within)
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
                Some(index) => Presence::Listed(list.items.get(*index).and_then(T::hints)),
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
