use std::borrow::Cow;

use super::AuthError;
use crate::{Item, McpRequest, Principal};

/// Decides what a principal may do: [`Rules`](super::Rules) by scopes, or your own conditions,
/// which may include arguments.
///
/// ```
/// use rmcp_layers::{McpRequest, Principal, auth::{PolicyDecision, Policy}};
///
/// /// A principal may read only its own folder.
/// struct OwnFolder;
///
/// impl Policy for OwnFolder {
///     fn decide(&self, request: &McpRequest, principal: &Principal) -> PolicyDecision {
///         let path = request.as_tool_call().and_then(|call| call.arguments.as_ref()?.get("path")?.as_str());
///         match path {
///             Some(path) if !path.starts_with(&format!("/home/{}/", principal.subject())) => {
///                 PolicyDecision::deny("the path is another's")
///             }
///             _ => PolicyDecision::Allow,
///         }
///     }
/// }
/// ```
pub trait Policy: Send + Sync + 'static {
    /// Decides on a request. It is called before the request goes on, so it has to be quick and
    /// must not block. For a call of a registry's `call_tool` it is called for that call and for
    /// the call that it stands for, possibly more than once.
    fn decide(&self, request: &McpRequest, principal: &Principal) -> PolicyDecision;

    /// Returns `true` if the item may be shown to the principal: in a list, a search, a
    /// notification or an error. The default implementation returns `true`.
    fn shows(&self, item: Item<'_>, principal: &Principal) -> bool {
        let _ = (item, principal);
        true
    }
}

/// The decision on a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PolicyDecision {
    /// The request goes on.
    Allow,
    /// The request is denied.
    Deny(Denial),
}

/// The reason for which a request is denied.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Denial {
    /// All scopes that would have to be granted. Empty if no scope would help.
    pub missing_scopes: Vec<String>,
    /// The reason for logs and audit records. It is not sent to the caller.
    pub reason: Cow<'static, str>,
}

impl PolicyDecision {
    /// Denies the request, whatever the scopes. The reason is for logs and audit records.
    pub fn deny(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Deny(Denial {
            missing_scopes: Vec::new(),
            reason: reason.into(),
        })
    }

    /// Denies the request because these scopes are missing.
    pub fn missing(scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Deny(Denial {
            missing_scopes: scopes.into_iter().map(Into::into).collect(),
            reason: Cow::Borrowed("a scope is missing"),
        })
    }

    /// Returns `true` if the request goes on.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow)
    }
}

impl From<Denial> for AuthError {
    fn from(denial: Denial) -> Self {
        Self::insufficient_scope(denial.missing_scopes).with_reason(denial.reason)
    }
}
