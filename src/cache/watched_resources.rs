//! The resources that the cache wants update notifications for.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use tokio::{sync::watch, time::Instant};

use crate::util::lock;

/// The cached resources, each with the end of its interest.
#[derive(Default)]
pub(super) struct WatchedResources {
    most: usize,
    until: Mutex<HashMap<Arc<str>, Instant>>,
    /// Signals that a resource was added.
    pub more: watch::Sender<()>,
}

impl WatchedResources {
    /// Creates a set of at most `most` resources.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    /// Adds a resource until this time. If the set is full, the resource is not added.
    pub(super) fn watch(&self, uri: &Arc<str>, until: Instant) {
        let mut wanted = lock(&self.until);
        if let Some(known) = wanted.get_mut(uri) {
            *known = until.max(*known);
            return;
        }
        if wanted.len() >= self.most {
            let now = Instant::now();
            wanted.retain(|_, until| *until > now);
        }
        if wanted.len() < self.most {
            wanted.insert(uri.clone(), until);
            drop(wanted);
            self.more.send_replace(());
        }
    }

    /// Returns the current resources and removes the others.
    pub(super) fn current(&self) -> BTreeSet<Arc<str>> {
        let now = Instant::now();
        let mut wanted = lock(&self.until);
        wanted.retain(|_, until| *until > now);
        wanted.keys().cloned().collect()
    }
}
