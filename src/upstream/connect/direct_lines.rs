//! Requests over lines that go to the server without rmcp's client loop.

use std::{any::TypeId, io, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use rmcp::{
    model::{ClientRequest, ProtocolVersion, ServerResult},
    service::ServiceError,
    transport::DynamicTransportError,
};
use tokio::io::AsyncWrite;
use tokio_util::bytes::Bytes;

use crate::{
    lines::LineWriter,
    upstream::{
        connection::Handshake,
        direct::{DirectAnswer, DirectRequest, DirectSender, RequestParts},
        route::Routes,
    },
    wire,
};

/// Writes requests as lines. Their answers come to their routes.
///
/// rmcp's client takes each request through a task of the connection and one of its own, and each
/// answer through the former.
pub(super) struct DirectLines<O> {
    output: O,
    parts: RequestParts,
}

/// A writer of lines.
pub(super) trait LineOutput: Send + Sync + 'static {
    /// Writes a message as a line. Its position in the order is taken at the call.
    fn write(
        &self,
        message: serde_json::Result<Bytes>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static;
}

impl<W: AsyncWrite + Unpin + Send + 'static> LineOutput for LineWriter<W> {
    fn write(
        &self,
        message: serde_json::Result<Bytes>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.write(message)
    }
}

impl<O> DirectLines<O> {
    pub(super) fn new(output: O, handshake: &Handshake) -> Self {
        Self {
            output,
            parts: RequestParts::new(handshake.info.clone()),
        }
    }
}

impl<O: LineOutput> DirectSender for DirectLines<O> {
    fn set_version(&mut self, version: &ProtocolVersion) {
        self.parts.set_version(version);
    }

    fn names_calls(&self) -> bool {
        false
    }

    /// rmcp handles the end of a listen that its server cancels.
    fn accepts(&self, request: &ClientRequest) -> bool {
        !matches!(request, ClientRequest::SubscriptionsListenRequest(_))
    }

    fn record_tools(&self, _result: &ServerResult) {}

    fn next_id(&self) -> i64 {
        self.parts.next_id()
    }

    fn send<'a>(
        &'a self,
        request: DirectRequest,
        _routes: &'a Arc<Routes>,
    ) -> BoxFuture<'a, DirectAnswer<'a>> {
        let message = wire::to_server(self.parts.message(request));
        let mut writing = Box::pin(self.output.write(message));
        let written = writing.as_mut().now_or_never();
        Box::pin(async move {
            let written = match written {
                Some(written) => written,
                // Other calls do not wait for this one to go on.
                None => match tokio::spawn(writing).await {
                    Ok(written) => written,
                    Err(error) => Err(io::Error::other(error)),
                },
            };
            match written {
                Ok(()) => DirectAnswer::ByRoute,
                Err(error) => DirectAnswer::Complete(Err(failed(error))),
            }
        })
    }
}

fn failed(error: io::Error) -> ServiceError {
    let kind = TypeId::of::<io::Error>();
    let error = DynamicTransportError::from_parts("lines", kind, Box::new(error));
    ServiceError::TransportSend(error)
}
