//! The capabilities that a connection claims for its callers.

use std::sync::{Arc, Mutex, MutexGuard};

use rmcp::model::{ClientCapabilities, InitializeRequestParams};

use super::connection::Kind;
use crate::{CallContext, caller::Era, util::lock};

/// The capabilities that the next connection claims, where they are claimed once for all callers.
///
/// A server should know what its caller can do. It may use a claimed capability (`roots`) in place
/// of its own configuration, or wait for an answer that does not come. So a connection claims the
/// capabilities of the caller that it is made for.
#[derive(Debug)]
pub(super) struct ClaimedCapabilities {
    /// `true` if the operator has set the capabilities.
    fixed: bool,
    next: Mutex<Next>,
}

/// The callers that the next connection is made for, as far as they are known.
#[derive(Debug)]
enum Next {
    /// No caller is known, and any may come.
    Unknown,
    /// A caller with these capabilities.
    Caller(Box<ClientCapabilities>),
    /// Several callers, none of whom can be asked.
    Several,
}

impl ClaimedCapabilities {
    /// Creates the claims. `fixed` is `true` if the operator has set the capabilities.
    pub(super) fn new(fixed: bool) -> Self {
        Self {
            fixed,
            next: Mutex::new(Next::Unknown),
        }
    }

    fn next(&self) -> MutexGuard<'_, Next> {
        lock(&self.next)
    }

    /// Records the caller that a connection is wanted for.
    pub(super) fn set_next_caller(&self, context: &CallContext) {
        if self.fixed {
            return;
        }
        let capabilities = context.client_capabilities();
        let caller = &context.caller;
        // A background call has no caller, but its `_meta` may be that of one.
        let in_process = caller.answers_requests() || caller.is_detached() && !caller.is_quiet();
        let next = match capabilities {
            // Revision 2026-07-28 has no requests to a client.
            Some(_) if context.era() == Era::Modern && !in_process => Next::Caller(Box::default()),
            Some(capabilities) => Next::Caller(Box::new(capabilities)),
            None if context.caller.is_quiet() => return,
            None => Next::Unknown,
        };
        *self.next() = next;
    }

    /// Records that the connection has several callers. It holds until one of them needs another
    /// connection.
    pub(super) fn set_several_callers(&self) {
        *self.next() = Next::Several;
    }

    /// Returns the description of the client that a connection of this kind sends.
    pub(super) fn client_info(
        &self,
        info: &Arc<InitializeRequestParams>,
        kind: Kind,
    ) -> Arc<InitializeRequestParams> {
        if self.fixed {
            return info.clone();
        }
        let able = match &*self.next() {
            Next::Unknown => return info.clone(),
            Next::Caller(capabilities) => (**capabilities).clone(),
            Next::Several => ClientCapabilities::default(),
        };
        let mut said = (**info).clone();
        let claimed = &mut said.capabilities;
        claimed.roots = claimed.roots.take().and(able.roots);
        // If the transport says which call a request of the server belongs to, each of several
        // callers can be asked.
        if !kind.names_calls() {
            claimed.sampling = claimed.sampling.take().and(able.sampling);
            claimed.elicitation = claimed.elicitation.take().and(able.elicitation);
        }
        Arc::new(said)
    }
}
