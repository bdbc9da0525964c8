//! A JWK set that is kept up to date.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use jsonwebtoken::Algorithm;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use super::{jwks::Jwks, keys::KeySet};
use crate::auth::{AuthError, memory::Memory};

/// How long a fetch may take.
const FETCH_WITHIN: Duration = Duration::from_secs(10);
/// How soon a fetch that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a token may wait for the next fetch, beside the fetch itself.
const WAIT_AT_MOST: Duration = Duration::from_secs(10);
/// How many tokens may wait for it. One takes what its request does, and its own 8 KiB at most.
const WAITING: usize = 1_000;
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
    /// Room for tokens that wait until unknown keys may cause a fetch again.
    waiting: Semaphore,
}

#[derive(Default)]
struct State {
    keys: Arc<KeySet>,
    /// Counts the sets that differ from the one before.
    version: u64,
    /// A fetch that is under way: its end is the end of the channel.
    flight: Option<watch::Receiver<()>>,
    /// How many fetches have begun.
    begun: u64,
    /// Until when unknown keys cause no fetch.
    cool_until: Option<Instant>,
    /// Whether the last fetch failed.
    failed: bool,
}

/// A set, and which one it is.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub(super) keys: Arc<KeySet>,
    version: u64,
}

/// How many fetches had begun when a token came: only a later one is sure to show what was published by then.
#[derive(Clone, Copy)]
pub(super) struct Arrived(u64);

/// Why a fetch begins.
enum Cause {
    Age,
    /// With its name, if a token named it.
    UnknownKey(Option<String>),
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
            waiting: Semaphore::new(WAITING),
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
            return Err(unreachable_issuer());
        }
        Ok(state.snapshot())
    }

    /// Sees to a set that is newer than `seen`, for a token that names a key that is not in it. False if there is
    /// none, an error if that cannot be said now.
    ///
    /// While unknown keys cause no fetch, the token waits for the fetch that may come after that: whoever makes up
    /// names of keys can delay a token of a new key so, but not have it refused.
    pub(super) async fn look_again(
        self: &Arc<Self>,
        seen: &Snapshot,
        arrived: Arrived,
        kid: Option<&str>,
    ) -> Result<bool, AuthError> {
        let mut room = None;
        loop {
            let (flight, cool_until) = {
                let mut state = self.state();
                let now = Instant::now();
                if state.version != seen.version {
                    return Ok(true);
                }
                match (&state.flight, state.cool_until) {
                    (Some(flight), _) => (Some(flight.clone()), now),
                    // It has been looked for since the token came.
                    (None, _) if state.begun > arrived.0 && state.failed => {
                        return Err(unreachable_issuer());
                    }
                    (None, _) if state.begun > arrived.0 => return Ok(false),
                    (None, Some(until)) if now < until => (None, until),
                    (None, _) => {
                        let cause = Cause::UnknownKey(kid.map(str::to_owned));
                        (Some(self.begin(&mut state, now, cause)), now)
                    }
                }
            };
            if let Some(mut flight) = flight {
                // Nothing is ever sent: it ends when the fetch does.
                let _ = flight.changed().await;
                continue;
            }
            let wait = cool_until.saturating_duration_since(Instant::now());
            if wait > WAIT_AT_MOST {
                return Ok(false);
            }
            if room.is_none() {
                let found = self.waiting.try_acquire().map_err(|_| {
                    AuthError::unavailable("too many tokens of unknown keys wait")
                        .with_retry_after(wait)
                })?;
                room = Some(found);
            }
            tokio::time::sleep_until(cool_until).await;
        }
    }

    /// To be read before the set is that a token is verified with.
    pub(super) fn arrived(&self) -> Arrived {
        Arrived(self.state().begun)
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
        state.begun += 1;
        let landing = Landing {
            live: self.clone(),
            cause,
            _over: over,
        };
        tokio::spawn(async move {
            // One that panics has failed: else nothing would say when the next may be.
            let fetch = AssertUnwindSafe(async { (landing.live.jwks.fetch)().await });
            let fetched = tokio::time::timeout(FETCH_WITHIN, fetch.catch_unwind()).await;
            let fetched = fetched.unwrap_or_else(|_| Ok(Err("no answer in time".to_owned())));
            let fetched = fetched.unwrap_or_else(|_| Err("the fetch panicked".to_owned()));
            let allowed = landing.live.allowed.as_deref();
            let keys = fetched.and_then(|json| KeySet::parse(&json, allowed));
            landing.live.install(keys, now, &landing.cause);
        });
        flight
    }

    fn install(&self, keys: Result<KeySet, String>, started: Instant, cause: &Cause) {
        let mut state = self.state();
        let now = Instant::now();
        state.failed = keys.is_err();
        let wait = match keys {
            Ok(keys) => {
                // Whatever else it brings: an issuer whose replicas differ would be asked for every made-up name.
                let brings_it = match cause {
                    Cause::Age => true,
                    Cause::UnknownKey(kid) => kid.as_deref().is_some_and(|kid| keys.names(kid)),
                };
                if !brings_it {
                    state.cool_until = Some(after(now, self.jwks.cooldown));
                }
                if !keys.is_same(&state.keys) {
                    state.keys = Arc::new(keys);
                    state.version += 1;
                    // Before any later fetch, and under the lock: a token that is verified with a key that is
                    // gone is not remembered.
                    let keys = state.keys.clone();
                    self.memory
                        .forget(|key| keys.has(key) || self.fixed.has(key));
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

fn unreachable_issuer() -> AuthError {
    AuthError::unavailable("the issuer's keys cannot be fetched").with_retry_after(RETRY)
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
