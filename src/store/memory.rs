use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::future::{BoxFuture, ready};
use lru::LruCache;
use tokio::time::Instant;

use super::{Increment, MAX_COUNT, Store, StoreError, Stored};

use crate::util::lock;

/// Maximum number of values.
const MAX_VALUES: usize = 10_000;
/// Default limit of keys and values in bytes, the same as a cache's memory.
const MAX_BYTES: usize = 64 * 1024 * 1024;

struct Value {
    bytes: Vec<u8>,
    until: Option<Instant>,
}

impl Value {
    fn new(bytes: Vec<u8>, time_to_live: Option<Duration>, now: Instant) -> Self {
        Self {
            bytes,
            // A time beyond the clock's range means no expiry.
            until: time_to_live.and_then(|time| now.checked_add(time)),
        }
    }

    fn is_expired(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    fn remaining(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now))
    }
}

/// The values of a store, in two maps: only those that were written by `set` may be evicted.
struct Values {
    evictable: LruCache<Vec<u8>, Value>,
    kept: HashMap<Vec<u8>, Value>,
    /// Bytes of all keys and values, and of those in `kept`.
    bytes: usize,
    kept_bytes: usize,
    max_bytes: usize,
    /// No value in `kept` expires before this time.
    next_expiry: Option<Instant>,
}

impl Values {
    /// Returns the value under a key, and removes it if it has expired.
    fn get(&mut self, key: &[u8], now: Instant) -> Option<&Value> {
        let value = self.kept.get(key).or_else(|| self.evictable.peek(key))?;
        if value.is_expired(now) {
            self.remove(key);
            return None;
        }
        self.kept.get(key).or_else(|| self.evictable.get(key))
    }

    fn remove(&mut self, key: &[u8]) {
        let removed = match self.kept.remove(key) {
            Some(kept) => {
                self.kept_bytes -= key.len() + kept.bytes.len();
                Some(kept)
            }
            None => self.evictable.pop(key),
        };
        if let Some(removed) = removed {
            self.bytes -= key.len() + removed.bytes.len();
        }
    }

    fn len(&self) -> usize {
        self.evictable.len() + self.kept.len()
    }

    /// Stores a value that may be evicted. A value without room is not stored.
    fn set(&mut self, key: &[u8], value: Value, now: Instant) {
        self.remove(key);
        let bytes = key.len() + value.bytes.len();
        if self.make_room(bytes, now) {
            self.bytes += bytes;
            self.evictable.put(key.to_vec(), value);
        }
    }

    /// Stores a value that may not be evicted. Without room the old value stays.
    fn keep(&mut self, key: &[u8], value: Value, now: Instant) -> Result<(), StoreError> {
        let old = match self.kept.get(key) {
            Some(old) => key.len() + old.bytes.len(),
            None => 0,
        };
        let bytes = key.len() + value.bytes.len();
        let fits = |values: &Self| {
            let count = values.kept.len() + usize::from(old == 0);
            values.kept_bytes - old + bytes <= values.max_bytes && count <= MAX_VALUES
        };
        if !fits(self) {
            self.remove_expired(now);
        }
        if !fits(self) {
            return Err(StoreError::new("the store in memory is full"));
        }
        self.remove(key);
        self.make_room(bytes, now);
        self.bytes += bytes;
        self.kept_bytes += bytes;
        self.next_expiry = match (self.next_expiry, value.until) {
            (Some(next), Some(until)) => Some(next.min(until)),
            (next, until) => next.or(until),
        };
        self.kept.insert(key.to_vec(), value);
        Ok(())
    }

    /// Makes room for one more value of this size, as far as values may be evicted.
    fn make_room(&mut self, bytes: usize, now: Instant) -> bool {
        let has_room =
            |values: &Self| values.bytes + bytes <= values.max_bytes && values.len() < MAX_VALUES;
        if bytes > self.max_bytes {
            return false;
        }
        if !has_room(self) {
            self.remove_expired(now);
        }
        while !has_room(self) {
            let Some((key, least)) = self.evictable.pop_lru() else {
                return false;
            };
            self.bytes -= key.len() + least.bytes.len();
        }
        true
    }

    /// Removes expired values that may not be evicted. It searches them only if one has expired.
    fn remove_expired(&mut self, now: Instant) {
        if self.next_expiry.is_none_or(|next| now < next) {
            return;
        }
        let mut freed = 0;
        self.kept.retain(|key, value| {
            let is_expired = value.is_expired(now);
            if is_expired {
                freed += key.len() + value.bytes.len();
            }
            !is_expired
        });
        self.bytes -= freed;
        self.kept_bytes -= freed;
        self.next_expiry = self.kept.values().filter_map(|value| value.until).min();
    }

