//! The listens of callers: one `subscriptions/listen` over all members.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rmcp::model::{
    ClientResult, ErrorData, ServerNotification, ServerRequest, SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{members::active_member::ActiveMember, rewrite::Outward, shared::Shared};
use crate::{
    CallContext, CallerSink, Error, McpResponse, ServedBy,
    listen::{self, RefusedSubscriptions, Reopen, change::Change},
    util::lock,
};

/// Serves a caller's listen until the caller ends it.
pub(super) async fn listen(
    shared: Arc<Shared>,
    filter: SubscriptionFilter,
    context: CallContext,
) -> Result<McpResponse, Error> {
    let mut notifier = shared.notifier.subscribe();
    let mut seen = *notifier.borrow_and_update();
    let listen = Arc::new(CallerListen::new(shared, filter, context));
    let mut parts = FuturesUnordered::new();
    let mut opened = HashSet::new();
    for member in &listen.shared.members().list {
        opened.insert(member.id);
        parts.push(listen_to_member(listen.clone(), Arc::clone(member), true));
    }
    let timeout = tokio::time::sleep(listen.shared.rules.list_timeout);
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
                if let ListenEnd::Listen(answer) = ended {
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
                if now.members_changed_since(&seen) {
                    for member in &listen.shared.members().list {
                        if opened.insert(member.id) {
                            let part = listen_to_member(listen.clone(), Arc::clone(member), waiting);
                            parts.push(part);
                        }
                    }
                }
                let changed = now.lists_changed_since(&seen);
                seen = now;
                if !waiting {
                    listen.announce(&changed, &[]).await?;
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
    /// Cancelled after the acknowledgment was sent to the caller: no other notification may
    /// precede it.
    acknowledged: CancellationToken,
    settled: Notify,
    acknowledgments: Mutex<Acknowledgments>,
}

/// The members' acknowledgments of a listen.
#[derive(Default)]
struct Acknowledgments {
    settled: HashSet<u64>,
    accepted: SubscriptionFilter,
    refused: RefusedSubscriptions,
}

/// The end of a member's part of a listen.
enum ListenEnd {
    /// The member was removed, or has no changes to announce.
    Detached,
    /// It was the only member, so its end is the end of the listen.
    Listen(Result<McpResponse, Error>),
}

impl CallerListen {
    fn new(shared: Arc<Shared>, filter: SubscriptionFilter, mut context: CallContext) -> Self {
        if shared.members().list.len() != 1 {
            // Several members serve it.
            context.extensions.remove::<ServedBy>();
        }
        Self {
            shared,
            filter,
            context,
            acknowledged: CancellationToken::new(),
            settled: Notify::new(),
            acknowledgments: Mutex::default(),
        }
    }

    fn acknowledgments(&self) -> MutexGuard<'_, Acknowledgments> {
        lock(&self.acknowledgments)
    }

    fn is_settled(&self, opened: &HashSet<u64>) -> bool {
        opened.is_subset(&self.acknowledgments().settled)
    }

    /// Records that a member has acknowledged its part, or has refused it.
    fn settle(&self, member: &ActiveMember, accepted: Option<&SubscriptionFilter>) {
        let mut acknowledged = self.acknowledgments();
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
        self.acknowledgments().refused.0.extend(refused);
    }

    /// Sends the acknowledgment to the caller.
    async fn acknowledge(&self) -> Result<(), Error> {
        let mut accepted = self.acknowledgments().accepted.clone();
        if self.shared.members().list.len() != 1 {
            // The gateway itself announces members that come and go.
            accepted.tools_list_changed = self.filter.tools_list_changed;
            accepted.prompts_list_changed = self.filter.prompts_list_changed;
            accepted.resources_list_changed = self.filter.resources_list_changed;
        }
        let refused = self.acknowledgments().refused.clone();
        let acknowledgment = listen::acknowledgment(accepted, refused, &self.context.id);
        self.context.caller.notify(acknowledgment).await?;
        self.acknowledged.cancel();
        Ok(())
    }

    /// Sends notifications of changed lists, as far as the caller asked for them, and of these
    /// resources.
    async fn announce(&self, changed: &[Change], uris: &[String]) -> Result<(), Error> {
        let mut filter = SubscriptionFilter::new();
        for change in changed.iter().filter(|change| change.is_in(&self.filter)) {
            change.add_to(&mut filter);
        }
        filter.resource_subscriptions = Some(uris.to_vec());
        for change in listen::changes_in(&filter) {
            let change = listen::with_subscription_id(change, &self.context.id);
            self.context.caller.notify(change).await?;
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
) -> ListenEnd {
    let mut reopen = Reopen::default();
    // `true` if a change may have been missed.
    let mut missed = from_the_start;
    let mut with_resources = true;
    loop {
        let ended = tokio::select! {
            biased;
            () = member.removed.cancelled() => {
                listen.settle(&member, None);
                return ListenEnd::Detached;
            }
            ended = listen_once(&listen, &member, missed, with_resources) => ended,
        };
        let (ended, opened) = ended;
        if let Some(opened) = opened {
            reopen.opened(opened);
        }
        let began = opened.is_some();
        let only =
            matches!(listen.shared.members().list.as_slice(), [only] if only.id == member.id);
        if let Err(Error::Protocol(error)) = &ended
            && !(only || began)
            && with_resources
            && listen.refuse_all(&member, error).await
            && !ended.as_ref().is_err_and(Error::is_method_not_found)
        {
            // Perhaps only a resource was refused: the listen is tried for the lists alone.
            with_resources = false;
            continue;
        }
        listen.settle(&member, None);
        if only {
            return ListenEnd::Listen(ended);
        }
        if ended.as_ref().is_err_and(Error::is_method_not_found) {
            return ListenEnd::Detached;
        }
        missed = true;
        let wait = reopen.lost(ended.as_ref().err());
        tokio::select! {
            () = member.removed.cancelled() => return ListenEnd::Detached,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Listens to a member once. Returns how it ended, and when it had begun, if it had.
async fn listen_once(
    listen: &Arc<CallerListen>,
    member: &Arc<ActiveMember>,
    missed: bool,
    with_resources: bool,
) -> (Result<McpResponse, Error>, Option<Instant>) {
    let (filter, own_uris) = listen.filter_for(member, with_resources).await;
    let mut context = listen.context.clone();
    listen.shared.map_visibility(member, &mut context);
    let part = Arc::new(MemberListen {
        listen: listen.clone(),
        outward: listen.outward(member),
        own_uris,
        began: OnceLock::new(),
        missed,
    });
    let begins = part.clone();
    let sink = MemberSink(part.clone());
    context.caller = context
        .caller
        .wrap(|_| sink)
        .take_acknowledgment(move |acknowledgment| {
            let part = begins.clone();
            Box::pin(async move { part.begin(acknowledgment).await })
        });
    let ended = member.call(listen::request(filter, context)).await;
    (ended, part.began.get().copied())
}

/// A member's part of a listen.
struct MemberListen {
    listen: Arc<CallerListen>,
    outward: Outward,
    /// The member's own URIs by which the caller has subscribed.
    own_uris: HashSet<String>,
    /// The time of the member's acknowledgment.
    began: OnceLock<Instant>,
    missed: bool,
}

impl MemberListen {
    fn is_own_update(&self, notification: &ServerNotification) -> bool {
        matches!(notification, ServerNotification::ResourceUpdatedNotification(update)
            if self.own_uris.contains(&update.params.uri))
    }

    /// Handles the member's acknowledgment. If it comes after the caller's and changes may have
    /// been missed, the caller is notified that the lists may have changed.
    async fn begin(
        &self,
        acknowledgment: SubscriptionsAcknowledgedNotification,
    ) -> Result<(), Error> {
        self.began.get_or_init(Instant::now);
        let refused = RefusedSubscriptions::of(&acknowledgment);
        let mut accepted = acknowledgment.params.notifications;
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
        self.listen.announce(&Change::ALL, &uris).await
    }
}

/// Forwards a member's notifications to the caller of a listen.
struct MemberSink(Arc<MemberListen>);

impl CallerSink for MemberSink {
    fn notify(&self, mut notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        let part = &self.0;
        Box::pin(async move {
            // Before the caller is notified and requests the list.
            if let Some(change) = Change::of(&notification) {
                part.outward.member.changes.count(change);
            }
            if !part.is_own_update(&notification) {
                part.outward.notification(&mut notification);
            }
            part.outward.seal_task_of(&mut notification);
            part.listen.acknowledged.cancelled().await;
            part.listen.context.caller.notify(notification).await
        })
    }

    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(self.0.listen.context.caller.request(request))
    }
}
