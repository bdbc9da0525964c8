//! The cached lists of a member.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use rmcp::model::{CacheScope, MetaObject, Resource, ResourceTemplate, Tool};
use tokio::time::Instant;

use super::{
    fetch::Fetching,
    list_item::Listed,
    list_key::{ByClass, Class},
};
use crate::gateway::{active_member::Seat, names::uris};
use crate::{CallContext, ToolHints, context::audience::PrivateTo};

/// The maximum age of a list while a caller walks through its pages.
const WALK: Duration = Duration::from_secs(60);

/// A fetched list of a member.
pub(in crate::gateway) struct Known<T> {
    pub(in crate::gateway) items: Vec<T>,
    /// The positions of the items, by the member's own names or URIs.
    pub(in crate::gateway) keys: HashMap<Box<str>, usize>,
    /// The audience that an inner layer set, if it is narrower than the class.
    pub(in crate::gateway) private: Option<PrivateTo>,
    /// Other callers of the class may be shown it too.
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

/// One list of a member, cached by class.
pub(in crate::gateway) struct Shelf<T> {
    pub(in crate::gateway) known: ByClass<Arc<Known<T>>>,
    pub(in crate::gateway) fetching: Mutex<HashMap<Class, Fetching<T>>>,
    /// The last fetch of the list that was made only to suggest names near an unknown one.
    sought: ByClass<Instant>,
    /// The last fetch of the list that was made only for its tool hints.
    hinted: ByClass<Instant>,
    /// The warning that not all pages of the list are read was logged.
    pub(in crate::gateway) cut_short: AtomicBool,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self {
            known: ByClass::default(),
            fetching: Mutex::default(),
            sought: ByClass::default(),
            hinted: ByClass::default(),
            cut_short: AtomicBool::new(false),
        }
    }
}

impl<T> Shelf<T> {
    pub(in crate::gateway) fn fetching(&self) -> MutexGuard<'_, HashMap<Class, Fetching<T>>> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of a look-up in a cached list.
#[derive(Clone, Copy)]
pub(in crate::gateway) enum Has {
    /// The item is listed, with its hints if they are known.
    Yes(Option<ToolHints>),
    No,
    /// The item is not in a list that may be outdated.
    NotBefore,
    NothingKnown,
}

/// Returns `true` if the last run is older than `interval`, and records a run now.
fn is_due(last: &ByClass<Instant>, class: &Class, interval: Duration) -> bool {
    let now = Instant::now();
    let due = last.get(class).is_none_or(|then| now - then >= interval);
    if due {
        last.set(class.clone(), now);
    }
    due
}

/// The age that a list may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Age {
    Fresh,
    /// As old as a walk through its pages takes.
    Walk,
    /// Any age: only a list is needed, current or not.
    Any,
}

impl Seat {
    pub(in crate::gateway) fn change_count<T: Listed>(&self) -> u64 {
        T::CHANGE.map_or(0, |change| self.changes(change))
    }

    pub(in crate::gateway) fn class(&self, context: &CallContext) -> Class {
        Class::of(context, self.is_per_session(context.era()))
    }

    /// Returns the cached list for a class, if there is one. The second value is `true` if the
    /// gateway itself would be given the same list, so that its own listen is told of changes.
    pub(in crate::gateway) fn known<T: Listed>(
        &self,
        class: &Class,
    ) -> Option<(Arc<Known<T>>, bool)> {
        let known = &T::shelf(&self.lists).known;
        match known.get(class) {
            Some(list) => Some((list, class.is_anonymous())),
            None => Some((known.get(&class.everybody())?, true)),
        }
    }

    pub(in crate::gateway) fn is_fresh<T: Listed>(
        &self,
        class: &Class,
        list: &Known<T>,
        shared: bool,
        age: Age,
    ) -> bool {
        if age == Age::Any {
            return true;
        }
        let now = Instant::now();
        let unchanged = list.change == self.change_count::<T>();
        let told = shared
            && !self.is_per_caller()
            && T::CHANGE.is_some_and(|change| self.is_live(class.era, change));
        unchanged
            && (told
                || list.expires.is_some_and(|end| now < end)
                || (age == Age::Walk && now - list.fetched < WALK))
    }

    /// Returns `true` if a missing list is to be fetched because of an unknown name: at most once
    /// in [`WALK`].
    pub(in crate::gateway) fn seeks<T: Listed>(&self, context: &CallContext) -> bool {
        let class = self.class(context);
        is_due(&T::shelf(&self.lists).sought, &class, WALK)
    }

    /// Returns `true` if the tools are to be listed for their hints. It is not done twice `within`
    /// this time.
    pub(in crate::gateway) fn asks_for_hints(&self, class: &Class, within: Duration) -> bool {
        is_due(&Tool::shelf(&self.lists).hinted, class, within)
    }

    /// Looks up an item in the list that is known for this caller.
    pub(in crate::gateway) fn has<T: Listed>(&self, context: &CallContext, inner: &str) -> Has {
        let class = self.class(context);
        match self.known::<T>(&class) {
            None => Has::NothingKnown,
            Some((list, shared)) => match list.keys.get(inner) {
                Some(index) => Has::Yes(list.items.get(*index).and_then(T::hints)),
                None if self.is_fresh(&class, &list, shared, Age::Fresh) => Has::No,
                None => Has::NotBefore,
            },
        }
    }

    /// Returns `true` if the list known for this caller has a template that fits this URI of the
    /// member.
    pub(in crate::gateway) fn has_template_of(&self, context: &CallContext, uri: &str) -> bool {
        let known = self.known::<ResourceTemplate>(&self.class(context));
        known.is_some_and(|(list, _)| {
            let mut templates = list.items.iter();
            templates.any(|template| uris::fits(&template.uri_template, uri))
        })
    }

    /// Returns `true` if the list known for this caller has a resource with this URI of the member.
    pub(in crate::gateway) fn lists_uri(&self, context: &CallContext, uri: &str) -> bool {
        matches!(self.has::<Resource>(context, uri), Has::Yes(_))
    }
}
