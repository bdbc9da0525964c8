//! State that the clones of a cache share.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use lru::LruCache;
use rmcp::model::{ServerNotification, ServerResult};
use siphasher::sip128::SipHasher13;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    codec,
    counters::{Counters, Event},
    entry::{Concerned, Entry, Subject, size_of},
    memory::Memory,
    remote::{Generations, Remote},
    rules::{Group, Rules, said},
    single_flight::{Flights, Lead, Phase},
    status::{Directives, report},
    watched_resources::Watched,
};
use crate::{
    Audience, CacheStatus, CallContext, Error, McpRequest, McpResponse, Outcome, ToolHints,
    context::tool_hints::{Asked, KnownHints},
    protocol::{methods::Method, notifications::Change},
    util::lock,
};

/// Limits of the memory for requests whose responses are for their callers only.
const MAX_APART: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1_023);
const APART_FOR: Duration = Duration::from_secs(10);
/// Maximum number of background fetches at once. Beyond it, the next request tries again.
const MAX_REFRESHES: usize = 64;

pub(super) type Answer = Result<McpResponse, Error>;

/// State of all stacks under one layer and of its handles.
pub(super) struct Shared {
    pub rules: Rules,
    pub memory: Memory,
    pub flights: Arc<Flights>,
    pub counters: Counters,
    pub hasher: SipHasher13,
    /// Requests whose responses were for their callers only: equal requests do not wait for each
    /// other.
    apart: Mutex<LruCache<u128, Instant>>,
    pub refreshes: Arc<Semaphore>,
    pub next_stack: AtomicU32,
    /// The store that is shared with other processes.
    pub remote: Option<Arc<Remote>>,
}

/// State of one stack under the layer.
pub(super) struct Core {
    pub shared: Arc<Shared>,
    pub number: u32,
    pub hints: KnownHints,
    /// Cancelled when the last clone of the service is dropped.
    pub stop: CancellationToken,
    /// The background tasks that have been started.
    pub begun: Begun,
    /// The resources to listen for.
    pub watched: Watched,
}

/// The background tasks that have been started.
#[derive(Default)]
pub(super) struct Begun {
    pub follows: AtomicBool,
    /// One for each era: callers before 2026-07-28, and others.
    pub listens: [AtomicBool; 2],
}

/// The rules for one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub kind: Method,
    pub directives: Directives,
    /// The time to live without cache hints of the server.
    pub ttl: Option<Duration>,
    /// The version of the hints by which the tool is safe.
    pub checked: u64,
}

/// Stands for hints that came with the request and have no version.
const UNVERSIONED: u64 = u64::MAX;

impl Plan {
    /// Returns the plan by the request's own directives. Its time to live is
    /// [settled](Core::settle) later.
    pub fn of(kind: Method, request: &McpRequest) -> Self {
        Self {
            kind,
            directives: Directives::of(&request.context.meta),
            ttl: None,
            checked: UNVERSIONED,
        }
    }

    /// Returns the status of a hit if the entry is usable for this request.
    pub fn takes(&self, entry: &Entry, now: Instant) -> Option<CacheStatus> {
        let status = entry.status(now)?;
        (self.is_young(entry, now) && !self.directives.no_cache).then_some(status)
    }

    /// Returns `true` if the entry is within the request's `max-age`.
    pub fn is_young(&self, entry: &Entry, now: Instant) -> bool {
        let most = self.directives.max_age;
        most.is_none_or(|most| entry.age(now) <= most)
    }

    /// Returns `true` if an entry that expired less than `grace` ago is usable for this request.
    pub fn takes_stale(&self, entry: &Entry, now: Instant, grace: Duration) -> bool {
        let Directives {
            no_cache, max_age, ..
        } = self.directives;
        !no_cache && max_age.is_none() && entry.age(now) < entry.fresh_for.saturating_add(grace)
    }
}

impl Shared {
    pub fn new(rules: Rules, memory: Memory, remote: Option<Remote>) -> Self {
        Self {
            rules,
            memory,
            flights: Arc::default(),
            counters: Counters::default(),
            hasher: SipHasher13::new_with_keys(rand::random(), rand::random()),
            apart: Mutex::new(LruCache::new(MAX_APART)),
            refreshes: Arc::new(Semaphore::new(MAX_REFRESHES)),
            next_stack: AtomicU32::new(0),
            remote: remote.map(Arc::new),
        }
    }

