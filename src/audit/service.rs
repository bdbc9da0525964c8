use std::{
    fmt, mem,
    task::{Context, Poll},
};

use tower::Service;

use super::{AuditLog, entry::Entry, future::AuditFuture};
use crate::{Error, McpRequest, McpResponse, Stack, protocol};

/// The service of an [`AuditLayer`](super::AuditLayer).
#[derive(Clone)]
pub struct Audit<S> {
    log: AuditLog,
    inner: S,
}

impl<S> Audit<S> {
    pub(super) fn new(log: AuditLog, inner: S) -> Self {
        Self { log, inner }
    }
}

impl<S> fmt::Debug for Audit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}

impl<S: Stack> Service<McpRequest> for Audit<S> {
    type Response = McpResponse;
    type Error = Error;
    type Future = AuditFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: McpRequest) -> Self::Future {
        // The instance that `poll_ready` made ready must be the one that is called.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let unreadable = protocol::unreadable(&request);
        let mut entry = Entry::new(self.log.shared.clone(), &mut request, unreadable);
        if entry.is_of_unreadable() {
            // No inner layer may act on params that are not on record.
            protocol::set_aside(&mut request);
        }
        match entry.try_reserve() {
            Some(Ok(())) => {
                let call = entry.poll_call(|| inner.call(request));
                AuditFuture::running(call, entry)
            }
            Some(Err(error)) => AuditFuture::refused(error),
            None => AuditFuture::waiting(async move {
                entry.reserve().await?;
                let call = entry.poll_call(|| inner.call(request));
                AuditFuture::running(call, entry).await
            }),
        }
    }
}
