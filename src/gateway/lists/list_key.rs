//! The audience of a list, and a bounded map by audience.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{Audience, CallContext, caller::Era};

/// The maximum number of callers for which a member's lists, and the merged lists, are remembered.
/// Past it the least recently used is forgotten.
const MAX_CLASSES: usize = 256;

/// The audience of a list. Two classes never see each other's lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::gateway) struct Class {
    pub(in crate::gateway) era: Era,
    audience: Audience,
    session: Option<u64>,
}

impl Class {
    pub(in crate::gateway) fn of(context: &CallContext, by_session: bool) -> Self {
        Self {
            era: context.era(),
            audience: Audience::of(context),
            session: by_session.then(|| context.caller.session_id()).flatten(),
        }
    }

    /// The class of an anonymous caller without a session.
    pub(in crate::gateway) fn anonymous() -> Self {
        Self {
            era: Era::Modern,
            audience: Audience::anonymous(),
            session: None,
        }
    }

    /// The class of lists that are the same for every caller.
    pub(in crate::gateway) fn everybody(&self) -> Self {
        Self {
            era: self.era,
            audience: Audience::everybody(),
            session: None,
        }
    }

    /// Returns `true` if callers of the class are indistinguishable from the gateway itself.
    pub(in crate::gateway) fn is_anonymous(&self) -> bool {
        self.audience == Audience::anonymous() && self.session.is_none()
    }
}

/// A bounded map by class.
pub(in crate::gateway) struct ByClass<V>(Mutex<HashMap<Class, (V, u64)>>);

impl<V> Default for ByClass<V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V: Clone> ByClass<V> {
    fn map(&self) -> MutexGuard<'_, HashMap<Class, (V, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::gateway) fn get(&self, class: &Class) -> Option<V> {
        let mut map = self.map();
        let (value, used) = map.get_mut(class)?;
        *used = tick();
        Some(value.clone())
    }

    pub(in crate::gateway) fn set(&self, class: Class, value: V) {
        let mut map = self.map();
        if map.len() >= MAX_CLASSES && !map.contains_key(&class) {
            let oldest = map
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(class, _)| class.clone());
            if let Some(oldest) = oldest {
                map.remove(&oldest);
            }
        }
        map.insert(class, (value, tick()));
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
