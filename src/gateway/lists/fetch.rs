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

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use rmcp::model::{CacheScope, Prompt, Resource, ResourceTemplate, Skill, Tool};
use tokio::time::Instant;

use super::{
    cached_list::{CachedList, Fetched, SharedFetch},
    list_item::{ListItem, Page},
    list_key::{ListKey, tick},
    listed_member::{Age, ListedMember},
};
use crate::gateway::notifier::ChangeNotifier;
use crate::{
    Audience, CallContext, Error, McpRequest, ServedBy,
    context::{OnlyDeclared, audience::PrivateTo, next_id},
    protocol::{
        pages::{Next, Pages},
        unreadable_items::Listing,
    },
    util::panics,
};

/// The maximum duration of a fetch for which no list request waits any more.
const FETCH_LIMIT: Duration = Duration::from_secs(60);

/// The maximum number of detached fetches of one member's list, including those without a waiting
/// caller.
const MAX_FETCHING: usize = 256;

/// The time for which a method that a member does not implement is not requested again.
const UNSUPPORTED_FOR: Duration = Duration::from_secs(60);

/// The maximum lifetime of a list, whatever the server hints. Value: one day.
const MAX_TTL_MS: u64 = 24 * 60 * 60 * 1_000;

/// A fetch that a caller waits for.
pub(in crate::gateway) struct JoinedFetch<T> {
    done: Shared<BoxFuture<'static, Fetched<T>>>,
    since: Instant,
    late: Arc<AtomicBool>,
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
        notifier: &ChangeNotifier,
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
        let begun = self.fetch::<T>(context, key, notifier);
        let (end, late) = (begun.since + timeout, begun.late.clone());
        let fetched =
            tokio::time::timeout_at(end, self.await_fetch(begun, context, notifier)).await;
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
        begun: JoinedFetch<T>,
        context: &CallContext,
        notifier: &ChangeNotifier,
    ) -> Fetched<T> {
        let list = begun.done.await?;
        if list.shareable || begun.own {
            return Ok(list);
        }
        fetch_all::<T>(Fetch {
            member: self.clone(),
            context: shared_context(context),
            key: self.list_key(context),
            id: tick(),
            change: self.change_count::<T>(),
            late: begun.late,
            notifier: notifier.clone(),
        })
        .await
    }

    /// Starts a fetch, or joins the one in progress. It continues without a waiting caller, so that
    /// the next list request has its result. Past the limit of such fetches, the fetch belongs to
    /// the caller and ends with it.
    pub(in crate::gateway) fn fetch<T: ListItem>(
        self: &Arc<Self>,
        context: &CallContext,
        key: ListKey,
        notifier: &ChangeNotifier,
    ) -> JoinedFetch<T> {
        let change = self.change_count::<T>();
        let mut fetching = T::of(&self.lists).fetching();
        if let Some(begun) = fetching.get(&key)
            && begun.change == change
        {
            return JoinedFetch {
                done: begun.done.clone(),
                since: begun.since,
                late: begun.late.clone(),
                own: false,
            };
        }
        let id = tick();
        let late = Arc::new(AtomicBool::new(false));
        let fetch = fetch_all::<T>(Fetch {
            member: self.clone(),
            context: shared_context(context),
            key: key.clone(),
            id,
            change,
            late: late.clone(),
            notifier: notifier.clone(),
        });
        if fetching.len() >= MAX_FETCHING && !fetching.contains_key(&key) {
            return JoinedFetch {
                done: fetch.boxed().shared(),
                since: Instant::now(),
                late,
                own: true,
            };
        }
        let task = tokio::spawn(fetch);
        let done = task
            .map(|done| done.unwrap_or_else(|_| Err(Error::cancelled("fetching a list failed"))))
            .boxed()
            .shared();
        // A list that changes while callers wait for it does not restart their wait.
        let since = fetching
            .get(&key)
            .map_or_else(Instant::now, |begun| begun.since);
        let begun = SharedFetch {
            id,
            change,
            since,
            late: late.clone(),
            done: done.clone(),
        };
        fetching.insert(key, begun);
        JoinedFetch {
            done,
            since,
            late,
            own: true,
        }
    }
}

impl ListedMember {
    /// Logs, once for each kind of list, that the list is not read to its end.
    fn log_cut_short<T: ListItem>(&self, why: &str) {
        if !T::of(&self.lists).cut_short.swap(true, Ordering::Relaxed) {
            let noun = T::NOUN;
            tracing::warn!(member = %self.name, noun, why, "a list is not followed further");
        }
    }
}

