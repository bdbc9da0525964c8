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

struct Value {
    bytes: Vec<u8>,
    until: Option<Instant>,
}

/// A [`Store`] in the memory of this process. Clones are the same store.
///
/// It holds 10,000 values; beyond, those go that were not used for longest.
#[derive(Clone)]
pub struct MemoryStore {
    values: Arc<Mutex<LruCache<Vec<u8>, Value>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self {
            values: Arc::new(Mutex::new(LruCache::new(MAX_VALUES))),
        }
    }

    fn values(&self) -> MutexGuard<'_, LruCache<Vec<u8>, Value>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, key: &[u8]) -> Option<Stored> {
        let now = Instant::now();
        let mut values = self.values();
        let value = values.get(key)?;
        let left = value
            .until
            .map(|until| until.saturating_duration_since(now));
        if left.is_some_and(|left| left.is_zero()) {
            values.pop(key);
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
        self.values().put(key.to_vec(), value);
        Box::pin(ready(Ok(())))
    }

    fn remove<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.values().pop(key);
        Box::pin(ready(Ok(())))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("values", &self.values().len())
            .finish()
    }
}
