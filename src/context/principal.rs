use std::sync::Arc;

use serde_json::{Map, Value};

/// The authenticated caller: the subject that a token speaks for.
///
/// A request has no principal until a layer authenticates its caller: the auth layer, or your own
/// middleware through [`CallContext::set_principal`](crate::CallContext::set_principal). Layers
/// that store, share or coalesce responses use the principal's [identity](Principal::identity) as a
/// key, so that responses never reach another user.
///
/// A clone costs one reference count.
///
/// ```
/// use rmcp_layers::Principal;
///
/// let alice = Principal::new("alice")
///     .with_issuer("https://issuer.example")
///     .with_scopes(["tools:read", "tools:call"]);
/// assert_eq!(alice.subject(), "alice");
/// assert!(alice.has_scope("tools:call"));
/// assert!(!alice.has_scope("admin"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Principal(Arc<Parts>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Parts {
    subject: Arc<str>,
    issuer: Option<Arc<str>>,
    scopes: Vec<String>,
    claims: Map<String, Value>,
}

impl Principal {
    /// Creates a principal with this subject (RFC 7519, `sub`) only.
    pub fn new(subject: impl Into<String>) -> Self {
        Self(Arc::new(Parts {
            subject: subject.into().into(),
            ..Parts::default()
        }))
    }

    /// Sets the issuer that vouches for the subject (RFC 7519, `iss`).
    #[must_use]
    pub fn with_issuer(mut self, issuer: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).issuer = Some(issuer.into().into());
        self
    }

    /// Sets the granted scopes (RFC 6749, section 3.3), replacing earlier ones.
    #[must_use]
    pub fn with_scopes(mut self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Arc::make_mut(&mut self.0).scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the remaining claims of the token, replacing earlier ones.
    #[must_use]
    pub fn with_claims(mut self, claims: Map<String, Value>) -> Self {
        Arc::make_mut(&mut self.0).claims = claims;
        self
    }

    /// Returns the subject, which is unique within its issuer.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Returns the issuer, if it is known.
    pub fn issuer(&self) -> Option<&str> {
        self.0.issuer.as_deref()
    }

    /// Returns the granted scopes, in the order in which they were given.
    pub fn scopes(&self) -> &[String] {
        &self.0.scopes
    }

    /// Returns `true` if `scope` was granted. Scopes are case-sensitive (RFC 6749, section 3.3).
    pub fn has_scope(&self, scope: &str) -> bool {
        self.0.scopes.iter().any(|granted| granted == scope)
    }

    /// Returns the claims of the token.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.0.claims
    }

    /// Returns the issuer and subject, which together identify the principal. A subject is unique
    /// only within its issuer (RFC 7519, section 4.1.2). Scopes and claims are not part of the
    /// identity.
    pub fn identity(&self) -> (Option<&str>, &str) {
        (self.issuer(), self.subject())
    }

    /// Returns the [identity](Self::identity) without copying it.
    pub(crate) fn shared_identity(&self) -> (Option<&Arc<str>>, &Arc<str>) {
        (self.0.issuer.as_ref(), &self.0.subject)
    }
}
