//! What the members list: fetched together, remembered, and merged under outward names.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, join_all},
};
use rmcp::model::{
    CacheScope, ClientRequest, ErrorCode, ErrorData, ListPromptsRequest, ListPromptsResult,
    ListResourceTemplatesRequest, ListResourceTemplatesResult, ListResourcesRequest,
    ListResourcesResult, ListSkillsRequest, ListSkillsResult, ListToolsRequest, ListToolsResult,
    MetaObject, PaginatedRequestParams, ProgressToken, Prompt, RequestMetaObject, Resource,
    ResourceTemplate, ServerResult, Skill, Tool,
};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    Prefix,
    member::{Change, Class, Options, Overrides, Seat},
    names::Style,
    notices::{Bell, Silent},
    uris,
};
use crate::{
    Audience, CallContext, Error, McpRequest, McpResponse, ServedBy, ToolHints,
    audience::PrivateTo, request::next_id, results,
};

/// How many pages of one member's list are followed.
const MAX_PAGES: usize = 1_000;
/// How long a fetch goes on that no list waits for any more.
const FETCH_LIMIT: Duration = Duration::from_secs(60);
/// For how long a method that a member does not know is not asked for again.
const UNSUPPORTED_FOR: Duration = Duration::from_secs(60);
/// How old a list may be that a caller is in the middle of.
const WALK: Duration = Duration::from_secs(60);
/// For how many callers a member's lists, and the merged ones, are remembered. Past it the longest unused
/// is forgotten.
const MAX_CLASSES: usize = 256;
/// How many names that were left out are remembered for the handle.
const MAX_LEFT_OUT: usize = 100;

/// Who a list was not complete for; in the extensions of a list's response, and in its `_meta` under
/// `rmcp-layers/stale` and `rmcp-layers/missing`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListReport {
    /// Members whose last known list was served, because they did not answer in time or failed.
    pub stale: Vec<Arc<str>>,
    /// Members of which no list is known: theirs is left out.
    pub missing: Vec<Arc<str>>,
}

/// One page, of any kind.
pub(super) struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
    ttl_ms: Option<u64>,
    cache_scope: Option<CacheScope>,
    meta: Option<MetaObject>,
}

/// What can be listed.
pub(super) trait Listed: Clone + Send + Sync + 'static {
    /// What one is called.
    const NOUN: &'static str;
    /// Whether members' names are put before names, or before URIs.
    const NAMED: bool;
    /// By which changes a list of these ends to hold.
    const CHANGE: Option<Change>;

    fn request(cursor: Option<String>) -> ClientRequest;
    fn page(result: ServerResult) -> Result<Page<Self>, ErrorData>;
    fn answer(page: Page<Self>) -> ServerResult;
    fn shelf(lists: &Lists) -> &Shelf<Self>;
    fn merged(merged: &Merged) -> &ByClass<Arc<Catalogue<Self>>>;
    fn key(&self) -> &str;
    fn set_key(&mut self, key: String);
    /// What the operator says of single ones.
    fn overrides(_options: &Options) -> Option<&Overrides> {
        None
    }
    /// Puts the member's name and what the operator says into the description.
    fn describe(&mut self, _seat: &Seat, _inner: &str, _prefixed: bool) {}
    /// What it says of how harmless it is.
    fn hints(&self) -> Option<ToolHints> {
        None
    }
    /// Whether it changes nothing, as far as the member is to be believed.
    fn is_read_only(&self, _seat: &Seat) -> bool {
        true
    }
}

