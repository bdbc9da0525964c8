use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::{BoxFuture, ready};
use lru::LruCache;
use tokio::time::Instant;

use super::{Store, StoreError, Stored};

/// How many values there may be. Beyond, those go that were not used for longest.
const MAX_VALUES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);
/// How many bytes they may take by default: as many as a cache takes in memory.
const MAX_BYTES: usize = 64 * 1024 * 1024;

struct Value {
    bytes: Vec<u8>,
    until: Option<Instant>,
}

struct Values {
    by_use: LruCache<Vec<u8>, Value>,
    /// How many bytes the keys and values take.
    bytes: usize,
    most: usize,
}

impl Values {
    fn remove(&mut self, key: &[u8]) {
        if let Some(removed) = self.by_use.pop(key) {
            self.bytes -= key.len() + removed.bytes.len();
        }
    }

    fn put(&mut self, key: &[u8], value: Value) {
        self.remove(key);
        let bytes = key.len() + value.bytes.len();
        if bytes > self.most {
            return;
        }
        while self.bytes + bytes > self.most || self.by_use.len() >= MAX_VALUES.get() {
            let Some((key, least)) = self.by_use.pop_lru() else {
                break;
            };
            self.bytes -= key.len() + least.bytes.len();
        }
        self.bytes += bytes;
        self.by_use.put(key.to_vec(), value);
    }
}

/// A [`Store`] in the memory of this process. Clones are the same store.
///
/// It holds 10,000 values, and 64 MiB of keys and values unless [`with_max_bytes`](Self::with_max_bytes) says
/// otherwise; beyond, those go that were not used for longest. What is longer than all of that is not kept.
#[derive(Clone)]
pub struct MemoryStore {
    values: Arc<Mutex<Values>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::with_max_bytes(MAX_BYTES)
    }

    /// An empty store that holds so many bytes of keys and values at most. What is around them does not count: some
    /// 150 bytes each.
    pub fn with_max_bytes(bytes: usize) -> Self {
        let values = Values {
            by_use: LruCache::unbounded(),
            bytes: 0,
            most: bytes,
        };
        Self {
            values: Arc::new(Mutex::new(values)),
        }
    }

    fn values(&self) -> MutexGuard<'_, Values> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, key: &[u8]) -> Option<Stored> {
        let now = Instant::now();
        let mut values = self.values();
        let value = values.by_use.get(key)?;
        let left = value
            .until
            .map(|until| until.saturating_duration_since(now));
        if left.is_some_and(|left| left.is_zero()) {
            values.remove(key);
            return None;
        }
        Some(Stored::new(value.bytes.clone(), left))
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemoryStore {
    fn get<'a>(
        &'a self,
        keys: &'a [Vec<u8>],
    ) -> BoxFuture<'a, Result<Vec<Option<Stored>>, StoreError>> {
        let found = keys.iter().map(|key| self.read(key)).collect();
        Box::pin(ready(Ok(found)))
    }

    fn set<'a>(
        &'a self,
        key: &'a [u8],
        value: Vec<u8>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let value = Value {
            bytes: value,
            // A time too far to be told has no end.
            until: time_to_live.and_then(|time| Instant::now().checked_add(time)),
        };
        self.values().put(key, value);
        Box::pin(ready(Ok(())))
    }

    fn remove<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.values().remove(key);
        Box::pin(ready(Ok(())))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values();
        f.debug_struct("MemoryStore")
            .field("values", &values.by_use.len())
            .field("bytes", &values.bytes)
            .finish()
    }
}
