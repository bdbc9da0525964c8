//! A record of every decision, and of how the call then ended.

use std::sync::Arc;

use crate::{Error, McpRequest, McpResponse, Principal, auth::AuthError};

/// Where records go.
pub trait AuditSink: Send + Sync + 'static {}

/// The audit that a layer writes to. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    #[expect(dead_code)]
    sink: Arc<dyn AuditSink>,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}

/// What was decided on a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict<'a> {
    /// It goes on.
    Allowed,
    /// Its principal is known and may not do this.
    Denied(&'a AuthError),
    /// Nobody knows who it is.
    Unauthenticated(&'a AuthError),
}

impl Audit {
    /// Begins the record of one call, after the decision. The entry writes the end when it is told or dropped.
    /// The request's token has been taken off it.
    pub(crate) fn begin(
        &self,
        request: &McpRequest,
        principal: Option<&Principal>,
        verdict: Verdict<'_>,
    ) -> Entry {
        let _ = (request, principal, verdict);
        Entry {}
    }
}

/// The record of one call. Dropped before [`end`](Self::end), it says that the call was cancelled, or panicked.
#[derive(Debug)]
pub(crate) struct Entry {}

impl Entry {
    /// Waits until the decision is on record, where the operator wants that. An error refuses the call: the
    /// record cannot be written, and the operator chose that then nothing is done.
    pub(crate) async fn admitted(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Says how the call ended.
    pub(crate) fn end(self, answer: &Result<McpResponse, Error>) {
        let _ = answer;
    }
}
