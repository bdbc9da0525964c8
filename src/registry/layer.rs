use std::{fmt, sync::Arc, time::Duration};

use rmcp::model::Implementation;
use tower::Layer;

use super::{
    NoTools, Registry, RegistryError, RegistryHandle,
    health::{Covers, HealthPolicy, InnerHealth},
    pin::{Fingerprint, MAX_PINS, Pins},
    search::{Search, SearchMode},
    state::{Settings, Shared},
};

/// Adds tools to a stack while it serves, and governs the health of all its tools; see the
/// [module](super).
///
/// Clones, and everything they are laid over, share one registry. So does each [`handle`](Self::handle).
#[derive(Clone)]
pub struct RegistryLayer {
    shared: Arc<Shared>,
}

impl RegistryLayer {
    /// A registry with every setting at its default.
    pub fn new() -> Self {
        Self {
            shared: Shared::new(RegistryLayerBuilder::default().into_settings(None)),
        }
    }

    /// Begins a registry with settings of its own.
    pub fn builder() -> RegistryLayerBuilder {
        RegistryLayerBuilder::default()
    }

    /// The handle that registers tools and reads how they are.
    pub fn handle(&self) -> RegistryHandle {
        RegistryHandle {
            shared: self.shared.clone(),
        }
    }

    /// A whole stack of registered tools and nothing else: the registry over [`NoTools`].
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
    /// How many tools may be registered, each version counted. Past it, registering fails. Default: 10,000.
    pub fn max_tools(mut self, max: usize) -> Self {
        self.max_tools = max;
        self
    }

    /// For how long changes are collected before callers are told of them at once. Default: 100 ms, because a
    /// caller that hears of a change fetches the whole list.
    pub fn coalesce(mut self, time: Duration) -> Self {
        self.coalesce = time;
        self
    }

    /// How health is judged where a tool or a rule says nothing of it. Default: [`HealthPolicy::default`].
    pub fn health(mut self, policy: HealthPolicy) -> Self {
        self.health = policy;
        self
    }

    /// Keeps the health of tools of the inner stack too. Rules are tried in the order they were added, and the
    /// first that covers a tool holds. Default: none, so inner tools are passed on whatever their health.
    pub fn inner_health(mut self, rule: InnerHealth) -> Self {
        self.inner.push(rule);
        self
    }

    /// How many health checks may run at once. Further ones wait. Default: 16.
    pub fn max_concurrent_checks(mut self, max: usize) -> Self {
        self.max_concurrent_checks = max;
        self
    }

    /// Adds a tool that finds tools; see [`SearchMode`]. Default: none.
    pub fn search(mut self, mode: SearchMode) -> Self {
        self.search = Some(mode);
        self
    }

    /// Holds back each tool of the inner stack whose definition changes after it was first listed (its title,
    /// description, schemas or annotations), until [`RegistryHandle::approve`]. What is told to a model is what
    /// somebody agreed to, and a server that changes it silently may mean harm. Default: off.
    ///
    /// A tool is seen when a `tools/list` passes: a call of a tool that was never listed goes through. Up to
    /// 10,000 tools are pinned; those beyond are held back. All callers share the pins, so the inner stack has
    /// to define a tool alike for all of them.
    pub fn pin_inner_tools(mut self) -> Self {
        self.pins.get_or_insert_default();
        self
    }

    /// [Pins](Self::pin_inner_tools) inner tools, beginning with what [`RegistryHandle::pins`] said before a
    /// restart.
    pub fn pins(mut self, pins: impl IntoIterator<Item = (String, Fingerprint)>) -> Self {
        self.pins.get_or_insert_default().extend(pins);
        self
    }

    /// Makes the layer.
    ///
    /// # Errors
    ///
    /// A bound of nothing, a health policy that cannot work, a check for tools that are kept one by one, or
    /// more than 10,000 pins; the error says which.
    pub fn build(self) -> Result<RegistryLayer, RegistryError> {
        let wrong = |option, reason: &str| {
            Err(RegistryError::InvalidOption {
                option,
                reason: reason.to_owned(),
            })
        };
        if self.max_tools == 0 {
            return wrong("max_tools", "there is room for no tool");
        }
        if self.max_concurrent_checks == 0 {
            return wrong("max_concurrent_checks", "no check could ever run");
        }
        self.health.check()?;
        for rule in &self.inner {
            if let Some(policy) = &rule.policy {
                policy.check()?;
            }
            if rule.check.is_some() && matches!(rule.covers, Covers::Each(_)) {
                return wrong(
                    "inner_health",
                    "one check cannot tell of each tool by itself",
                );
            }
        }
        if self.pins.as_ref().is_some_and(|pins| pins.len() > MAX_PINS) {
            return wrong("pins", "there are more than 10,000");
        }
        let search = self.search.map(Search::new).transpose()?;
        Ok(RegistryLayer {
            shared: Shared::new(self.into_settings(search)),
        })
    }

    fn into_settings(self, search: Option<Search>) -> Settings {
        Settings {
            max_tools: self.max_tools,
            health: self.health,
            coalesce: self.coalesce,
            inner: self.inner,
            pins: self.pins.map(Pins::restore),
            search,
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
