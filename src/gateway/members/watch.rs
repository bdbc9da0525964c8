//! The gateway's own listens on its members.

use std::sync::Arc;

use rmcp::model::InitializeRequestParams;
use tokio::time::Instant;

use super::{active_member::ActiveMember, changes::PerChange};
use crate::{
    CallContext, Error,
    caller::Era,
    listen::{self, ACKNOWLEDGE_WITHIN, Reopen, change::Change},
};

/// Starts, once, a listen to a member on the gateway's own behalf. The member's lists are then not
/// fetched again until they change.
pub(in crate::gateway) fn watch_member(member: &Arc<ActiveMember>, context: &CallContext) {
    let era = context.era();
    if member.is_per_caller() || !member.changes.begin_watching(era) {
        return;
    }
    let handshake = match era {
        Era::Legacy => context.caller.handshake(),
        Era::Modern => None,
    };
    let (member, removed) = (member.clone(), member.removed.clone());
    tokio::spawn(async move {
        let watching = async {
            let mut reopen = Reopen::default();
            loop {
                let ended = watch(&member, era, handshake.clone(), &mut reopen).await;
                member.changes.set_announced(era, PerChange::default());
                let error = ended.err();
                if error.as_ref().is_some_and(Error::is_method_not_found) {
                    return;
                }
                tokio::time::sleep(reopen.lost(error.as_ref())).await;
            }
        };
        removed.run_until_cancelled(watching).await;
    });
}

/// Listens to a member on the gateway's own behalf until the listen is lost.
async fn watch(
    member: &Arc<ActiveMember>,
    era: Era,
    handshake: Option<Arc<InitializeRequestParams>>,
    reopen: &mut Reopen,
) -> Result<(), Error> {
    let (of, changed) = (member.clone(), member.clone());
    let mut context = CallContext::background();
    let caller = context.caller.with_handshake(handshake);
    context.caller = caller.inspect_listen(move |notification| {
        if let Some(change) = Change::of(notification) {
            changed.changes.count(change);
        }
    });
    let call = |request| async move { of.call(request).await };
    let all = listen::list_changes();
    let open = listen::open(all, context, Some(ACKNOWLEDGE_WITHIN), call).await?;
    reopen.opened(Instant::now());
    member.record_outcome(None);
    // Lists that were fetched earlier may have changed before the listen began.
    for change in Change::ALL {
        member.changes.count(change);
    }
    let announced = PerChange::from_fn(|change| change.is_in(&open.accepted));
    member.changes.set_announced(era, announced);
    open.call.await
}
