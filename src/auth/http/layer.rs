use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use tower::Layer;

use super::{HttpAuth, HttpAuthError, ProtectedResource, sessions::Sessions};
use crate::auth::{AuthHandle, Rules, Verifier, audit::Audit};

/// Guards an HTTP endpoint of MCP; see the [module](super).
///
/// Cloning is one reference count. Clones, and everything they are laid over, share one map of sessions.
#[derive(Clone)]
pub struct HttpAuthLayer {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) verifier: Arc<dyn Verifier>,
    pub(super) resource: Option<ProtectedResource>,
    pub(super) document: Bytes,
    pub(super) realm: Option<String>,
    pub(super) rules: Option<RulesOf>,
    pub(super) audit: Option<Audit>,
    pub(super) max_token: usize,
    pub(super) max_body: usize,
    pub(super) sessions: Arc<Sessions>,
}

/// Where the rules are.
#[derive(Clone, Debug)]
pub(super) enum RulesOf {
    Fixed(Arc<Rules>),
    Layer(AuthHandle),
}

impl RulesOf {
    /// The rules as they are.
    pub(super) fn now(&self) -> Arc<Rules> {
        match self {
            Self::Fixed(rules) => rules.clone(),
            Self::Layer(layer) => layer.rules(),
        }
    }
}

impl HttpAuthLayer {
    /// Begins a layer that asks `verifier` about tokens: the one that [`AuthLayer`](crate::auth::AuthLayer) has.
    pub fn builder(verifier: impl Verifier) -> HttpAuthLayerBuilder {
        HttpAuthLayerBuilder {
            verifier: Arc::new(verifier),
            resource: None,
            realm: None,
            rules: None,
            audit: None,
            max_token: crate::auth::bearer::MAX_TOKEN_BYTES,
            max_body: 4 << 20,
            max_sessions: 10_000,
            max_sessions_each: 1_000,
            session_idle: Duration::from_secs(60 * 60),
        }
    }
}

impl<S> Layer<S> for HttpAuthLayer {
    type Service = HttpAuth<S>;

    fn layer(&self, inner: S) -> HttpAuth<S> {
        HttpAuth::new(self.shared.clone(), inner)
    }
}

impl fmt::Debug for HttpAuthLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpAuthLayer")
            .field("resource", &self.shared.resource)
            .finish_non_exhaustive()
    }
}

/// Builds an [`HttpAuthLayer`].
#[must_use = "call `build` to make the layer"]
pub struct HttpAuthLayerBuilder {
    verifier: Arc<dyn Verifier>,
    resource: Option<ProtectedResource>,
    realm: Option<String>,
    rules: Option<RulesOf>,
    audit: Option<Audit>,
    max_token: usize,
    max_body: usize,
    max_sessions: usize,
    max_sessions_each: usize,
    session_idle: Duration,
}

impl HttpAuthLayerBuilder {
    /// What is guarded: its metadata is served, and challenges say where. Without it there is none, and a client
    /// cannot find out where it gets a token.
    pub fn resource(mut self, resource: ProtectedResource) -> Self {
        self.resource = Some(resource);
        self
    }

    /// Puts a `realm` in challenges (RFC 9110, section 11.5). None by default.
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.realm = Some(realm.into());
        self
    }

    /// Answers 403 with all scopes that are missing, where that may be known; see the
    /// [module](super#what-may-be-known-of-what-is-forbidden). Give it the rules of the
    /// [`AuthLayer`](crate::auth::AuthLayer) inside, which is who decides in any case. Without rules, what a known
    /// caller may do is left to it.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = Some(RulesOf::Fixed(Arc::new(rules)));
        self
    }

    /// The same, with the rules that the layer inside has at the time, also when
    /// [`set_rules`](AuthHandle::set_rules) changes them.
    pub fn rules_of(mut self, layer: AuthHandle) -> Self {
        self.rules = Some(RulesOf::Layer(layer));
        self
    }

    /// Records each request that is refused here.
    pub fn audit(mut self, audit: Audit) -> Self {
        self.audit = Some(audit);
        self
    }

    /// How long a token may be, in bytes. A longer one is not looked at. Default: 8 KiB.
    pub fn max_token_bytes(mut self, max: usize) -> Self {
        self.max_token = max;
        self
    }

    /// How large the body of a POST may be, in bytes: it is read before it is decided on. A larger one is answered
    /// with 413. Default: 4 MiB, as rmcp has it.
    pub fn max_body_bytes(mut self, max: usize) -> Self {
        self.max_body = max;
        self
    }

    /// How many sessions are known at once. At the bound, those that are idle are forgotten, and if there are none
    /// an `initialize` is answered with 503. Default: 10,000.
    pub fn max_sessions(mut self, max: usize) -> Self {
        self.max_sessions = max;
        self
    }

    /// How many of them one principal may have. Default: 1,000.
    pub fn max_sessions_each(mut self, max: usize) -> Self {
        self.max_sessions_each = max;
        self
    }

    /// After how long a session is forgotten that nobody uses. A stream that is open uses it. A session that is
    /// forgotten is unknown to its owner too. Default: an hour; rmcp itself ends a session after five minutes in
    /// which nothing happens.
    pub fn session_idle(mut self, time: Duration) -> Self {
        self.session_idle = time;
        self
    }

    /// Makes the layer.
    ///
    /// # Errors
    ///
    /// A bound of nothing, or a scope of the resource that no token can have; the error says which.
    pub fn build(self) -> Result<HttpAuthLayer, HttpAuthError> {
        for (option, bound) in [
            ("max_token_bytes", self.max_token),
            ("max_body_bytes", self.max_body),
            ("max_sessions", self.max_sessions),
            ("max_sessions_each", self.max_sessions_each),
        ] {
            if bound == 0 {
                return Err(HttpAuthError::option(option, "nothing could ever pass"));
            }
        }
        if self.session_idle.is_zero() {
            return Err(HttpAuthError::option(
                "session_idle",
                "no session could be used",
            ));
        }
        if let Some(resource) = &self.resource {
            let scopes = crate::auth::Scopes::all_of(resource.scopes());
            if let Some(scope) = scopes.impossible() {
                return Err(HttpAuthError::option(
                    "resource",
                    format!("no token can have the scope `{scope}`"),
                ));
            }
        }
        let document = self.resource.as_ref().map(ProtectedResource::encoded);
        Ok(HttpAuthLayer {
            shared: Arc::new(Shared {
                verifier: self.verifier,
                document: document.unwrap_or_default(),
                resource: self.resource,
                realm: self.realm,
                rules: self.rules,
                audit: self.audit,
                max_token: self.max_token,
                max_body: self.max_body,
                sessions: Arc::new(Sessions::new(
                    self.max_sessions,
                    self.max_sessions_each,
                    self.session_idle,
                )),
            }),
        })
    }
}

impl fmt::Debug for HttpAuthLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpAuthLayerBuilder")
            .field("resource", &self.resource)
            .field("rules", &self.rules)
            .field("max_sessions", &self.max_sessions)
            .finish_non_exhaustive()
    }
}
