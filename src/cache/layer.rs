use std::{fmt, sync::Arc};

use tower::Layer;

use super::{Cache, CacheHandle, CacheLayerBuilder, state::Shared};

/// Caches responses of the inner stack; see the [module](super).
///
/// Clones share one memory and one [`handle`](Self::handle). Each stack under the layer has its own
/// entries, because two stacks may respond differently to the same request.
#[derive(Clone)]
pub struct CacheLayer {
    pub(super) shared: Arc<Shared>,
}

impl CacheLayer {
    /// Creates a cache with default settings.
    pub fn new() -> Self {
        CacheLayerBuilder::default().make()
    }

    /// Returns a builder with default settings.
    pub fn builder() -> CacheLayerBuilder {
        CacheLayerBuilder::default()
    }

    /// Returns a handle that reads the statistics and invalidates entries.
    pub fn handle(&self) -> CacheHandle {
        CacheHandle {
            shared: self.shared.clone(),
        }
    }
}

impl Default for CacheLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = Cache<S>;

    fn layer(&self, inner: S) -> Cache<S> {
        Cache::new(self.shared.clone(), inner)
    }
}

impl fmt::Debug for CacheLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer").finish_non_exhaustive()
    }
}
