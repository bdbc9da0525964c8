use std::{fmt, sync::Arc};

use tower::Layer;

use super::{
    CircuitBreaker, CircuitBreakerHandle, CircuitBreakerPolicy, StateChange,
    state::{KeyBy, OnChange, Shared},
};
use crate::{ConfigError, McpRequest};

/// Stops calls to a failing server; see the [module](super).
///
/// Clones, all stacks under them, and each [`handle`](Self::handle) share one set of breakers.
#[derive(Clone)]
pub struct CircuitBreakerLayer {
    shared: Arc<Shared>,
}

impl CircuitBreakerLayer {
    /// Creates a layer with default settings.
    pub fn new() -> Self {
        CircuitBreakerLayerBuilder::default().into_layer()
    }

    /// Returns a builder with default settings.
    pub fn builder() -> CircuitBreakerLayerBuilder {
        CircuitBreakerLayerBuilder::default()
    }

    /// Returns a handle that reads and controls the breakers.
    pub fn handle(&self) -> CircuitBreakerHandle {
        CircuitBreakerHandle {
            shared: self.shared.clone(),
        }
    }
}

impl Default for CircuitBreakerLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for CircuitBreakerLayer {
    type Service = CircuitBreaker<S>;

    fn layer(&self, inner: S) -> CircuitBreaker<S> {
        CircuitBreaker::new(self.shared.clone(), inner)
    }
}

impl fmt::Debug for CircuitBreakerLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerLayer")
            .field("policy", &self.shared.policy)
            .finish_non_exhaustive()
    }
}

/// Builds a [`CircuitBreakerLayer`].
#[must_use = "call `build` to make the layer"]
pub struct CircuitBreakerLayerBuilder {
    policy: CircuitBreakerPolicy,
    key_by: KeyBy,
    max_keys: usize,
    on_change: Option<OnChange>,
}

impl Default for CircuitBreakerLayerBuilder {
    fn default() -> Self {
        Self {
            policy: CircuitBreakerPolicy::default(),
            key_by: KeyBy::Tool,
            max_keys: 1_000,
            on_change: None,
        }
    }
}

impl CircuitBreakerLayerBuilder {
    /// Sets the policy by which breakers open and close. Default:
    /// [`CircuitBreakerPolicy::default`].
    pub fn policy(mut self, policy: CircuitBreakerPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Uses one breaker for the whole stack, under this name. This suits a stack that is one
    /// upstream.
    ///
    /// An internal error from the upstream is then not a failure, unless
    /// [`count_internal_errors`](CircuitBreakerPolicy::count_internal_errors) is on. Default: one
    /// breaker for each tool and for each other method, by name.
    pub fn one_key(mut self, name: impl Into<Arc<str>>) -> Self {
        self.key_by = KeyBy::One(name.into());
        self
    }

    /// Uses one breaker for each key that `key` returns, and none for requests for which it returns
    /// `None`.
    ///
    /// `key` runs for each request except notifications and `subscriptions/listen`, so it must be
    /// fast. A key that includes the [principal](crate::Principal) separates callers. Do not put
    /// secrets into a key, because refusals contain it.
    pub fn key_by(
        mut self,
        key: impl Fn(&McpRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.key_by = KeyBy::Function(Box::new(key));
        self
    }

    /// Sets the maximum number of keys. Default: 1,000 (the least recently used closed one is
    /// evicted).
    ///
    /// A key that is not closed is evicted only if no probe was made for another
    /// [`open_for`](CircuitBreakerPolicy::open_for) after one was possible. If all keys are open,
    /// failures of further keys are not counted.
    pub fn max_keys(mut self, max: usize) -> Self {
        self.max_keys = max;
        self
    }

    /// Sets a function that runs when a breaker changes its state. It runs within the call that
    /// caused the change, with no lock held, so it must be fast. Two changes at the same moment may
    /// be reported in either order.
    pub fn on_state_change(
        mut self,
        hook: impl Fn(&StateChange<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.on_change = Some(Box::new(hook));
        self
    }

    /// Makes the layer.
    ///
    /// # Errors
    ///
    /// Returns an error that names the option if the policy cannot work or a limit is 0.
    pub fn build(self) -> Result<CircuitBreakerLayer, ConfigError> {
        self.policy.check()?;
        if self.max_keys == 0 {
            let reason = "it is 0; give at least 1";
            return Err(ConfigError::new("breaker", "max_keys", reason));
        }
        Ok(self.into_layer())
    }

    fn into_layer(self) -> CircuitBreakerLayer {
        let shared = Shared::new(self.policy, self.key_by, self.max_keys, self.on_change);
        CircuitBreakerLayer { shared }
    }
}

impl fmt::Debug for CircuitBreakerLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerLayerBuilder")
            .field("policy", &self.policy)
            .field("max_keys", &self.max_keys)
            .finish_non_exhaustive()
    }
}