macro_rules! listed {
    ($($Item:ident $noun:literal $named:literal $change:expr, $Request:ident -> $Result:ident { $items:ident },
       $shelf:ident, $key:ident = $set:expr, { $($more:item)* })*) => {
        /// A member's lists.
        #[derive(Default)]
        pub(super) struct Lists { $($shelf: Shelf<$Item>,)* }

        /// The merged lists.
        #[derive(Default)]
        pub(super) struct Merged { $($shelf: ByClass<Arc<Catalogue<$Item>>>,)* }

        impl Merged {
            /// Forgets all: the members have changed.
            pub(super) fn clear(&self) {
                $(self.$shelf.clear();)*
            }
        }

        $(impl Listed for $Item {
            const NOUN: &'static str = $noun;
            const NAMED: bool = $named;
            const CHANGE: Option<Change> = $change;

            fn request(cursor: Option<String>) -> ClientRequest {
                $Request::with_param(PaginatedRequestParams::default().with_cursor(cursor)).into()
            }

            fn page(result: ServerResult) -> Result<Page<Self>, ErrorData> {
                let page: $Result = results::expect(result)?;
                Ok(Page {
                    items: page.$items,
                    next_cursor: page.next_cursor,
                    ttl_ms: page.ttl_ms,
                    cache_scope: page.cache_scope,
                    meta: page.meta,
                })
            }

            fn answer(page: Page<Self>) -> ServerResult {
                let mut result = $Result::with_all_items(page.items);
                result.next_cursor = page.next_cursor;
                result.ttl_ms = page.ttl_ms;
                result.cache_scope = page.cache_scope;
                result.meta = page.meta;
                result.into()
            }

            fn shelf(lists: &Lists) -> &Shelf<Self> {
                &lists.$shelf
            }

            fn merged(merged: &Merged) -> &ByClass<Arc<Catalogue<Self>>> {
                &merged.$shelf
            }

            fn key(&self) -> &str {
                &self.$key
            }

            fn set_key(&mut self, key: String) {
                let set: fn(&mut Self, String) = $set;
                set(self, key);
            }

            $($more)*
        })*
    };
}

listed! {
    Tool "tool" true Some(Change::Tools), ListToolsRequest -> ListToolsResult { tools },
        tools, name = |tool, name| tool.name = name.into(), {
            fn overrides(options: &Options) -> Option<&Overrides> {
                Some(&options.tools)
            }

            fn describe(&mut self, seat: &Seat, inner: &str, prefixed: bool) {
                let own = self.description.as_deref();
                if let Some(said) = described::<Self>(seat, inner, own, prefixed) {
                    self.description = Some(said.into());
                }
            }

            fn hints(&self) -> Option<ToolHints> {
                Some(ToolHints::of(self))
            }

            fn is_read_only(&self, seat: &Seat) -> bool {
                seat.options.trusted == Some(true) && ToolHints::of(self).read_only
            }
        }
    Prompt "prompt" true Some(Change::Prompts), ListPromptsRequest -> ListPromptsResult { prompts },
        prompts, name = |prompt, name| prompt.name = name, {
            fn overrides(options: &Options) -> Option<&Overrides> {
                Some(&options.prompts)
            }

            fn describe(&mut self, seat: &Seat, inner: &str, prefixed: bool) {
                let own = self.description.as_deref();
                if let Some(said) = described::<Self>(seat, inner, own, prefixed) {
                    self.description = Some(said);
                }
            }
        }
    Resource "resource" false Some(Change::Resources),
        ListResourcesRequest -> ListResourcesResult { resources },
        resources, uri = |resource, uri| resource.uri = uri, {}
    ResourceTemplate "resource template" false Some(Change::Resources),
        ListResourceTemplatesRequest -> ListResourceTemplatesResult { resource_templates },
        templates, uri_template = |template, uri| template.uri_template = uri, {}
    Skill "skill" false None, ListSkillsRequest -> ListSkillsResult { skills },
        skills, uri = |skill, uri| {
            super::rewrite::skill_files(skill, &uri);
            skill.uri = uri;
        }, {}
}

/// The description that is shown, if it is not the member's own.
fn described<T: Listed>(
    seat: &Seat,
    inner: &str,
    own: Option<&str>,
    prefixed: bool,
) -> Option<String> {
    let said = T::overrides(&seat.options)?.get(inner);
    match said.and_then(|one| one.description.clone()) {
        Some(said) => Some(said),
        None if prefixed => own.map(|own| format!("[{}] {own}", seat.name)),
        None => None,
    }
}