    /// Invalidates the matching entries, here and in the shared store.
    pub fn invalidate(&self, concerned: &Concerned<'_>) -> u64 {
        if let Some(remote) = &self.remote {
            remote.invalidate(concerned);
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                let remote = remote.clone();
                runtime.spawn(async move { remote.settle().await });
            }
        }
        self.forget(concerned)
    }

    /// Invalidates the matching entries in memory and the matching fetches.
    pub fn forget(&self, concerned: &Concerned<'_>) -> u64 {
        // Fetches come first: a response is then either in memory already, or sees that it is
        // outdated.
        self.flights.invalidate(concerned);
        let count = self.memory.invalidate(concerned);
        self.counters.count(Event::Invalidation, "", count);
        count
    }

    pub fn is_apart(&self, hash: u128) -> bool {
        let mut apart = lock(&self.apart);
        match apart.get(&hash) {
            Some(since) if since.elapsed() < APART_FOR => true,
            Some(_) => {
                apart.pop(&hash);
                false
            }
            None => false,
        }
    }

    fn set_apart(&self, hash: u128, is_apart: bool) {
        let mut apart = lock(&self.apart);
        if is_apart {
            apart.put(hash, Instant::now());
        } else if !apart.is_empty() {
            apart.pop(&hash);
        }
    }

    /// Removes an entry that can no longer be used.
    pub fn drop_expired(&self, entry: &Arc<Entry>, now: Instant) {
        if entry.age(now) >= entry.fresh_for.saturating_add(self.rules.grace()) {
            self.memory.remove(entry);
            let method = entry.subject.kind.name();
            self.counters.count(Event::Eviction, method, 1);
        }
    }
}

impl Core {
    /// Returns `true` if the tool hints have not changed since the entry was last checked.
    pub fn is_checked(&self, request: &McpRequest, entry: &Entry) -> bool {
        request.context.extensions.get::<ToolHints>().is_none()
            && entry.checked.load(Ordering::Relaxed) == self.hints.version()
    }

    /// Sets the time to live of the response. Returns `None` if it may not be cached at all.
    pub fn settle(&self, plan: &mut Plan, request: &McpRequest, audience: &Audience) -> Option<()> {
        let rules = &self.shared.rules;
        let Some(call) = request.as_tool_call() else {
            plan.ttl = rules.silent_ttl(plan.kind);
            return Some(());
        };
        plan.checked = match request.context.extensions.get::<ToolHints>() {
            Some(_) => UNVERSIONED,
            None => self.hints.version(),
        };
        let hints = || self.hints.of_call(audience, request);
        plan.ttl = Some(rules.tool_ttl(&call.name, hints)?);
        Some(())
    }

    pub fn count(&self, event: Event, kind: Method) {
        self.shared.counters.count(event, kind.name(), 1);
    }

    pub fn subject(
        &self,
        kind: Method,
        request: &McpRequest,
        audience: Audience,
        key: super::key::Key,
    ) -> Subject {
        Subject {
            stack: self.number,
            kind,
            target: request.target().unwrap_or_default().into(),
            audience,
            key,
        }
    }

    /// Learns tool hints from the response to a list request.
    pub fn learn(&self, asked: Option<&Asked>, response: Option<&McpResponse>) {
        if let (Some(asked), Some(response)) = (asked, response) {
            self.hints.learn(asked, response);
        }
    }

    /// Invalidates the entries that a server's notification covers.
    pub fn heard(&self, notification: &ServerNotification) {
        let group = |group| {
            self.shared.invalidate(&Concerned::Group {
                stack: self.number,
                group,
            });
        };
        match Change::of(notification) {
            Some(Change::Tools) => {
                self.hints.forget();
                group(Group::Tools);
            }
            Some(Change::Prompts) => group(Group::Prompts),
            Some(Change::Resources) => group(Group::Resources),
            None => {
                if let ServerNotification::ResourceUpdatedNotification(update) = notification {
                    self.shared.invalidate(&Concerned::Resource {
                        stack: Some(self.number),
                        uri: &update.params.uri,
                    });
                }
            }
        }
    }

