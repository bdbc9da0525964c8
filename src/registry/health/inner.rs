use std::{fmt, future::Future};

use tower::BoxError;

use super::{Check, HealthPolicy};

/// A group of the inner stack's tools whose health the registry keeps; see
/// [`RegistryLayerBuilder::inner_health`](crate::registry::RegistryLayerBuilder::inner_health).
///
/// ```
/// use std::time::Duration;
///
/// use rmcp_layers::registry::{HealthPolicy, InnerHealth, RegistryLayer};
///
/// let layer = RegistryLayer::builder()
///     // One member of a gateway: its tools come and go together.
///     .inner_health(
///         InnerHealth::group("db__")
///             .policy(HealthPolicy::new().interval(Duration::from_secs(10)))
///             .check(|| async { Ok::<_, std::io::Error>(()) }),
///     )
///     // Every other tool by itself, by how its calls end.
///     .inner_health(InnerHealth::each(""))
///     .build()?;
/// # let _ = layer;
/// # Ok::<(), rmcp_layers::registry::RegistryError>(())
/// ```
#[derive(Clone)]
#[must_use = "give it to `RegistryLayerBuilder::inner_health`"]
pub struct InnerHealth {
    pub(in crate::registry) covers: Covers,
    pub(in crate::registry) policy: Option<HealthPolicy>,
    pub(in crate::registry) check: Option<Check>,
}

#[derive(Clone)]
pub(in crate::registry) enum Covers {
    Tool(String),
    Group(String),
    Each(String),
}

impl InnerHealth {
    fn new(covers: Covers) -> Self {
        Self {
            covers,
            policy: None,
            check: None,
        }
    }

    /// One tool.
    pub fn tool(name: impl Into<String>) -> Self {
        Self::new(Covers::Tool(name.into()))
    }

    /// All tools whose names begin with `prefix`, as one: a failure of any counts for all, and they leave
    /// and come back together. That is what a gateway's member is.
    pub fn group(prefix: impl Into<String>) -> Self {
        Self::new(Covers::Group(prefix.into()))
    }

    /// Each tool whose name begins with `prefix`, by itself, by how its calls end: there is no
    /// [`check`](Self::check) for these. Up to 10,000 tools that have failed are remembered; then those that are
    /// not unhealthy are forgotten, and if all are, further tools are passed on whatever their health.
    pub fn each(prefix: impl Into<String>) -> Self {
        Self::new(Covers::Each(prefix.into()))
    }

    /// Sets how health is judged. Default: the [registry's](crate::registry::RegistryLayerBuilder::health).
    pub fn policy(mut self, policy: HealthPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Sets how the registry asks whether the tools work: an error says that they do not, and why, to the
    /// callers too. Default: none; then only real calls tell.
    pub fn check<F, Fut, E>(mut self, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.check = Some(Check::new(check));
        self
    }
}

impl fmt::Debug for InnerHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (covers, name) = match &self.covers {
            Covers::Tool(name) => ("tool", name),
            Covers::Group(prefix) => ("group", prefix),
            Covers::Each(prefix) => ("each", prefix),
        };
        f.debug_struct("InnerHealth")
            .field(covers, name)
            .field("policy", &self.policy)
            .field("check", &self.check.is_some())
            .finish()
    }
}
