use std::{fmt, sync::Arc};

use tower::Layer;

use super::{
    Retry, RetryBudget, RetryEvent, RetryHandle, RetryPolicy, budget::Balance, handle::Totals,
};
use crate::{ConfigError, McpRequest, util::glob};

/// Maximum number of rules for tools. Each tool call searches them.
const MOST_RULES: usize = 1_000;

/// Repeats failed calls if that is safe; see the [module](super).
///
/// Clones, and all stacks under them, share one budget. Each stack learns tool annotations
/// separately, because two servers may have a tool of the same name.
#[derive(Clone)]
pub struct RetryLayer {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    policy: Arc<RetryPolicy>,
    rules: Vec<(String, Arc<RetryPolicy>)>,
    pub(super) trusts_annotations: bool,
    pub(super) idempotency_key: bool,
    pub(super) budget: Option<Balance>,
    pub(super) on_retry: Option<OnRetry>,
    pub(super) totals: Totals,
}

pub(super) type OnRetry = Box<dyn Fn(&RetryEvent<'_>) + Send + Sync>;

impl Shared {
    /// Returns the policy for this request.
    pub(super) fn policy(&self, request: &McpRequest) -> Arc<RetryPolicy> {
        if let Some(own) = request.context.extensions.get::<RetryPolicy>() {
            return Arc::new(own.clone());
        }
        let rule = request.as_tool_call().and_then(|call| {
            let mut rules = self.rules.iter();
            rules.find(|(names, _)| glob::matches(names, &call.name))
        });
        rule.map_or(&self.policy, |(_, policy)| policy).clone()
    }
}

impl RetryLayer {
    /// Creates a layer with default settings.
    pub fn new() -> Self {
        RetryLayerBuilder::default().into_layer()
    }

    /// Returns a builder with default settings.
    pub fn builder() -> RetryLayerBuilder {
        RetryLayerBuilder::default()
    }

    /// Returns a handle that reads the statistics.
    pub fn handle(&self) -> RetryHandle {
        RetryHandle {
            shared: self.shared.clone(),
        }
    }
}

impl Default for RetryLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry::new(self.shared.clone(), inner)
    }
}

impl fmt::Debug for RetryLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryLayer")
            .field("policy", &self.shared.policy)
            .field("tools", &self.shared.rules)
            .finish_non_exhaustive()
    }
}

/// Builds a [`RetryLayer`].
#[must_use = "call `build` to make the layer"]
pub struct RetryLayerBuilder {
    policy: RetryPolicy,
    rules: Vec<(String, RetryPolicy)>,
    trusts_annotations: bool,
    idempotency_key: bool,
    budget: Option<RetryBudget>,
    on_retry: Option<OnRetry>,
}

impl Default for RetryLayerBuilder {
    fn default() -> Self {
        Self {
            policy: RetryPolicy::default(),
            rules: Vec::new(),
            trusts_annotations: false,
            idempotency_key: true,
            budget: Some(RetryBudget::default()),
            on_retry: None,
        }
    }
}

impl RetryLayerBuilder {
    /// Sets the policy for calls without a rule. Default: [`RetryPolicy::default`].
    pub fn policy(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Adds a rule for tools whose name matches `names` (`*` for any characters, `?` for one). The
    /// first rule that matches applies. Limit: 1,000 rules.
    pub fn tool(mut self, names: impl Into<String>, policy: RetryPolicy) -> Self {
        self.rules.push((names.into(), policy));
        self
    }

    /// Sets whether the tool annotations of servers are trusted. Default: `false`.
    ///
    /// If they are trusted, tools with `readOnlyHint` or `idempotentHint` are safe to repeat. If
    /// the annotations are wrong, a tool may run twice that must not. MCP 2026-07-28, Tools,
    /// requires clients to consider annotations untrusted unless they come from a trusted server.
    ///
    /// The layer learns annotations from the `tools/list` responses that pass it, separately for
    /// each caller. A tool that was not listed to its caller has no annotations. If only some
    /// servers behind a stack are trusted, use one layer per server.
    pub fn trust_annotations(mut self, trusted: bool) -> Self {
        self.trusts_annotations = trusted;
        self
    }

    /// Sets whether attempts carry an [idempotency key](super::IDEMPOTENCY_META_KEY). Default:
    /// `true`.
    pub fn idempotency_key(mut self, carried: bool) -> Self {
        self.idempotency_key = carried;
        self
    }

    /// Sets the budget of all retries. Default: [`RetryBudget::default`].
    ///
    /// With `None`, only the limits of each call apply. This suits a stack with few calls.
    pub fn budget(mut self, budget: impl Into<Option<RetryBudget>>) -> Self {
        self.budget = budget.into();
        self
    }

    /// Sets a function that runs before each delay. It runs within the call, so it must be fast.
    pub fn on_retry(mut self, hook: impl Fn(&RetryEvent<'_>) + Send + Sync + 'static) -> Self {
        self.on_retry = Some(Box::new(hook));
        self
    }

    /// Makes the layer.
    ///
    /// # Errors
    ///
    /// Returns an error that names the option if a policy or the budget cannot work, or if there
    /// are more than 1,000 rules.
    pub fn build(self) -> Result<RetryLayer, ConfigError> {
        self.policy.check()?;
        if self.rules.len() > MOST_RULES {
            let reason = "there are more than 1,000 rules; cover several tools by one glob";
            return Err(ConfigError::new("retry", "tool", reason));
        }
        for (names, policy) in &self.rules {
            policy.check().map_err(|error| {
                let reason = format!("`{}`: {}", error.option(), error.reason());
                ConfigError::new("retry", format!("tool[{names}]"), reason)
            })?;
        }
        if let Some(budget) = &self.budget {
            budget.check()?;
        }
        Ok(self.into_layer())
    }

    fn into_layer(self) -> RetryLayer {
        let rules = self.rules.into_iter();
        let shared = Shared {
            policy: Arc::new(self.policy),
            rules: rules
                .map(|(names, policy)| (names, Arc::new(policy)))
                .collect(),
            trusts_annotations: self.trusts_annotations,
            idempotency_key: self.idempotency_key,
            budget: self.budget.as_ref().map(Balance::new),
            on_retry: self.on_retry,
            totals: Totals::default(),
        };
        RetryLayer {
            shared: Arc::new(shared),
        }
    }
}

impl fmt::Debug for RetryLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryLayerBuilder")
            .field("policy", &self.policy)
            .field("tools", &self.rules)
            .field("trust_annotations", &self.trusts_annotations)
            .field("idempotency_key", &self.idempotency_key)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}
