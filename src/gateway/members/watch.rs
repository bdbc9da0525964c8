//! The gateway's own listens on its members.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use rmcp::model::{
    ClientResult, ErrorCode, ErrorData, ServerNotification, ServerRequest, SubscriptionFilter,
    SubscriptionsListenRequest, SubscriptionsListenRequestParams,
};
use tokio_util::sync::CancellationToken;

use super::{active_member::ActiveMember, changes::Change};
use crate::{
    CallContext, Caller, CallerSink, Error, McpRequest,
    caller::Era,
    request::next_id,
    util::{backoff::Backoff, panics},
};

/// The delays before a lost listen to a member is opened again.
const REOPEN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Discards notifications of requests that no caller made.
pub(in crate::gateway) struct DiscardingSink;

impl CallerSink for DiscardingSink {
    fn notify(&self, _notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn request(&self, _request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        no_requests()
    }
}

fn no_requests() -> BoxFuture<'static, Result<ClientResult, Error>> {
    let error = ErrorData::invalid_request("this request takes no requests from a server", None);
    Box::pin(std::future::ready(Err(error.into())))
}

pub(in crate::gateway) fn listens(filter: SubscriptionFilter, context: CallContext) -> McpRequest {
    let message = SubscriptionsListenRequest::new(SubscriptionsListenRequestParams::new(filter));
    McpRequest::from_parts(message.into(), context)
}

pub(in crate::gateway) fn is_unsupported(error: &Error) -> bool {
    error
        .as_protocol()
        .is_some_and(|error| error.code == ErrorCode::METHOD_NOT_FOUND)
}

/// Returns the wait before a listen that ended with `error` is opened again.
pub(in crate::gateway) fn wait_after(error: Option<&Error>, attempt: u32) -> Duration {
    let said = error.and_then(Error::retry_after).unwrap_or_default();
    REOPEN.delay(attempt).max(said.min(Duration::from_secs(60)))
}

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
            let mut attempt = 0;
            loop {
                let sink = WatchSink {
                    member: member.clone(),
                    era,
                    began: CancellationToken::new(),
                };
                let began = sink.began.clone();
                let mut context = CallContext::new(next_id());
                context.caller = Caller::new(sink).with_handshake(handshake.clone()).quiet();
                let all = SubscriptionFilter::builder()
                    .tools_list_changed()
                    .prompts_list_changed()
                    .resources_list_changed()
                    .build();
                let ended = panics::caught(member.call(listens(all, context))).await;
                member.changes.set_announced(era, [false; 3]);
                if ended.as_ref().is_err_and(is_unsupported) {
                    return;
                }
                attempt = if began.is_cancelled() { 0 } else { attempt + 1 };
                tokio::time::sleep(wait_after(ended.as_ref().err(), attempt)).await;
            }
        };
        removed.run_until_cancelled(watching).await;
    });
}

struct WatchSink {
    member: Arc<ActiveMember>,
    era: Era,
    began: CancellationToken,
}

impl CallerSink for WatchSink {
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        if let ServerNotification::SubscriptionsAcknowledgedNotification(notice) = &notification {
            self.began.cancel();
            self.member.record_outcome(None);
            // Lists that were fetched earlier may have changed before the listen began.
            for change in Change::ALL {
                self.member.changes.count(change);
            }
            let accepted = &notice.params.notifications;
            let told = |flag: Option<bool>| flag == Some(true);
            self.member.changes.set_announced(
                self.era,
                [
                    told(accepted.tools_list_changed),
                    told(accepted.prompts_list_changed),
                    told(accepted.resources_list_changed),
                ],
            );
        } else if let Some(change) = Change::of(&notification) {
            self.member.changes.count(change);
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn request(&self, _request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        no_requests()
    }
}