/// A bounded memory by class.
pub(super) struct ByClass<V>(Mutex<HashMap<Class, (V, u64)>>);

impl<V> Default for ByClass<V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V: Clone> ByClass<V> {
    fn map(&self) -> MutexGuard<'_, HashMap<Class, (V, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, class: &Class) -> Option<V> {
        let mut map = self.map();
        let (value, used) = map.get_mut(class)?;
        *used = tick();
        Some(value.clone())
    }

    fn set(&self, class: Class, value: V) {
        let mut map = self.map();
        if map.len() >= MAX_CLASSES && !map.contains_key(&class) {
            let oldest = map
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(class, _)| class.clone());
            if let Some(oldest) = oldest {
                map.remove(&oldest);
            }
        }
        map.insert(class, (value, tick()));
    }

    fn clear(&self) {
        self.map().clear();
    }
}

/// A number that is greater each time.
fn tick() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A member's list as it was fetched.
pub(super) struct Known<T> {
    items: Vec<T>,
    /// Where they are, by their own names or URIs.
    keys: HashMap<Box<str>, usize>,
    /// Whom it is for, as an inner layer has it, if not for all of the class.
    private: Option<PrivateTo>,
    /// Others of its class may be shown it too.
    shareable: bool,
    stamp: u64,
    /// How often the list had changed when the fetch began.
    change: u64,
    fetched: Instant,
    expires: Option<Instant>,
    ttl_ms: Option<u64>,
    cache_scope: Option<CacheScope>,
    meta: Option<MetaObject>,
}

/// One of a member's lists, by whose it is.
pub(super) struct Shelf<T> {
    known: ByClass<Arc<Known<T>>>,
    fetching: Mutex<HashMap<Class, Fetching<T>>>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self {
            known: ByClass::default(),
            fetching: Mutex::default(),
        }
    }
}

impl<T> Shelf<T> {
    fn fetching(&self) -> MutexGuard<'_, HashMap<Class, Fetching<T>>> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Fetched<T> = Result<Arc<Known<T>>, Error>;

/// A fetch that all who want the list wait for.
struct Fetching<T> {
    id: u64,
    change: u64,
    since: Instant,
    /// Somebody was served without it.
    late: Arc<AtomicBool>,
    done: Shared<BoxFuture<'static, Fetched<T>>>,
}

/// A fetch that somebody waits for.
struct Begun<T> {
    done: Shared<BoxFuture<'static, Fetched<T>>>,
    since: Instant,
    late: Arc<AtomicBool>,
    /// It was begun for this caller.
    own: bool,
}

/// What a member contributes to a list.
pub(super) struct Part<T> {
    pub(super) seat: Arc<Seat>,
    list: Option<Arc<Known<T>>>,
    stale: bool,
    error: Option<Error>,
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

/// How old a list may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    Fresh,
    /// As old as a walk through its pages takes.
    Walk,
}

impl Seat {
    fn change_count<T: Listed>(&self) -> u64 {
        T::CHANGE.map_or(0, |change| self.changes(change))
    }

    fn class(&self, context: &CallContext) -> Class {
        Class::of(context, self.is_per_session())
    }

    /// The list that is known for a class, if any, and whether it is one that the gateway itself would be given
    /// too, so that it is told when it changes.
    fn known<T: Listed>(&self, class: &Class) -> Option<(Arc<Known<T>>, bool)> {
        let known = &T::shelf(&self.lists).known;
        match known.get(class) {
            Some(list) => Some((list, class.is_anybody())),
            None => Some((known.get(&class.everybody())?, true)),
        }
    }

    fn is_fresh<T: Listed>(&self, class: &Class, list: &Known<T>, shared: bool, age: Age) -> bool {
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

    /// The member's list, by the deadline.
    async fn part<T: Listed>(
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

    /// What a fetch brings, if it is for this caller too. One that turns out to be somebody else's, by what
    /// an inner layer says, is done again by itself.
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
            context: of_its_own(context),
            class: self.class(context),
            id: tick(),
            change: self.change_count::<T>(),
            late: begun.late,
            bell: bell.clone(),
        })
        .await
    }

