//! A JWK set that is kept up to date.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jsonwebtoken::Algorithm;
use tokio::{sync::watch, time::Instant};

use super::{jwks::Jwks, keys::KeySet};
use crate::auth::{AuthError, memory::Memory};

/// How long a fetch may take.
const FETCH_WITHIN: Duration = Duration::from_secs(10);
/// How soon a fetch that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// What stands for a time that is too far off to be told.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

pub(super) struct Live {
    jwks: Jwks,
    allowed: Option<Vec<Algorithm>>,
    /// The keys beside those of the set, whose tokens are in the same memory.
    fixed: Arc<KeySet>,
    memory: Arc<Memory>,
    state: Mutex<State>,
    /// What times are counted from below.
    base: Instant,
    /// When the next fetch is due, in milliseconds since `base`.
    due: AtomicU64,
    /// When the set is too old to be believed.
    dead: AtomicU64,
}

#[derive(Default)]
struct State {
    keys: Arc<KeySet>,
    /// Counts the sets that differ from the one before.
    version: u64,
    /// A fetch that is under way: its end is the end of the channel.
    flight: Option<watch::Receiver<()>>,
    /// When the last fetch began.
    started: Option<Instant>,
    /// Until when unknown keys cause no fetch.
    cool_until: Option<Instant>,
}

/// A set, and which one it is.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub(super) keys: Arc<KeySet>,
    version: u64,
}

/// Why a fetch begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Age,
    UnknownKey,
}

impl Live {
    pub(super) fn new(
        jwks: Jwks,
        allowed: Option<Vec<Algorithm>>,
        fixed: Arc<KeySet>,
        memory: Arc<Memory>,
    ) -> Arc<Self> {
        Arc::new(Self {
            jwks,
            allowed,
            fixed,
            memory,
            state: Mutex::default(),
            base: Instant::now(),
            due: AtomicU64::new(0),
            dead: AtomicU64::new(0),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since_base(&self, time: Instant) -> u64 {
        let millis = time.saturating_duration_since(self.base).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX)
    }

    /// Whether a remembered token may be believed without a look at the set: it is young enough, and need not be
    /// fetched.
    pub(super) fn is_fresh(&self) -> bool {
        let now = self.since_base(Instant::now());
        now < self.due.load(Ordering::Acquire) && now < self.dead.load(Ordering::Acquire)
    }

    fn is_dead(&self, now: Instant) -> bool {
        self.since_base(now) >= self.dead.load(Ordering::Acquire)
    }

    /// The set as it is. Waits for a fetch only if there is none that can be believed.
    pub(super) async fn snapshot(self: &Arc<Self>) -> Result<Snapshot, AuthError> {
        let mut flight = {
            let mut state = self.state();
            let now = Instant::now();
            if self.since_base(now) >= self.due.load(Ordering::Acquire) && state.flight.is_none() {
                self.begin(&mut state, now, Cause::Age);
            }
            if !self.is_dead(now) {
                return Ok(state.snapshot());
            }
            state.flight.clone()
        };
        if let Some(flight) = &mut flight {
            // Nothing is ever sent: it ends when the fetch does.
            let _ = flight.changed().await;
        }
        let state = self.state();
        if self.is_dead(Instant::now()) {
            return Err(
                AuthError::unavailable("the issuer's keys cannot be fetched")
                    .with_retry_after(RETRY),
            );
        }
        Ok(state.snapshot())
    }

    /// Sees to a set that is newer than `seen`, for a token that names a key that is not in it. False if there is
    /// none to be had now.
    pub(super) async fn look_again(self: &Arc<Self>, seen: &Snapshot) -> bool {
        let mut flight = {
            let mut state = self.state();
            if state.version != seen.version {
                return true;
            }
            match &state.flight {
                Some(flight) => flight.clone(),
                None => {
                    let now = Instant::now();
                    if state.cool_until.is_some_and(|until| now < until) {
                        return false;
                    }
                    self.begin(&mut state, now, Cause::UnknownKey)
                }
            }
        };
        let _ = flight.changed().await;
        self.state().version != seen.version
    }

    /// Whether the last fetch may not show what was published at this time.
    pub(super) fn may_predate(&self, time: Instant) -> bool {
        self.state().started.is_none_or(|started| started <= time)
    }

    /// Begins a fetch, which nobody's going away ends.
    fn begin(
        self: &Arc<Self>,
        state: &mut State,
        now: Instant,
        cause: Cause,
    ) -> watch::Receiver<()> {
        let (over, flight) = watch::channel(());
        state.flight = Some(flight.clone());
        state.started = Some(now);
        let landing = Landing {
            live: self.clone(),
            cause,
            _over: over,
        };
        tokio::spawn(async move {
            let fetched = tokio::time::timeout(FETCH_WITHIN, (landing.live.jwks.fetch)()).await;
            let fetched = fetched.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            let allowed = landing.live.allowed.as_deref();
            let keys = fetched.and_then(|json| KeySet::parse(&json, allowed));
            landing.live.install(keys, now, landing.cause);
        });
        flight
    }

    fn install(&self, keys: Result<KeySet, String>, started: Instant, cause: Cause) {
        let mut state = self.state();
        let now = Instant::now();
        let wait = match keys {
            Ok(keys) => {
                let changed = !keys.is_same(&state.keys);
                if changed {
                    state.keys = Arc::new(keys);
                    state.version += 1;
                    // Before any later fetch, and under the lock: a token that is verified with a key that is
                    // gone is not remembered.
                    let keys = state.keys.clone();
                    self.memory
                        .forget(|key| keys.has(key) || self.fixed.has(key));
                } else if cause == Cause::UnknownKey {
                    state.cool_until = Some(after(now, self.jwks.cooldown));
                }
                let dead = self.since_base(after(started, self.jwks.stale_for));
                self.dead.store(dead, Ordering::Release);
                self.jwks.refresh_every
            }
            Err(reason) => {
                tracing::warn!(reason, "an issuer's keys cannot be fetched");
                let retry = RETRY.min(self.jwks.cooldown);
                state.cool_until = Some(now + retry);
                retry
            }
        };
        self.due
            .store(self.since_base(after(now, wait)), Ordering::Release);
    }
}

fn after(time: Instant, wait: Duration) -> Instant {
    time.checked_add(wait).unwrap_or_else(|| time + NEVER)
}

impl State {
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            keys: self.keys.clone(),
            version: self.version,
        }
    }
}

/// Ends a flight, also when the runtime drops it.
struct Landing {
    live: Arc<Live>,
    cause: Cause,
    _over: watch::Sender<()>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.live.state().flight = None;
    }
}
