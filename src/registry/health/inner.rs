use std::{fmt, future::Future};

use tower::BoxError;

use super::{Check, HealthPolicy};

/// A health rule for tools of the inner stack; see
/// [`RegistryLayerBuilder::inner_health`](crate::registry::RegistryLayerBuilder::inner_health).
///
/// ```
/// use std::time::Duration;
///
/// use rmcp_layers::registry::{HealthPolicy, InnerHealth, RegistryLayer};
///
/// let layer = RegistryLayer::builder()
///     // One member of a gateway: its tools share one health.
///     .inner_health(
///         InnerHealth::group("db__")
///             .policy(HealthPolicy::new().interval(Duration::from_secs(10)))
///             .check(|| async { Ok::<_, std::io::Error>(()) }),
///     )
///     // Every other tool has its own health, from the outcomes of its calls.
///     .inner_health(InnerHealth::each(""))
///     .build()?;
/// # let _ = layer;
/// # Ok::<(), rmcp_layers::ConfigError>(())
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

    /// Covers one tool.
    pub fn tool(name: impl Into<String>) -> Self {
        Self::new(Covers::Tool(name.into()))
    }

    /// Covers all tools whose names begin with `prefix`, with one common health. A failure of one
    /// counts for all, and they are hidden and listed together. This suits a gateway's member.
    pub fn group(prefix: impl Into<String>) -> Self {
        Self::new(Covers::Group(prefix.into()))
    }

    /// Covers each tool whose name begins with `prefix`, with its own health from the outcomes of
    /// its calls. It takes no [`check`](Self::check).
    ///
    /// Limit: 10,000 tools with failures (those that are not unhealthy are evicted). If all are
    /// unhealthy, further tools are passed on regardless of their health.
    pub fn each(prefix: impl Into<String>) -> Self {
        Self::new(Covers::Each(prefix.into()))
    }

    /// Sets the health policy. Default: the
    /// [registry's](crate::registry::RegistryLayerBuilder::health).
    pub fn policy(mut self, policy: HealthPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Sets the health check. Default: none, so only real calls count.
    ///
    /// An error means that the tools do not work. Callers see the error's text.
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
