use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use tower::Layer;

use super::{
    Auth, Policy, Rules, Verifier, audit::Audit, rules::impossible, source::Sources, tasks::Tasks,
    verifier::Secret,
};
use crate::{Error, McpRequest};

/// Lets in only who is known, and to only what they may do; see the [module](super).
///
/// Clones, and everything they are laid over, share their rules. So does each [`handle`](Self::handle).
#[derive(Clone)]
pub struct AuthLayer {
    shared: Arc<Shared>,
}

/// What all services of a layer have in common.
pub(super) struct Shared {
    pub(super) verifier: Arc<dyn Verifier>,
    pub(super) sources: Sources,
    pub(super) rules: RwLock<Arc<Rules>>,
    pub(super) policies: Vec<Arc<dyn Policy>>,
    pub(super) audit: Option<Audit>,
    pub(super) tasks: Tasks,
    /// Methods that need no token.
    pub(super) open: Vec<String>,
    pub(super) delegates: bool,
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
    /// Starts a layer that believes this verifier.
    pub fn builder(verifier: impl Verifier) -> AuthLayerBuilder {
        AuthLayerBuilder {
            verifier: Arc::new(verifier),
            rules: None,
            policies: Vec::new(),
            sources: Sources::default(),
            environment: None,
            audit: None,
            open: Vec::new(),
            delegates: false,
            unknown_tasks: false,
            clock: Arc::new(SystemTime::now),
        }
    }

    /// The handle that changes the rules while the layer serves.
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

/// Reads and changes what an [`AuthLayer`] goes by. Cheap to clone.
#[derive(Clone)]
pub struct AuthHandle {
    shared: Arc<Shared>,
}

impl AuthHandle {
    /// The rules as they are.
    pub fn rules(&self) -> Arc<Rules> {
        self.shared.rules()
    }

    /// Replaces the rules, for every request from now on, and for what open listens will hear. Requests that are
    /// under way were decided on before; the list that one of them brings is filtered by the new rules.
    pub fn set_rules(&self, rules: Rules) {
        *self
            .shared
            .rules
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }
}

impl fmt::Debug for AuthHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthHandle")
            .field("rules", &self.rules())
            .finish()
    }
}

/// Builds an [`AuthLayer`].
#[must_use = "call `build` to make the layer"]
pub struct AuthLayerBuilder {
    verifier: Arc<dyn Verifier>,
    rules: Option<Rules>,
    policies: Vec<Arc<dyn Policy>>,
    sources: Sources,
    environment: Option<String>,
    audit: Option<Audit>,
    open: Vec<String>,
    delegates: bool,
    unknown_tasks: bool,
    clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl AuthLayerBuilder {
    /// What principals may do. By default everything that is not how the protocol works needs the scope `admin`.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = Some(rules);
        self
    }

    /// Asks this besides, once the rules allow something. All policies have to allow it.
    pub fn policy(mut self, policy: impl Policy) -> Self {
        self.policies.push(Arc::new(policy));
        self
    }

    /// Whether the `Authorization` header of an HTTP request is looked at. Yes by default. It is taken off either
    /// way.
    pub fn token_from_http(mut self, yes: bool) -> Self {
        self.sources.http = yes;
        self
    }

    /// Whether [`TOKEN_META_KEY`](super::TOKEN_META_KEY) of a request's `_meta` is looked at. Yes by default. It is
    /// taken off either way.
    pub fn token_from_meta(mut self, yes: bool) -> Self {
        self.sources.meta = yes;
        self
    }

    /// Takes the token of every request that is not over HTTP from this environment variable, which is read once,
    /// by [`build`](Self::build): over stdio the session is one user's, and its host starts the server with the
    /// credentials (MCP 2026-07-28, Authorization, "Protocol Requirements"). A request over HTTP never has it.
    pub fn token_from_env(mut self, variable: impl Into<String>) -> Self {
        self.environment = Some(variable.into());
        self
    }

    /// Takes the token from wherever this function finds it. It is called for each request, on its way in.
    pub fn token_from(
        mut self,
        function: impl Fn(&McpRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.sources.function = Some(Arc::new(function));
        self
    }

    /// Lets these methods through without a token. A token that is there and not good is refused all the same.
    /// None by default. Only `ping`, `initialize`, `server/discover` and `notifications/*` can be opened: a client
    /// of an older revision that brings its token in `_meta` often cannot do so in its handshake, which becomes a
    /// `server/discover` here.
    pub fn open(mut self, methods: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.open = methods.into_iter().map(Into::into).collect();
        self
    }

    /// Writes every decision to this audit, and how the call then ended.
    pub fn audit(mut self, audit: Audit) -> Self {
        self.audit = Some(audit);
        self
    }

    /// Lets a [`CredentialLayer`](super::CredentialLayer) further in exchange the caller's token for one of an
    /// upstream's (RFC 8693). Off by default. No layer can read the token either way.
    pub fn delegate(mut self, yes: bool) -> Self {
        self.delegates = yes;
        self
    }

    /// Lets every principal at tasks of which this layer does not know who began them, if it has their id. Off by
    /// default: `tasks/get`, `tasks/update` and `tasks/cancel` are for who began the task through this layer, of the
    /// last 10,000 tasks; when there are more, whoever has the most loses the one asked for least recently. On where
    /// tasks outlive this process, or are asked for at another replica than began them, and their ids cannot be
    /// guessed. Notifications of such tasks reach nobody: they say the id.
    pub fn unknown_tasks(mut self, yes: bool) -> Self {
        self.unknown_tasks = yes;
        self
    }

    /// Reads the time from here. For tests.
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Makes the layer.
    ///
    /// # Errors
    ///
    /// A refusal (by `auth`): an environment variable that is not there, nowhere left to look for a token, or a
    /// method that cannot be open.
    pub fn build(mut self) -> Result<AuthLayer, Error> {
        if let Some(variable) = &self.environment {
            let token = std::env::var(variable).map_err(|_| {
                impossible(format!(
                    "the environment variable `{variable}`, which has the session's token, is not set"
                ))
            })?;
            self.sources.session = Some(Secret::new(token.trim()));
        }
        let nowhere = !self.sources.http
            && !self.sources.meta
            && self.sources.session.is_none()
            && self.sources.function.is_none();
        if nowhere {
            return Err(impossible(
                "there is nowhere to look for a token, so nobody would be let in".to_owned(),
            ));
        }
        for method in &self.open {
            let can_be = matches!(&**method, "ping" | "initialize" | "server/discover")
                || method.starts_with("notifications/");
            if !can_be {
                return Err(impossible(format!(
                    "`{method}` cannot be open to callers without a token; a rule with `Scopes::none` opens it to \
                     all who have one"
                )));
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
                audit: self.audit,
                tasks: Tasks::new(self.unknown_tasks),
                open: self.open,
                delegates: self.delegates,
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
