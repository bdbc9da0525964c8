//! `subscriptions/listen`: merges the registry's own changes with those of the inner stack.

use std::{sync::Arc, time::Duration};

use futures::future::{BoxFuture, Either, select};
use rmcp::model::{
    ClientResult, GetExtensions, NotificationMetaObject, RequestId, ServerNotification,
    ServerRequest, SubscriptionFilter, SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams, ToolListChangedNotification,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use super::state::Shared;
use crate::{Caller, CallerSink, Error, McpRequest, McpResponse};

/// Changes this long before the listen are reported as well. The top of the stack acknowledges a
/// listen before this layer sees it, so the caller may expect them.
const ACKNOWLEDGED_BEFORE: Duration = Duration::from_secs(1);

/// Runs a listen that asks for changes of the tool list.
///
/// The inner stack receives the listen too. Its acknowledgement goes to the caller, with the
/// registry's part added. If the inner stack does not support listens, the registry acknowledges
/// the listen and keeps it open by itself.
pub(super) async fn run<S>(
    shared: Arc<Shared>,
    inner: S,
    mut request: McpRequest,
) -> Result<McpResponse, Error>
where
    S: Service<McpRequest, Response = McpResponse>,
    S::Error: Into<Error>,
{
    let mut changes = shared.changes();
    let coalesce = shared.coalesce;
    // An open listen must not keep the registry alive.
    drop(shared);
    let id = request.context.id.clone();
    let caller = request.context.caller.clone();
    if told_before(*changes.borrow_and_update()) {
        changes.mark_changed();
    }
    let acknowledged = CancellationToken::new();
    request.context.caller = with_own(&caller, acknowledged.clone());
    let mut beside = changes.clone();
    let own = async {
        acknowledged.cancelled().await;
        tell(&caller, &id, &mut beside, coalesce).await
    };
    let inner = inner.oneshot(request);
    let (own, inner) = (std::pin::pin!(own), std::pin::pin!(inner));
    match select(inner, own).await {
        Either::Left((Err(error), _)) => {
            let error = error.into();
            if !error.is_method_not_found() || acknowledged.is_cancelled() {
                return Err(error);
            }
        }
        Either::Left((Ok(response), _)) => return Ok(response),
        Either::Right((error, _)) => return Err(error),
    }
    let mut accepted = SubscriptionFilter::new();
    accepted.tools_list_changed = Some(true);
    let params = SubscriptionsAcknowledgedNotificationParams::new(accepted);
    let acknowledgment = SubscriptionsAcknowledgedNotification::new(params);
    caller
        .notify(of_subscription(acknowledgment.into(), &id))
        .await?;
    Err(tell(&caller, &id, &mut changes, coalesce).await)
}

fn told_before(changed: Option<Instant>) -> bool {
    changed.is_some_and(|at| at.elapsed() < ACKNOWLEDGED_BEFORE)
}

/// Sends a notification for each change, several within a short time as one, until the caller is
/// gone.
async fn tell(
    caller: &Caller,
    id: &RequestId,
    changes: &mut watch::Receiver<Option<Instant>>,
    coalesce: Duration,
) -> Error {
    loop {
        if changes.changed().await.is_err() {
            return Error::cancelled("the registry is gone");
        }
        tokio::time::sleep(coalesce).await;
        changes.borrow_and_update();
        let change = ToolListChangedNotification::default().into();
        if let Err(error) = caller.notify(of_subscription(change, id)).await {
            return error;
        }
    }
}

fn of_subscription(mut notification: ServerNotification, id: &RequestId) -> ServerNotification {
    notification
        .extensions_mut()
        .get_or_insert_with(NotificationMetaObject::new)
        .set_subscription_id(id.clone());
    notification
}

/// Returns the caller for the inner stack's part of a listen.
fn with_own(caller: &Caller, acknowledged: CancellationToken) -> Caller {
    let sink = |caller: Caller| InnerSink {
        caller,
        acknowledged,
    };
    caller.wrap_listen(sink)
}

struct InnerSink {
    caller: Caller,
    /// Cancelled once the acknowledgement has reached the caller.
    acknowledged: CancellationToken,
}

impl CallerSink for InnerSink {
    fn notify(&self, mut notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let ServerNotification::SubscriptionsAcknowledgedNotification(notice) =
                &mut notification
            else {
                return self.caller.notify(notification).await;
            };
            notice.params.notifications.tools_list_changed = Some(true);
            self.caller.notify(notification).await?;
            self.acknowledged.cancel();
            Ok(())
        })
    }

    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(self.caller.request(request))
    }
}
