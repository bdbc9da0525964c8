//! What is known of a member's lists.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use rmcp::model::{CacheScope, MetaObject, Resource, ResourceTemplate, Tool};
use tokio::time::Instant;

use super::{
    class::{ByClass, Class},
    fetch::Fetching,
    listed::Listed,
    seat::Seat,
    uris,
};
use crate::{CallContext, ToolHints, audience::PrivateTo};

/// How old a list may be that a caller is in the middle of.
const WALK: Duration = Duration::from_secs(60);

/// A member's list as it was fetched.
pub(super) struct Known<T> {
    pub(super) items: Vec<T>,
    /// Where they are, by their own names or URIs.
    pub(super) keys: HashMap<Box<str>, usize>,
    /// Whom it is for, as an inner layer has it, if not for all of the class.
    pub(super) private: Option<PrivateTo>,
    /// Others of its class may be shown it too.
    pub(super) shareable: bool,
    pub(super) stamp: u64,
    /// How often the list had changed when the fetch began.
    pub(super) change: u64,
    pub(super) fetched: Instant,
    pub(super) expires: Option<Instant>,
    pub(super) ttl_ms: Option<u64>,
    pub(super) cache_scope: Option<CacheScope>,
    pub(super) meta: Option<MetaObject>,
}

/// One of a member's lists, by whose it is.
pub(super) struct Shelf<T> {
    pub(super) known: ByClass<Arc<Known<T>>>,
    pub(super) fetching: Mutex<HashMap<Class, Fetching<T>>>,
    /// When the list was last fetched only to say which names come near an unknown one.
    sought: ByClass<Instant>,
    /// When the list was last fetched only for the hints of its tools.
    hinted: ByClass<Instant>,
    /// It was said that not all pages of the list are read.
    pub(super) cut_short: AtomicBool,
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
    pub(super) fn fetching(&self) -> MutexGuard<'_, HashMap<Class, Fetching<T>>> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a member has something.
#[derive(Clone, Copy)]
pub(super) enum Has {
    /// And what it says of itself.
    Yes(Option<ToolHints>),
    No,
    /// Not when it was asked, which may be long ago.
    NotBefore,
    NothingKnown,
}

/// Whether something was done last longer ago than this. Then it is taken to be done now.
fn is_due(last: &ByClass<Instant>, class: &Class, interval: Duration) -> bool {
    let now = Instant::now();
    let due = last.get(class).is_none_or(|then| now - then >= interval);
    if due {
        last.set(class.clone(), now);
    }
    due
}

/// How old a list may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    Fresh,
    /// As old as a walk through its pages takes.
    Walk,
    /// However old: it is only to be known at all.
    Any,
}

impl Seat {
    pub(super) fn change_count<T: Listed>(&self) -> u64 {
        T::CHANGE.map_or(0, |change| self.changes(change))
    }

    pub(super) fn class(&self, context: &CallContext) -> Class {
        Class::of(context, self.is_per_session(context.era()))
    }

    /// The list that is known for a class, if any, and whether it is one that the gateway itself would be given
    /// too, so that it is told when it changes.
    pub(super) fn known<T: Listed>(&self, class: &Class) -> Option<(Arc<Known<T>>, bool)> {
        let known = &T::shelf(&self.lists).known;
        match known.get(class) {
            Some(list) => Some((list, class.is_anybody())),
            None => Some((known.get(&class.everybody())?, true)),
        }
    }

    pub(super) fn is_fresh<T: Listed>(
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

    /// Whether a list of which nothing is known is to be fetched because of an unknown name: not if it was within the
    /// time that a list is good for.
    pub(super) fn seeks<T: Listed>(&self, context: &CallContext) -> bool {
        let class = self.class(context);
        is_due(&T::shelf(&self.lists).sought, &class, WALK)
    }

    /// Whether the tools are to be listed for their hints: not if they were within this time.
    pub(super) fn asks_for_hints(&self, class: &Class, within: Duration) -> bool {
        is_due(&Tool::shelf(&self.lists).hinted, class, within)
    }

    /// Whether the member has this, as far as the list says that is known for this caller.
    pub(super) fn has<T: Listed>(&self, context: &CallContext, inner: &str) -> Has {
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

    /// Whether the member has a template that this URI of its own fits, as far as is known for this caller.
    pub(super) fn has_template_of(&self, context: &CallContext, uri: &str) -> bool {
        let known = self.known::<ResourceTemplate>(&self.class(context));
        known.is_some_and(|(list, _)| {
            let mut templates = list.items.iter();
            templates.any(|template| uris::fits(&template.uri_template, uri))
        })
    }

    /// Whether the member lists a resource by this URI of its own, as far as is known for this caller.
    pub(super) fn lists_uri(&self, context: &CallContext, uri: &str) -> bool {
        matches!(self.has::<Resource>(context, uri), Has::Yes(_))
    }
}
