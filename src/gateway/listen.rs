//! The listens of callers: one `subscriptions/listen` over all members.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rmcp::model::{
    ClientResult, ErrorData, GetExtensions, NotificationMetaObject, PromptListChangedNotification,
    ResourceListChangedNotification, ResourceUpdatedNotification, ResourceUpdatedNotificationParam,
    ServerNotification, ServerRequest, SubscriptionFilter, SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams, ToolListChangedNotification,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    members::{
        active_member::ActiveMember,
        changes::Change,
        watch::{is_unsupported, listens, wait_after},
    },
    rewrite::Outward,
    shared::Shared,
};
use crate::{
    CallContext, CallerSink, Error, McpResponse, ServedBy, listen::resources::RefusedSubscriptions,
};

/// Serves a caller's listen until the caller ends it.
pub(super) async fn listen(
    shared: Arc<Shared>,
    filter: SubscriptionFilter,
    mut context: CallContext,
) -> Result<McpResponse, Error> {
    if shared.members().list.len() != 1 {
        // Several members serve it.
        context.extensions.remove::<ServedBy>();
    }
    let mut notifier = shared.notifier.subscribe();
    let mut seen = *notifier.borrow_and_update();
    let listen = Arc::new(CallerListen {
        shared,
        filter,
        context,
        acknowledged: CancellationToken::new(),
        settled: Notify::new(),
        acknowledgements: Mutex::default(),
    });
    let mut parts = FuturesUnordered::new();
    let mut opened = HashSet::new();
    for member in &listen.shared.members().list {
        opened.insert(member.id);
        parts.push(listen_to_member(listen.clone(), Arc::clone(member), true));
    }
    let timeout = tokio::time::sleep(listen.shared.rules.deadline);
    tokio::pin!(timeout);
    loop {
        let waiting = !listen.acknowledged.is_cancelled();
        if waiting && listen.is_settled(&opened) {
            listen.acknowledge().await?;
            continue;
        }
        tokio::select! {
            biased;
            Some(ended) = parts.next(), if !parts.is_empty() => {
                if let Ended::Listen(answer) = ended {
                    return answer;
                }
            }
            () = listen.settled.notified(), if waiting => {}
            () = &mut timeout, if waiting => listen.acknowledge().await?,
            changed = notifier.changed() => {
                if changed.is_err() {
                    return Err(Error::cancelled("the gateway has ended"));
                }
                let now = *notifier.borrow_and_update();
                if now.members != seen.members {
                    for member in &listen.shared.members().list {
                        if opened.insert(member.id) {
                            parts.push(listen_to_member(listen.clone(), Arc::clone(member), waiting));
                        }
                    }
                }
                let all = now.members != seen.members;
                let told = [
                    all || now.tools != seen.tools,
                    all || now.prompts != seen.prompts,
                    all || now.resources != seen.resources,
                ];
                seen = now;
                if !waiting {
                    listen.tell(told, &[]).await?;
                }
            }
        }
    }
}

/// A caller's listen.
struct CallerListen {
    shared: Arc<Shared>,
    filter: SubscriptionFilter,
    context: CallContext,
    /// Cancelled after the acknowledgement was sent to the caller: no other notification may
    /// precede it.
    acknowledged: CancellationToken,
    settled: Notify,
    acknowledgements: Mutex<Acknowledgements>,
}

/// The members' acknowledgements of a listen.
#[derive(Default)]
struct Acknowledgements {
    settled: HashSet<u64>,
    accepted: SubscriptionFilter,
    refused: RefusedSubscriptions,
}

/// The end of a member's part of a listen.
enum Ended {
    /// The member was removed, or has no changes to announce.
    Detached,
    /// It was the only member, so its end is the end of the listen.
    Listen(Result<McpResponse, Error>),
}

impl CallerListen {
    fn acknowledgements(&self) -> MutexGuard<'_, Acknowledgements> {
        self.acknowledgements
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn is_settled(&self, opened: &HashSet<u64>) -> bool {
        opened.is_subset(&self.acknowledgements().settled)
    }

