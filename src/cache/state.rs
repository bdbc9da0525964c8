//! State that the clones of a cache share.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use lru::LruCache;
use rmcp::model::ServerNotification;
use siphasher::sip128::SipHasher13;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    counters::{Counters, Event},
    entry::{Entry, Selection, Subject},
    memory::Memory,
    plan::{Plan, UNVERSIONED},
    remote::Remote,
    rules::{Group, Rules},
    single_flight::SingleFlight,
    watched_resources::WatchedResources,
};
use crate::{
    Audience, McpRequest, McpResponse, ToolHints,
    context::tool_hints::{Asked, KnownHints},
    protocol::{methods::Method, notifications::Change},
    util::lock,
};

/// Limits of the memory for requests whose responses are for their callers only.
const MAX_UNSHARED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1_023);
const UNSHARED_FOR: Duration = Duration::from_secs(10);
/// Maximum number of background fetches at once. Beyond it, the next request tries again.
const MAX_REFRESHES: usize = 64;

/// State of all stacks under one layer and of its handles.
pub(super) struct Shared {
    pub rules: Rules,
    pub memory: Memory,
    pub single_flight: Arc<SingleFlight>,
    pub counters: Counters,
    pub hasher: SipHasher13,
    /// Requests whose responses were for their callers only: equal requests do not wait for each
    /// other.
    unshared: Mutex<LruCache<u128, Instant>>,
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
    pub started: StartedTasks,
    /// The resources to listen for.
    pub watched: WatchedResources,
}

/// The background tasks that have been started.
#[derive(Default)]
pub(super) struct StartedTasks {
    pub polls_store: AtomicBool,
    /// One for each era: callers before 2026-07-28, and others.
    pub listens: [AtomicBool; 2],
}

impl Shared {
    pub(super) fn new(rules: Rules, memory: Memory, remote: Option<Remote>) -> Self {
        Self {
            rules,
            memory,
            single_flight: Arc::default(),
            counters: Counters::default(),
            hasher: SipHasher13::new_with_keys(rand::random(), rand::random()),
            unshared: Mutex::new(LruCache::new(MAX_UNSHARED)),
            refreshes: Arc::new(Semaphore::new(MAX_REFRESHES)),
            next_stack: AtomicU32::new(0),
            remote: remote.map(Arc::new),
        }
    }

    /// Invalidates the matching entries, here and in the shared store.
    pub(super) fn invalidate(&self, selection: &Selection<'_>) -> u64 {
        if let Some(remote) = &self.remote {
            remote.invalidate(selection);
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                let remote = remote.clone();
                runtime.spawn(async move { remote.write_invalidations().await });
            }
        }
        self.invalidate_memory(selection)
    }

    /// Invalidates the matching entries in memory and the matching fetches.
    pub(super) fn invalidate_memory(&self, selection: &Selection<'_>) -> u64 {
        // Fetches come first: a response is then either in memory already, or sees that it is
        // outdated.
        self.single_flight.invalidate(selection);
        let count = self.memory.invalidate(selection);
        self.counters.count(Event::Invalidation, "", count);
        count
    }

    pub(super) fn is_unshared(&self, hash: u128) -> bool {
        let unshared = lock(&self.unshared);
        let since = unshared.peek(&hash);
        since.is_some_and(|since| since.elapsed() < UNSHARED_FOR)
    }

    pub(super) fn set_unshared(&self, hash: u128, is_unshared: bool) {
        let mut unshared = lock(&self.unshared);
        if is_unshared {
            unshared.put(hash, Instant::now());
        } else if !unshared.is_empty() {
            unshared.pop(&hash);
        }
    }

    /// Removes an entry that can no longer be used.
    pub(super) fn drop_expired(&self, entry: &Arc<Entry>, now: Instant) {
        if entry.age(now) >= entry.fresh_for.saturating_add(self.rules.grace()) {
            self.memory.remove(entry);
            let method = entry.subject.method.name();
            self.counters.count(Event::Eviction, method, 1);
        }
    }
}

impl Core {
    /// Returns `true` if the tool hints have not changed since the entry was last checked.
    pub(super) fn is_checked(&self, request: &McpRequest, entry: &Entry) -> bool {
        request.context.extensions.get::<ToolHints>().is_none()
            && entry.checked.load(Ordering::Relaxed) == self.hints.version()
    }

    /// Sets the time to live of the response. Returns `None` if it may not be cached at all.
    pub(super) fn set_time_to_live(
        &self,
        plan: &mut Plan,
        request: &McpRequest,
        audience: &Audience,
    ) -> Option<()> {
        let rules = &self.shared.rules;
        let Some(call) = request.as_tool_call() else {
            plan.ttl = rules.ttl_without_hints(plan.method);
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

    pub(super) fn count(&self, event: Event, method: Method) {
        self.shared.counters.count(event, method.name(), 1);
    }

    pub(super) fn subject(
        &self,
        method: Method,
        request: &McpRequest,
        audience: Audience,
        key: super::key::Key,
    ) -> Subject {
        Subject {
            stack: self.number,
            method,
            target: request.target().unwrap_or_default().into(),
            audience,
            key,
        }
    }

    /// Learns tool hints from the response to a list request.
    pub(super) fn learn(&self, asked: Option<&Asked>, response: Option<&McpResponse>) {
        if let (Some(asked), Some(response)) = (asked, response) {
            self.hints.learn(asked, response);
        }
    }

    /// Invalidates the entries that a server's notification covers.
    pub(super) fn apply_change(&self, notification: &ServerNotification) {
        let group = |group| {
            self.shared.invalidate(&Selection::Group {
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
                    self.shared.invalidate(&Selection::Resource {
                        stack: Some(self.number),
                        uri: &update.params.uri,
                    });
                }
            }
        }
    }
}