    /// Processes the outcome of a fetch.
    pub fn conclude(
        &self,
        lead: Lead,
        plan: &Plan,
        answer: Answer,
        fetched: &Fetched<'_>,
    ) -> Answer {
        match answer {
            Ok(response) => Ok(self.land(lead, plan, response, fetched)),
            Err(error) => {
                let rules = &self.shared.rules;
                let told = rules.share_errors && !error.is_cancelled() && !error.is_timeout();
                lead.end(Phase::Failed(told.then(|| error.clone())));
                match fetched.stale {
                    Some(stale) if self.bridges(plan, stale, &error) => {
                        Ok(self.stale(stale, Instant::now()))
                    }
                    _ => Err(error),
                }
            }
        }
    }

    /// Returns `true` if an expired entry may replace this failure.
    fn bridges(&self, plan: &Plan, stale: &Entry, error: &Error) -> bool {
        let outcome = Outcome::of_error(error);
        let speaks_of_upstream = outcome.counts_against() || error.is_not_delivered();
        speaks_of_upstream
            && plan.takes_stale(stale, Instant::now(), self.shared.rules.stale_if_error)
    }

    pub fn hit(&self, entry: &Entry, status: CacheStatus) -> McpResponse {
        let event = match status {
            CacheStatus::Hit { .. } => Event::Hit,
            CacheStatus::Stale { .. } => Event::Stale,
            CacheStatus::Shared => Event::Shared,
            CacheStatus::Miss => Event::Miss,
        };
        self.count(event, entry.subject.kind);
        entry.response(status, self.shared.rules.report_in_meta)
    }

    pub fn stale(&self, entry: &Entry, now: Instant) -> McpResponse {
        let age = entry.age(now);
        self.hit(entry, CacheStatus::Stale { age })
    }

    /// Caches a response as far as allowed, and hands it to all followers.
    fn land(
        &self,
        lead: Lead,
        plan: &Plan,
        mut response: McpResponse,
        fetched: &Fetched<'_>,
    ) -> McpResponse {
        let asked = fetched.asked_caller;
        let kept = match self.reach(lead.subject(), plan, &mut response, asked) {
            Reach::Alone { again } => {
                self.shared.set_apart(lead.subject().key.hash, again);
                lead.end(Phase::Apart);
                None
            }
            Reach::Waiting => Some((lead, Duration::ZERO, false)),
            Reach::Later { fresh_for, public } => Some((lead, fresh_for, public)),
        };
        if let Some((lead, fresh_for, public)) = kept {
            let entry = self.entry(&lead, plan, &response, fresh_for, public);
            if self.keep(&entry, &lead)
                && let (Some(remote), Some(under)) = (&self.shared.remote, fetched.generations)
            {
                let private = !response.is_for(&Audience::everybody());
                remote.put(self, entry.clone(), private, under);
            }
            lead.end(Phase::Landed(entry));
        }
        if response.report.cache_status.is_none() {
            response.report.cache_status = Some(CacheStatus::Miss);
            if self.shared.rules.report_in_meta {
                report(CacheStatus::Miss, &mut response.result);
            }
        }
        response
    }

    fn entry(
        &self,
        lead: &Lead,
        plan: &Plan,
        response: &McpResponse,
        fresh_for: Duration,
        public: bool,
    ) -> Arc<Entry> {
        let shared = &self.shared;
        let mut subject = lead.subject().clone();
        if public {
            subject.audience = Audience::everybody();
            subject.key = subject.key.for_everybody(&shared.hasher);
        }
        let limit = shared.rules.max_item_bytes;
        let size = size_of(&subject.key, &subject.target, &response.result, limit);
        Arc::new(Entry {
            fetch: lead.number(),
            result: response.result.clone(),
            extensions: response.extensions.clone(),
            report: response.report.for_cached_response(),
            stored: Instant::now(),
            fresh_for,
            size: size.unwrap_or(usize::MAX),
            checked: AtomicU64::new(plan.checked),
            subject,
        })
    }

