//! The answers that several processes share.
//!
//! The shared store stands behind the memory of each process: it is asked by whoever leads a flight, and told
//! afterwards. Four *generations*, random numbers in the store, say what is outdated: an answer is stored with those
//! that it was asked under, and holds as long as they are the same. To invalidate is to put another number there. So
//! nothing has to be found in the store to be forgotten, an answer that was in flight meanwhile is outdated as it
//! arrives, and each process that sees another number forgets what it has in memory too.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
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
    entry::{Concerned, Entry, Subject},
    rules::Group,
    state::Core,
};
use crate::{
    Audience,
    store::{Store, StoreError, Stored},
};

/// How long the store is left alone after it failed.
const LEFT_ALONE: Duration = Duration::from_secs(1);
/// A failing store is warned of this often at most.
const WARNED: Duration = Duration::from_secs(30);
/// How often a process looks whether another one has invalidated something.
const LOOK: Duration = Duration::from_secs(1);
/// How many answers are being stored at once. Those beyond are not.
const MAX_WRITES: usize = 64;

/// What is invalidated together in the store.
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

/// The generations that an answer of one kind was asked under: those of everything, and of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generations(pub [u128; 2]);

pub(super) struct Remote {
    store: Arc<dyn Store>,
    patience: Duration,
    writes: Arc<Semaphore>,
    failures: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    alone_until: Option<Instant>,
    warned: Option<Instant>,
    groups: [Generation; COUNT],
}

#[derive(Clone, Copy, Default)]
struct Generation {
    /// What was in the store when it was last seen there.
    seen: Option<u128>,
    /// How often it is to be put anew, and how often it was.
    wanted: u64,
    done: u64,
}

/// What the store has for a request.
#[derive(Default)]
pub(super) struct Looked {
    pub entry: Option<codec::Read>,
    /// With what the answer may be stored. Nothing while the store is not to be used.
    pub generations: Option<Generations>,
}

