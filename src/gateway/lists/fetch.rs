//! Fetches of a member's lists, each shared by all callers that wait for it.

use std::{
    collections::HashMap,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use rmcp::model::{Prompt, Resource, ResourceTemplate, Skill, Tool};
use tokio::time::Instant;

use super::{
    all_pages::{AllPages, fetch_pages},
    cached_list::{CachedList, FetchedList, SharedFetch},
    list_item::ListItem,
    list_key::{ListKey, tick},
    listed_member::{Age, ListedMember},
    text::Listed,
};
use crate::{CallContext, Error, ServedBy, context::OnlyDeclared, util::panics};

/// The maximum duration of a fetch for which no list request waits any more.
const FETCH_LIMIT: Duration = Duration::from_secs(60);

/// The maximum number of detached fetches of one member's list, including those without a waiting
/// caller.
const MAX_FETCHING: usize = 256;

/// The time for which a method that a member does not implement is not requested again.
const UNSUPPORTED_FOR: Duration = Duration::from_secs(60);

/// A fetch that a caller waits for.
pub(in crate::gateway) struct JoinedFetch<T> {
    shared: SharedFetch<T>,
    /// The fetch was begun for this caller.
    own: bool,
}

/// The contribution of one member to a list.
pub(in crate::gateway) struct Part<T> {
    pub(in crate::gateway) member: Arc<ListedMember>,
    pub(in crate::gateway) list: Option<Arc<CachedList<T>>>,
    pub(in crate::gateway) stale: bool,
    pub(in crate::gateway) error: Option<Error>,
}

impl ListedMember {
    /// Returns the member's list, or the best known one after the timeout.
    pub(in crate::gateway) async fn list_part<T: ListItem>(
        self: &Arc<Self>,
        context: &CallContext,
        age: Age,
        timeout: Duration,
    ) -> Part<T> {
        let key = self.list_key(context);
        let known = self.cached::<T>(&key);
        if let Some((list, common)) = &known
            && self.is_fresh(&key, list, *common, age)
        {
            return Part {
                member: self.clone(),
                list: Some(list.clone()),
                stale: false,
                error: None,
            };
        }
        let joined = self.fetch::<T>(context, key);
        let (end, late) = (joined.shared.since + timeout, joined.shared.late.clone());
        let fetched = tokio::time::timeout_at(end, self.await_fetch(joined, context)).await;
        let last = known.map(|(list, _)| list);
        let (list, stale, error) = match fetched {
            Ok(Ok(list)) => (Some(list), false, None),
            Ok(Err(error)) => (last, true, Some(error)),
            Err(_) => {
                late.store(true, Ordering::Release);
                self.mark_degraded(&format!("no list of {}s within {timeout:?}", T::NOUN));
                (last, true, Some(Error::timeout(timeout)))
            }
        };
        Part {
            member: self.clone(),
            list,
            stale,
            error,
        }
    }

    /// Returns the result of a fetch, if it is for this caller too. If an inner layer marks it as
    /// private to another audience, the list is fetched again for this caller alone.
    async fn await_fetch<T: ListItem>(
        self: &Arc<Self>,
        joined: JoinedFetch<T>,
        context: &CallContext,
    ) -> FetchedList<T> {
        let list = joined.shared.done.await?;
        if list.shareable || joined.own {
            return Ok(list);
        }
        let (key, change) = (self.list_key(context), self.change_count::<T>());
        fetch_all::<T>(ListFetch::new(
            self,
            context,
            key,
            change,
            joined.shared.late,
        ))
        .await
    }

    /// Starts a fetch, or joins the one in progress. It continues without a waiting caller, so that
    /// the next list request has its result. Past the limit of such fetches, the fetch belongs to
    /// the caller and ends with it.
    pub(in crate::gateway) fn fetch<T: ListItem>(
        self: &Arc<Self>,
        context: &CallContext,
        key: ListKey,
    ) -> JoinedFetch<T> {
        let change = self.change_count::<T>();
        let mut fetching = T::of(&self.lists).fetching();
        let present = fetching.get(&key);
        if let Some(present) = present.filter(|present| present.change == change) {
            return JoinedFetch {
                shared: present.clone(),
                own: false,
            };
        }
        // A list that changes while callers wait for it does not restart their wait.
        let since = present.map_or_else(Instant::now, |present| present.since);
        let is_detached = present.is_some() || fetching.len() < MAX_FETCHING;
        let late = Arc::new(AtomicBool::new(false));
        let fetch = ListFetch::new(self, context, key.clone(), change, late.clone());
        let id = fetch.id;
        let fetched = fetch_all::<T>(fetch);
        let done = match is_detached {
            true => detached(fetched).boxed(),
            false => fetched.boxed(),
        };
        let shared = SharedFetch {
            id,
            change,
            since,
            late,
            done: done.shared(),
        };
        if is_detached {
            fetching.insert(key, shared.clone());
        }
        JoinedFetch { shared, own: true }
    }
}

/// Runs a fetch in a task of its own.
fn detached<T: ListItem>(
    fetched: impl Future<Output = FetchedList<T>> + Send + 'static,
) -> impl Future<Output = FetchedList<T>> {
    let task = tokio::spawn(fetched);
    task.map(|done| done.unwrap_or_else(|_| Err(Error::cancelled("fetching a list failed"))))
}

impl ListedMember {
    /// Fetches, once, the lists that no caller has asked for: a filter may be about their items.
    /// The context is that of a list that was fetched, because a caller of another revision may
    /// need another connection, and one without a principal may be refused.
    fn fetch_all_lists(self: &Arc<Self>, context: &CallContext) {
        if self.is_per_caller() || self.checks.completing.swap(true, Ordering::Relaxed) {
            return;
        }
        self.fetch_missing::<Tool>(context);
        self.fetch_missing::<Prompt>(context);
        self.fetch_missing::<Resource>(context);
        self.fetch_missing::<ResourceTemplate>(context);
        self.fetch_missing::<Skill>(context);
    }

    fn fetch_missing<T: ListItem>(self: &Arc<Self>, context: &CallContext) {
        if T::of(&self.lists).cached.values().is_empty() {
            drop(self.fetch::<T>(context, self.list_key(context)));
        }
    }
}

/// Returns a context for a request on behalf of several callers. It has the `_meta` of `context`,
/// but notifications and requests do not reach a caller.
fn shared_context(context: &CallContext) -> CallContext {
    let mut shared = context.to_background();
    // Several members serve it.
    shared.extensions.remove::<ServedBy>();
    shared.extensions.insert(OnlyDeclared);
    shared.lift_visibility();
    shared
}

struct ListFetch {
    member: Arc<ListedMember>,
    context: CallContext,
    key: ListKey,
    id: u64,
    change: u64,
    late: Arc<AtomicBool>,
}

impl ListFetch {
    fn new(
        member: &Arc<ListedMember>,
        context: &CallContext,
        key: ListKey,
        change: u64,
        late: Arc<AtomicBool>,
    ) -> Self {
        Self {
            member: member.clone(),
            context: shared_context(context),
            key,
            id: tick(),
            change,
            late,
        }
    }

    /// Builds a list from the fetched pages, and caches it for its audience.
    fn cache<T: ListItem>(&self, listing: AllPages<T>, now: Instant) -> Arc<CachedList<T>> {
        let page = listing.page;
        let unrestricted = listing.private.is_none();
        let keys = by_key(&page.items);
        let unmatched = match listing.is_whole {
            true => self
                .member
                .checks
                .unmatched_by(&self.member, &page.items, &keys),
            false => Box::default(),
        };
        let list = Arc::new(CachedList {
            keys,
            unmatched,
            items: page.items,
            page: page.text,
            private: listing.private,
            shareable: listing.shareable,
            stamp: tick(),
            change: self.change,
            fetched: now,
            expires: listing.expires,
            ttl_ms: page.head.ttl_ms,
            cache_scope: page.head.cache_scope,
            meta: page.head.meta,
        });
        if listing.shareable {
            let public = listing.public || self.member.options.shared_lists;
            let for_all = public && unrestricted && !self.member.is_per_caller();
            let key = match for_all {
                true => self.key.for_all_callers(),
                false => self.key.clone(),
            };
            T::of(&self.member.lists).cached.set(key, list.clone());
            if self.member.check_options(&list) {
                self.member.fetch_all_lists(&self.context);
            }
        }
        list
    }
}

/// Removes a fetch from the cache when it ends, also by a panic in an inner layer or with its
/// runtime. Otherwise callers would wait for a fetch that never completes.
struct FetchGuard<'a, T: ListItem> {
    fetch: &'a ListFetch,
    of: PhantomData<fn(T)>,
}

