//! The capabilities that a connection claims for its callers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::model::{ClientCapabilities, InitializeRequestParams};

use super::connection::Kind;
use crate::{CallContext, caller::Era};

/// The capabilities that the next connection claims, where they are claimed once for all callers.
///
/// A server is best told what its caller can do: it may use what a client claims in place of what
/// it was configured with (`roots`), or wait for an answer that does not come. So a connection
/// claims what the caller can do that it is made for.
#[derive(Debug)]
pub(super) struct Claims {
    /// The operator has said what to claim.
    fixed: bool,
    next: Mutex<Next>,
}

/// The callers that the next connection is made for, as far as is known.
#[derive(Debug)]
enum Next {
    /// No caller is known, and any may come.
    Unknown,
    /// A caller that can do this.
    Caller(Box<ClientCapabilities>),
    /// Several callers, of which none can be asked.
    Several,
}

impl Claims {
    /// `fixed` if the operator has said what to claim.
    pub(super) fn new(fixed: bool) -> Self {
        Self {
            fixed,
            next: Mutex::new(Next::Unknown),
        }
    }

    fn next(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of the caller that a connection is wanted for.
    pub(super) fn wanted_for(&self, context: &CallContext) {
        if self.fixed {
            return;
        }
        let capabilities = context.client_capabilities();
        let over_a_wire = !context.caller.answers_requests() && !context.caller.is_detached();
        let next = match capabilities {
            // Revision 2026-07-28 has no requests to a client.
            Some(_) if context.era() == Era::Modern && over_a_wire => Next::Caller(Box::default()),
            Some(capabilities) => Next::Caller(Box::new(capabilities)),
            None if context.caller.is_quiet() => return,
            None => Next::Unknown,
        };
        *self.next() = next;
    }

    /// Takes note that the connection has several callers. As long as none of them asks for
    /// another, that is so too.
    pub(super) fn several(&self) {
        *self.next() = Next::Several;
    }

    /// The description of the client that a connection of this kind sends.
    pub(super) fn said(
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
        // Where the transport says for which call a server asks, each of several callers can be
        // asked.
        if !kind.names_calls() {
            claimed.sampling = claimed.sampling.take().and(able.sampling);
            claimed.elicitation = claimed.elicitation.take().and(able.elicitation);
        }
        Arc::new(said)
    }
}