    /// Begins to fetch, or joins the fetch that has begun. It goes on when nobody waits: the next list has
    /// it.
    fn fetch<T: Listed>(
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
        let task = tokio::spawn(fetch_all::<T>(Fetch {
            seat: self.clone(),
            context: of_its_own(context),
            class: class.clone(),
            id,
            change,
            late: late.clone(),
            bell: bell.clone(),
        }));
        let done = task
            .map(|done| done.unwrap_or_else(|_| Err(Error::cancelled("fetching a list failed"))))
            .boxed()
            .shared();
        // A member that is being waited for already is not waited for anew because its list has changed.
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

/// A context for what is asked on behalf of several callers: it says what `context` does, but nothing comes
/// back.
fn of_its_own(context: &CallContext) -> CallContext {
    let mut own = CallContext::new(next_id());
    own.meta = without_progress(&context.meta);
    own.extensions = context.extensions.clone();
    // Several members serve it.
    own.extensions.remove::<ServedBy>();
    own.caller = context.caller.wrap(|_| Silent).quiet();
    own
}

/// Progress goes to the caller's request, not to what was made of it.
pub(super) fn without_progress(meta: &RequestMetaObject) -> RequestMetaObject {
    let mut meta = meta.clone();
    if meta.get_progress_token().is_some() {
        meta.set_progress_token(ProgressToken(next_id()));
        meta.remove("progressToken");
    }
    meta
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

async fn fetch_all<T: Listed>(fetch: Fetch) -> Fetched<T> {
    let seat = &fetch.seat;
    let pages = tokio::time::timeout(FETCH_LIMIT, follow::<T>(seat, &fetch.context));
    let outcome = tokio::select! {
        pages = pages => pages.unwrap_or_else(|_| Err(Error::timeout(FETCH_LIMIT))),
        () = seat.gone.cancelled() => Err(Error::cancelled("the member has been removed")),
    };
    let now = Instant::now();
    let outcome = match outcome {
        Err(error) if is_unknown_method(&error) => Ok(Listing {
            page: Page {
                items: Vec::new(),
                next_cursor: None,
                ttl_ms: None,
                cache_scope: None,
                meta: None,
            },
            expires: Some(now + UNSUPPORTED_FOR),
            everybody: false,
            private: None,
            shareable: true,
        }),
        other => other,
    };
    let known = outcome.map(|listing| {
        let page = listing.page;
        let list = Arc::new(Known {
            keys: by_key(&page.items),
            items: page.items,
            private: listing.private,
            shareable: listing.shareable,
            stamp: tick(),
            change: fetch.change,
            fetched: now,
            expires: listing.expires,
            ttl_ms: page.ttl_ms,
            cache_scope: page.cache_scope,
            meta: page.meta,
        });
        if listing.shareable {
            let shared = (listing.everybody || seat.options.shared_lists) && !seat.is_per_caller();
            let class = match shared {
                true => fetch.class.everybody(),
                false => fetch.class.clone(),
            };
            T::shelf(&seat.lists).known.set(class, list.clone());
        }
        list
    });
    let mut fetching = T::shelf(&seat.lists).fetching();
    if fetching
        .get(&fetch.class)
        .is_some_and(|begun| begun.id == fetch.id)
    {
        fetching.remove(&fetch.class);
    }
    drop(fetching);
    if known.is_ok()
        && fetch.late.load(Ordering::Acquire)
        && let Some(change) = T::CHANGE
    {
        fetch.bell.changed(change);
    }
    known
}

/// Where things are, by their own names or URIs; the first of those that share one.
fn by_key<T: Listed>(items: &[T]) -> HashMap<Box<str>, usize> {
    let mut keys = HashMap::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        keys.entry(item.key().into()).or_insert(index);
    }
    keys
}

/// All pages of a list, as one.
struct Listing<T> {
    page: Page<T>,
    expires: Option<Instant>,
    /// Every page may be shown to any caller.
    everybody: bool,
    private: Option<PrivateTo>,
    shareable: bool,
}

async fn follow<T: Listed>(seat: &Arc<Seat>, context: &CallContext) -> Result<Listing<T>, Error> {
    let began = Instant::now();
    let mut whole: Option<Page<T>> = None;
    let mut private: Option<PrivateTo> = None;
    let mut shareable = true;
    let mut public = true;
    let audience = Audience::of(context);
    let mut cursor = None;
    let mut cursors = HashSet::new();
    loop {
        let mut context = context.clone();
        context.id = next_id();
        let request = McpRequest::from_parts(T::request(cursor.take()), context);
        let response = seat.call(request).await?;
        if let Some(page) = response.private_to() {
            // Something further in may know better who is calling.
            shareable &= response.is_for(&audience);
            private = Some(private.unwrap_or_default().and(page));
        }
        let mut page = T::page(response.into_result())?;
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
        let Some(next) = next else {
            let ttl = all
                .ttl_ms
                .map(|ttl| Duration::from_millis(ttl.min(MAX_TTL_MS)));
            return Ok(Listing {
                page: all,
                expires: ttl.map(|ttl| began + ttl),
                everybody: public && private.is_none(),
                private,
                shareable,
            });
        };
        if !cursors.insert(next.clone()) || cursors.len() >= MAX_PAGES {
            let message = format!(
                "`{}` has a list of {}s that does not end: it repeats a cursor, or has more than \
                 {MAX_PAGES} pages",
                seat.name,
                T::NOUN
            );
            return Err(ErrorData::internal_error(message, None).into());
        }
        cursor = Some(next);
        whole = Some(all);
    }
}

/// A day: whatever a server says, a list is looked at again after it.
const MAX_TTL_MS: u64 = 24 * 60 * 60 * 1_000;

fn is_unknown_method(error: &Error) -> bool {
    error
        .as_protocol()
        .is_some_and(|error| error.code == ErrorCode::METHOD_NOT_FOUND)
}

fn strictest(a: Option<CacheScope>, b: Option<CacheScope>) -> Option<CacheScope> {
    match (a, b) {
        (Some(CacheScope::Public), Some(CacheScope::Public)) => Some(CacheScope::Public),
        (None, None) => None,
        _ => Some(CacheScope::Private),
    }
}

/// One thing under its outward name.
pub(super) struct Entry<T> {
    pub(super) seat: Arc<Seat>,
    pub(super) inner: Box<str>,
    item: T,
    pub(super) shown: bool,
}

impl<T: Listed> Entry<T> {
    pub(super) fn hints(&self) -> Option<ToolHints> {
        self.item.hints()
    }
}

/// A merged list.
pub(super) struct Catalogue<T> {
    /// Which lists it was made of.
    made_of: Vec<(u64, u64)>,
    pub(super) entries: Vec<Entry<T>>,
    index: HashMap<String, usize>,
    /// Names that two members have, where neither may be prefixed: the name, who has it, who does not.
    pub(super) contested: Vec<(String, Arc<str>, Arc<str>)>,
    ttl_ms: Option<u64>,
    cache_scope: Option<CacheScope>,
    meta: Option<MetaObject>,
    private: Option<PrivateTo>,
}

impl<T: Listed> Catalogue<T> {
    /// What has this outward name.
    pub(super) fn get(&self, outward: &str) -> Option<&Entry<T>> {
        self.entries.get(*self.index.get(outward)?)
    }

    /// The outward names that can be used.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .filter(|entry| entry.shown)
            .map(|entry| entry.item.key())
    }
}

/// What is needed to merge.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) style: Style,
    pub(super) read_only: bool,
    pub(super) page_size: usize,
    pub(super) deadline: Duration,
}

