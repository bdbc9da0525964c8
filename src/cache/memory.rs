//! The cache entries of this process, in order of use.

use std::{
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, Mutex, MutexGuard},
};

use lru::LruCache;

use super::entry::{Entry, Selection};

use crate::util::lock;

/// Number of entries that justify one more shard.
const PER_SHARD: usize = 4_096;
const MAX_SHARDS: usize = 16;

/// Passes the hash through: the key is already a keyed hash.
#[derive(Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

type Map = LruCache<u128, Arc<Entry>, BuildHasherDefault<Hashed>>;

struct Shard {
    map: Map,
    bytes: usize,
}

/// The entries, in shards that each have an equal part of the limits.
///
/// Small caches, including the default, have one shard and an exact order of use. In a large cache,
/// a shard that gets more than its part evicts entries before the whole cache is full.
pub(super) struct Memory {
    shards: Box<[Mutex<Shard>]>,
    max_entries: usize,
    max_bytes: usize,
}

/// The outcome of an insertion.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Inserted {
    pub kept: bool,
    pub evicted: u64,
}

impl Memory {
    pub(super) fn new(max_entries: usize, max_bytes: usize, max_item_bytes: usize) -> Self {
        let by_entries = max_entries / PER_SHARD;
        // A shard must have room for several of the largest entries.
        let by_bytes = max_bytes / max_item_bytes.saturating_mul(4).max(1);
        let most = by_entries.min(by_bytes).clamp(1, MAX_SHARDS);
        let count = if most.is_power_of_two() {
            most
        } else {
            most.next_power_of_two() / 2
        };
        let shard = |_| {
            Mutex::new(Shard {
                map: LruCache::unbounded_with_hasher(BuildHasherDefault::default()),
                bytes: 0,
            })
        };
        Self {
            shards: (0..count).map(shard).collect(),
            max_entries: max_entries / count,
            max_bytes: max_bytes / count,
        }
    }

    fn shard(&self, hash: u128) -> MutexGuard<'_, Shard> {
        // The map uses the low half of the hash.
        let at = (hash >> 64) as usize & (self.shards.len() - 1);
        lock(&self.shards[at])
    }

    /// Returns the entry for exactly this key.
    pub(super) fn get(&self, hash: u128, key: &[u8]) -> Option<Arc<Entry>> {
        let mut shard = self.shard(hash);
        let entry = shard.map.get(&hash)?;
        (*entry.subject.key.bytes == *key).then(|| entry.clone())
    }

    /// Inserts an entry, unless there is a newer one or `allowed` returns `false`. `allowed` runs
    /// while the shard is locked.
    pub(super) fn insert(&self, entry: Arc<Entry>, allowed: impl FnOnce() -> bool) -> Inserted {
        let hash = entry.subject.key.hash;
        let mut gone = Vec::new();
        let mut inserted = Inserted::default();
        let mut shard = self.shard(hash);
        if !allowed() || entry.size > self.max_bytes {
            return inserted;
        }
        if let Some(known) = shard.map.peek(&hash)
            && known.fetch > entry.fetch
            && known.subject.key.bytes == entry.subject.key.bytes
        {
            return inserted;
        }
        inserted.kept = true;
        shard.bytes += entry.size;
        if let Some(replaced) = shard.map.put(hash, entry) {
            shard.bytes -= replaced.size;
            gone.push(replaced);
        }
        while shard.map.len() > self.max_entries || shard.bytes > self.max_bytes {
            let Some((_, least)) = shard.map.pop_lru() else {
                break;
            };
            shard.bytes -= least.size;
            inserted.evicted += 1;
            gone.push(least);
        }
        // Evicted entries are dropped outside of the lock.
        drop(shard);
        drop(gone);
        inserted
    }

    /// Removes exactly this entry.
    pub(super) fn remove(&self, entry: &Arc<Entry>) {
        let hash = entry.subject.key.hash;
        let mut shard = self.shard(hash);
        if shard
            .map
            .peek(&hash)
            .is_some_and(|kept| Arc::ptr_eq(kept, entry))
            && let Some(removed) = shard.map.pop(&hash)
        {
            shard.bytes -= removed.size;
        }
    }

    /// Removes the matching entries and returns their number.
    pub(super) fn invalidate(&self, selection: &Selection<'_>) -> u64 {
        let mut count = 0;
        for shard in &self.shards {
            let mut shard = lock(shard);
            let hashes: Vec<u128> = shard
                .map
                .iter()
                .filter(|(_, entry)| selection.contains(&entry.subject))
                .map(|(hash, _)| *hash)
                .collect();
            let gone: Vec<_> = hashes
                .iter()
                .filter_map(|hash| shard.map.pop(hash))
                .collect();
            shard.bytes -= gone.iter().map(|entry| entry.size).sum::<usize>();
            drop(shard);
            count += gone.len() as u64;
        }
        count
    }

    /// Returns the number of entries and the bytes that they take.
    pub(super) fn usage(&self) -> (usize, usize) {
        self.shards.iter().fold((0, 0), |(entries, bytes), shard| {
            let shard = lock(shard);
            (entries + shard.map.len(), bytes + shard.bytes)
        })
    }
}
