use std::{sync::Arc, time::Duration};

use rmcp::model::{
    ClientRequest, Extensions, ProgressNotificationParam, ProgressToken, RequestMetaObject,
    ServerResult,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    McpClient,
    call_sink::{CallSink, Recipient},
};
use crate::{
    CallContext, Error, McpRequest, Stack,
    context::next_id,
    util::deadline::{end_of, reached},
};

/// The options of one call.
pub(super) struct CallOptions {
    pub(super) meta: RequestMetaObject,
    pub(super) extensions: Extensions,
    pub(super) request_timeout: Option<Duration>,
    pub(super) total_timeout: Option<Duration>,
    pub(super) cancellation: CancellationToken,
    pub(super) progress: Option<mpsc::Sender<ProgressNotificationParam>>,
}

/// One call, with all of its requests: rounds, and polls of its task.
pub(super) struct ClientCall<'a, S> {
    pub(super) client: &'a McpClient<S>,
    sink: Arc<CallSink>,
    meta: RequestMetaObject,
    extensions: Extensions,
    request_timeout: Option<Duration>,
    total_timeout: Option<Duration>,
    deadline: Option<Instant>,
    /// Cancelled with the call, also when its future is dropped: inner layers may have spawned
    /// work.
    cancellation: CancellationToken,
    _cancel: DropGuard,
}

impl<'a, S: Stack> ClientCall<'a, S> {
    pub(super) fn new(client: &'a McpClient<S>, options: CallOptions) -> Self {
        let CallOptions {
            meta: own,
            extensions,
            request_timeout,
            total_timeout,
            ..
        } = options;
        let mut meta = client.introduction();
        meta.extend(own);
        if meta.get_progress_token().is_none() {
            meta.set_progress_token(ProgressToken(next_id()));
        }
        let recipient = Recipient::Handler(client.shared.handler.clone());
        let cancellation = options.cancellation.child_token();
        Self {
            client,
            sink: CallSink::new(options.progress, recipient),
            meta,
            extensions,
            request_timeout,
            total_timeout,
            deadline: end_of(total_timeout),
            _cancel: cancellation.clone().drop_guard(),
            cancellation,
        }
    }

    /// Runs the call's work within the total timeout.
    pub(super) async fn run<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            result = work => result,
            () = reached(self.deadline) => {
                Err(Error::timeout(self.total_timeout.unwrap_or_default()))
            }
            () = self.cancellation.cancelled() => {
                Err(Error::cancelled("the caller cancelled the request"))
            }
        }
    }

    /// Sends one request of the call.
    pub(super) async fn request(
        &self,
        message: impl Into<ClientRequest>,
    ) -> Result<ServerResult, Error> {
        let context = CallContext {
            meta: self.meta.clone(),
            extensions: self.extensions.clone(),
            cancellation: self.cancellation.clone(),
            caller: self.client.caller(&self.sink),
            deadline: self.deadline,
            ..CallContext::default()
        };
        let request = McpRequest::from_parts(message.into(), context);
        let response = self
            .client
            .dispatch(request, &self.sink, self.request_timeout)
            .await?;
        Ok(response.into_result())
    }
}
