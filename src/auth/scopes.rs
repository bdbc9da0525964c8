use crate::{ConfigError, Principal};

/// The scopes that a request needs.
///
/// ```
/// use rmcp_layers::{Principal, auth::Scopes};
///
/// let bob = Principal::new("bob").with_scopes(["files:read"]);
/// assert!(Scopes::any_of(["files:read", "files:write"]).are_granted(&bob));
/// assert_eq!(Scopes::all_of(["files:read", "files:write"]).missing(&bob), ["files:write"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scopes(Needs);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Needs {
    Never,
    All(Vec<String>),
    Any(Vec<String>),
}

impl Scopes {
    /// Requires no scopes: every authenticated caller is allowed.
    pub const fn none() -> Self {
        Self(Needs::All(Vec::new()))
    }

    /// Denies every caller, whatever its scopes.
    pub const fn never() -> Self {
        Self(Needs::Never)
    }

    /// Requires all of these scopes. Without scopes, this is the same as [`none`](Self::none).
    pub fn all_of(scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(Needs::All(scopes.into_iter().map(Into::into).collect()))
    }

    /// Requires one of these scopes. A caller without any is told to ask for the first. Without
    /// scopes, this is the same as [`never`](Self::never).
    pub fn any_of(scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(Needs::Any(scopes.into_iter().map(Into::into).collect()))
    }

    /// Returns `true` if the principal has the required scopes.
    pub fn are_granted(&self, principal: &Principal) -> bool {
        match &self.0 {
            Needs::Never => false,
            Needs::All(scopes) => scopes.iter().all(|scope| principal.has_scope(scope)),
            Needs::Any(scopes) => scopes.iter().any(|scope| principal.has_scope(scope)),
        }
    }

    /// Returns all scopes that the principal would additionally need; of alternatives, the first.
    pub fn missing(&self, principal: &Principal) -> Vec<String> {
        match &self.0 {
            Needs::Never => Vec::new(),
            Needs::All(scopes) => {
                let missing = scopes.iter().filter(|scope| !principal.has_scope(scope));
                missing.cloned().collect()
            }
            Needs::Any(_) if self.are_granted(principal) => Vec::new(),
            Needs::Any(scopes) => scopes.first().cloned().into_iter().collect(),
        }
    }

    /// Returns a set of scopes that suffices: the granted ones that count, and the missing ones. A
    /// challenge names this set, because some clients replace their scopes by the named ones (RFC
    /// 6750, section 3.1).
    pub fn needed(&self, principal: &Principal) -> Vec<String> {
        match &self.0 {
            Needs::Never => Vec::new(),
            Needs::All(scopes) => scopes.clone(),
            Needs::Any(scopes) => {
                let granted = scopes.iter().find(|scope| principal.has_scope(scope));
                granted.or(scopes.first()).cloned().into_iter().collect()
            }
        }
    }

    /// Returns all named scopes, for a resource's metadata (`scopes_supported`, RFC 9728).
    pub fn named(&self) -> &[String] {
        match &self.0 {
            Needs::Never => &[],
            Needs::All(scopes) | Needs::Any(scopes) => scopes,
        }
    }

    /// Checks that each named scope is one that a token can have (RFC 6749, section 3.3).
    pub(super) fn check(
        &self,
        layer: &'static str,
        option: &'static str,
    ) -> Result<(), ConfigError> {
        let can_be_granted = |scope: &str| {
            !scope.is_empty()
                && scope
                    .bytes()
                    .all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
        };
        match self.named().iter().find(|scope| !can_be_granted(scope)) {
            None => Ok(()),
            Some(scope) => Err(ConfigError::new(
                layer,
                option,
                format!(
                    "no token can have the scope `{scope}`; use visible ASCII characters other \
                     than `\"` and `\\`"
                ),
            )),
        }
    }
}

impl From<&str> for Scopes {
    /// Requires this scope.
    fn from(scope: &str) -> Self {
        Self::all_of([scope])
    }
}
