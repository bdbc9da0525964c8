//! Change notifications: one `subscriptions/listen` of a caller over all members, and the gateway's
//! own.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rmcp::model::{
    ClientResult, ErrorCode, ErrorData, GetExtensions, NotificationMetaObject,
    PromptListChangedNotification, ResourceListChangedNotification, ResourceUpdatedNotification,
    ResourceUpdatedNotificationParam, ServerNotification, ServerRequest, SubscriptionFilter,
    SubscriptionsAcknowledgedNotification, SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenRequest, SubscriptionsListenRequestParams, ToolListChangedNotification,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{
    active_member::{Change, Seat},
    rewrite::Outward,
    shared::Hub,
};
use crate::{
    CallContext, Caller, CallerSink, Error, McpRequest, McpResponse, ServedBy,
    caller::Era,
    context::next_id,
    listen::resources::RefusedSubscriptions,
    util::{backoff::Backoff, panics},
};

/// The delays before a lost listen to a member is opened again.
const REOPEN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Counters of the changes that every caller is told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Versions {
    members: u64,
    tools: u64,
    prompts: u64,
    resources: u64,
}

/// Notifies every open listen of the gateway's own changes.
#[derive(Clone)]
pub(super) struct Bell(watch::Sender<Versions>);

impl Bell {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Versions::default()))
    }

    pub(super) fn members_changed(&self) {
        self.0.send_modify(|versions| versions.members += 1);
    }

    pub(super) fn changed(&self, change: Change) {
        self.0.send_modify(|versions| match change {
            Change::Tools => versions.tools += 1,
            Change::Prompts => versions.prompts += 1,
            Change::Resources => versions.resources += 1,
        });
    }
}

/// Discards notifications of requests that no caller made.
pub(super) struct Silent;