    /// Records that a member has acknowledged its part, or has refused it.
    fn settle(&self, member: &ActiveMember, accepted: Option<&SubscriptionFilter>) {
        let mut acknowledged = self.acknowledgements();
        acknowledged.settled.insert(member.id);
        if let Some(accepted) = accepted {
            let all = &mut acknowledged.accepted;
            all.tools_list_changed = all.tools_list_changed.or(accepted.tools_list_changed);
            all.prompts_list_changed = all.prompts_list_changed.or(accepted.prompts_list_changed);
            all.resources_list_changed = all
                .resources_list_changed
                .or(accepted.resources_list_changed);
            if let Some(uris) = &accepted.resource_subscriptions {
                all.resource_subscriptions
                    .get_or_insert_default()
                    .extend(uris.iter().cloned());
            }
        }
        drop(acknowledged);
        self.settled.notify_one();
    }

    /// Records the subscriptions that a member refuses, by the caller's URIs.
    fn refuse(&self, refused: impl IntoIterator<Item = (String, ErrorData)>) {
        self.acknowledgements().refused.0.extend(refused);
    }

    /// Sends the acknowledgement to the caller.
    async fn acknowledge(&self) -> Result<(), Error> {
        let mut accepted = self.acknowledgements().accepted.clone();
        if self.shared.members().list.len() != 1 {
            // The gateway itself announces members that come and go.
            accepted.tools_list_changed = self.filter.tools_list_changed;
            accepted.prompts_list_changed = self.filter.prompts_list_changed;
            accepted.resources_list_changed = self.filter.resources_list_changed;
        }
        let params = SubscriptionsAcknowledgedNotificationParams::new(accepted);
        let mut acknowledgment = SubscriptionsAcknowledgedNotification::new(params);
        let refused = self.acknowledgements().refused.clone();
        acknowledgment.extensions.insert(refused);
        self.send(acknowledgment.into()).await?;
        self.acknowledged.cancel();
        Ok(())
    }

    async fn send(&self, mut notification: ServerNotification) -> Result<(), Error> {
        let meta = notification
            .extensions_mut()
            .get_or_insert_with(NotificationMetaObject::new);
        meta.set_subscription_id(self.context.id.clone());
        self.context.caller.notify(notification).await
    }

    /// Sends notifications of changed lists, as far as the caller asked for them, and of these
    /// resources.
    async fn tell(&self, lists: [bool; 3], uris: &[String]) -> Result<(), Error> {
        let [tools, prompts, resources] = lists;
        if tools && self.filter.tools_list_changed == Some(true) {
            self.send(ToolListChangedNotification::default().into())
                .await?;
        }
        if prompts && self.filter.prompts_list_changed == Some(true) {
            self.send(PromptListChangedNotification::default().into())
                .await?;
        }
        if resources && self.filter.resources_list_changed == Some(true) {
            self.send(ResourceListChangedNotification::default().into())
                .await?;
        }
        for uri in uris {
            let params = ResourceUpdatedNotificationParam::new(uri);
            self.send(ResourceUpdatedNotification::new(params).into())
                .await?;
        }
        Ok(())
    }

    /// Returns the filter for a member's part: every list, and the resources that belong to it. The
    /// second value is the set of the member's own URIs by which the caller has subscribed.
    async fn filter_for(
        &self,
        member: &Arc<ActiveMember>,
        with_resources: bool,
    ) -> (SubscriptionFilter, HashSet<String>) {
        let mut filter = self.filter.clone();
        let (mut own, mut own_uris) = (Vec::new(), HashSet::new());
        let uris = filter.resource_subscriptions.take().unwrap_or_default();
        for uri in uris.iter().filter(|_| with_resources) {
            if let Ok((of, inner)) = self.shared.look_up_uri(uri, &self.context).await
                && of.id == member.id
            {
                if inner == *uri {
                    own_uris.insert(inner.clone());
                }
                own.push(inner);
            }
        }
        filter.resource_subscriptions = (!own.is_empty()).then_some(own);
        (filter, own_uris)
    }

    /// Records that a member refuses the whole listen. Returns `false` if no resource was asked of
    /// it.
    async fn refuse_all(&self, member: &Arc<ActiveMember>, error: &ErrorData) -> bool {
        let mut refused = Vec::new();
        for uri in self.filter.resource_subscriptions.iter().flatten() {
            let found = self.shared.look_up_uri(uri, &self.context).await;
            if found.is_ok_and(|(of, _)| of.id == member.id) {
                refused.push((uri.clone(), error.clone()));
            }
        }
        let any = !refused.is_empty();
        self.refuse(refused);
        any
    }

    fn outward(&self, member: &Arc<ActiveMember>) -> Outward {
        self.shared.outward(member, &self.context)
    }
}

