use std::{fmt, sync::Arc, time::Duration};

use tower::{Layer, retry::budget::TpsBudget};

use super::{InvalidOption, Retry, RetryEvent, RetryPolicy};
use crate::{McpRequest, glob};

/// How many rules for tools there may be: each call of a tool looks through them.
const MOST_RULES: usize = 1_000;

/// Repeats calls that failed, where that does no harm; see the [module](super).
///
/// Clones, and everything they are laid over, share one budget. What tools say of themselves is known to each stack
/// apart: two servers may have a tool of the same name.
#[derive(Clone)]
pub struct RetryLayer {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    policy: Arc<RetryPolicy>,
    rules: Vec<(String, Arc<RetryPolicy>)>,
    pub(super) trusts_annotations: bool,
    pub(super) idempotency_key: bool,
    pub(super) budget: Option<TpsBudget>,
    pub(super) on_retry: Option<OnRetry>,
}

pub(super) type OnRetry = Box<dyn Fn(&RetryEvent<'_>) + Send + Sync>;

impl Shared {
    /// The policy for this request.
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
    /// A layer with every setting at its default.
    pub fn new() -> Self {
        RetryLayerBuilder::default().into_layer()
    }

    /// Begins a layer with settings of its own.
    pub fn builder() -> RetryLayerBuilder {
        RetryLayerBuilder::default()
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
            .field("budget", &self.shared.budget)
            .finish_non_exhaustive()
    }
}

/// How many retries there may be, compared with the calls that succeed: what keeps many callers who repeat their
/// calls from bringing a server down that has only just come back.
///
/// Each call that succeeds adds a part of a retry to it, each retry takes one, and a number of retries a second are
/// there in any case. What is not used is forgotten after some time. Where there is none left, a call fails as its
/// last attempt did. All callers share one budget, as they share the server.
///
/// It is tower's own [`TpsBudget`], on tokio's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    ratio: f32,
    min_per_second: u32,
    keep: Duration,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            ratio: 0.2,
            min_per_second: 10,
            keep: Duration::from_secs(10),
        }
    }
}

impl RetryBudget {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many retries a call that succeeds is worth, from 0 to 1000. Default: 0.2, a retry for five calls.
    #[must_use]
    pub fn ratio(mut self, ratio: f32) -> Self {
        self.ratio = ratio;
        self
    }

    /// How many retries there may be in a second, though nothing succeeds; at most a million. Default: 10, so
    /// that a program that calls seldom can repeat its calls.
    #[must_use]
    pub fn min_per_second(mut self, retries: u32) -> Self {
        self.min_per_second = retries;
        self
    }

    /// For how long a success counts, and retries that were not used are there: 1 to 60 s. Default: 10 s.
    #[must_use]
    pub fn keep(mut self, keep: Duration) -> Self {
        self.keep = keep;
        self
    }

    fn check(&self) -> Result<(), InvalidOption> {
        let wrong = |reason: &str| Err(InvalidOption::new("budget", reason));
        if !(0.0..=1000.0).contains(&self.ratio) {
            return wrong("a ratio is between 0 and 1000");
        }
        if self.min_per_second > 1_000_000 {
            return wrong("at most a million retries a second");
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(60)).contains(&self.keep) {
            return wrong("successes are kept for 1 to 60 s");
        }
        if self.ratio == 0.0 && self.min_per_second == 0 {
            return wrong("there is never a retry in it; to repeat nothing, leave the layer out");
        }
        Ok(())
    }

    fn start(&self) -> TpsBudget {
        TpsBudget::new(self.keep, self.min_per_second, self.ratio)
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
    /// The policy for every call that no rule is for. Default: [`RetryPolicy::default`].
    pub fn policy(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The policy for calls of some tools: those of this name, in which `*` stands for any characters and `?` for
    /// one. Rules are tried in the order they were added, and the first that covers a tool holds. Up to 1,000.
    pub fn tool(mut self, names: impl Into<String>, policy: RetryPolicy) -> Self {
        self.rules.push((names.into(), policy));
        self
    }

    /// Whether what tools say of themselves is believed: one with `readOnlyHint` or `idempotentHint` is then safe to
    /// repeat. Not by default: a server that is wrong about them has a tool run twice that must not be, and MCP
    /// 2026-07-28, Tools, has clients consider annotations untrusted unless they come from a trusted server.
    ///
    /// They are learned from the `tools/list` answers that pass, for each caller apart; a tool that its caller was
    /// not told of has none. Where some servers behind a stack are trusted and others not, lay one layer over each.
    pub fn trust_annotations(mut self, trusted: bool) -> Self {
        self.trusts_annotations = trusted;
        self
    }

    /// Whether attempts carry an [idempotency key](super::IDEMPOTENCY_META_KEY). Default: yes.
    pub fn idempotency_key(mut self, carried: bool) -> Self {
        self.idempotency_key = carried;
        self
    }

    /// How many retries there may be in all. Default: [`RetryBudget::default`].
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Has no bound on retries beside each call's own. For a stack that few calls go through.
    pub fn without_budget(mut self) -> Self {
        self.budget = None;
        self
    }

    /// Calls this before each wait. It runs on the call's path, so it has to be quick.
    pub fn on_retry(mut self, hook: impl Fn(&RetryEvent<'_>) + Send + Sync + 'static) -> Self {
        self.on_retry = Some(Box::new(hook));
        self
    }

    /// Makes the layer.
    ///
    /// # Errors
    ///
    /// A policy or a budget that cannot work, or more than 1,000 rules; the error says which option.
    pub fn build(self) -> Result<RetryLayer, InvalidOption> {
        self.policy.check()?;
        if self.rules.len() > MOST_RULES {
            return Err(InvalidOption::new("tool", "at most 1,000 rules"));
        }
        for (names, policy) in &self.rules {
            policy.check().map_err(|error| {
                InvalidOption::new("tool", format!("the rule for `{names}`: {error}"))
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
            budget: self.budget.as_ref().map(RetryBudget::start),
            on_retry: self.on_retry,
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
