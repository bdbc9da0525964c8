use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use tower::Layer;

use super::{
    Auth, AuthHandle, Policy, Rules, Verifier, handle::Decisions, task_owners::TaskOwners,
    token_source::TokenSources, verifier::Secret,
};
use crate::{ConfigError, McpRequest};

/// Authenticates callers and guards a stack; see the [module](super).
///
/// Clones, all services made from them, and each [`handle`](Self::handle) share the same rules.
#[derive(Clone)]
pub struct AuthLayer {
    shared: Arc<Shared>,
}

/// The state that all services of a layer share.
pub(super) struct Shared {
    pub(super) verifier: Arc<dyn Verifier>,
    pub(super) sources: TokenSources,
    pub(super) rules: RwLock<Arc<Rules>>,
    pub(super) policies: Vec<Arc<dyn Policy>>,
    pub(super) task_owners: TaskOwners,
    pub(super) decisions: Decisions,
    /// Methods that need no token.
    pub(super) open: Vec<String>,
    pub(super) allows_token_exchange: bool,
    pub(super) clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Shared {
    pub(super) fn rules(&self) -> Arc<Rules> {
        self.rules
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl AuthLayer {
    /// Starts a builder for a layer with this verifier.
    pub fn builder(verifier: impl Verifier) -> AuthLayerBuilder {
        AuthLayerBuilder {
            verifier: Arc::new(verifier),
            rules: None,
            policies: Vec::new(),
            sources: TokenSources::default(),
            environment: None,
            open: Vec::new(),
            allows_token_exchange: false,
            allow_unknown_tasks: false,
            clock: Arc::new(SystemTime::now),
        }
    }

    /// Returns the handle that changes the rules while the layer serves.
    pub fn handle(&self) -> AuthHandle {
        AuthHandle {
            shared: self.shared.clone(),
        }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Auth<S> {
        Auth::new(self.shared.clone(), inner)
    }
}

impl fmt::Debug for AuthLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthLayer")
            .field("sources", &self.shared.sources)
            .field("open", &self.shared.open)
            .finish_non_exhaustive()
    }
}

/// Builds an [`AuthLayer`].
#[must_use = "call `build` to make the layer"]
pub struct AuthLayerBuilder {
    verifier: Arc<dyn Verifier>,
    rules: Option<Rules>,
    policies: Vec<Arc<dyn Policy>>,
    sources: TokenSources,
    environment: Option<String>,
    open: Vec<String>,
    allows_token_exchange: bool,
    allow_unknown_tasks: bool,
    clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl AuthLayerBuilder {
    /// Sets the rules. Default: everything except basic protocol methods needs the scope `admin`.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = Some(rules);
        self
    }

    /// Adds a policy that is asked after the rules have allowed a request. All policies have to
    /// allow it.
    pub fn policy(mut self, policy: impl Policy) -> Self {
        self.policies.push(Arc::new(policy));
        self
    }

    /// Sets whether the `Authorization` header of an HTTP request is read. It is removed in any
    /// case. Default: `true`.
    pub fn token_from_http(mut self, yes: bool) -> Self {
        self.sources.http = yes;
        self
    }

    /// Sets whether [`TOKEN_META_KEY`](super::TOKEN_META_KEY) of a request's `_meta` is read. It is
    /// removed in any case. Default: `true`.
    pub fn token_from_meta(mut self, yes: bool) -> Self {
        self.sources.meta = yes;
        self
    }

    /// Uses the token in this environment variable for all requests that are not over HTTP. The
    /// variable is read once, by [`build`](Self::build). Over stdio a session belongs to one user,
    /// and its host starts the server with the credentials (MCP 2026-07-28, Authorization,
    /// "Protocol Requirements"). Default: none.
    pub fn token_from_env(mut self, variable: impl Into<String>) -> Self {
        self.environment = Some(variable.into());
        self
    }

    /// Uses the token that this function returns. It is called for each request, before the token
    /// is removed.
    pub fn token_from(
        mut self,
        function: impl Fn(&McpRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.sources.function = Some(Arc::new(function));
        self
    }

    /// Lets these methods through without a token. A request with an invalid token is refused
    /// anyway. Default: none.
    ///
    /// Only `ping`, `initialize`, `server/discover` and `notifications/*` can be let through. A
    /// client of an older revision that sends its token in `_meta` often cannot do so in its
    /// handshake, which becomes a `server/discover` here.
    pub fn allow_unauthenticated(
        mut self,
        methods: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.open = methods.into_iter().map(Into::into).collect();
        self
    }

    /// Sets whether an inner [`CredentialLayer`](super::CredentialLayer) may exchange the caller's
    /// token for one of an upstream (RFC 8693). No other layer can read the token in either case.
    /// Default: `false`.
    pub fn allow_token_exchange(mut self, yes: bool) -> Self {
        self.allows_token_exchange = yes;
        self
    }

    /// Sets whether every principal may use tasks whose owner is unknown, if it has their id.
    /// Default: `false`.
    ///
    /// By default, `tasks/get`, `tasks/update`, `tasks/cancel` and `tasks/result` are allowed only to
    /// the principal that began the task through this layer, and `tasks/list` has no other tasks.
    /// Limit: 10,000 tasks (the principal with the most tasks loses its least recently used one).
    /// Enable this if tasks outlive this process, or are polled at another replica than the one that
    /// began them, and if their ids cannot be guessed. Notifications of such tasks are never
    /// delivered, because they contain the id.
    pub fn allow_unknown_tasks(mut self, yes: bool) -> Self {
        self.allow_unknown_tasks = yes;
        self
    }

    /// Sets the clock. Intended for tests.
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// The environment variable is not set, no token source is left, or a method cannot be open.
    pub fn build(mut self) -> Result<AuthLayer, ConfigError> {
        if let Some(variable) = &self.environment {
            let token = std::env::var(variable).map_err(|_| {
                let reason = format!(
                    "the environment variable `{variable}` is not set; set it to the token of the \
                     session"
                );
                ConfigError::new("auth", "token_from_env", reason)
            })?;
            self.sources.session = Some(Secret::new(token.trim()));
        }
        let nowhere = !self.sources.http
            && !self.sources.meta
            && self.sources.session.is_none()
            && self.sources.function.is_none();
        if nowhere {
            let reason = "no source of tokens is left, so no caller would be let in; leave one on";
            return Err(ConfigError::new("auth", "token_from", reason));
        }
        for method in &self.open {
            let can_be = matches!(&**method, "ping" | "initialize" | "server/discover")
                || method.starts_with("notifications/");
            if !can_be {
                let reason = format!(
                    "`{method}` needs a token; a rule with \
                     `Scopes::none` allows it to all callers with one"
                );
                return Err(ConfigError::new("auth", "allow_unauthenticated", reason));
            }
        }
        let rules = match self.rules {
            Some(rules) => rules,
            None => Rules::builder().build()?,
        };
        Ok(AuthLayer {
            shared: Arc::new(Shared {
                verifier: self.verifier,
                sources: self.sources,
                rules: RwLock::new(Arc::new(rules)),
                policies: self.policies,
                decisions: Decisions::default(),
                task_owners: TaskOwners::new(self.allow_unknown_tasks),
                open: self.open,
                allows_token_exchange: self.allows_token_exchange,
                clock: self.clock,
            }),
        })
    }
}

impl fmt::Debug for AuthLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthLayerBuilder")
            .field("sources", &self.sources)
            .field("rules", &self.rules)
            .field("policies", &self.policies.len())
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}