impl<T: ListItem> Drop for FetchGuard<'_, T> {
    fn drop(&mut self) {
        let fetch = self.fetch;
        let mut fetching = T::of(&fetch.member.lists).fetching();
        if fetching
            .get(&fetch.key)
            .is_some_and(|begun| begun.id == fetch.id)
        {
            fetching.remove(&fetch.key);
        }
    }
}

async fn fetch_all<T: ListItem>(fetch: ListFetch) -> FetchedList<T> {
    let member = &fetch.member;
    let under_way = FetchGuard::<T> {
        fetch: &fetch,
        of: PhantomData,
    };
    let pages = panics::caught(fetch_pages::<T>(member, &fetch.context));
    let pages = tokio::time::timeout(FETCH_LIMIT, pages);
    let outcome = tokio::select! {
        pages = pages => pages.unwrap_or_else(|_| Err(Error::timeout(FETCH_LIMIT))),
        () = member.removed.cancelled() => Err(Error::cancelled("the member has been removed")),
    };
    let now = Instant::now();
    let outcome = match outcome {
        Err(error) if error.is_method_not_found() => Ok(AllPages::nothing(now + UNSUPPORTED_FOR)),
        other => other,
    };
    let known = outcome.map(|listing| fetch.cache(listing, now));
    drop(under_way);
    if known.is_ok()
        && fetch.late.load(Ordering::Acquire)
        && let Some(change) = T::CHANGE
    {
        member.notifier.changed(change);
    }
    known
}

/// Returns the positions of the items by their own names or URIs. Of duplicates, the first is used.
fn by_key<T: ListItem>(items: &[Listed<T>]) -> HashMap<Box<str>, usize> {
    let mut keys = HashMap::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        keys.entry(item.key().into()).or_insert(index);
    }
    keys
}
