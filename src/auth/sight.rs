//! What a caller may know of and call, where layers further in ask.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{AuthError, Decision, conceal::Named, layer::Shared};
use crate::{Error, Item, McpRequest, Principal, Sight};

/// Asks the rules and the policies as they are when somebody further in has a name to ask about.
pub(super) struct CallerSight {
    pub(super) shared: Arc<Shared>,
    pub(super) principal: Principal,
    /// In a box, because few calls have one, and every call has a sight.
    meant: Mutex<Option<Box<Meant>>>,
}

/// The call that the caller's turned out to be, if a layer further in made another one of it.
struct Meant {
    named: Option<Named>,
    denied: Option<AuthError>,
}

impl CallerSight {
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

    /// The tool that was called in the end, by the name that it has there.
    pub(super) fn named(&self) -> Option<Named> {
        self.meant().as_ref()?.named.clone()
    }

    /// Why that was denied, if it was.
    pub(super) fn denied(&self) -> Option<AuthError> {
        self.meant().as_ref()?.denied.clone()
    }
}

impl Sight for CallerSight {
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
