//! Of which resources the cache wants to be told.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::watch, time::Instant};

/// The resources that something is kept of, and until when.
#[derive(Default)]
pub(super) struct Watched {
    most: usize,
    until: Mutex<HashMap<Arc<str>, Instant>>,
    /// There is one more.
    pub more: watch::Sender<()>,
}

impl Watched {
    /// At most so many at once.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    /// Wants to be told of this resource until then. Those that find no room are not told of.
    pub fn want(&self, uri: &Arc<str>, until: Instant) {
        let mut wanted = self.until.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// The resources that are wanted now. The others are forgotten.
    pub fn now(&self) -> BTreeSet<Arc<str>> {
        let now = Instant::now();
        let mut wanted = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.retain(|_, until| *until > now);
        wanted.keys().cloned().collect()
    }
}
