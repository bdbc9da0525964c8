use std::{fmt, sync::Arc};

use tower::Layer;

use super::{
    BreakerHandle, BreakerPolicy, CircuitBreaker, StateChange,
    state::{KeyBy, OnChange, Shared},
};
use crate::{McpRequest, retry::InvalidOption};

/// Stops calling what is down; see the [module](super).
///
/// Clones, and everything they are laid over, share one set of breakers. So does each [`handle`](Self::handle).
#[derive(Clone)]
pub struct CircuitBreakerLayer {
    shared: Arc<Shared>,
}

impl CircuitBreakerLayer {
    /// A layer with every setting at its default.
    pub fn new() -> Self {
        CircuitBreakerLayerBuilder::default().into_layer()
    }

    /// Begins a layer with settings of its own.
    pub fn builder() -> CircuitBreakerLayerBuilder {
        CircuitBreakerLayerBuilder::default()
    }

    /// The handle that reads the breakers, and sets them.
    pub fn handle(&self) -> BreakerHandle {
        BreakerHandle {
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
    policy: BreakerPolicy,
    key_by: KeyBy,
    max_keys: usize,
    on_change: Option<OnChange>,
}

impl Default for CircuitBreakerLayerBuilder {
    fn default() -> Self {
        Self {
            policy: BreakerPolicy::default(),
            key_by: KeyBy::Tool,
            max_keys: 1_000,
            on_change: None,
        }
    }
}

impl CircuitBreakerLayerBuilder {
    /// When breakers open and close. Default: [`BreakerPolicy::default`].
    pub fn policy(mut self, policy: BreakerPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Has one breaker for the whole stack, under this name: for a stack that is one upstream. An internal error that
    /// the upstream answers with is not a failure then, unless
    /// [`count_internal_errors`](BreakerPolicy::count_internal_errors) says so. Default: one for each tool, by its
    /// name, and one for each other method, by its own.
    pub fn one_key(mut self, name: impl Into<Arc<str>>) -> Self {
        self.key_by = KeyBy::One(name.into());
        self
    }

    /// Has one breaker for each key that `key` names, and none for requests for which it names none. It is asked for
    /// each request but notifications and `subscriptions/listen`, so it has to be quick. A key of which the
    /// [principal](crate::Principal) is a part keeps callers apart; put nothing into one that others must not read,
    /// because it is named in the refusal.
    pub fn key_by(
        mut self,
        key: impl Fn(&McpRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.key_by = KeyBy::Function(Box::new(key));
        self
    }

    /// How many keys are kept. Past it, the closed one that was used longest ago is forgotten; one that is not closed
    /// is forgotten only if nobody has called it for as long again as it was open. Where all are open, failures of
    /// further keys are not counted. Default: 1,000.
    pub fn max_keys(mut self, max: usize) -> Self {
        self.max_keys = max;
        self
    }

    /// Calls this when a breaker changes its state. It runs on the path of the call that changed it, with no lock
    /// held, so it has to be quick; two changes at one moment may be told in either order.
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
    /// A policy that cannot work, or a bound of nothing; the error says which option.
    pub fn build(self) -> Result<CircuitBreakerLayer, InvalidOption> {
        self.policy.check()?;
        if self.max_keys == 0 {
            return Err(InvalidOption::new("max_keys", "there is room for no key"));
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
