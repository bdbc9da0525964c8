//! The shared store: cache entries that several processes share.
//!
//! The store stands behind the memory of each process. The leader of a fetch reads it first and
//! writes to it afterwards.
//!
//! Four *generations*, random numbers in the store, mark outdated entries. An entry is stored with
//! the generations that were current at its request, and is valid while they are the same. An
//! invalidation replaces a generation with a new number, so no entry has to be found in the store.
//! A response that was in flight meanwhile is outdated on arrival. Each process that sees a new
//! number also invalidates its memory.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{
    codec,
    entry::{Entry, Selection, Subject},
    rules::Group,
    state::Core,
};
use crate::{
    Audience,
    store::{Store, StoreError, Stored},
    util::{lock, log_limit::LogLimit, metrics::count},
};

/// Time for which the store is not used after a failure.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Minimum time between two warnings about a failing store.
const WARNING_INTERVAL: Duration = Duration::from_secs(30);
/// Interval at which a process looks for invalidations of other processes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of writes at once. Further ones are skipped.
const MAX_WRITES: usize = 64;

/// Index of the generation that covers all entries.
const ALL: usize = 0;
const COUNT: usize = 4;

fn index(group: Group) -> usize {
    match group {
        Group::Server => ALL,
        Group::Tools => 1,
        Group::Prompts => 2,
        Group::Resources => 3,
    }
}

const NAMES: [&str; COUNT] = ["g:all", "g:tools", "g:prompts", "g:resources"];

/// The generations at the time of a request: the one of all entries, and the one of the request's
/// group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generations(pub [u128; 2]);

pub(super) struct Remote {
    store: Arc<dyn Store>,
    patience: Duration,
    writes: Arc<Semaphore>,
    failures: AtomicU64,
    warnings: LogLimit,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    paused_until: Option<Instant>,
    groups: [Generation; COUNT],
}

#[derive(Clone, Copy, Default)]
struct Generation {
    /// The value when the store was last read.
    seen: Option<u128>,
    /// Number of replacements that were requested; `done` counts those that were written.
    wanted: u64,
    done: u64,
}

/// The result of a lookup in the store.
#[derive(Default)]
pub(super) struct Lookup {
    pub entry: Option<codec::StoredEntry>,
    /// The generations to store the response with, or `None` while the store is not usable.
    pub generations: Option<Generations>,
}

impl Remote {
    pub(super) fn new(store: Arc<dyn Store>, patience: Duration) -> Self {
        Self {
            store,
            patience,
            writes: Arc::new(Semaphore::new(MAX_WRITES)),
            failures: AtomicU64::new(0),
            warnings: LogLimit::every(WARNING_INTERVAL),
            state: Mutex::default(),
        }
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Runs a store operation, and returns `None` if it fails or takes too long. After a failure
    /// the store is skipped for a while, so that callers do not wait for it.
    async fn ask<T, F>(&self, ask: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let now = Instant::now();
        if self.state().paused_until.is_some_and(|until| now < until) {
            return None;
        }
        let error = match timeout(self.patience, ask()).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => error,
            Err(_) => StoreError::new(format!("no answer within {:?}", self.patience)),
        };
        self.failures.fetch_add(1, Ordering::Relaxed);
        count!(cache.store_failures, 1_u64);
        self.state().paused_until = Instant::now().checked_add(PAUSE_AFTER_FAILURE);
        if self.warnings.count(1).is_some() {
            tracing::warn!(%error, "the shared store failed, and is not used for a while");
        }
        None
    }

    /// Looks up an entry for this request, the caller's own or a public one.
    pub(super) async fn lookup(&self, core: &Core, subject: &Subject, wanted: bool) -> Lookup {
        let mut keys: Vec<_> = NAMES.map(|name| name.as_bytes().to_vec()).to_vec();
        let public = subject.method.has_cache_hints().then(|| Subject {
            audience: Audience::everybody(),
            key: subject.key.for_everybody(&core.shared.hasher),
            ..subject.clone()
        });
        let subjects: Vec<_> = std::iter::once(subject).chain(&public).collect();
        if wanted {
            keys.extend(subjects.iter().map(|subject| codec::store_key(subject)));
        }
        // Tried a second time if the generations were missing or about to be replaced.
        for _ in 0..2 {
            if !self.is_written() {
                self.write_invalidations().await;
            }
            let Some(found) = self.ask(|| self.store.get(&keys)).await else {
                break;
            };
            let mut found = found.into_iter();
            let seen: Vec<_> = found.by_ref().take(COUNT).map(generation).collect();
            let Some(current) = self.apply_generations(core, &seen) else {
                continue;
            };
            let under = Generations([
                current[ALL],
                current[Group::of(subject.method).map_or(ALL, index)],
            ]);
            let limit = core.shared.rules.max_item_bytes;
            let entry = found
                .zip(subjects)
                .find_map(|(stored, subject)| codec::decode(&stored?, subject, under, limit));
            return Lookup {
                entry,
                generations: Some(under),
            };
        }
        Lookup::default()
    }

