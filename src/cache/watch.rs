//! The cache's own ear for changes, so that it hears of them when no caller does.

use std::{
    future::ready,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::future::BoxFuture;
use rmcp::model::{
    ClientResult, ErrorData, PromptListChangedNotification, ResourceListChangedNotification,
    ServerNotification, ServerRequest, SubscriptionFilter, SubscriptionsListenRequest,
    SubscriptionsListenRequestParams, ToolListChangedNotification,
};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use super::state::Core;
use crate::{
    CallContext, Caller, CallerSink, Error, McpRequest, McpResponse, backoff::Backoff,
    request::next_id,
};

/// How the listen is opened again after the connection was lost.
const REOPEN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Listens to the inner stack for changes of its lists, and follows what other processes forget: once, and until
/// the last clone of the service is gone.
pub(super) fn begin<S>(core: &Arc<Core>, inner: &S)
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    let watches = core.shared.rules.watch_changes;
    if !watches && core.shared.remote.is_none() || core.watching.load(Ordering::Relaxed) {
        return;
    }
    if core.watching.swap(true, Ordering::Relaxed) {
        return;
    }
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    if let Some(remote) = core.shared.remote.clone() {
        let core = core.clone();
        runtime.spawn(async move {
            core.stop.run_until_cancelled(remote.follow(&core)).await;
        });
    }
    if watches {
        let (core, inner) = (core.clone(), inner.clone());
        runtime.spawn(async move {
            let stop = core.stop.clone();
            stop.run_until_cancelled(listen(core, inner)).await;
        });
    }
}

async fn listen<S>(core: Arc<Core>, inner: S)
where
    S: Service<McpRequest, Response = McpResponse> + Clone,
    S::Error: Into<Error>,
{
    let (mut failures, mut deaf) = (0, false);
    loop {
        let began = CancellationToken::new();
        let sink = Ear {
            core: core.clone(),
            began: began.clone(),
            deaf,
        };
        let mut context = CallContext::new(next_id());
        context.caller = Caller::new(sink).quiet();
        let filter = SubscriptionFilter::builder()
            .tools_list_changed()
            .prompts_list_changed()
            .resources_list_changed()
            .build();
        let message =
            SubscriptionsListenRequest::new(SubscriptionsListenRequestParams::new(filter));
        let request = McpRequest::from_parts(message.into(), context);
        let ended = inner.clone().oneshot(request).await.map_err(Into::into);
        let lost = match &ended {
            Ok(_) => true,
            Err(error) => error.is_transport() || error.is_timeout(),
        };
        if !lost {
            // There is no listen here, or none without a caller who may.
            tracing::debug!(target: "rmcp_layers::cache", error = ?ended.err(), "the inner stack tells the cache of no changes");
            return;
        }
        deaf |= began.is_cancelled();
        failures = if began.is_cancelled() {
            0
        } else {
            failures + 1
        };
        tokio::time::sleep(REOPEN.delay(failures)).await;
    }
}

/// Hears what the inner stack tells.
struct Ear {
    core: Arc<Core>,
    began: CancellationToken,
    /// It has heard before, and then not for a while.
    deaf: bool,
}

impl CallerSink for Ear {
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        if let ServerNotification::SubscriptionsAcknowledgedNotification(told) = &notification {
            self.began.cancel();
            if !self.deaf {
                return Box::pin(ready(Ok(())));
            }
            // What changed meanwhile was not heard.
            let told = &told.params.notifications;
            if told.tools_list_changed == Some(true) {
                self.core
                    .heard(&ToolListChangedNotification::default().into());
            }
            if told.prompts_list_changed == Some(true) {
                self.core
                    .heard(&PromptListChangedNotification::default().into());
            }
            if told.resources_list_changed == Some(true) {
                self.core
                    .heard(&ResourceListChangedNotification::default().into());
            }
        } else {
            self.core.heard(&notification);
        }
        Box::pin(ready(Ok(())))
    }

    fn request(&self, _request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        let error = ErrorData::invalid_request("a cache answers no requests from a server", None);
        Box::pin(ready(Err(error.into())))
    }
}
