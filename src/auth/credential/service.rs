use std::{
    fmt, mem,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tower::Service;

use super::Credentials;
use crate::{Error, McpRequest, McpResponse, Stack, context::credential::OutboundCredential};

/// The service of a [`CredentialLayer`](super::CredentialLayer).
#[derive(Clone)]
pub struct Credential<S> {
    credentials: Credentials,
    inner: S,
}

impl<S> Credential<S> {
    pub(super) fn new(credentials: Credentials, inner: S) -> Self {
        Self { credentials, inner }
    }
}

impl<S> fmt::Debug for Credential<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

impl<S: Stack> Service<McpRequest> for Credential<S> {
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, Result<McpResponse, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: McpRequest) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let credentials = self.credentials.clone();
        Box::pin(async move {
            let credential = credentials.of(&mut request).await?;
            let token = credential.token.reveal().to_owned();
            let credential = OutboundCredential::bearer(token);
            request.context.extensions.insert(credential);
            inner.call(request).await.map_err(Into::into)
        })
    }
}