impl Remote {
    pub fn new(store: Arc<dyn Store>, patience: Duration) -> Self {
        Self {
            store,
            patience,
            writes: Arc::new(Semaphore::new(MAX_WRITES)),
            failures: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the store says, if it says anything in time. After a failure it is left alone for a while, so that
    /// nobody waits for it.
    async fn ask<T, F>(&self, ask: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let now = Instant::now();
        if self.state().alone_until.is_some_and(|until| now < until) {
            return None;
        }
        let error = match timeout(self.patience, ask()).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => error,
            Err(_) => StoreError::new(format!("no answer within {:?}", self.patience)),
        };
        self.failures.fetch_add(1, Ordering::Relaxed);
        tracing::event!(
            target: "rmcp_layers::cache",
            tracing::Level::TRACE,
            monotonic_counter.mcp.cache.store_failures = 1_u64,
        );
        let now = Instant::now();
        let mut state = self.state();
        state.alone_until = now.checked_add(LEFT_ALONE);
        let warned = state.warned.is_some_and(|at| now < at + WARNED);
        if !warned {
            state.warned = Some(now);
        }
        drop(state);
        if !warned {
            tracing::warn!(target: "rmcp_layers::cache", %error, "the shared store fails: answers are fetched instead");
        }
        None
    }

    /// Looks for an answer to this request, the caller's own or everybody's.
    pub async fn look(&self, core: &Core, subject: &Subject, wanted: bool) -> Looked {
        let mut keys: Vec<_> = NAMES.map(|name| name.as_bytes().to_vec()).to_vec();
        let public = subject.kind.has_scope().then(|| Subject {
            audience: Audience::everybody(),
            key: subject.key.for_everybody(&core.shared.hasher),
            ..subject.clone()
        });
        let subjects: Vec<_> = std::iter::once(subject).chain(&public).collect();
        if wanted {
            keys.extend(subjects.iter().map(|subject| codec::name(subject)));
        }
        // Once more if the generations are new, or were to be made so.
        for _ in 0..2 {
            if !self.is_settled() {
                self.settle().await;
            }
            let Some(found) = self.ask(|| self.store.get(&keys)).await else {
                break;
            };
            let mut found = found.into_iter();
            let seen: Vec<_> = found.by_ref().take(COUNT).map(generation).collect();
            let Some(current) = self.see(core, &seen) else {
                continue;
            };
            let under = Generations([current[ALL], current[index(subject.kind.group())]]);
            let limit = core.shared.rules.max_item_bytes;
            let entry = found
                .zip(subjects)
                .find_map(|(stored, subject)| codec::read(&stored?, subject, under, limit));
            return Looked {
                entry,
                generations: Some(under),
            };
        }
        Looked::default()
    }

    /// Notes the generations in the store, and forgets what is outdated by them. Nothing if they are not to be used.
    fn see(&self, core: &Core, seen: &[Option<u128>]) -> Option<[u128; COUNT]> {
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
                    // Nobody knows what was there before.
                    generation.wanted += 1;
                }
            }
            usable &= generation.wanted == generation.done;
        }
        drop(state);
        for (at, outdated) in outdated.iter().enumerate() {
            if *outdated {
                core.shared.forget(&concerned_by(at));
            }
        }
        usable.then_some(current)
    }

    /// Whether the store knows of everything that was invalidated here.
    fn is_settled(&self) -> bool {
        let state = self.state();
        state.groups.iter().all(|group| group.wanted == group.done)
    }

    /// Notes that something is outdated. Until the store knows, it is not used.
    pub fn invalidate(&self, concerned: &Concerned<'_>) {
        let at = match concerned {
            Concerned::Group { group, .. } | Concerned::Groups(group) => index(*group),
            Concerned::Tool(_) => index(Group::Tools),
            Concerned::Resource { .. } => index(Group::Resources),
            Concerned::All | Concerned::Audience(_) | Concerned::Request { .. } => ALL,
        };
        self.state().groups[at].wanted += 1;
    }

    /// Tells the store what is outdated, if it can be reached.
    pub async fn settle(&self) {
        for at in 0..COUNT {
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
            let set = || self.store.set(NAMES[at].as_bytes(), value, None);
            if self.ask(set).await.is_none() {
                return;
            }
            let mut state = self.state();
            let group = &mut state.groups[at];
            group.done = group.done.max(wanted);
            // What was in memory went when it was invalidated. Should somebody else have put another one there in
            // between, the next look finds that.
            group.seen = Some(fresh);
        }
    }

    /// Stores an answer, later.
    pub fn put(
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
            let Some(value) = codec::write(&entry, private, under) else {
                return;
            };
            let name = codec::name(&entry.subject);
            let set = remote.ask(|| remote.store.set(&name, value, Some(left)));
            stop.run_until_cancelled(set).await;
        });
    }

    /// Looks again and again whether another process has invalidated something.
    pub async fn follow(&self, core: &Core) {
        let keys: Vec<_> = NAMES.map(|name| name.as_bytes().to_vec()).to_vec();
        loop {
            tokio::time::sleep(LOOK).await;
            if !self.is_settled() {
                self.settle().await;
            }
            if let Some(found) = self.ask(|| self.store.get(&keys)).await {
                let seen: Vec<_> = found.into_iter().map(generation).collect();
                self.see(core, &seen);
            }
        }
    }
}

/// The generation that is stored, if it is one.
fn generation(stored: Option<Stored>) -> Option<u128> {
    Some(u128::from_be_bytes(stored?.value.try_into().ok()?))
}

fn concerned_by(at: usize) -> Concerned<'static> {
    let groups = [Group::Tools, Group::Prompts, Group::Resources];
    match groups.into_iter().find(|group| index(*group) == at) {
        Some(group) => Concerned::Groups(group),
        None => Concerned::All,
    }
}
