//! Lets inner layers ask which items a caller may know of and call.

use std::sync::{Arc, Mutex, MutexGuard};

use super::{AuthError, PolicyDecision, hide::NamedTarget, layer::Shared};
use crate::{Decision, Error, Item, McpRequest, Principal, Visibility, util::lock};

/// Applies the current rules and policies when an inner layer asks about a name.
pub(super) struct CallerVisibility {
    pub(super) shared: Arc<Shared>,
    pub(super) principal: Principal,
    /// The target of the inner call that a layer made from the caller's call, by its name there.
    /// Boxed because few calls have one, but every call has a `CallerVisibility`.
    named: Mutex<Option<Box<NamedTarget>>>,
}

impl CallerVisibility {
    pub(super) fn new(shared: Arc<Shared>, principal: Principal) -> Self {
        Self {
            shared,
            principal,
            named: Mutex::default(),
        }
    }

    fn inner_call(&self) -> MutexGuard<'_, Option<Box<NamedTarget>>> {
        lock(&self.named)
    }

    /// Returns the target of the inner call, by its name there.
    pub(super) fn named(&self) -> Option<NamedTarget> {
        self.inner_call().as_deref().cloned()
    }
}

impl Visibility for CallerVisibility {
    fn sees(&self, item: Item<'_>) -> bool {
        self.shared.shows(item, &self.principal)
    }

    fn admits(&self, tool: &str, call: &McpRequest) -> Result<(), Error> {
        let named = NamedTarget::of(call);
        let mut outward = call.clone();
        if let Some(call) = outward.as_tool_call_mut()
            && call.name != tool
        {
            call.name = tool.to_owned().into();
        }
        let (shared, principal) = (&self.shared, &self.principal);
        let rules = shared.rules();
        let decided = shared.judge(&rules, &outward, principal);
        *self.inner_call() = named.clone().map(Box::new);
        let PolicyDecision::Deny(denial) = decided else {
            call.context
                .state_decision(Decision::Allowed, Some(principal), "");
            return Ok(());
        };
        let error = AuthError::from(denial);
        let hides =
            !rules.reveals_forbidden() && !shared.shows_by(&rules, Item::Tool(tool), principal);
        let (decision, refused) = match named.filter(|_| hides) {
            Some(named) => (Decision::Concealed, named.unknown_error()),
            None => (Decision::Denied, error.clone().into()),
        };
        call.context
            .state_decision(decision, Some(principal), error.reason());
        Err(refused)
    }
}
