use std::{fmt, sync::Arc, time::Duration};

use rmcp::model::Tool;
use tower::Layer;

use super::{Delegate, DelegateHandle, Orchestrator, counters::Counters, tools};
use crate::ConfigError;

/// The default of [`DelegateLayerBuilder::wait`].
const DEFAULT_WAIT: Duration = Duration::from_secs(45);
/// The default of [`DelegateLayerBuilder::max_wait`].
const DEFAULT_MAX_WAIT: Duration = Duration::from_secs(60 * 60);

/// Adds the tools of an orchestrator to a stack; see the [module](super).
///
/// Clones, all stacks under them, and each [`handle`](Self::handle) share the orchestrator.
#[derive(Clone)]
pub struct DelegateLayer {
    shared: Arc<Shared>,
}

/// State of a layer and its services.
pub(super) struct Shared {
    pub(super) orchestrator: Orchestrator,
    pub(super) tools: Arc<[Tool]>,
    pub(super) wait: Duration,
    pub(super) max_wait: Duration,
    pub(super) counters: Counters,
}

/// Builds a [`DelegateLayer`]; see [`DelegateLayer::builder`].
#[derive(Debug)]
#[must_use = "call `build` to make the layer"]
pub struct DelegateLayerBuilder {
    orchestrator: Orchestrator,
    wait: Duration,
    max_wait: Duration,
}

impl DelegateLayer {
    /// Creates a layer with default settings.
    #[must_use]
    pub fn new(orchestrator: Orchestrator) -> Self {
        let builder = Self::builder(orchestrator);
        builder.into_layer()
    }

    /// Returns a builder with default settings.
    pub fn builder(orchestrator: Orchestrator) -> DelegateLayerBuilder {
        DelegateLayerBuilder {
            orchestrator,
            wait: DEFAULT_WAIT,
            max_wait: DEFAULT_MAX_WAIT,
        }
    }

    /// Returns a handle that reads the counters of the layer.
    pub fn handle(&self) -> DelegateHandle {
        DelegateHandle::new(self.shared.clone())
    }
}

impl DelegateLayerBuilder {
    /// Sets the time that a call waits for the end of its plan if it names none. Default: 45 s,
    /// because most hosts give up after 60 s.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Sets the maximum time that a call may wait by `wait_s`. Default: 1 h.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Returns the layer.
    ///
    /// # Errors
    ///
    /// Fails if `wait` is longer than `max_wait`.
    pub fn build(self) -> Result<DelegateLayer, ConfigError> {
        if self.wait > self.max_wait {
            let reason = "it is longer than `max_wait`; give less, or raise that";
            return Err(ConfigError::new("delegate", "wait", reason));
        }
        Ok(self.into_layer())
    }

    fn into_layer(self) -> DelegateLayer {
        DelegateLayer {
            shared: Arc::new(Shared {
                tools: tools::definitions(self.wait, self.max_wait),
                orchestrator: self.orchestrator,
                wait: self.wait,
                max_wait: self.max_wait,
                counters: Counters::default(),
            }),
        }
    }
}

impl<S> Layer<S> for DelegateLayer {
    type Service = Delegate<S>;

    fn layer(&self, inner: S) -> Delegate<S> {
        Delegate::new(self.shared.clone(), inner)
    }
}

impl fmt::Debug for DelegateLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DelegateLayer")
            .field("wait", &self.shared.wait)
            .field("max_wait", &self.shared.max_wait)
            .finish_non_exhaustive()
    }
}