struct Draft {
    part: usize,
    item: usize,
    /// Lower claims first: what an operator named, then what needs no change.
    rank: u8,
    wanted: String,
    /// What it is called where that is taken, if it may be.
    instead: Option<String>,
    may_change: bool,
}

fn draft<T: Listed>(
    seat: &Seat,
    inner: &str,
    style: &Style,
    reserved: &HashSet<&str>,
) -> (u8, String, Option<String>, bool) {
    if !T::NAMED {
        return match seat.prefixes_uris() {
            true => (1, uris::prefixed(&seat.name, inner), None, false),
            false => (2, inner.to_owned(), None, false),
        };
    }
    let said = T::overrides(&seat.options).and_then(|overrides| overrides.get(inner));
    if let Some(name) = said.and_then(|one| one.name.clone()) {
        return (0, name, None, false);
    }
    let prefixed = style.prefixed(&seat.name, inner);
    // A name that reads as another member's is that member's, whether or not it has it now.
    let foreign = style
        .split(inner)
        .is_some_and(|(member, _)| reserved.contains(member));
    let (wanted, instead, may_change) = match seat.prefix {
        Prefix::Always => (prefixed, None, true),
        Prefix::OnCollision if foreign => (prefixed, None, true),
        Prefix::OnCollision => (inner.to_owned(), Some(prefixed), true),
        Prefix::Never => (inner.to_owned(), None, false),
    };
    let natural = style.fits(&wanted);
    let rank = match (natural, seat.prefix) {
        (true, Prefix::Always) => 1,
        (true, _) => 2,
        (false, _) => 3,
    };
    (rank, wanted, instead, may_change)
}

