use std::{fmt, sync::Arc, time::Duration};

use rmcp::model::Implementation;
use tower::Layer;

use super::{
    NoTools, Registry, RegistryHandle,
    health::{Covers, HealthPolicy, InnerHealth},
    pin::{Fingerprint, MAX_PINS, Pins},
    search::{Search, SearchMode},
    state::{Settings, Shared},
};
use crate::ConfigError;

/// Adds tools to a stack while it serves, and tracks the health of its tools; see the
/// [module](super).
///
/// Clones, all stacks under them, and each [`handle`](Self::handle) share one registry.
#[derive(Clone)]
pub struct RegistryLayer {
    shared: Arc<Shared>,
}

impl RegistryLayer {
    /// Creates a registry with default settings.
    pub fn new() -> Self {
        Self {
            shared: Shared::new(RegistryLayerBuilder::default().into_settings()),
        }
    }

    /// Returns a builder with default settings.
    pub fn builder() -> RegistryLayerBuilder {
        RegistryLayerBuilder::default()
    }

    /// Returns a handle that registers tools and reads their status.
    pub fn handle(&self) -> RegistryHandle {
        RegistryHandle {
            shared: self.shared.clone(),
        }
    }

    /// Makes a stack of the registered tools only: the registry over [`NoTools`].
    pub fn into_service(self, info: Implementation) -> Registry<NoTools> {
        self.layer(NoTools::new(info))
    }
}

impl Default for RegistryLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for RegistryLayer {
    type Service = Registry<S>;

    fn layer(&self, inner: S) -> Registry<S> {
        Registry::new(self.shared.clone(), inner)
    }
}

impl fmt::Debug for RegistryLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryLayer").finish_non_exhaustive()
    }
}

/// Builds a [`RegistryLayer`].
#[must_use = "call `build` to make the layer"]
pub struct RegistryLayerBuilder {
    max_tools: usize,
    coalesce: Duration,
    health: HealthPolicy,
    inner: Vec<InnerHealth>,
    max_concurrent_checks: usize,
    search: Option<SearchMode>,
    pins: Option<Vec<(String, Fingerprint)>>,
}

impl Default for RegistryLayerBuilder {
    fn default() -> Self {
        Self {
            max_tools: 10_000,
            coalesce: Duration::from_millis(100),
            health: HealthPolicy::default(),
            inner: Vec::new(),
            max_concurrent_checks: 16,
            search: None,
            pins: None,
        }
    }
}

impl RegistryLayerBuilder {
    /// Sets the maximum number of registered tools; each version counts. Default: 10,000. Beyond
    /// it, registering fails.
    pub fn max_tools(mut self, max: usize) -> Self {
        self.max_tools = max;
        self
    }

    /// Sets the time for which changes are collected into one notification. Default: 100 ms,
    /// because a caller fetches the whole list after each notification.
    pub fn coalesce(mut self, time: Duration) -> Self {
        self.coalesce = time;
        self
    }

    /// Sets the health policy of tools and rules without their own. Default:
    /// [`HealthPolicy::default`].
    pub fn health(mut self, policy: HealthPolicy) -> Self {
        self.health = policy;
        self
    }

    /// Adds a health rule for tools of the inner stack. The first rule that covers a tool applies.
    /// Default: none, so inner tools are passed on regardless of their health.
    pub fn inner_health(mut self, rule: InnerHealth) -> Self {
        self.inner.push(rule);
        self
    }

    /// Sets the maximum number of concurrent health checks; further ones wait. Default: 16.
    pub fn max_concurrent_checks(mut self, max: usize) -> Self {
        self.max_concurrent_checks = max;
        self
    }

    /// Adds a tool that searches tools; see [`SearchMode`]. Default: none.
    pub fn search(mut self, mode: SearchMode) -> Self {
        self.search = Some(mode);
        self
    }

    /// Holds back each inner tool whose definition changes after it was first listed, until
    /// [`RegistryHandle::approve`]. Default: off.
    ///
    /// A definition is the title, description, schemas and annotations. Models act on it, so a
    /// server that changes it silently may mean harm.
    ///
    /// A tool is first seen when a `tools/list` passes; calls of tools that were never listed pass.
    /// All callers share the pins, so the inner stack must define a tool alike for all of them.
    /// Limit: 10,000 tools; further ones are held back.
    pub fn pin_inner_tools(mut self) -> Self {
        self.pins.get_or_insert_default();
        self
    }

    /// [Pins](Self::pin_inner_tools) inner tools, starting with the result of
    /// [`RegistryHandle::pins`] from before a restart.
    pub fn pins(mut self, pins: impl IntoIterator<Item = (String, Fingerprint)>) -> Self {
        self.pins.get_or_insert_default().extend(pins);
        self
    }

    /// Makes the layer.
    ///
    /// # Errors
    ///
    /// Returns an error if a limit is 0, if a health policy cannot work, if [`InnerHealth::each`]
    /// has a check, or if there are more than 10,000 pins. It names the setting.
    pub fn build(self) -> Result<RegistryLayer, ConfigError> {
        let wrong = |option, reason| Err(ConfigError::new("registry", option, reason));
        if self.max_tools == 0 {
            return wrong("max_tools", "it is 0; give at least 1");
        }
        if self.max_concurrent_checks == 0 {
            return wrong("max_concurrent_checks", "it is 0; give at least 1");
        }
        self.health.check()?;
        for rule in &self.inner {
            if let Some(policy) = &rule.policy {
                policy.check()?;
            }
            if rule.check.is_some() && matches!(rule.covers, Covers::Each(_)) {
                return wrong(
                    "inner_health",
                    "one check cannot cover each tool by itself; use InnerHealth::group",
                );
            }
        }
        if self.pins.as_ref().is_some_and(|pins| pins.len() > MAX_PINS) {
            return wrong("pins", "there are more than 10,000 fingerprints");
        }
        Ok(RegistryLayer {
            shared: Shared::new(self.into_settings()),
        })
    }

    fn into_settings(self) -> Settings {
        Settings {
            max_tools: self.max_tools,
            health: self.health,
            coalesce: self.coalesce,
            inner: self.inner,
            pins: self.pins.map(Pins::restore),
            search: self.search.map(Search::new),
            max_concurrent_checks: self.max_concurrent_checks,
        }
    }
}

impl fmt::Debug for RegistryLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryLayerBuilder")
            .field("max_tools", &self.max_tools)
            .field("coalesce", &self.coalesce)
            .field("health", &self.health)
            .field("inner", &self.inner)
            .field("max_concurrent_checks", &self.max_concurrent_checks)
            .field("search", &self.search)
            .field("pins", &self.pins.as_ref().map(Vec::len))
            .finish()
    }
}
