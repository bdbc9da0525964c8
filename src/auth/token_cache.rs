//! A bounded cache of verified tokens.

use std::{
    fmt,
    hash::Hasher,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard},
    time::SystemTime,
};

use lru::LruCache;
use siphasher::sip128::{Hasher128, SipHasher13};

use super::Verified;

use crate::util::lock;

/// Default limit of remembered tokens. Each takes about 300 bytes plus its claims.
pub(crate) const DEFAULT_CAPACITY: usize = 10_000;

/// A bounded cache of valid tokens (the least recently used is evicted).
///
/// Tokens are not stored. The key of an entry is the token's 128-bit SipHash-1-3 under a random key
/// of this process, which takes a sixth of the time of SHA-256. Neither the key nor a hash ever
/// leaves the process, so an attacker cannot construct a token with the same hash. The lookup does
/// not compare secrets, so its time discloses nothing, and a memory dump of the cache shows no
/// token.
pub(crate) struct TokenCache {
    key: (u64, u64),
    state: Mutex<State>,
}

struct State {
    /// `None` if no tokens are remembered.
    tokens: Option<LruCache<u128, Entry>>,
    /// The number of calls of [`TokenCache::retain_keys`].
    generation: u64,
}

struct Entry {
    verified: Verified,
    /// The time at which the entry expires.
    until: SystemTime,
    /// The id of the key that signed the token.
    key: u64,
}

/// The value of the counter of [`TokenCache::retain_keys`] calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u64);

impl TokenCache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            key: (rand::random(), rand::random()),
            state: Mutex::new(State {
                tokens: NonZeroUsize::new(capacity).map(LruCache::new),
                generation: 0,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn digest(&self, token: &str) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write(token.as_bytes());
        hasher.finish128().into()
    }

    pub(crate) fn get(&self, token: &str, now: SystemTime) -> Option<Verified> {
        let digest = self.digest(token);
        let mut state = self.state();
        let tokens = state.tokens.as_mut()?;
        let entry = tokens.get(&digest)?;
        if entry.until <= now {
            tokens.pop(&digest);
            return None;
        }
        Some(entry.verified.clone())
    }

    /// Returns the current generation. Read it before the keys with which a token is verified.
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.state().generation)
    }

    /// Remembers a token until that time, unless keys were removed since `seen`.
    pub(crate) fn put(
        &self,
        token: &str,
        verified: &Verified,
        until: SystemTime,
        key: u64,
        seen: Generation,
    ) {
        let digest = self.digest(token);
        let mut state = self.state();
        if state.generation != seen.0 {
            return;
        }
        if let Some(tokens) = &mut state.tokens {
            let verified = verified.clone();
            tokens.put(
                digest,
                Entry {
                    verified,
                    until,
                    key,
                },
            );
        }
    }

    /// Removes the tokens that were signed by a removed key.
    pub(crate) fn retain_keys(&self, is_left: impl Fn(u64) -> bool) {
        let mut state = self.state();
        state.generation += 1;
        if let Some(tokens) = &mut state.tokens {
            tokens.retain(|_, entry| is_left(entry.key));
        }
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let tokens = state.tokens.as_ref().map_or(0, LruCache::len);
        f.debug_struct("TokenCache")
            .field("tokens", &tokens)
            .finish()
    }
}
