//! Counters and metric events of the cache.

use std::sync::atomic::{AtomicU64, Ordering};

/// One counter for each kind of event. Each count is also an event of the target
/// `rmcp_layers::cache`, in the form that `tracing-opentelemetry` turns into metrics.
#[derive(Default)]
pub(super) struct Counters {
    hits: AtomicU64,
    stale: AtomicU64,
    shared: AtomicU64,
    misses: AtomicU64,
    bypasses: AtomicU64,
    evictions: AtomicU64,
    invalidations: AtomicU64,
    store_hits: AtomicU64,
}

macro_rules! counted {
    ($($event:ident $field:ident $($metric:ident).+;)*) => {
        /// An event that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Event {
            $($event,)*
        }

        impl Counters {
            pub fn count(&self, event: Event, method: &'static str, times: u64) {
                if times == 0 {
                    return;
                }
                match event {
                    $(Event::$event => {
                        self.$field.fetch_add(times, Ordering::Relaxed);
                        tracing::event!(
                            target: "rmcp_layers::cache",
                            tracing::Level::TRACE,
                            $($metric).+ = times,
                            mcp.method = method,
                        );
                    })*
                }
            }

            pub fn get(&self, event: Event) -> u64 {
                match event {
                    $(Event::$event => self.$field.load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

counted! {
    Hit hits monotonic_counter.mcp.cache.hits;
    Stale stale monotonic_counter.mcp.cache.stale_hits;
    Shared shared monotonic_counter.mcp.cache.shared;
    Miss misses monotonic_counter.mcp.cache.misses;
    Bypass bypasses monotonic_counter.mcp.cache.bypasses;
    Eviction evictions monotonic_counter.mcp.cache.evictions;
    Invalidation invalidations monotonic_counter.mcp.cache.invalidations;
    StoreHit store_hits monotonic_counter.mcp.cache.store_hits;
}