impl CallerSink for Silent {
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

fn listens(filter: SubscriptionFilter, context: CallContext) -> McpRequest {
    let message = SubscriptionsListenRequest::new(SubscriptionsListenRequestParams::new(filter));
    McpRequest::from_parts(message.into(), context)
}

fn is_unsupported(error: &Error) -> bool {
    error
        .as_protocol()
        .is_some_and(|error| error.code == ErrorCode::METHOD_NOT_FOUND)
}

/// Returns the wait before a listen that ended with `error` is opened again.
fn wait_after(error: Option<&Error>, attempt: u32) -> Duration {
    let said = error.and_then(Error::retry_after).unwrap_or_default();
    REOPEN.delay(attempt).max(said.min(Duration::from_secs(60)))
}

/// Serves a caller's listen until the caller ends it.
pub(super) async fn listen(
    hub: Arc<Hub>,
    filter: SubscriptionFilter,
    mut context: CallContext,
) -> Result<McpResponse, Error> {
    if hub.seats().list.len() != 1 {
        // Several members serve it.
        context.extensions.remove::<ServedBy>();
    }
    let mut bell = hub.bell.0.subscribe();
    let mut seen = *bell.borrow_and_update();
    let listen = Arc::new(Listen {
        hub,
        filter,
        context,
        acknowledged: CancellationToken::new(),
        settled: Notify::new(),
        members: Mutex::default(),
    });
    let mut children = FuturesUnordered::new();
    let mut opened = HashSet::new();
    for seat in &listen.hub.seats().list {
        opened.insert(seat.id);
        children.push(child(listen.clone(), seat.clone(), true));
    }
    let patience = tokio::time::sleep(listen.hub.rules.deadline);
    tokio::pin!(patience);
    loop {
        let waiting = !listen.acknowledged.is_cancelled();
        if waiting && listen.is_settled(&opened) {
            listen.acknowledge().await?;
            continue;
        }
        tokio::select! {
            biased;
            Some(ended) = children.next(), if !children.is_empty() => {
                if let End::Of(answer) = ended {
                    return answer;
                }
            }
            () = listen.settled.notified(), if waiting => {}
            () = &mut patience, if waiting => listen.acknowledge().await?,
            changed = bell.changed() => {
                if changed.is_err() {
                    return Err(Error::cancelled("the gateway has ended"));
                }
                let now = *bell.borrow_and_update();
                if now.members != seen.members {
                    for seat in &listen.hub.seats().list {
                        if opened.insert(seat.id) {
                            children.push(child(listen.clone(), seat.clone(), waiting));
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
struct Listen {
    hub: Arc<Hub>,
    filter: SubscriptionFilter,
    context: CallContext,
    /// Cancelled after the acknowledgement was sent to the caller: no other notification may
    /// precede it.
    acknowledged: CancellationToken,
    settled: Notify,
    members: Mutex<Members>,
}

/// The members' acknowledgements of a listen.
#[derive(Default)]
struct Members {
    settled: HashSet<u64>,
    accepted: SubscriptionFilter,
    refused: RefusedSubscriptions,
}

/// The end of a member's part of a listen.
enum End {
    /// The member was removed, or has no changes to announce.
    Apart,
    /// It was the only member, so its end is the end of the listen.
    Of(Result<McpResponse, Error>),
}

impl Listen {
    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_settled(&self, opened: &HashSet<u64>) -> bool {
        opened.is_subset(&self.members().settled)
    }

    /// Records that a member has acknowledged its part, or has refused it.
    fn settle(&self, seat: &Seat, accepted: Option<&SubscriptionFilter>) {
        let mut members = self.members();
        members.settled.insert(seat.id);
        if let Some(accepted) = accepted {
            let all = &mut members.accepted;
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
        drop(members);
        self.settled.notify_one();
    }

    /// Records the subscriptions that a member refuses, by the caller's URIs.
    fn refuse(&self, refused: impl IntoIterator<Item = (String, ErrorData)>) {
        self.members().refused.0.extend(refused);
    }

    /// Sends the acknowledgement to the caller.
    async fn acknowledge(&self) -> Result<(), Error> {
        let mut accepted = self.members().accepted.clone();
        if self.hub.seats().list.len() != 1 {
            // The gateway itself announces members that come and go.
            accepted.tools_list_changed = self.filter.tools_list_changed;
            accepted.prompts_list_changed = self.filter.prompts_list_changed;
            accepted.resources_list_changed = self.filter.resources_list_changed;
        }
        let params = SubscriptionsAcknowledgedNotificationParams::new(accepted);
        let mut acknowledgment = SubscriptionsAcknowledgedNotification::new(params);
        let refused = self.members().refused.clone();
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
        seat: &Arc<Seat>,
        with_resources: bool,
    ) -> (SubscriptionFilter, HashSet<String>) {
        let mut filter = self.filter.clone();
        let (mut own, mut bare) = (Vec::new(), HashSet::new());
        let uris = filter.resource_subscriptions.take().unwrap_or_default();
        for uri in uris.iter().filter(|_| with_resources) {
            if let Ok((of, inner)) = self.hub.find_uri(uri, &self.context).await
                && of.id == seat.id
            {
                if inner == *uri {
                    bare.insert(inner.clone());
                }
                own.push(inner);
            }
        }
        filter.resource_subscriptions = (!own.is_empty()).then_some(own);
        (filter, bare)
    }

    /// Records that a member refuses the whole listen. Returns `false` if no resource was asked of
    /// it.
    async fn refuse_all(&self, seat: &Arc<Seat>, error: &ErrorData) -> bool {
        let mut refused = Vec::new();
        for uri in self.filter.resource_subscriptions.iter().flatten() {
            let found = self.hub.find_uri(uri, &self.context).await;
            if found.is_ok_and(|(of, _)| of.id == seat.id) {
                refused.push((uri.clone(), error.clone()));
            }
        }
        let any = !refused.is_empty();
        self.refuse(refused);
        any
    }

    fn outward(&self, seat: &Arc<Seat>) -> Outward {
        self.hub.outward(seat, &self.context)
    }
}

/// Runs a member's part of a listen, and reopens it after a loss until the member is removed.
async fn child(listen: Arc<Listen>, seat: Arc<Seat>, from_the_start: bool) -> End {
    let mut attempt = 0;
    // `true` if a change may have been missed.
    let mut missed = from_the_start;
    let mut with_resources = true;
    loop {
        let ended = tokio::select! {
            biased;
            () = seat.gone.cancelled() => {
                listen.settle(&seat, None);
                return End::Apart;
            }
            ended = attend(&listen, &seat, missed, with_resources) => ended,
        };
        let (ended, heard) = ended;
        let sole = matches!(listen.hub.seats().list.as_slice(), [only] if only.id == seat.id);
        if let Err(Error::Protocol(error)) = &ended
            && !(sole || heard)
            && with_resources
            && listen.refuse_all(&seat, error).await
            && !ended.as_ref().is_err_and(is_unsupported)
        {
            // Perhaps only a resource was refused: the listen is tried for the lists alone.
            with_resources = false;
            continue;
        }
        listen.settle(&seat, None);
        if sole {
            return End::Of(ended);
        }
        if ended.as_ref().is_err_and(is_unsupported) {
            return End::Apart;
        }
        attempt = if heard { 0 } else { attempt + 1 };
        missed = true;
        let wait = wait_after(ended.as_ref().err(), attempt);
        tokio::select! {
            () = seat.gone.cancelled() => return End::Apart,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Listens to a member once. Returns how it ended, and whether it had begun.
async fn attend(
    listen: &Arc<Listen>,
    seat: &Arc<Seat>,
    missed: bool,
    with_resources: bool,
) -> (Result<McpResponse, Error>, bool) {
    let (filter, bare) = listen.filter_for(seat, with_resources).await;
    let began = CancellationToken::new();
    let mut context = listen.context.clone();
    listen.hub.map_visibility(seat, &mut context);
    context.caller = context.caller.wrap(|_| ChildSink {
        listen: listen.clone(),
        outward: listen.outward(seat),
        bare,
        began: began.clone(),
        missed,
    });
    let ended = seat.call(listens(filter, context)).await;
    (ended, began.is_cancelled())
}

/// Forwards a member's notifications to the caller of a listen.
struct ChildSink {
    listen: Arc<Listen>,
    outward: Outward,
    /// The member's own URIs by which the caller has subscribed.
    bare: HashSet<String>,
    began: CancellationToken,
    missed: bool,
}

impl ChildSink {
    fn is_bare_update(&self, notification: &ServerNotification) -> bool {
        matches!(notification, ServerNotification::ResourceUpdatedNotification(update)
            if self.bare.contains(&update.params.uri))
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
            if !self.bare.contains(uri) {
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
        self.listen.settle(&self.outward.seat, Some(&accepted));
        if !late || !self.missed {
            return Ok(());
        }
        for change in Change::ALL {
            self.outward.seat.changed(change);
        }
        let uris = accepted.resource_subscriptions.unwrap_or_default();
        self.listen.tell([true; 3], &uris).await
    }
}

impl CallerSink for ChildSink {
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
                self.outward.seat.changed(change);
            }
            if !self.is_bare_update(&notification) {
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

/// Starts, once, a listen to a member on the gateway's own behalf. The member's lists are then not
/// fetched again until they change.
pub(super) fn watch_member(seat: &Arc<Seat>, context: &CallContext) {
    let era = context.era();
    if seat.is_per_caller() || !seat.begin_watching(era) {
        return;
    }
    let handshake = match era {
        Era::Legacy => context.caller.handshake(),
        Era::Modern => None,
    };
    let (seat, gone) = (seat.clone(), seat.gone.clone());
    tokio::spawn(async move {
        let watching = async {
            let mut attempt = 0;
            loop {
                let sink = WatchSink {
                    seat: seat.clone(),
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
                let ended = panics::caught(seat.call(listens(all, context))).await;
                seat.set_live(era, [false; 3]);
                if ended.as_ref().is_err_and(is_unsupported) {
                    return;
                }
                attempt = if began.is_cancelled() { 0 } else { attempt + 1 };
                tokio::time::sleep(wait_after(ended.as_ref().err(), attempt)).await;
            }
        };
        gone.run_until_cancelled(watching).await;
    });
}

struct WatchSink {
    seat: Arc<Seat>,
    era: Era,
    began: CancellationToken,
}

impl CallerSink for WatchSink {
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        if let ServerNotification::SubscriptionsAcknowledgedNotification(notice) = &notification {
            self.began.cancel();
            self.seat.heard(None);
            // Lists that were fetched earlier may have changed before the listen began.
            for change in Change::ALL {
                self.seat.changed(change);
            }
            let accepted = &notice.params.notifications;
            let told = |flag: Option<bool>| flag == Some(true);
            self.seat.set_live(
                self.era,
                [
                    told(accepted.tools_list_changed),
                    told(accepted.prompts_list_changed),
                    told(accepted.resources_list_changed),
                ],
            );
        } else if let Some(change) = Change::of(&notification) {
            self.seat.changed(change);
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn request(&self, _request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        no_requests()
    }
}
