use std::sync::{Arc, Mutex, MutexGuard};

use rmcp::model::Extensions;
use serde::Serialize;

use crate::{CallContext, Principal, util::lock};

/// The decision of a guarding layer on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Decision {
    /// The request was let through.
    Allowed,
    /// The caller is known but may not make this request, or the params do not fit the method.
    Denied,
    /// The caller is known and may not know of the request's target: the request was answered as
    /// if the target did not exist.
    Concealed,
    /// The caller is unknown: the token is missing or invalid.
    Unauthenticated,
    /// The request ended before a decision was made.
    Undecided,
}

impl Decision {
    /// Returns the name of the decision in logs, metrics and audit records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Concealed => "concealed",
            Self::Unauthenticated => "unauthenticated",
            Self::Undecided => "undecided",
        }
    }

    /// Returns `true` if the request was refused.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Denied | Self::Concealed | Self::Unauthenticated)
    }
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A slot for the [`Decision`] on a request, with the principal and the reason. An outer layer puts
/// the slot into a request's extensions. Guarding layers further in state their decisions by
/// [`CallContext::state_decision`], and the outer layer reads the slot when the call has ended, or
/// when it is dropped. Without a slot nothing is recorded, at no cost.
///
/// The latest statement counts: of a layer that allows a request and one further in that denies it,
/// the denial.
///
/// ```
/// use rmcp_layers::{Decision, DecisionSlot, McpRequest, Refusal, code, from_fn};
/// use tower::{ServiceBuilder, ServiceExt};
/// # #[derive(Clone)]
/// # struct Files;
/// # impl rmcp::ServerHandler for Files {}
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let stack = ServiceBuilder::new()
///     .layer(from_fn(|request: McpRequest, _next| async move {
///         request
///             .context
///             .state_decision(Decision::Denied, None, "the office is closed");
///         Err(Refusal::new("office", "closed").with_code(code::FORBIDDEN).into())
///     }))
///     .service(rmcp_layers::Handler::new(Files));
///
/// let mut request = McpRequest::list_tools();
/// let slot = DecisionSlot::slot(&mut request.context.extensions);
/// assert!(stack.oneshot(request).await.is_err());
/// assert_eq!(slot.decision(), Some(Decision::Denied));
/// assert_eq!(slot.reason().as_deref(), Some("the office is closed"));
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct DecisionSlot(Arc<Mutex<Stated>>);

#[derive(Clone, Debug, Default)]
struct Stated {
    decision: Option<Decision>,
    principal: Option<Principal>,
    reason: Option<String>,
}

impl DecisionSlot {
    /// Returns the slot in these extensions, and adds one if there is none.
    pub fn slot(extensions: &mut Extensions) -> Self {
        extensions.get_or_insert_default::<Self>().clone()
    }

    /// Returns the latest decision. Returns `None` if no layer has stated one.
    pub fn decision(&self) -> Option<Decision> {
        self.stated().decision
    }

    /// Returns the principal that the decision was about, if the caller is known.
    pub fn principal(&self) -> Option<Principal> {
        self.stated().principal.clone()
    }

    /// Returns the reason for a refusal. It is for logs and audit records, not for callers.
    pub fn reason(&self) -> Option<String> {
        self.stated().reason.clone()
    }

    fn stated(&self) -> MutexGuard<'_, Stated> {
        lock(&self.0)
    }
}

impl CallContext {
    /// States the decision on the request, for an outer layer that has put a [`DecisionSlot`] into
    /// the extensions. Without a slot, this does nothing.
    ///
    /// Without a principal, the decision is about the context's [principal](Self::principal). If
    /// there is none either, an earlier statement's principal is kept. The reason is for logs and
    /// audit records, and must not contain a token. An empty reason counts as none.
    pub fn state_decision(&self, decision: Decision, principal: Option<&Principal>, reason: &str) {
        let Some(slot) = self.extensions.get::<DecisionSlot>() else {
            return;
        };
        let mut stated = slot.stated();
        stated.decision = Some(decision);
        stated.reason = (!reason.is_empty()).then(|| reason.to_owned());
        if let Some(principal) = principal.or(self.principal()) {
            stated.principal = Some(principal.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServedBy;

    #[test]
    fn a_background_call_states_nothing_about_the_call_that_caused_it() {
        let mut context = CallContext::default();
        let slot = DecisionSlot::slot(&mut context.extensions);
        let served_by = ServedBy::slot(&mut context.extensions);
        let background = context.to_background();
        background.state_decision(Decision::Denied, None, "too late");
        ServedBy::set(&background.extensions, &"far".into());
        assert_eq!(slot.decision(), None);
        assert_eq!(served_by.name(), None);
        context.state_decision(Decision::Allowed, None, "");
        assert_eq!(slot.decision(), Some(Decision::Allowed));
    }
}
