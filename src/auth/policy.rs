use std::borrow::Cow;

use super::AuthError;
use crate::{Item, McpRequest, Principal};

/// Decides what a principal may do: [`Rules`](super::Rules) by scopes, or anything more (arguments included).
///
/// ```
/// use rmcp_layers::{McpRequest, Principal, auth::{Decision, Policy}};
///
/// /// Each looks into nothing but the own folder.
/// struct OwnFolder;
///
/// impl Policy for OwnFolder {
///     fn decide(&self, request: &McpRequest, principal: &Principal) -> Decision {
///         let path = request.as_tool_call().and_then(|call| call.arguments.as_ref()?.get("path")?.as_str());
///         match path {
///             Some(path) if !path.starts_with(&format!("/home/{}/", principal.subject())) => {
///                 Decision::deny("the path is another's")
///             }
///             _ => Decision::Allow,
///         }
///     }
/// }
/// ```
pub trait Policy: Send + Sync + 'static {
    /// Decides on a request. It is called on the request's way in, so it has to be quick, and must not block. On a
    /// call of a registry's `call_tool` it is asked on that, and on the call that it stands for, which may be more than
    /// once.
    fn decide(&self, request: &McpRequest, principal: &Principal) -> Decision;

    /// Whether a list shows this to the principal, a search finds it, and a notification or an error may name it.
    /// Everything by default.
    fn shows(&self, item: Item<'_>, principal: &Principal) -> bool {
        let _ = (item, principal);
        true
    }
}

/// What is decided on a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Decision {
    /// It goes on.
    Allow,
    /// It does not.
    Deny(Denial),
}

/// Why a request is denied.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Denial {
    /// All scopes that would have to be granted. None if no scope would help.
    pub missing_scopes: Vec<String>,
    /// For logs and audit records. The caller does not hear it.
    pub reason: Cow<'static, str>,
}

impl Decision {
    /// Denies, whatever the scopes. The reason is for logs and audit records.
    pub fn deny(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Deny(Denial {
            missing_scopes: Vec::new(),
            reason: reason.into(),
        })
    }

    /// Denies because these scopes are missing.
    pub fn missing(scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Deny(Denial {
            missing_scopes: scopes.into_iter().map(Into::into).collect(),
            reason: Cow::Borrowed("a scope is missing"),
        })
    }

    /// Whether it goes on.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow)
    }
}

impl From<Denial> for AuthError {
    fn from(denial: Denial) -> Self {
        Self::insufficient_scope(denial.missing_scopes).with_reason(denial.reason)
    }
}
