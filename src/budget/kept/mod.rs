//! The full results that were cut, kept for a while.

mod memory;
mod parts;

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::timeout;

use self::memory::Memory;
use super::conversation::Owner;
use crate::{
    store::{Store, StoreError},
    util::lock,
};

pub(super) use self::{
    memory::MemoryLimits,
    parts::{KeptPart, KeptResult, parts_of},
};

/// The scheme of the URIs of kept results.
pub(super) const SCHEME: &str = "result://";

/// The id of a kept result. It cannot be guessed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct KeptId(u128);

impl KeptId {
    pub(super) fn random() -> Self {
        Self(rand::random())
    }

    /// Reads an id, as it is written by `Display`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u128::from_str_radix(text, 16)
            .ok()
            .filter(|_| is_id)
            .map(Self)
    }
}

impl fmt::Display for KeptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for KeptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptId")
    }
}

/// Kept results, by owner and id, in this process and, if there is one, in a store.
pub(super) struct KeptResults {
    limits: MemoryLimits,
    memory: Mutex<Memory>,
    store: Option<KeptStore>,
}

/// A store of kept results, which other processes read too.
pub(super) struct KeptStore {
    pub store: Arc<dyn Store>,
    pub patience: Duration,
}

impl KeptResults {
    pub(super) fn new(limits: MemoryLimits, store: Option<KeptStore>) -> Self {
        Self {
            limits,
            memory: Mutex::new(Memory::new(limits)),
            store,
        }
    }

    /// Returns `true` if a result of so many bytes may be kept.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        bytes <= self.limits.max_item_bytes
    }

    /// Keeps a result. Returns `false` if it cannot be kept.
    pub(super) async fn keep(&self, owner: &Owner, id: KeptId, kept: KeptResult) -> bool {
        if !self.has_room_for(kept.bytes()) {
            return false;
        }
        if let Some(store) = &self.store {
            // Megabytes of JSON are some milliseconds of work.
            let value = tokio::task::spawn_blocking(move || kept.to_bytes()).await;
            let Ok(Some(value)) = value else {
                return false;
            };
            let key = key(owner, id);
            let set = store.store.set(&key, value, Some(self.limits.time_to_live));
            let set = timeout(store.patience, set).await;
            if let Err(error) = set.unwrap_or_else(|_| Err(no_answer(store.patience))) {
                tracing::warn!(%error, "a result that was cut is not kept");
                return false;
            }
            return true;
        }
        lock(&self.memory).put(owner, id, Arc::new(kept))
    }

    /// Returns a kept result of this owner.
    pub(super) async fn get(
        &self,
        owner: &Owner,
        id: KeptId,
    ) -> Result<Option<Arc<KeptResult>>, StoreError> {
        if let Some(found) = lock(&self.memory).get(owner, id) {
            return Ok(Some(found));
        }
        let Some(store) = &self.store else {
            return Ok(None);
        };
        let keys = [key(owner, id)];
        let found = timeout(store.patience, store.store.get(&keys)).await;
        let found = found.unwrap_or_else(|_| Err(no_answer(store.patience)))?;
        let Some(stored) = found.into_iter().next().flatten() else {
            return Ok(None);
        };
        let (value, remaining) = (stored.value, stored.remaining);
        let kept = tokio::task::spawn_blocking(move || KeptResult::from_bytes(&value)).await;
        let Ok(Some(kept)) = kept else {
            return Ok(None);
        };
        let kept = Arc::new(kept);
        // The next pages are read from memory, for as long as the store has the result.
        let left = remaining.unwrap_or(self.limits.time_to_live);
        lock(&self.memory).put_for(owner, id, kept.clone(), left);
        Ok(Some(kept))
    }

    /// Returns the number of kept results in the memory of this process, and their bytes.
    pub(super) fn usage(&self) -> (usize, usize) {
        lock(&self.memory).usage()
    }
}

fn key(owner: &Owner, id: KeptId) -> Vec<u8> {
    format!("result:{}:{id}", owner.to_key()).into_bytes()
}

fn no_answer(patience: Duration) -> StoreError {
    StoreError::new(format!("no answer within {patience:?}"))
}
