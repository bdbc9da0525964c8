use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use tower::Layer;

use super::{HttpAuth, HttpAuthHandle, ProtectedResource, sessions::Sessions};
use crate::{
    ConfigError, OnHttpRefusal,
    auth::{AuthHandle, Rules, Verifier},
};

/// Guards an HTTP endpoint of MCP; see the [module](super).
///
/// A clone costs one reference count. Clones, and all services made from them, share one map of
/// sessions.
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
    pub(super) on_refusal: Option<Arc<dyn OnHttpRefusal>>,
    pub(super) max_token: usize,
    pub(super) max_body: usize,
    pub(super) sessions: Arc<Sessions>,
    /// The number of refused requests.
    pub(super) refused: AtomicU64,
}

/// The source of the rules.
#[derive(Clone, Debug)]
pub(super) enum RulesOf {
    Fixed(Arc<Rules>),
    Layer(AuthHandle),
}

impl RulesOf {
    /// Returns the current rules.
    pub(super) fn now(&self) -> Arc<Rules> {
        match self {
            Self::Fixed(rules) => rules.clone(),
            Self::Layer(layer) => layer.rules(),
        }
    }
}

impl HttpAuthLayer {
    /// Starts a builder for a layer that asks `verifier` about tokens. Use the verifier of the
    /// [`AuthLayer`](crate::auth::AuthLayer) behind it.
    pub fn builder(verifier: impl Verifier) -> HttpAuthLayerBuilder {
        HttpAuthLayerBuilder {
            verifier: Arc::new(verifier),
            resource: None,
            realm: None,
            rules: None,
            on_refusal: None,
            max_token: crate::auth::bearer::MAX_TOKEN_BYTES,
            max_body: 4 << 20,
            max_sessions: 10_000,
            max_sessions_per_principal: 1_000,
            idle_timeout: Duration::from_secs(60 * 60),
        }
    }
}

impl HttpAuthLayer {
    /// Returns the handle that reads the layer's statistics.
    pub fn handle(&self) -> HttpAuthHandle {
        HttpAuthHandle {
            shared: self.shared.clone(),
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
    on_refusal: Option<Arc<dyn OnHttpRefusal>>,
    max_token: usize,
    max_body: usize,
    max_sessions: usize,
    max_sessions_per_principal: usize,
    idle_timeout: Duration,
}

impl HttpAuthLayerBuilder {
    /// Sets the protected resource. Its metadata is served, and challenges refer to it. Default:
    /// none; a client then cannot discover where to get a token.
    pub fn resource(mut self, resource: ProtectedResource) -> Self {
        self.resource = Some(resource);
        self
    }

    /// Adds a `realm` to challenges (RFC 9110, section 11.5). Default: none.
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.realm = Some(realm.into());
        self
    }

    /// Sets the rules, so that missing scopes are answered with 403 where they may be disclosed;
    /// see the [module](super#disclosure-of-forbidden-names). Use the rules of the inner
    /// [`AuthLayer`](crate::auth::AuthLayer), which makes the final decision in any case. Default:
    /// none; the inner layer alone decides what a known caller may do.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = Some(RulesOf::Fixed(Arc::new(rules)));
        self
    }

    /// Uses the current rules of the inner layer, also after [`set_rules`](AuthHandle::set_rules)
    /// has changed them.
    pub fn rules_of(mut self, layer: AuthHandle) -> Self {
        self.rules = Some(RulesOf::Layer(layer));
        self
    }

    /// Sets the receiver of each request that this layer refuses: an audit log, or your own.
    /// Default: none.
    pub fn on_refusal(mut self, receiver: impl OnHttpRefusal) -> Self {
        self.on_refusal = Some(Arc::new(receiver));
        self
    }

    /// Sets the maximum length of a token in bytes. A longer token is refused without verification.
    /// Default: 8 KiB.
    pub fn max_token_bytes(mut self, max: usize) -> Self {
        self.max_token = max;
        self
    }

    /// Sets the maximum size of a POST body in bytes, which is read before the decision. A larger
    /// body is answered with 413. Inside of a [`LenientHttpLayer`](crate::LenientHttpLayer), it is
    /// the size of the body that rmcp reads. Default: 4 MiB, the same as in rmcp.
    pub fn max_body_bytes(mut self, max: usize) -> Self {
        self.max_body = max;
        self
    }

    /// Sets the maximum number of sessions. At the limit, idle sessions are evicted. If there are
    /// none, an `initialize` is answered with 503. Default: 10,000.
    pub fn max_sessions(mut self, max: usize) -> Self {
        self.max_sessions = max;
        self
    }

    /// Sets the maximum number of sessions of one principal. Above it, the principal's session that
    /// is unused for longest is closed. If all have open streams, an `initialize` is answered with
    /// 503. Default: 1,000.
    pub fn max_sessions_per_principal(mut self, max: usize) -> Self {
        self.max_sessions_per_principal = max;
        self
    }

    /// Sets the time after which an unused session is forgotten. An open stream counts as use. A
    /// forgotten session is unknown to its owner too. Default: 1 h. rmcp itself ends a session
    /// after 5 min without activity.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// A limit is zero, or the resource names a scope that no token can have.
    pub fn build(self) -> Result<HttpAuthLayer, ConfigError> {
        for (option, bound) in [
            ("max_token_bytes", self.max_token),
            ("max_body_bytes", self.max_body),
            ("max_sessions", self.max_sessions),
            (
                "max_sessions_per_principal",
                self.max_sessions_per_principal,
            ),
        ] {
            if bound == 0 {
                let reason = "it is zero, so no request would pass; give at least 1";
                return Err(ConfigError::new(super::NAME, option, reason));
            }
        }
        if self.idle_timeout.is_zero() {
            let reason = "it is zero, so no session could be used; give at least some seconds";
            return Err(ConfigError::new(super::NAME, "idle_timeout", reason));
        }
        if let Some(resource) = &self.resource {
            crate::auth::Scopes::all_of(resource.scopes()).check(super::NAME, "resource")?;
        }
        let document = self.resource.as_ref().map(ProtectedResource::encoded);
        Ok(HttpAuthLayer {
            shared: Arc::new(Shared {
                verifier: self.verifier,
                document: document.unwrap_or_default(),
                resource: self.resource,
                realm: self.realm,
                rules: self.rules,
                on_refusal: self.on_refusal,
                max_token: self.max_token,
                max_body: self.max_body,
                refused: AtomicU64::new(0),
                sessions: Arc::new(Sessions::new(
                    self.max_sessions,
                    self.max_sessions_per_principal,
                    self.idle_timeout,
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
