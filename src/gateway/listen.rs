//! Change notifications: one `subscriptions/listen` of a caller over all members, and the gateway's
//! own.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rmcp::model::{
    ClientResult, ErrorData, InitializeRequestParams, ServerNotification, ServerRequest,
    SubscriptionFilter, SubscriptionsAcknowledgedNotification,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{active_member::Seat, rewrite::Outward, shared::Hub};
use crate::{
    CallContext, CallerSink, Error, McpResponse, ServedBy,
    caller::Era,
    listen::{self, ACKNOWLEDGE_WITHIN, RefusedSubscriptions, Reopen, change::Change},
};

/// Counters of the changes that every caller is told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Versions {
    members: u64,
    tools: u64,
    prompts: u64,
    resources: u64,
}

impl Versions {
    fn of(&self, change: Change) -> u64 {
        match change {
            Change::Tools => self.tools,
            Change::Prompts => self.prompts,
            Change::Resources => self.resources,
        }
    }
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
                let changed = |change: &Change| all || now.of(*change) != seen.of(*change);
                let changed: Vec<_> = Change::ALL.into_iter().filter(changed).collect();
                seen = now;
                if !waiting {
                    listen.tell(&changed, &[]).await?;
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
        let refused = self.members().refused.clone();
        let acknowledgment = listen::acknowledgment(accepted, refused, &self.context.id);
        self.context.caller.notify(acknowledgment).await?;
        self.acknowledged.cancel();
        Ok(())
    }

    /// Sends notifications of changed lists, as far as the caller asked for them, and of these
    /// resources.
    async fn tell(&self, changed: &[Change], uris: &[String]) -> Result<(), Error> {
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
    let mut reopen = Reopen::default();
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
        let (ended, opened) = ended;
        if let Some(opened) = opened {
            reopen.opened(opened);
        }
        let heard = opened.is_some();
        let sole = matches!(listen.hub.seats().list.as_slice(), [only] if only.id == seat.id);
        if let Err(Error::Protocol(error)) = &ended
            && !(sole || heard)
            && with_resources
            && listen.refuse_all(&seat, error).await
            && !ended.as_ref().is_err_and(Error::is_method_not_found)
        {
            // Perhaps only a resource was refused: the listen is tried for the lists alone.
            with_resources = false;
            continue;
        }
        listen.settle(&seat, None);
        if sole {
            return End::Of(ended);
        }
        if ended.as_ref().is_err_and(Error::is_method_not_found) {
            return End::Apart;
        }
        missed = true;
        let wait = reopen.lost(ended.as_ref().err());
        tokio::select! {
            () = seat.gone.cancelled() => return End::Apart,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Listens to a member once. Returns how it ended, and when it had begun, if it had.
async fn attend(
    listen: &Arc<Listen>,
    seat: &Arc<Seat>,
    missed: bool,
    with_resources: bool,
) -> (Result<McpResponse, Error>, Option<Instant>) {
    let (filter, bare) = listen.filter_for(seat, with_resources).await;
    let mut context = listen.context.clone();
    listen.hub.map_visibility(seat, &mut context);
    let part = Arc::new(Part {
        listen: listen.clone(),
        outward: listen.outward(seat),
        bare,
        began: OnceLock::new(),
        missed,
    });
    let begins = part.clone();
    let sink = PartSink(part.clone());
    context.caller = context
        .caller
        .wrap(|_| sink)
        .take_acknowledgment(move |acknowledgment| {
            let part = begins.clone();
            Box::pin(async move { part.begin(acknowledgment).await })
        });
    let ended = seat.call(listen::request(filter, context)).await;
    (ended, part.began.get().copied())
}

/// A member's part of a listen.
struct Part {
    listen: Arc<Listen>,
    outward: Outward,
    /// The member's own URIs by which the caller has subscribed.
    bare: HashSet<String>,
    /// The time of the member's acknowledgment.
    began: OnceLock<Instant>,
    missed: bool,
}

impl Part {
    fn is_bare_update(&self, notification: &ServerNotification) -> bool {
        matches!(notification, ServerNotification::ResourceUpdatedNotification(update)
            if self.bare.contains(&update.params.uri))
    }

    /// Handles the member's acknowledgement. If it comes after the caller's and changes may have
    /// been missed, the caller is told that the lists may have changed.
    async fn begin(
        &self,
        acknowledgment: SubscriptionsAcknowledgedNotification,
    ) -> Result<(), Error> {
        self.began.get_or_init(Instant::now);
        let refused = RefusedSubscriptions::of(&acknowledgment);
        let mut accepted = acknowledgment.params.notifications;
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
        self.listen.tell(&Change::ALL, &uris).await
    }
}

/// Forwards a member's notifications to the caller of a listen.
struct PartSink(Arc<Part>);

impl CallerSink for PartSink {
    fn notify(&self, mut notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        let part = &self.0;
        Box::pin(async move {
            // Before the caller is told and asks for the list.
            if let Some(change) = Change::of(&notification) {
                part.outward.seat.changed(change);
            }
            if !part.is_bare_update(&notification) {
                part.outward.notification(&mut notification);
            }
            part.listen.acknowledged.cancelled().await;
            part.listen.context.caller.notify(notification).await
        })
    }

    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(self.0.listen.context.caller.request(request))
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
            let mut reopen = Reopen::default();
            loop {
                let ended = watch(&seat, era, handshake.clone(), &mut reopen).await;
                seat.set_live(era, [false; 3]);
                let error = ended.err();
                if error.as_ref().is_some_and(Error::is_method_not_found) {
                    return;
                }
                tokio::time::sleep(reopen.lost(error.as_ref())).await;
            }
        };
        gone.run_until_cancelled(watching).await;
    });
}

/// Listens to a member on the gateway's own behalf until the listen is lost.
async fn watch(
    seat: &Arc<Seat>,
    era: Era,
    handshake: Option<Arc<InitializeRequestParams>>,
    reopen: &mut Reopen,
) -> Result<(), Error> {
    let (of, changed) = (seat.clone(), seat.clone());
    let mut context = CallContext::background();
    let caller = context.caller.with_handshake(handshake);
    context.caller = caller.inspect_listen(move |notification| {
        if let Some(change) = Change::of(notification) {
            changed.changed(change);
        }
    });
    let call = |request| async move { of.call(request).await };
    let all = listen::list_changes();
    let open = listen::open(all, context, Some(ACKNOWLEDGE_WITHIN), call).await?;
    reopen.opened(Instant::now());
    seat.heard(None);
    // Lists that were fetched earlier may have changed before the listen began.
    for change in Change::ALL {
        seat.changed(change);
    }
    seat.set_live(era, Change::ALL.map(|change| change.is_in(&open.accepted)));
    open.call.await
}
