//! The audience of a list, and a bounded map by audience.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{Audience, CallContext, caller::Era, util::lock};

/// The maximum number of callers for which a member's lists, and the merged lists, are remembered.
/// Past it the least recently used is forgotten.
const MAX_KEYS: usize = 256;

/// The audience of a list. Two audiences never share a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::gateway) struct ListKey {
    pub(in crate::gateway) era: Era,
    audience: Audience,
    session: Option<u64>,
}

impl ListKey {
    pub(in crate::gateway) fn of(context: &CallContext, by_session: bool) -> Self {
        Self {
            era: context.era(),
            audience: Audience::of(context),
            session: by_session.then(|| context.caller.session_id()).flatten(),
        }
    }

    /// The key of an anonymous caller without a session.
    pub(in crate::gateway) fn anonymous() -> Self {
        Self {
            era: Era::Modern,
            audience: Audience::anonymous(),
            session: None,
        }
    }

    /// The key of lists that are the same for every caller.
    pub(in crate::gateway) fn for_all_callers(&self) -> Self {
        Self {
            era: self.era,
            audience: Audience::everybody(),
            session: None,
        }
    }

    /// Returns `true` if callers of the key are indistinguishable from the gateway itself.
    pub(in crate::gateway) fn is_anonymous(&self) -> bool {
        self.audience == Audience::anonymous() && self.session.is_none()
    }
}

/// A bounded map by key.
pub(in crate::gateway) struct ByListKey<V>(Mutex<HashMap<ListKey, (V, u64)>>);

impl<V> Default for ByListKey<V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V: Clone> ByListKey<V> {
    fn map(&self) -> MutexGuard<'_, HashMap<ListKey, (V, u64)>> {
        lock(&self.0)
    }

    pub(in crate::gateway) fn get(&self, key: &ListKey) -> Option<V> {
        let mut map = self.map();
        let (value, used) = map.get_mut(key)?;
        *used = tick();
        Some(value.clone())
    }

    pub(in crate::gateway) fn values(&self) -> Vec<V> {
        self.map()
            .values()
            .map(|(value, _)| value.clone())
            .collect()
    }

    pub(in crate::gateway) fn set(&self, key: ListKey, value: V) {
        let mut map = self.map();
        if map.len() >= MAX_KEYS && !map.contains_key(&key) {
            let oldest = map
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                map.remove(&oldest);
            }
        }
        map.insert(key, (value, tick()));
    }

    pub(in crate::gateway) fn clear(&self) {
        self.map().clear();
    }
}

/// Returns a number that is greater at each call.
pub(in crate::gateway) fn tick() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