    fn compare_and_set(
        &mut self,
        key: &[u8],
        expected: Option<&[u8]>,
        value: Option<Value>,
        now: Instant,
    ) -> Result<bool, StoreError> {
        if self.get(key, now).map(|value| &*value.bytes) != expected {
            return Ok(false);
        }
        match value {
            Some(value) => self.keep(key, value, now)?,
            None => self.remove(key),
        }
        Ok(true)
    }

    fn increment(
        &mut self,
        key: &[u8],
        change: i64,
        limit: u64,
        time_to_live: Option<Duration>,
    ) -> Result<Increment, StoreError> {
        let now = Instant::now();
        let (before, until) = match self.get(key, now) {
            Some(value) => (Some(count(&value.bytes)?), value.until),
            None => (None, Value::new(Vec::new(), time_to_live, now).until),
        };
        let remaining = until.map(|until| until.saturating_duration_since(now));
        let sum = before.unwrap_or(0).saturating_add_signed(change);
        if change > 0 && sum > limit.min(MAX_COUNT) {
            let remaining = remaining.filter(|_| before.is_some());
            return Ok(Increment::new(false, before.unwrap_or(0), remaining));
        }
        if before.is_none() && sum == 0 {
            return Ok(Increment::new(true, 0, None));
        }
        let bytes = sum.to_string().into_bytes();
        self.keep(key, Value { bytes, until }, now)?;
        Ok(Increment::new(true, sum, remaining))
    }

    fn decrement_once(
        &mut self,
        key: &[u8],
        amount: u64,
        marker: &[u8],
        time_to_live: Duration,
    ) -> Result<bool, StoreError> {
        let now = Instant::now();
        if self.get(marker, now).is_some() {
            return Ok(false);
        }
        let counter = match self.get(key, now) {
            Some(value) => Some((count(&value.bytes)?, value.until)),
            None => None,
        };
        self.keep(marker, Value::new(Vec::new(), Some(time_to_live), now), now)?;
        if let Some((before, until)) = counter {
            let bytes = before.saturating_sub(amount).to_string().into_bytes();
            // It is not longer than before, so that it has room.
            self.keep(key, Value { bytes, until }, now)?;
        }
        Ok(true)
    }
}

/// Reads the value of a counter.
fn count(bytes: &[u8]) -> Result<u64, StoreError> {
    let text = std::str::from_utf8(bytes).ok();
    text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|&count| count <= MAX_COUNT)
        .ok_or_else(StoreError::not_a_counter)
}

/// A [`Store`] in the memory of this process. Clones are the same store.
///
/// Limit: 10,000 values, and 64 MiB of keys and values unless set by
/// [`with_max_bytes`](Self::with_max_bytes). Of the values that were written by
/// [`set`](Store::set), the least recently used is evicted, and one that is longer than the whole
/// limit is not stored. The other operations return an error if there is no room left.
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
            evictable: LruCache::unbounded(),
            kept: HashMap::new(),
            bytes: 0,
            kept_bytes: 0,
            max_bytes: bytes,
            next_expiry: None,
        };
        Self {
            values: Arc::new(Mutex::new(values)),
        }
    }

    fn values(&self) -> MutexGuard<'_, Values> {
        lock(&self.values)
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
        let now = Instant::now();
        let mut values = self.values();
        let found = keys.iter().map(|key| {
            let value = values.get(key, now)?;
            Some(Stored::new(value.bytes.clone(), value.remaining(now)))
        });
        Box::pin(ready(Ok(found.collect())))
    }

    fn set<'a>(
        &'a self,
        key: &'a [u8],
        value: Vec<u8>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let now = Instant::now();
        self.values()
            .set(key, Value::new(value, time_to_live, now), now);
        Box::pin(ready(Ok(())))
    }

    fn remove<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.values().remove(key);
        Box::pin(ready(Ok(())))
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a [u8],
        expected: Option<&'a [u8]>,
        value: Option<Vec<u8>>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let now = Instant::now();
        let value = value.map(|value| Value::new(value, time_to_live, now));
        let set = self.values().compare_and_set(key, expected, value, now);
        Box::pin(ready(set))
    }

    fn increment<'a>(
        &'a self,
        key: &'a [u8],
        change: i64,
        limit: u64,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<Increment, StoreError>> {
        let incremented = self.values().increment(key, change, limit, time_to_live);
        Box::pin(ready(incremented))
    }

    fn decrement_once<'a>(
        &'a self,
        key: &'a [u8],
        amount: u64,
        marker: &'a [u8],
        time_to_live: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let mut values = self.values();
        let decremented = values.decrement_once(key, amount, marker, time_to_live);
        Box::pin(ready(decremented))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values();
        f.debug_struct("MemoryStore")
            .field("values", &values.len())
            .field("bytes", &values.bytes)
            .finish()
    }
}