/// Puts the members' lists together, in the members' order.
fn merge<T: Listed>(parts: &[Part<T>], rules: &Rules) -> Catalogue<T> {
    let style = &rules.style;
    let reserved: HashSet<&str> = parts
        .iter()
        .filter(|part| part.seat.prefix == Prefix::Always)
        .map(|part| &*part.seat.name)
        .collect();
    let mut drafts = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let mut own = HashSet::new();
        for (item, listed) in part
            .list
            .iter()
            .flat_map(|list| list.items.iter().enumerate())
        {
            if !own.insert(listed.key()) {
                continue;
            }
            let (rank, wanted, instead, may_change) =
                draft::<T>(&part.seat, listed.key(), style, &reserved);
            drafts.push(Draft {
                part: index,
                item,
                rank,
                wanted,
                instead,
                may_change,
            });
        }
    }
    let mut order: Vec<usize> = (0..drafts.len()).collect();
    order.sort_by_key(|index| drafts.get(*index).map_or(0, |draft| draft.rank));
    let mut claimed: HashMap<String, usize> = HashMap::with_capacity(drafts.len());
    let mut names: Vec<Option<String>> = vec![None; drafts.len()];
    let mut contested = Vec::new();
    for index in order {
        let Some(draft) = drafts.get(index) else {
            continue;
        };
        let fit = |name: &str, again| match T::NAMED {
            true => style.fit(name, again).into_owned(),
            false => name.to_owned(),
        };
        let mut name = fit(&draft.wanted, 0);
        if claimed.contains_key(&name)
            && let Some(instead) = &draft.instead
        {
            name = fit(instead, 0);
        }
        let mut again = 1;
        while claimed.contains_key(&name) && draft.may_change {
            name = fit(draft.instead.as_ref().unwrap_or(&draft.wanted), again);
            again += 1;
        }
        if let Some(winner) = claimed.get(&name) {
            let of = |draft: &Draft| parts.get(draft.part).map(|part| part.seat.name.clone());
            if contested.len() < MAX_LEFT_OUT
                && let (Some(winner), Some(loser)) = (drafts.get(*winner).and_then(of), of(draft))
            {
                contested.push((name, winner, loser));
            }
            continue;
        }
        claimed.insert(name.clone(), index);
        if let Some(slot) = names.get_mut(index) {
            *slot = Some(name);
        }
    }
    let mut catalogue = Catalogue {
        made_of: made_of(parts),
        entries: Vec::with_capacity(drafts.len()),
        index: HashMap::with_capacity(drafts.len()),
        contested,
        ttl_ms: None,
        cache_scope: None,
        meta: None,
        private: None,
    };
    for (draft, name) in drafts.into_iter().zip(names) {
        let (Some(name), Some(part)) = (name, parts.get(draft.part)) else {
            continue;
        };
        let Some(listed) = part
            .list
            .as_ref()
            .and_then(|list| list.items.get(draft.item))
        else {
            continue;
        };
        catalogue
            .index
            .insert(name.clone(), catalogue.entries.len());
        catalogue
            .entries
            .push(entry(&part.seat, listed, name, rules));
    }
    hints(&mut catalogue, parts);
    catalogue
}

