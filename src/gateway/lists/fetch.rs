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
use rmcp::model::CacheScope;
use tokio::time::Instant;

use super::{
    cached_list::{Age, Known},
    list_item::{Listed, Page},
    list_key::{Class, tick},
    merge::strictest,
};
use crate::gateway::{active_member::Seat, listen::Bell};
use crate::{
    Audience, CallContext, Error, McpRequest, ServedBy,
    context::audience::PrivateTo,
    context::{OnlyDeclared, next_id},
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

/// The maximum lifetime of a list, whatever the server says. Value: one day.
const MAX_TTL_MS: u64 = 24 * 60 * 60 * 1_000;

pub(in crate::gateway) type Fetched<T> = Result<Arc<Known<T>>, Error>;

/// A fetch that all callers of the list share.
pub(in crate::gateway) struct Fetching<T> {
    id: u64,
    change: u64,
    since: Instant,
    /// A caller was answered without this list.
    late: Arc<AtomicBool>,
    done: Shared<BoxFuture<'static, Fetched<T>>>,
}

/// A fetch that a caller waits for.
pub(in crate::gateway) struct Begun<T> {
    done: Shared<BoxFuture<'static, Fetched<T>>>,
    since: Instant,
    late: Arc<AtomicBool>,
    /// The fetch was begun for this caller.
    own: bool,
}

/// The contribution of one member to a list.
pub(in crate::gateway) struct Part<T> {
    pub(in crate::gateway) seat: Arc<Seat>,
    pub(in crate::gateway) list: Option<Arc<Known<T>>>,
    pub(in crate::gateway) stale: bool,
    pub(in crate::gateway) error: Option<Error>,
}

impl Seat {
    /// Returns the member's list, or the best known one at the deadline.
    pub(in crate::gateway) async fn part<T: Listed>(
        self: &Arc<Self>,
        context: &CallContext,
        age: Age,
        deadline: Duration,
        bell: &Bell,
    ) -> Part<T> {
        let class = self.class(context);
        let known = self.known::<T>(&class);
        if let Some((list, shared)) = &known
            && self.is_fresh(&class, list, *shared, age)
        {
            return Part {
                seat: self.clone(),
                list: Some(list.clone()),
                stale: false,
                error: None,
            };
        }
        let begun = self.fetch::<T>(context, class, bell);
        let (end, late) = (begun.since + deadline, begun.late.clone());
        let fetched = tokio::time::timeout_at(end, self.joined(begun, context, bell)).await;
        let last = known.map(|(list, _)| list);
        let (list, stale, error) = match fetched {
            Ok(Ok(list)) => (Some(list), false, None),
            Ok(Err(error)) => (last, true, Some(error)),
            Err(_) => {
                late.store(true, Ordering::Release);
                self.degrade(&format!("no list of {}s within {deadline:?}", T::NOUN));
                (last, true, Some(Error::timeout(deadline)))
            }
        };
        Part {
            seat: self.clone(),
            list,
            stale,
            error,
        }
    }

    /// Returns the result of a fetch, if it is for this caller too. If an inner layer marks it as
    /// private to another audience, the list is fetched again for this caller alone.
    async fn joined<T: Listed>(
        self: &Arc<Self>,
        begun: Begun<T>,
        context: &CallContext,
        bell: &Bell,
    ) -> Fetched<T> {
        let list = begun.done.await?;
        if list.shareable || begun.own {
            return Ok(list);
        }
        fetch_all::<T>(Fetch {
            seat: self.clone(),
            context: shared_context(context),
            class: self.class(context),
            id: tick(),
            change: self.change_count::<T>(),
            late: begun.late,
            bell: bell.clone(),
        })
        .await
    }

    /// Starts a fetch, or joins the one in progress. It continues without a waiting caller, so that
    /// the next list request has its result. Past the limit of such fetches, the fetch belongs to
    /// the caller and ends with it.
    pub(in crate::gateway) fn fetch<T: Listed>(
        self: &Arc<Self>,
        context: &CallContext,
        class: Class,
        bell: &Bell,
    ) -> Begun<T> {
        let change = self.change_count::<T>();
        let mut fetching = T::shelf(&self.lists).fetching();
        if let Some(begun) = fetching.get(&class)
            && begun.change == change
        {
            return Begun {
                done: begun.done.clone(),
                since: begun.since,
                late: begun.late.clone(),
                own: false,
            };
        }
        let id = tick();
        let late = Arc::new(AtomicBool::new(false));
        let fetch = fetch_all::<T>(Fetch {
            seat: self.clone(),
            context: shared_context(context),
            class: class.clone(),
            id,
            change,
            late: late.clone(),
            bell: bell.clone(),
        });
        if fetching.len() >= MAX_FETCHING && !fetching.contains_key(&class) {
            return Begun {
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
            .get(&class)
            .map_or_else(Instant::now, |begun| begun.since);
        let begun = Fetching {
            id,
            change,
            since,
            late: late.clone(),
            done: done.clone(),
        };
        fetching.insert(class, begun);
        Begun {
            done,
            since,
            late,
            own: true,
        }
    }
}

impl Seat {
    /// Logs, once for each kind of list, that the list is not read to its end.
    fn cut_short<T: Listed>(&self, why: &str) {
        if !T::shelf(&self.lists)
            .cut_short
            .swap(true, Ordering::Relaxed)
        {
            let noun = T::NOUN;
            tracing::warn!(member = %self.name, noun, why, "a list is not followed further");
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
    seat: Arc<Seat>,
    context: CallContext,
    class: Class,
    id: u64,
    change: u64,
    late: Arc<AtomicBool>,
    bell: Bell,
}

impl Fetch {
    /// Builds a list from the fetched pages, and caches it for its audience.
    fn keep<T: Listed>(&self, listing: Whole<T>, now: Instant) -> Arc<Known<T>> {
        let page = listing.page;
        let unrestricted = listing.private.is_none();
        let list = Arc::new(Known {
            keys: by_key(&page.items),
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
            let said = listing.public || self.seat.options.shared_lists;
            let everybody = said && unrestricted && !self.seat.is_per_caller();
            let class = match everybody {
                true => self.class.everybody(),
                false => self.class.clone(),
            };
            T::shelf(&self.seat.lists).known.set(class, list.clone());
        }
        list
    }
}

/// Removes a fetch from the shelf when it ends, also by a panic in an inner layer or with its
/// runtime. Otherwise callers would wait for a fetch that never completes.
struct UnderWay<'a, T: Listed> {
    fetch: &'a Fetch,
    of: PhantomData<fn(T)>,
}

impl<T: Listed> Drop for UnderWay<'_, T> {
    fn drop(&mut self) {
        let fetch = self.fetch;
        let mut fetching = T::shelf(&fetch.seat.lists).fetching();
        if fetching
            .get(&fetch.class)
            .is_some_and(|begun| begun.id == fetch.id)
        {
            fetching.remove(&fetch.class);
        }
    }
}

async fn fetch_all<T: Listed>(fetch: Fetch) -> Fetched<T> {
    let seat = &fetch.seat;
    let under_way = UnderWay::<T> {
        fetch: &fetch,
        of: PhantomData,
    };
    let pages = panics::caught(follow::<T>(seat, &fetch.context));
    let pages = tokio::time::timeout(FETCH_LIMIT, pages);
    let outcome = tokio::select! {
        pages = pages => pages.unwrap_or_else(|_| Err(Error::timeout(FETCH_LIMIT))),
        () = seat.gone.cancelled() => Err(Error::cancelled("the member has been removed")),
    };
    let now = Instant::now();
    let outcome = match outcome {
        Err(error) if error.is_method_not_found() => Ok(Whole::nothing(now + UNSUPPORTED_FOR)),
        other => other,
    };
    let known = outcome.map(|listing| fetch.keep(listing, now));
    drop(under_way);
    if known.is_ok()
        && fetch.late.load(Ordering::Acquire)
        && let Some(change) = T::CHANGE
    {
        fetch.bell.changed(change);
    }
    known
}

/// Returns the positions of the items by their own names or URIs. Of duplicates, the first is used.
fn by_key<T: Listed>(items: &[T]) -> HashMap<Box<str>, usize> {
    let mut keys = HashMap::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        keys.entry(item.key().into()).or_insert(index);
    }
    keys
}

/// All pages of a list, joined.
struct Whole<T> {
    page: Page<T>,
    expires: Option<Instant>,
    /// Every page is marked as public.
    public: bool,
    private: Option<PrivateTo>,
    shareable: bool,
}

impl<T> Whole<T> {
    /// The list of a member that does not implement the method: empty.
    fn nothing(expires: Instant) -> Self {
        Self {
            page: Page {
                items: Vec::new(),
                next_cursor: None,
                ttl_ms: None,
                cache_scope: None,
                meta: None,
            },
            expires: Some(expires),
            public: false,
            private: None,
            shareable: true,
        }
    }
}

async fn follow<T: Listed>(seat: &Arc<Seat>, context: &CallContext) -> Result<Whole<T>, Error> {
    let began = Instant::now();
    let mut whole: Option<Page<T>> = None;
    let mut private: Option<PrivateTo> = None;
    let mut shareable = true;
    let mut public = true;
    let audience = Audience::of(context);
    let mut cursor = None;
    let mut pages = Pages::default();
    loop {
        let mut context = context.clone();
        context.id = next_id();
        let request = McpRequest::from_parts(T::request(cursor.take()), context);
        let listing = Listing::of(&request.message);
        let response = seat.call(request).await?;
        if let Some(page) = response.private_to() {
            // An inner layer may identify the caller more precisely.
            shareable &= response.is_for(&audience);
            private = Some(private.unwrap_or_default().and(page));
        }
        let mut page = T::page(response.into_result())?;
        let misfits = T::complete(&mut page.items);
        if let Some(listing) = listing.filter(|_| !misfits.is_empty()) {
            seat.unreadable.add(listing.method, &misfits);
            seat.unreadable.log(&seat.name, &misfits);
        }
        public &= page.cache_scope == Some(CacheScope::Public);
        let next = page.next_cursor.take();
        let all = match whole.take() {
            None => page,
            Some(mut all) => {
                all.items.extend(page.items);
                all.ttl_ms = all.ttl_ms.min(page.ttl_ms);
                all.cache_scope = strictest(all.cache_scope, page.cache_scope);
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
            Next::CutShort(why) => seat.cut_short::<T>(why),
        }
        let ttl = all
            .ttl_ms
            .map(|ttl| Duration::from_millis(ttl.min(MAX_TTL_MS)));
        return Ok(Whole {
            page: all,
            expires: ttl.map(|ttl| began + ttl),
            public,
            private,
            shareable,
        });
    }
}
