//! A JWK set that is kept up to date.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard,
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
use crate::auth::{AuthError, token_cache::TokenCache};

use crate::util::lock;

/// Timeout of a fetch.
const FETCH_WITHIN: Duration = Duration::from_secs(10);
/// Time until a failed fetch is retried.
const RETRY: Duration = Duration::from_secs(1);
/// Limit of the time that a token waits for the next fetch, without the fetch itself.
const WAIT_AT_MOST: Duration = Duration::from_secs(10);
/// Limit of waiting tokens. Each holds its request and at most 8 KiB of its own.
const WAITING: usize = 1_000;
/// Stands for a time that is too far in the future to be represented.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

pub(super) struct JwksRefresh {
    jwks: Jwks,
    allowed: Option<Vec<Algorithm>>,
    /// The keys that are not from the set. Their tokens are in the same cache.
    fixed: Arc<KeySet>,
    token_cache: Arc<TokenCache>,
    state: Mutex<State>,
    /// The origin of the times below.
    base: Instant,
    /// The time of the next fetch, in milliseconds since `base`.
    due: AtomicU64,
    /// The time from which the set is too old to be trusted.
    dead: AtomicU64,
    /// Permits of the tokens that wait until unknown keys may cause a fetch again.
    waiting: Semaphore,
}

#[derive(Default)]
struct State {
    keys: Arc<KeySet>,
    /// Counts the sets that differ from the one before.
    version: u64,
    /// The fetch in progress. The channel closes when the fetch ends.
    flight: Option<watch::Receiver<()>>,
    /// The number of fetches that have begun.
    begun: u64,
    /// The end of the cooldown, in which unknown keys cause no fetch.
    cool_until: Option<Instant>,
    /// `true` if the last fetch failed.
    failed: bool,
}

/// A set and its version.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub(super) keys: Arc<KeySet>,
    version: u64,
}

/// The number of fetches that had begun when a token arrived. Only a later fetch is certain to
/// include a key that had been published by then.
#[derive(Clone, Copy)]
pub(super) struct Arrived(u64);

/// The cause of a fetch.
enum Cause {
    Age,
    /// Contains the `kid` of the token, if it has one.
    UnknownKey(Option<String>),
}

impl JwksRefresh {
    pub(super) fn new(
        jwks: Jwks,
        allowed: Option<Vec<Algorithm>>,
        fixed: Arc<KeySet>,
        token_cache: Arc<TokenCache>,
    ) -> Arc<Self> {
        Arc::new(Self {
            jwks,
            allowed,
            fixed,
            token_cache,
            state: Mutex::default(),
            base: Instant::now(),
            due: AtomicU64::new(0),
            dead: AtomicU64::new(0),
            waiting: Semaphore::new(WAITING),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn since_base(&self, time: Instant) -> u64 {
        let millis = time.saturating_duration_since(self.base).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX)
    }

    /// Returns `true` if a remembered token may be trusted without a look at the set: the set is
    /// young enough and no fetch is due.
    pub(super) fn is_fresh(&self) -> bool {
        let now = self.since_base(Instant::now());
        now < self.due.load(Ordering::Acquire) && now < self.dead.load(Ordering::Acquire)
    }

    fn is_dead(&self, now: Instant) -> bool {
        self.since_base(now) >= self.dead.load(Ordering::Acquire)
    }

    /// Returns the current set. Waits for a fetch only if there is no set that can be trusted.
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
            // Nothing is ever sent: the channel closes when the fetch ends.
            let _ = flight.changed().await;
        }
        let state = self.state();
        if self.is_dead(Instant::now()) {
            return Err(unreachable_issuer());
        }
        Ok(state.snapshot())
    }

    /// Obtains a set newer than `seen`, for a token whose key is not in `seen`. Returns `false` if
    /// there is none, and an error if this is not known at the moment.
    ///
    /// During the cooldown, the token waits for the next fetch. An attacker who invents key ids can
    /// therefore delay a token with a new key, but not have it refused.
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
                    // A fetch has begun since the token arrived, and has ended.
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
                // Nothing is ever sent: the channel closes when the fetch ends.
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

    /// Returns the arrival mark of a token. Read it before the set with which the token is
    /// verified.
    pub(super) fn arrived(&self) -> Arrived {
        Arrived(self.state().begun)
    }

    /// Starts a fetch in its own task, so that it continues when its caller goes away.
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
            refresh: self.clone(),
            cause,
            _over: over,
        };
        tokio::spawn(async move {
            // A fetch that panics counts as failed. Otherwise no time for the next fetch would be
            // set.
            let fetch = AssertUnwindSafe(async { (landing.refresh.jwks.fetch)().await });
            let fetched = tokio::time::timeout(FETCH_WITHIN, fetch.catch_unwind()).await;
            let fetched = fetched.unwrap_or_else(|_| Ok(Err("no answer in time".to_owned())));
            let fetched = fetched.unwrap_or_else(|_| Err("the fetch panicked".to_owned()));
            let allowed = landing.refresh.allowed.as_deref();
            let keys = fetched.and_then(|json| KeySet::parse(&json, allowed));
            landing.refresh.install(keys, now, &landing.cause);
        });
        flight
    }

    fn install(&self, keys: Result<KeySet, String>, started: Instant, cause: &Cause) {
        let mut state = self.state();
        let now = Instant::now();
        state.failed = keys.is_err();
        let wait = match keys {
            Ok(keys) => {
                // Other changes of the set do not count: an issuer whose replicas differ would
                // otherwise be asked for every invented key id. Nor does another key of a known
                // name, which a forged signature can name as well.
                let brings_it = match cause {
                    Cause::Age => true,
                    Cause::UnknownKey(kid) => kid
                        .as_deref()
                        .is_some_and(|kid| keys.names(kid) && !state.keys.names(kid)),
                };
                if !brings_it {
                    state.cool_until = Some(after(now, self.jwks.cooldown));
                }
                if !keys.is_same(&state.keys) {
                    state.keys = Arc::new(keys);
                    state.version += 1;
                    // This happens under the lock and before any later fetch, so that a token
                    // verified with a removed key is not remembered.
                    let keys = state.keys.clone();
                    self.token_cache
                        .retain_keys(|key| keys.has(key) || self.fixed.has(key));
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

/// Ends a fetch, also when the runtime drops its task.
struct Landing {
    refresh: Arc<JwksRefresh>,
    cause: Cause,
    _over: watch::Sender<()>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.refresh.state().flight = None;
    }
}