fn entry<T: Listed>(seat: &Arc<Seat>, listed: &T, name: String, rules: &Rules) -> Entry<T> {
    let inner = listed.key().to_owned();
    let mut item = listed.clone();
    let prefixed = T::NAMED && name != inner && seat.prefix != Prefix::Never;
    let shown = seat.lets_out::<T>(&inner, &name) && (!rules.read_only || item.is_read_only(seat));
    item.describe(seat, &inner, prefixed);
    if name != inner {
        item.set_key(name);
    }
    Entry {
        seat: seat.clone(),
        inner: inner.into(),
        item,
        shown,
    }
}

/// The strictest of the parts' cache hints (MCP 2026-07-28, Caching).
fn hints<T: Listed>(catalogue: &mut Catalogue<T>, parts: &[Part<T>]) {
    let lists = || parts.iter().filter_map(|part| part.list.as_ref());
    let any = lists().any(|list| list.ttl_ms.is_some());
    catalogue.ttl_ms = any
        .then(|| lists().map(|list| list.ttl_ms.unwrap_or(0)).min())
        .flatten();
    catalogue.cache_scope = lists()
        .map(|list| list.cache_scope)
        .reduce(strictest)
        .flatten();
    let mut metas = lists().filter_map(|list| list.meta.clone());
    // What one member says of its list does not hold for another's.
    catalogue.meta = match parts.len() {
        1 => metas.next(),
        _ => None,
    };
    let private = lists().filter_map(|list| list.private.clone());
    catalogue.private = private.reduce(|all, one| all.and(&one));
}

fn made_of<T>(parts: &[Part<T>]) -> Vec<(u64, u64)> {
    parts
        .iter()
        .map(|part| {
            (
                part.seat.id,
                part.list.as_ref().map_or(0, |list| list.stamp),
            )
        })
        .collect()
}

/// What a merged list was made of, and who is missing in it.
pub(super) struct Gathered<T> {
    pub(super) catalogue: Arc<Catalogue<T>>,
    pub(super) report: ListReport,
    pub(super) errors: Vec<Error>,
}

/// Asks all members at once, and merges what is known by the deadline.
pub(super) async fn gather<T: Listed>(
    seats: &[Arc<Seat>],
    class: Class,
    merged: &Merged,
    rules: &Rules,
    bell: &Bell,
    context: &CallContext,
    age: Age,
) -> Gathered<T> {
    let deadline = rules.deadline;
    let parts = seats
        .iter()
        .map(|seat| seat.part::<T>(context, age, deadline, bell));
    let parts: Vec<Part<T>> = join_all(parts).await;
    let mut report = ListReport::default();
    for part in parts.iter().filter(|part| part.stale) {
        match part.list {
            Some(_) => report.stale.push(part.seat.name.clone()),
            None => report.missing.push(part.seat.name.clone()),
        }
    }
    let shareable = parts
        .iter()
        .flat_map(|part| &part.list)
        .all(|list| list.shareable);
    let catalogue = T::merged(merged)
        .get(&class)
        .filter(|known| known.made_of == made_of(&parts))
        .unwrap_or_else(|| {
            let catalogue = Arc::new(merge(&parts, rules));
            for (name, winner, loser) in &catalogue.contested {
                tracing::warn!(name, %winner, %loser, "two members have one name");
            }
            if shareable {
                T::merged(merged).set(class, catalogue.clone());
            }
            catalogue
        });
    Gathered {
        catalogue,
        report,
        errors: parts.into_iter().filter_map(|part| part.error).collect(),
    }
}

