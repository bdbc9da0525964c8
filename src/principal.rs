use std::sync::Arc;

use serde_json::{Map, Value};

/// Who is calling: the subject an authenticated token speaks for.
///
/// A request has no principal until something authenticates its caller (the auth layer, or your own
/// middleware through [`CallContext::set_principal`](crate::CallContext::set_principal)). Everything that
/// stores, shares or coalesces answers keys them by the [identity](Principal::identity) of the principal,
/// so that two users never meet.
///
/// Cloning is one reference count.
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
    /// A principal known by its subject (RFC 7519, `sub`) alone.
    pub fn new(subject: impl Into<String>) -> Self {
        Self(Arc::new(Parts {
            subject: subject.into().into(),
            ..Parts::default()
        }))
    }

    /// Names who vouches for the subject (RFC 7519, `iss`).
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

    /// The subject: unique within its issuer.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// The issuer, if one is known.
    pub fn issuer(&self) -> Option<&str> {
        self.0.issuer.as_deref()
    }

    /// The granted scopes, in the order they were given.
    pub fn scopes(&self) -> &[String] {
        &self.0.scopes
    }

    /// Whether `scope` was granted. Scopes are compared as RFC 6749 says: exactly, by case.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.0.scopes.iter().any(|granted| granted == scope)
    }

    /// The claims that came with the token.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.0.claims
    }

    /// What tells this principal from every other one: issuer and subject, because a subject is unique
    /// only within its issuer (RFC 7519, section 4.1.2). Scopes and claims are no part of it.
    pub fn identity(&self) -> (Option<&str>, &str) {
        (self.issuer(), self.subject())
    }

    /// The [identity](Self::identity), to be kept without a copy.
    pub(crate) fn shared_identity(&self) -> (Option<&Arc<str>>, &Arc<str>) {
        (self.0.issuer.as_ref(), &self.0.subject)
    }
}
