//! Lets inner layers ask which items a caller may know of and call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{AuthError, Decision, hide::Named, layer::Shared};
use crate::{Error, Item, McpRequest, Principal, Visibility};

/// Applies the current rules and policies when an inner layer asks about a name.
pub(super) struct CallerVisibility {
    pub(super) shared: Arc<Shared>,
    pub(super) principal: Principal,
    /// Boxed because few calls need it, but every call has a `CallerVisibility`.
    meant: Mutex<Option<Box<Meant>>>,
}

/// The inner call that a layer made from the caller's call.
struct Meant {
    named: Option<Named>,
    denied: Option<AuthError>,
}

impl CallerVisibility {
    pub(super) fn new(shared: Arc<Shared>, principal: Principal) -> Self {
        Self {
            shared,
            principal,
            meant: Mutex::default(),
        }
    }

    fn meant(&self) -> MutexGuard<'_, Option<Box<Meant>>> {
        self.meant.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the target of the inner call, by its name there.
    pub(super) fn named(&self) -> Option<Named> {
        self.meant().as_ref()?.named.clone()
    }

    /// Returns the error of the inner call, if it was denied.
    pub(super) fn denied(&self) -> Option<AuthError> {
        self.meant().as_ref()?.denied.clone()
    }
}

impl Visibility for CallerVisibility {
    fn sees(&self, item: Item<'_>) -> bool {
        self.shared.shows(item, &self.principal)
    }

    fn admits(&self, tool: &str, call: &McpRequest) -> Result<(), Error> {
        let named = Named::of(call);
        let mut outward = call.clone();
        if let Some(call) = outward.as_tool_call_mut()
            && call.name != tool
        {
            call.name = tool.to_owned().into();
        }
        let (shared, principal) = (&self.shared, &self.principal);
        let rules = shared.rules();
        let denied = match shared.judge(&rules, &outward, principal) {
            Decision::Allow => None,
            Decision::Deny(denial) => Some(AuthError::from(denial)),
        };
        *self.meant() = Some(Box::new(Meant {
            named: named.clone(),
            denied: denied.clone(),
        }));
        let Some(error) = denied else { return Ok(()) };
        let hides =
            !rules.reveals_forbidden() && !shared.shows_by(&rules, Item::Tool(tool), principal);
        Err(match named {
            Some(named) if hides => named.unknown(),
            _ => error.into(),
        })
    }
}