    /// Notes the generations in the store and invalidates the memory that they make outdated.
    /// Returns `None` if the generations are not usable.
    fn apply_generations(&self, core: &Core, seen: &[Option<u128>]) -> Option<[u128; COUNT]> {
        let mut current = [0; COUNT];
        let mut usable = seen.len() == COUNT;
        let mut outdated = [false; COUNT];
        let mut state = self.state();
        for (at, generation) in state.groups.iter_mut().enumerate() {
            match seen.get(at).copied().flatten() {
                Some(now) => {
                    outdated[at] = generation.seen.is_some_and(|before| before != now);
                    generation.seen = Some(now);
                    current[at] = now;
                }
                None => {
                    // The earlier number is unknown, so a new one is written.
                    generation.wanted += 1;
                }
            }
            usable &= generation.wanted == generation.done;
        }
        drop(state);
        for (at, outdated) in outdated.iter().enumerate() {
            if *outdated {
                core.shared.invalidate_memory(&selection_of(at));
            }
        }
        usable.then_some(current)
    }

    /// Returns `true` if all invalidations of this process have reached the store.
    fn is_written(&self) -> bool {
        let state = self.state();
        state.groups.iter().all(|group| group.wanted == group.done)
    }

    /// Notes an invalidation. The store is not used until it has been written there.
    pub(super) fn invalidate(&self, selection: &Selection<'_>) {
        let at = match selection {
            Selection::Group { group, .. } | Selection::Groups(group) => index(*group),
            Selection::Tool(_) => index(Group::Tools),
            Selection::Resource { .. } => index(Group::Resources),
            Selection::All | Selection::Audience(_) | Selection::Request { .. } => ALL,
        };
        self.state().groups[at].wanted += 1;
    }

    /// Writes pending invalidations to the store, if it can be reached.
    pub(super) async fn write_invalidations(&self) {
        for (at, name) in NAMES.iter().enumerate() {
            let wanted = {
                let state = self.state();
                let group = state.groups[at];
                if group.wanted == group.done {
                    continue;
                }
                group.wanted
            };
            let fresh: u128 = rand::random();
            let value = fresh.to_be_bytes().to_vec();
            let set = || self.store.set(name.as_bytes(), value, None);
            if self.ask(set).await.is_none() {
                return;
            }
            let mut state = self.state();
            let group = &mut state.groups[at];
            group.done = group.done.max(wanted);
            // The memory was invalidated before. If another process has written a different number
            // meanwhile, the next lookup finds it.
            group.seen = Some(fresh);
        }
    }

    /// Stores an entry in the background.
    pub(super) fn put(
        self: &Arc<Self>,
        core: &Core,
        entry: Arc<Entry>,
        private: bool,
        under: Generations,
    ) {
        let Ok(permit) = self.writes.clone().try_acquire_owned() else {
            return;
        };
        let (remote, stop) = (self.clone(), core.stop.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let left = entry.fresh_for.saturating_sub(entry.age(Instant::now()));
            let Some(value) = codec::encode(&entry, private, under) else {
                return;
            };
            let name = codec::store_key(&entry.subject);
            let set = remote.ask(|| remote.store.set(&name, value, Some(left)));
            stop.run_until_cancelled(set).await;
        });
    }

    /// Polls for invalidations of other processes.
    pub(super) async fn poll(&self, core: &Core) {
        let keys: Vec<_> = NAMES.map(|name| name.as_bytes().to_vec()).to_vec();
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            if !self.is_written() {
                self.write_invalidations().await;
            }
            if let Some(found) = self.ask(|| self.store.get(&keys)).await {
                let seen: Vec<_> = found.into_iter().map(generation).collect();
                self.apply_generations(core, &seen);
            }
        }
    }
}

/// Parses a stored generation.
fn generation(stored: Option<Stored>) -> Option<u128> {
    Some(u128::from_be_bytes(stored?.value.try_into().ok()?))
}

fn selection_of(at: usize) -> Selection<'static> {
    let groups = [Group::Tools, Group::Prompts, Group::Resources];
    match groups.into_iter().find(|group| index(*group) == at) {
        Some(group) => Selection::Groups(group),
        None => Selection::All,
    }
}
