use std::{collections::HashMap, sync::Arc, time::Duration};

use lru::LruCache;
use tokio::time::Instant;

use super::{super::conversation::Owner, KeptId, KeptResult};

/// The bytes that one kept result counts for beside its own.
const OVERHEAD: usize = 512;

/// The limits of kept results in memory.
#[derive(Clone, Copy, Debug)]
pub(in crate::budget) struct MemoryLimits {
    /// Of all results.
    pub max_bytes: usize,
    /// Of the results of one owner.
    pub max_owner_bytes: usize,
    /// Of one result.
    pub max_item_bytes: usize,
    pub time_to_live: Duration,
}

/// Kept results in memory. The least recently used is evicted: first of its owner, then of all.
pub(super) struct Memory {
    limits: MemoryLimits,
    results: LruCache<(Owner, KeptId), Entry>,
    bytes: usize,
    owners: HashMap<Owner, usize>,
}

struct Entry {
    kept: Arc<KeptResult>,
    bytes: usize,
    until: Option<Instant>,
}

impl Memory {
    pub(super) fn new(limits: MemoryLimits) -> Self {
        Self {
            limits,
            results: LruCache::unbounded(),
            bytes: 0,
            owners: HashMap::new(),
        }
    }

    pub(super) fn put(&mut self, owner: &Owner, id: KeptId, kept: Arc<KeptResult>) -> bool {
        self.put_for(owner, id, kept, self.limits.time_to_live)
    }

    /// Keeps a result for this time. Returns `false` if it is too long.
    pub(super) fn put_for(
        &mut self,
        owner: &Owner,
        id: KeptId,
        kept: Arc<KeptResult>,
        time_to_live: Duration,
    ) -> bool {
        let bytes = kept.bytes() + OVERHEAD;
        if bytes > self.limits.max_owner_bytes.min(self.limits.max_bytes) {
            return false;
        }
        let now = Instant::now();
        self.remove(&(owner.clone(), id));
        self.remove_expired(now);
        while self.of(owner) + bytes > self.limits.max_owner_bytes {
            let least = self.results.iter().rev().find(|((own, _), _)| own == owner);
            let Some(least) = least.map(|(key, _)| key.clone()) else {
                return false;
            };
            self.remove(&least);
        }
        while self.bytes + bytes > self.limits.max_bytes {
            let Some((least, _)) = self.results.peek_lru() else {
                return false;
            };
            let least = least.clone();
            self.remove(&least);
        }
        self.bytes += bytes;
        *self.owners.entry(owner.clone()).or_default() += bytes;
        let until = now.checked_add(time_to_live);
        self.results
            .put((owner.clone(), id), Entry { kept, bytes, until });
        true
    }

    pub(super) fn get(&mut self, owner: &Owner, id: KeptId) -> Option<Arc<KeptResult>> {
        let key = (owner.clone(), id);
        let now = Instant::now();
        let entry = self.results.get(&key)?;
        if entry.until.is_some_and(|until| until <= now) {
            self.remove(&key);
            return None;
        }
        Some(entry.kept.clone())
    }

    fn of(&self, owner: &Owner) -> usize {
        self.owners.get(owner).copied().unwrap_or(0)
    }

    fn remove(&mut self, key: &(Owner, KeptId)) {
        let Some(removed) = self.results.pop(key) else {
            return;
        };
        self.bytes -= removed.bytes;
        if let Some(bytes) = self.owners.get_mut(&key.0) {
            *bytes = bytes.saturating_sub(removed.bytes);
            if *bytes == 0 {
                self.owners.remove(&key.0);
            }
        }
    }

    fn remove_expired(&mut self, now: Instant) {
        let expired = self.results.iter().filter_map(|(key, entry)| {
            let is_expired = entry.until.is_some_and(|until| until <= now);
            is_expired.then(|| key.clone())
        });
        for key in expired.collect::<Vec<_>>() {
            self.remove(&key);
        }
    }

    pub(super) fn usage(&mut self) -> (usize, usize) {
        self.remove_expired(Instant::now());
        (self.results.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{KeptPart, KeptResult},
        *,
    };
    use crate::{CallContext, Principal};

    fn owner(name: &str) -> Owner {
        let mut context = CallContext::default();
        context.set_principal(Principal::new(name));
        Owner::of(&context)
    }

    fn kept(bytes: usize) -> Arc<KeptResult> {
        let part = KeptPart::text("/content/0/text", None, "x".repeat(bytes));
        Arc::new(KeptResult::new(vec![part], 100))
    }

    fn memory() -> Memory {
        Memory::new(MemoryLimits {
            max_bytes: 20_000,
            max_owner_bytes: 10_000,
            max_item_bytes: 8_000,
            time_to_live: Duration::from_secs(60),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_evicts_its_own_results_first() {
        let (ann, ben) = (owner("ann"), owner("ben"));
        let mut memory = memory();
        let of_ben = KeptId::random();
        assert!(memory.put(&ben, of_ben, kept(4_000)));
        let ids = [(); 5].map(|()| KeptId::random());
        for id in ids {
            assert!(memory.put(&ann, id, kept(4_000)));
        }
        assert!(memory.get(&ben, of_ben).is_some());
        let found = ids.map(|id| memory.get(&ann, id).is_some());
        assert_eq!(found, [false, false, false, true, true]);
        assert!(memory.get(&ben, ids[4]).is_none());
        assert!(!memory.put(&ann, KeptId::random(), kept(9_900)));
    }

    #[tokio::test(start_paused = true)]
    async fn all_results_have_one_limit_and_expire() {
        let mut memory = memory();
        let owners = ["a", "b", "c", "d"].map(owner);
        for owner in &owners {
            assert!(memory.put(owner, KeptId::random(), kept(6_000)));
        }
        assert_eq!(memory.usage(), (3, 3 * 6_512));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(memory.usage(), (0, 0));
        assert!(memory.owners.is_empty());
    }
}
