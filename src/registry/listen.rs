//! `subscriptions/listen`: merges the registry's own changes with those of the inner stack.

use std::{sync::Arc, time::Duration};

use futures::future::{Either, select};
use rmcp::model::{RequestId, SubscriptionFilter};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use super::state::Shared;
use crate::{
    Caller, Error, McpRequest, McpResponse,
    listen::{self, RefusedSubscriptions, change::Change},
};

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
    if is_recent(*changes.borrow_and_update()) {
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
    let acknowledgment = listen::acknowledgment(accepted, RefusedSubscriptions::default(), &id);
    caller.notify(acknowledgment).await?;
    Err(tell(&caller, &id, &mut changes, coalesce).await)
}

fn is_recent(changed: Option<Instant>) -> bool {
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
        let change = listen::with_subscription_id(Change::Tools.notification(), id);
        if let Err(error) = caller.notify(change).await {
            return error;
        }
    }
}

/// Returns the caller for the inner stack's part of a listen. Its acknowledgment goes to the caller
/// with the registry's part added, and `acknowledged` is cancelled.
fn with_own(caller: &Caller, acknowledged: CancellationToken) -> Caller {
    let outer = caller.clone();
    caller.take_acknowledgment(move |mut acknowledgment| {
        acknowledgment.params.notifications.tools_list_changed = Some(true);
        let (outer, acknowledged) = (outer.clone(), acknowledged.clone());
        Box::pin(async move {
            outer.notify(acknowledgment.into()).await?;
            acknowledged.cancel();
            Ok(())
        })
    })
}
