use std::sync::Arc;

use tower::Layer;

use super::{Metrics, MetricsHandle, MetricsLayerBuilder, shared::Shared};

/// Records every request of a stack in spans, in histograms and in a [summary](super::Summary).
///
/// A layer is a clone of its state: the services that it makes record together.
#[derive(Clone)]
pub struct MetricsLayer {
    pub(super) shared: Arc<Shared>,
}

impl MetricsLayer {
    /// Creates a layer with the defaults, for the requests of callers.
    pub fn new() -> Self {
        MetricsLayerBuilder::default().made()
    }

    /// Creates a builder of a layer.
    pub fn builder() -> MetricsLayerBuilder {
        MetricsLayerBuilder::default()
    }

    /// Returns the handle that reads what the layer has recorded.
    pub fn handle(&self) -> MetricsHandle {
        MetricsHandle {
            shared: self.shared.clone(),
        }
    }
}

impl Default for MetricsLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for MetricsLayer {
    type Service = Metrics<S>;

    fn layer(&self, inner: S) -> Metrics<S> {
        Metrics::new(self.shared.clone(), inner)
    }
}

impl std::fmt::Debug for MetricsLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetricsLayer").finish_non_exhaustive()
    }
}