/// Answers one page of a merged list.
pub(super) fn page<T: Listed>(
    gathered: Gathered<T>,
    cursor: Option<&str>,
    rules: &Rules,
) -> Result<McpResponse, Error> {
    let catalogue = gathered.catalogue;
    let start = match cursor {
        Some(cursor) => Cursor::read(cursor)?.position(&catalogue),
        None => 0,
    };
    let mut items = Vec::new();
    let mut next = None;
    for (index, entry) in catalogue.entries.iter().enumerate().skip(start) {
        if !entry.shown {
            continue;
        }
        if items.len() == rules.page_size {
            next = index
                .checked_sub(1)
                .and_then(|last| Cursor::at(&catalogue, last));
            break;
        }
        items.push(entry.item.clone());
    }
    let mut meta = catalogue.meta.clone();
    let report = gathered.report;
    for (key, members) in [("stale", &report.stale), ("missing", &report.missing)] {
        if !members.is_empty() {
            let members = members.iter().map(|name| Value::from(&**name)).collect();
            let meta = meta.get_or_insert_default();
            meta.insert(format!("rmcp-layers/{key}"), Value::Array(members));
        }
    }
    // A caller had better ask again soon.
    let ttl_ms = match report == ListReport::default() {
        true => catalogue.ttl_ms,
        false => catalogue.ttl_ms.map(|_| 0),
    };
    let mut response = McpResponse::new(T::answer(Page {
        items,
        next_cursor: next,
        ttl_ms,
        cache_scope: catalogue.cache_scope,
        meta,
    }));
    response.extensions.insert(report);
    if let Some(private) = &catalogue.private {
        response.mark_private_to(private);
    }
    Ok(response)
}

/// A place in a merged list: after one thing of one member. It needs no key and outlives a restart, and
/// what other members do does not move it.
struct Cursor {
    priority: i32,
    place: u64,
    /// How many of the member's things come before.
    offset: usize,
    after: String,
}

impl Cursor {
    fn at<T: Listed>(catalogue: &Catalogue<T>, index: usize) -> Option<String> {
        let last = catalogue.entries.get(index)?;
        let first = catalogue
            .entries
            .iter()
            .position(|entry| entry.seat.id == last.seat.id)?;
        Some(format!(
            "{}:{}:{}:{}",
            last.seat.priority,
            last.seat.place,
            index + 1 - first,
            last.inner
        ))
    }

    fn read(cursor: &str) -> Result<Self, Error> {
        let mut parts = cursor.splitn(4, ':');
        let mut part = || parts.next();
        let read = (|| {
            Some(Self {
                priority: part()?.parse().ok()?,
                place: part()?.parse().ok()?,
                offset: part()?.parse().ok()?,
                after: part()?.to_owned(),
            })
        })();
        read.ok_or_else(|| ErrorData::invalid_params("Invalid cursor", None).into())
    }

    /// Where the next page begins.
    fn position<T: Listed>(&self, catalogue: &Catalogue<T>) -> usize {
        let order = |entry: &Entry<T>| (std::cmp::Reverse(entry.seat.priority), entry.seat.place);
        let here = (std::cmp::Reverse(self.priority), self.place);
        let start = catalogue
            .entries
            .partition_point(|entry| order(entry) < here);
        let end = catalogue
            .entries
            .partition_point(|entry| order(entry) <= here);
        let own = catalogue.entries.get(start..end).unwrap_or_default();
        match own.iter().position(|entry| *entry.inner == *self.after) {
            Some(found) => start + found + 1,
            None => start + self.offset.min(own.len()),
        }
    }
}