    /// Inserts an entry into memory, if allowed. Returns `true` if it should also be stored for
    /// other processes.
    fn keep(&self, entry: &Arc<Entry>, lead: &Lead) -> bool {
        let shared = &self.shared;
        shared.set_apart(lead.subject().key.hash, false);
        if entry.size == usize::MAX || entry.fresh_for.is_zero() {
            return false;
        }
        let inserted = shared.memory.insert(entry.clone(), || !lead.is_outdated());
        let method = entry.subject.kind.name();
        shared
            .counters
            .count(Event::Eviction, method, inserted.evicted);
        if inserted.kept && entry.subject.kind == Method::ReadResource && shared.rules.watch_changes
        {
            let of_use = entry.fresh_for.saturating_add(shared.rules.grace());
            if let Some(until) = entry.stored.checked_add(of_use) {
                self.watched.want(&entry.subject.target, until);
            }
        }
        inserted.kept
    }

    /// Takes over an entry that another process stored.
    pub fn adopt(
        &self,
        lead: &Lead,
        plan: &Plan,
        read: codec::Read,
        context: &CallContext,
    ) -> Option<(Arc<Entry>, McpResponse)> {
        let mut response = McpResponse::new(read.result);
        if read.private {
            response.mark_private(context.principal()?);
        }
        let (limit, subject) = (self.shared.rules.max_item_bytes, read.subject);
        let size = size_of(&subject.key, &subject.target, &response.result, limit)?;
        let now = Instant::now();
        let age = read.fresh_for.saturating_sub(read.left);
        // The clock may have started after the entry was stored. The entry is then treated as new,
        // with the same expiry.
        let (stored, fresh_for) = match now.checked_sub(age) {
            Some(stored) => (stored, read.fresh_for),
            None => (now, read.left),
        };
        // The process that stored it may have a longer time to live than this one.
        let most = plan.ttl.unwrap_or(self.shared.rules.time_to_live);
        let fresh_for = fresh_for.min(most);
        let parts = response.into_parts();
        let entry = Arc::new(Entry {
            fetch: lead.number(),
            result: parts.result,
            extensions: parts.extensions,
            report: parts.report,
            stored,
            fresh_for,
            size,
            checked: AtomicU64::new(plan.checked),
            subject,
        });
        let status = plan.takes(&entry, now)?;
        self.keep(&entry, lead);
        self.count(Event::StoreHit, plan.kind);
        let response = self.hit(&entry, status);
        Some((entry, response))
    }

    /// Returns the callers that may receive a response.
    fn reach(
        &self,
        subject: &Subject,
        plan: &Plan,
        response: &mut McpResponse,
        asked_caller: bool,
    ) -> Reach {
        let outcome = Outcome::of_result(&response.result);
        let private = !response.is_for(&subject.audience);
        if asked_caller || private || !plan.kind.has_result(&response.result) {
            return Reach::Alone {
                again: asked_caller || private,
            };
        }
        if outcome == Outcome::ToolError && self.shared.rules.share_errors {
            return Reach::Waiting;
        }
        if !outcome.is_cacheable() {
            return Reach::Alone { again: false };
        }
        let public = plan.kind.has_cache_hints()
            && said(&mut response.result).1 == Some(rmcp::model::CacheScope::Public)
            && response.is_for(&Audience::everybody());
        match self.fresh_for(plan, &mut response.result) {
            Some(fresh_for) => Reach::Later { fresh_for, public },
            None => Reach::Alone { again: true },
        }
    }

    /// Returns the time for which the response is fresh: the operator's time to live, limited by
    /// the server's. A server's hint alone is enough for methods that have cache hints in the
    /// specification.
    fn fresh_for(&self, plan: &Plan, result: &mut ServerResult) -> Option<Duration> {
        let most = plan.ttl.unwrap_or(self.shared.rules.time_to_live);
        let ttl = match said(result).0 {
            Some(0) if self.shared.rules.zero_is_silence => plan.ttl?,
            Some(millis) => most.min(Duration::from_millis(*millis)),
            None => plan.ttl?,
        };
        (!ttl.is_zero()).then_some(ttl)
    }
}

/// Other facts about a fetch.
pub(super) struct Fetched<'a> {
    /// The server sent a request to the caller meanwhile.
    pub asked_caller: bool,
    /// The expired entry.
    pub stale: Option<&'a Arc<Entry>>,
    /// The generations to store the response with.
    pub generations: Option<Generations>,
}

/// The callers that may receive a response.
enum Reach {
    /// Its own caller. If `again`, the next response to the same request is expected to be private
    /// too.
    Alone { again: bool },
    /// The callers that wait for it.
    Waiting,
    /// All callers while it is fresh.
    Later { fresh_for: Duration, public: bool },
}
