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

/// Maximum number of values (the least recently used is evicted).
const MAX_VALUES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);
/// Default limit of keys and values in bytes, the same as a cache's memory.
const MAX_BYTES: usize = 64 * 1024 * 1024;

struct Value {
    bytes: Vec<u8>,
    until: Option<Instant>,
}

struct Values {
    by_use: LruCache<Vec<u8>, Value>,
    /// Bytes of all keys and values.
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
/// Limit: 10,000 values, and 64 MiB of keys and values unless set by
/// [`with_max_bytes`](Self::with_max_bytes) (the least recently used is evicted). A value that is
/// longer than the whole limit is not stored.
#[derive(Clone)]
pub struct MemoryStore {
    values: Arc<Mutex<Values>>,
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::with_max_bytes(MAX_BYTES)
    }

    /// Creates an empty store with a limit for the bytes of its keys and values. The overhead of
    /// about 150 bytes for each value does not count.
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
            // A time beyond the clock's range means no expiry.
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