impl ListedMember {
    /// Fetches, once, the lists that no caller has asked for: a filter may be about their items.
    fn fetch_all_lists(self: &Arc<Self>, notifier: &ChangeNotifier) {
        if self.is_per_caller() || self.checks.completing.swap(true, Ordering::Relaxed) {
            return;
        }
        let context = CallContext::background();
        self.fetch_missing::<Tool>(&context, notifier);
        self.fetch_missing::<Prompt>(&context, notifier);
        self.fetch_missing::<Resource>(&context, notifier);
        self.fetch_missing::<ResourceTemplate>(&context, notifier);
        self.fetch_missing::<Skill>(&context, notifier);
    }

    fn fetch_missing<T: ListItem>(
        self: &Arc<Self>,
        context: &CallContext,
        notifier: &ChangeNotifier,
    ) {
        if T::of(&self.lists).cached.values().is_empty() {
            drop(self.fetch::<T>(context, self.list_key(context), notifier));
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

struct Fetch {
    member: Arc<ListedMember>,
    context: CallContext,
    key: ListKey,
    id: u64,
    change: u64,
    late: Arc<AtomicBool>,
    notifier: ChangeNotifier,
}

impl Fetch {
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
            private: listing.private,
            shareable: listing.shareable,
            stamp: tick(),
            change: self.change,
            fetched: now,
            expires: listing.expires,
            ttl_ms: page.ttl_ms,
            cache_scope: page.cache_scope,
            meta: page.meta,
        });
        if listing.shareable {
            let said = listing.public || self.member.options.shared_lists;
            let everybody = said && unrestricted && !self.member.is_per_caller();
            let key = match everybody {
                true => self.key.for_all_callers(),
                false => self.key.clone(),
            };
            T::of(&self.member.lists).cached.set(key, list.clone());
            if self.member.check_options(&list) {
                self.member.fetch_all_lists(&self.notifier);
            }
        }
        list
    }
}

/// Removes a fetch from the shelf when it ends, also by a panic in an inner layer or with its
/// runtime. Otherwise callers would wait for a fetch that never completes.
struct FetchGuard<'a, T: ListItem> {
    fetch: &'a Fetch,
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

async fn fetch_all<T: ListItem>(fetch: Fetch) -> Fetched<T> {
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
        fetch.notifier.changed(change);
    }
    known
}

/// Returns the positions of the items by their own names or URIs. Of duplicates, the first is used.
fn by_key<T: ListItem>(items: &[T]) -> HashMap<Box<str>, usize> {
    let mut keys = HashMap::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        keys.entry(item.key().into()).or_insert(index);
    }
    keys
}

/// All pages of a list, joined.
struct AllPages<T> {
    page: Page<T>,
    /// The list was read to its end.
    is_whole: bool,
    expires: Option<Instant>,
    /// Every page is marked as public.
    public: bool,
    private: Option<PrivateTo>,
    shareable: bool,
}

impl<T> AllPages<T> {
    /// The list of a member that does not implement the method: empty.
    fn nothing(expires: Instant) -> Self {
        Self {
            page: Page::default(),
            is_whole: true,
            expires: Some(expires),
            public: false,
            private: None,
            shareable: true,
        }
    }
}

async fn fetch_pages<T: ListItem>(
    member: &Arc<ListedMember>,
    context: &CallContext,
) -> Result<AllPages<T>, Error> {
    let began = Instant::now();
    let mut whole: Option<Page<T>> = None;
    let mut private: Option<PrivateTo> = None;
    let mut shareable = true;
    let mut public = true;
    let mut is_whole = true;
    let audience = Audience::of(context);
    let mut cursor = None;
    let mut pages = Pages::default();
    loop {
        let mut context = context.clone();
        context.id = next_id();
        let request = McpRequest::from_parts(T::request(cursor.take()), context);
        let listing = Listing::of(&request.message);
        let response = member.call(request).await?;
        if let Some(page) = response.private_to() {
            // An inner layer may identify the caller more precisely.
            shareable &= response.is_for(&audience);
            private = Some(private.unwrap_or_default().and(page));
        }
        let mut page = T::page(response.into_result())?;
        let misfits = T::complete(&mut page.items);
        if let Some(listing) = listing.filter(|_| !misfits.is_empty()) {
            member.unreadable.add(listing.method, &misfits);
            member.unreadable.log(&member.name, &misfits);
        }
        public &= page.cache_scope == Some(CacheScope::Public);
        let next = page.next_cursor.take();
        let all = match whole.take() {
            None => page,
            Some(mut all) => {
                all.append(page);
                all
            }
        };
        match pages.after(next) {
            Next::Page(next) => {
                cursor = Some(next);
                whole = Some(all);
                continue;
            }
            Next::End => {}
            Next::CutShort(why) => {
                is_whole = false;
                member.log_cut_short::<T>(why);
            }
        }
        let ttl = all
            .ttl_ms
            .map(|ttl| Duration::from_millis(ttl.min(MAX_TTL_MS)));
        return Ok(AllPages {
            page: all,
            is_whole,
            expires: ttl.map(|ttl| began + ttl),
            public,
            private,
            shareable,
        });
    }
}