/// Runs a member's part of a listen, and reopens it after a loss until the member is removed.
async fn listen_to_member(
    listen: Arc<CallerListen>,
    member: Arc<ActiveMember>,
    from_the_start: bool,
) -> Ended {
    let mut attempt = 0;
    // `true` if a change may have been missed.
    let mut missed = from_the_start;
    let mut with_resources = true;
    loop {
        let ended = tokio::select! {
            biased;
            () = member.removed.cancelled() => {
                listen.settle(&member, None);
                return Ended::Detached;
            }
            ended = listen_once(&listen, &member, missed, with_resources) => ended,
        };
        let (ended, began) = ended;
        let only =
            matches!(listen.shared.members().list.as_slice(), [only] if only.id == member.id);
        if let Err(Error::Protocol(error)) = &ended
            && !(only || began)
            && with_resources
            && listen.refuse_all(&member, error).await
            && !ended.as_ref().is_err_and(is_unsupported)
        {
            // Perhaps only a resource was refused: the listen is tried for the lists alone.
            with_resources = false;
            continue;
        }
        listen.settle(&member, None);
        if only {
            return Ended::Listen(ended);
        }
        if ended.as_ref().is_err_and(is_unsupported) {
            return Ended::Detached;
        }
        attempt = if began { 0 } else { attempt + 1 };
        missed = true;
        let wait = wait_after(ended.as_ref().err(), attempt);
        tokio::select! {
            () = member.removed.cancelled() => return Ended::Detached,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Listens to a member once. Returns how it ended, and whether it had begun.
async fn listen_once(
    listen: &Arc<CallerListen>,
    member: &Arc<ActiveMember>,
    missed: bool,
    with_resources: bool,
) -> (Result<McpResponse, Error>, bool) {
    let (filter, own_uris) = listen.filter_for(member, with_resources).await;
    let began = CancellationToken::new();
    let mut context = listen.context.clone();
    listen.shared.map_visibility(member, &mut context);
    context.caller = context.caller.wrap(|_| MemberSink {
        listen: listen.clone(),
        outward: listen.outward(member),
        own_uris,
        began: began.clone(),
        missed,
    });
    let ended = member.call(listens(filter, context)).await;
    (ended, began.is_cancelled())
}

/// Forwards a member's notifications to the caller of a listen.
struct MemberSink {
    listen: Arc<CallerListen>,
    outward: Outward,
    /// The member's own URIs by which the caller has subscribed.
    own_uris: HashSet<String>,
    began: CancellationToken,
    missed: bool,
}

impl MemberSink {
    fn is_own_update(&self, notification: &ServerNotification) -> bool {
        matches!(notification, ServerNotification::ResourceUpdatedNotification(update)
            if self.own_uris.contains(&update.params.uri))
    }

    /// Handles the member's acknowledgement. If it comes after the caller's and changes may have
    /// been missed, the caller is told that the lists may have changed.
    async fn begin(
        &self,
        mut accepted: SubscriptionFilter,
        refused: RefusedSubscriptions,
    ) -> Result<(), Error> {
        self.began.cancel();
        let outward = |uri: &mut String| {
            if !self.own_uris.contains(uri) {
                self.outward.uri(uri);
            }
        };
        for uri in accepted.resource_subscriptions.iter_mut().flatten() {
            outward(uri);
        }
        let refused = refused.0.into_iter().map(|(mut uri, error)| {
            outward(&mut uri);
            (uri, error)
        });
        self.listen.refuse(refused);
        let late = self.listen.acknowledged.is_cancelled();
        self.listen.settle(&self.outward.member, Some(&accepted));
        if !late || !self.missed {
            return Ok(());
        }
        for change in Change::ALL {
            self.outward.member.changes.count(change);
        }
        let uris = accepted.resource_subscriptions.unwrap_or_default();
        self.listen.tell([true; 3], &uris).await
    }
}

impl CallerSink for MemberSink {
    fn notify(&self, mut notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            if let ServerNotification::SubscriptionsAcknowledgedNotification(notice) = notification
            {
                let refused = notice.extensions.get::<RefusedSubscriptions>();
                let refused = refused.cloned().unwrap_or_default();
                return self.begin(notice.params.notifications, refused).await;
            }
            // Before the caller is told and asks for the list.
            if let Some(change) = Change::of(&notification) {
                self.outward.member.changes.count(change);
            }
            if !self.is_own_update(&notification) {
                self.outward.notification(&mut notification);
            }
            self.listen.acknowledged.cancelled().await;
            self.listen.context.caller.notify(notification).await
        })
    }

    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(self.listen.context.caller.request(request))
    }
}
