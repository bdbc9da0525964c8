use std::{
    fmt,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tower::Service;

use super::{AuditLog, entry::Verdict};
use crate::{Error, McpRequest, McpResponse, protocol};

/// The service of an [`AuditLayer`](super::AuditLayer).
#[derive(Clone)]
pub struct Audit<S> {
    audit: AuditLog,
    inner: S,
}

impl<S> Audit<S> {
    pub(super) fn new(audit: AuditLog, inner: S) -> Self {
        Self { audit, inner }
    }
}

impl<S> fmt::Debug for Audit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}

impl<S> Service<McpRequest> for Audit<S>
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, Result<McpResponse, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: McpRequest) -> Self::Future {
        // The instance that `poll_ready` made ready must be the one that is called.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let audit = self.audit.clone();
        Box::pin(async move {
            let principal = request.context.principal().cloned();
            let mut entry = audit.begin(&mut request);
            if let Some(unreadable) = protocol::unreadable(&request) {
                entry.decided(principal.as_ref(), Verdict::Denied(unreadable.reason()));
                entry.admitted().await?;
                let refused = Err(unreadable.refusal());
                entry.end(&refused);
                return refused;
            }
            entry.decided(principal.as_ref(), Verdict::Allowed);
            entry.admitted().await?;
            entry.watch(|| inner.call(request)).await
        })
    }
}
