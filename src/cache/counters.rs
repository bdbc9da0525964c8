//! Counters and metric events of the cache.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::util::metrics::count;

/// One counter for each kind of event. Each count is also an event for subscribers that turn events
/// into metrics.
#[derive(Default)]
pub(super) struct Counters {
    hits: AtomicU64,
    stale_hits: AtomicU64,
    shared: AtomicU64,
    misses: AtomicU64,
    bypasses: AtomicU64,
    evictions: AtomicU64,
    invalidations: AtomicU64,
    store_hits: AtomicU64,
}

macro_rules! counted {
    ($($event:ident $field:ident;)*) => {
        /// An event that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Event {
            $($event,)*
        }

        impl Counters {
            pub(super) fn count(&self, event: Event, method: &'static str, times: u64) {
                if times == 0 {
                    return;
                }
                match event {
                    $(Event::$event => {
                        self.$field.fetch_add(times, Ordering::Relaxed);
                        count!(cache.$field, times, method = method);
                    })*
                }
            }

            pub(super) fn get(&self, event: Event) -> u64 {
                match event {
                    $(Event::$event => self.$field.load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

counted! {
    Hit hits;
    Stale stale_hits;
    Shared shared;
    Miss misses;
    Bypass bypasses;
    Eviction evictions;
    Invalidation invalidations;
    StoreHit store_hits;
}
