//! Requests to a caller that rmcp serves.

use rmcp::{
    RoleServer,
    model::{ClientResult, GetExtensions, GetMeta, ServerRequest},
    service::{Peer, PeerRequestOptions, RequestHandle, ServiceError},
};

use crate::{Error, TransportError, protocol::outgoing::WithoutProgress};

/// Sends a request to a caller that rmcp serves. Dropping the future cancels the request.
pub(super) async fn request(
    peer: &Peer<RoleServer>,
    mut request: ServerRequest,
) -> Result<ClientResult, Error> {
    if request.get_meta().get_progress_token().is_none() {
        request.extensions_mut().insert(WithoutProgress);
    }
    let options = PeerRequestOptions::no_options();
    let sent = peer.send_request_with_option(request, options).await;
    let mut pending = PendingRequest(Some(sent.map_err(error)?));
    let answer = match &mut pending.0 {
        Some(handle) => (&mut handle.rx).await,
        None => return Err(error(ServiceError::TransportClosed)),
    };
    pending.0 = None;
    answer
        .unwrap_or(Err(ServiceError::TransportClosed))
        .map_err(error)
}

/// A request without an answer yet.
struct PendingRequest(Option<RequestHandle<RoleServer>>);

impl Drop for PendingRequest {
    fn drop(&mut self) {
        let (Some(handle), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        runtime.spawn(async move {
            let reason = "the server does not wait for the answer any more";
            if let Err(error) = handle.cancel(Some(reason.to_owned())).await {
                tracing::debug!(%error, "a request could not be cancelled at its caller");
            }
        });
    }
}

/// Converts the failure of a caller's connection, or the caller's error.
pub(super) fn error(error: ServiceError) -> Error {
    match error {
        ServiceError::McpError(error) => error.into(),
        ServiceError::Cancelled { reason } => Error::Cancelled {
            reason: reason.map(Into::into),
        },
        ServiceError::Timeout { timeout } => Error::timeout(timeout),
        other => TransportError::new("the caller cannot be reached")
            .with_source(other)
            .into(),
    }
}
