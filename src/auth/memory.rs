//! Tokens that were verified, until they expire.

use std::{
    fmt,
    hash::Hasher,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use lru::LruCache;
use siphasher::sip128::{Hasher128, SipHasher13};

use super::Verified;

/// How many tokens are remembered, unless said otherwise. One takes about 300 bytes and its claims.
pub(crate) const REMEMBERED: usize = 10_000;

/// A bounded memory of good tokens: the one that was asked for least recently goes first.
///
/// No token is in it. One is known by its SipHash-1-3 of 128 bits under a key that this process drew, and tells
/// nobody, as it tells nobody a hash: a keyed function that takes a sixth of the time of SHA-256. Without the key, and
/// without ever seeing what it gives, nobody can find another token that has the same. So a token that comes again costs no comparison of
/// secrets whose time would tell something, and a dump of the memory shows no token.
pub(crate) struct Memory {
    key: (u64, u64),
    kept: Mutex<Kept>,
}

struct Kept {
    /// None if nothing is remembered.
    tokens: Option<LruCache<u128, Entry>>,
    /// Counts how often [`Memory::forget`] was called.
    generation: u64,
}

struct Entry {
    verified: Verified,
    /// When it is forgotten, if it is not pushed out before.
    until: SystemTime,
    /// Which key vouches for it.
    key: u64,
}

/// Which [`Memory::forget`] was the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u64);

impl Memory {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            key: (rand::random(), rand::random()),
            kept: Mutex::new(Kept {
                tokens: NonZeroUsize::new(capacity).map(LruCache::new),
                generation: 0,
            }),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn digest(&self, token: &str) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write(token.as_bytes());
        hasher.finish128().into()
    }

    pub(crate) fn get(&self, token: &str, now: SystemTime) -> Option<Verified> {
        let digest = self.digest(token);
        let mut kept = self.kept();
        let tokens = kept.tokens.as_mut()?;
        let entry = tokens.get(&digest)?;
        if entry.until <= now {
            tokens.pop(&digest);
            return None;
        }
        Some(entry.verified.clone())
    }

    /// To be read before the keys are that a token is verified with.
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.kept().generation)
    }

    /// Remembers a token until then, unless keys were taken away since `seen`.
    pub(crate) fn put(
        &self,
        token: &str,
        verified: &Verified,
        until: SystemTime,
        key: u64,
        seen: Generation,
    ) {
        let digest = self.digest(token);
        let mut kept = self.kept();
        if kept.generation != seen.0 {
            return;
        }
        if let Some(tokens) = &mut kept.tokens {
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

    /// Forgets what no key that is left vouches for.
    pub(crate) fn forget(&self, is_left: impl Fn(u64) -> bool) {
        let mut kept = self.kept();
        kept.generation += 1;
        if let Some(tokens) = &mut kept.tokens {
            tokens.retain(|_, entry| is_left(entry.key));
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept();
        let tokens = kept.tokens.as_ref().map_or(0, LruCache::len);
        f.debug_struct("Memory").field("tokens", &tokens).finish()
    }
}
