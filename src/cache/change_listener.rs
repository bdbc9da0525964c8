//! The cache's own `subscriptions/listen`, so that it sees changes while no caller listens.

use std::{
    collections::BTreeSet,
    future::ready,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use rmcp::model::{
    ClientCapabilities, ClientResult, DiscoverRequest, ErrorData, Implementation,
    InitializeRequestParams, PromptListChangedNotification, ProtocolVersion,
    ResourceListChangedNotification, ResourceUpdatedNotification, ResourceUpdatedNotificationParam,
    ServerNotification, ServerRequest, ServerResult, SubscriptionFilter,
    SubscriptionsListenRequest, SubscriptionsListenRequestParams, ToolListChangedNotification,
};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tower::{Service, ServiceExt};

use super::state::Core;
use crate::{
    CallContext, Caller, CallerSink, Error, McpRequest, McpResponse, Refusal, caller::Era, code,
    context::next_id, util::backoff::Backoff,
};

/// Delays before a lost listen is reopened.
const REOPEN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// Time for the stack to acknowledge a listen.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(30);
/// A listen that was open for this long resets the failure count.
const LASTING: Duration = Duration::from_secs(60);
/// Minimum time between two listen requests.
const PACE: Duration = Duration::from_millis(250);
/// Interval at which resources without entries are dropped from the listen.
const SWEEP: Duration = Duration::from_secs(30);

/// Starts the background tasks, once per stack: the listen for changes of lists and cached
/// resources, and the poll for invalidations of other processes. They run until the last clone of
/// the service is dropped. An upstream may use another connection or child process for callers of
/// the other era, so each era has its own listen.
pub(super) fn begin<S>(core: &Arc<Core>, inner: &S, era: Era)
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    if let Some(remote) = &core.shared.remote
        && is_first(&core.begun.follows)
    {
        let (core, remote) = (core.clone(), remote.clone());
        runtime.spawn(async move {
            core.stop.run_until_cancelled(remote.follow(&core)).await;
        });
    }
    if core.shared.rules.watch_changes && is_first(&core.begun.listens[era as usize]) {
        let (core, inner) = (core.clone(), inner.clone());
        runtime.spawn(async move {
            let stop = core.stop.clone();
            stop.run_until_cancelled(listen(core, inner, era)).await;
        });
    }
}

fn is_first(begun: &AtomicBool) -> bool {
    !begun.load(Ordering::Relaxed) && !begun.swap(true, Ordering::Relaxed)
}

/// Listens until the inner stack refuses it for good.
async fn listen<S>(core: Arc<Core>, inner: S, era: Era)
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    let mut more = core.watched.more.subscribe();
    // Some resources may be wanted already.
    more.mark_changed();
    let mut listener = Listener {
        core,
        more,
        handshake: handshake(era),
        inner,
        open: None,
        next: Instant::now(),
        since: Instant::now(),
        missed: None,
        failures: 0,
        singly: false,
        refused: BTreeSet::new(),
        subscribes: None,
    };
    while let ControlFlow::Continue(()) = listener.turn().await {}
}

/// Returns the handshake that identifies a caller of this era to an upstream.
fn handshake(era: Era) -> Option<Arc<InitializeRequestParams>> {
    let own = Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    let mut shaken = InitializeRequestParams::new(ClientCapabilities::default(), own);
    shaken.protocol_version = ProtocolVersion::LATEST_WITH_INITIALIZE;
    (era == Era::Legacy).then(|| Arc::new(shaken))
}

type Uris = BTreeSet<Arc<str>>;

/// One `subscriptions/listen` for all lists and the cached resources. When the resources change, a
/// new listen is opened before the old one is closed, so that no notification is missed.
struct Listener<S> {
    core: Arc<Core>,
    /// Signals that more resources are wanted.
    more: watch::Receiver<()>,
    handshake: Option<Arc<InitializeRequestParams>>,
    inner: S,
    open: Option<Open>,
    /// Earliest time of the next listen request.
    next: Instant,
    /// Start of the current period without a gap between listens.
    since: Instant,
    /// Resources that the lost listen covered.
    missed: Option<Uris>,
    failures: u32,
    /// One of several resources was refused, so they are added one at a time.
    singly: bool,
    /// Resources that the stack refuses to the cache.
    refused: Uris,
    /// `true` if the stack supports resource subscriptions, `None` while that is unknown.
    subscribes: Option<bool>,
}

struct Open {
    listen: AbortOnDropHandle<Result<(), Error>>,
    uris: Uris,
}

impl<S> Listener<S>
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    async fn turn(&mut self) -> ControlFlow<()> {
        tokio::time::sleep_until(self.next).await;
        let wanted = self.wanted().await;
        if self.open.as_ref().is_none_or(|open| open.uris != wanted) {
            match self.open(wanted.clone()).await {
                Ok((listen, told)) => self.begin(listen, wanted, &told),
                Err(error) => return self.refuse(&wanted, error).await,
            }
            if self.singly {
                return ControlFlow::Continue(());
            }
        }
        let Some(open) = &mut self.open else {
            return ControlFlow::Continue(());
        };
        let ended = tokio::select! {
            ended = &mut open.listen => ended.unwrap_or(Ok(())),
            _ = self.more.changed() => return ControlFlow::Continue(()),
            () = tokio::time::sleep(SWEEP), if !open.uris.is_empty() => {
                return ControlFlow::Continue(());
            }
        };
        self.missed = self.open.take().map(|open| open.uris);
        self.subscribes = None;
        self.settle();
        // The listen had been acknowledged, so its end is not a refusal.
        self.pause(ended.err().as_ref()).await;
        ControlFlow::Continue(())
    }

    /// Returns the resources to listen for.
    async fn wanted(&mut self) -> Uris {
        let mut wanted = self.core.watched.now();
        self.refused.retain(|uri| wanted.contains(uri));
        wanted.retain(|uri| !self.refused.contains(uri));
        // The lists come first, because they need neither a resource nor the capabilities.
        if self.open.is_none() && self.missed.is_none() || wanted.is_empty() {
            return Uris::new();
        }
        if !self.subscribes().await {
            return Uris::new();
        }
        if self.singly {
            let known = self.open.as_ref().map(|open| &open.uris);
            let is_new = |uri: &&Arc<str>| known.is_none_or(|known| !known.contains(*uri));
            let mut new = wanted.iter().filter(is_new);
            let first = new.next().cloned();
            self.singly = new.next().is_some();
            wanted.retain(|uri| {
                known.is_some_and(|known| known.contains(uri)) || first.as_ref() == Some(uri)
            });
        }
        wanted
    }

    /// Returns `true` if the stack supports resource subscriptions, or does not say.
    async fn subscribes(&mut self) -> bool {
        if let Some(known) = self.subscribes {
            return known;
        }
        let mut context = CallContext::new(next_id());
        context.caller = Caller::detached()
            .with_handshake(self.handshake.clone())
            .quiet();
        let request = McpRequest::from_parts(DiscoverRequest::default().into(), context);
        let answer = self.inner.clone().oneshot(request);
        let says = match timeout(ACKNOWLEDGE_WITHIN, answer).await {
            Ok(Ok(response)) => match response.into_result() {
                ServerResult::DiscoverResult(of) => {
                    let resources = of.capabilities.resources;
                    Some(resources.and_then(|can| can.subscribe) == Some(true))
                }
                _ => None,
            },
            _ => None,
        };
        *self.subscribes.insert(says.unwrap_or(true))
    }

    /// Opens a listen and waits for its acknowledgement.
    async fn open(&mut self, uris: Uris) -> Result<(Listen, SubscriptionFilter), Error> {
        self.next = Instant::now() + PACE;
        let (sender, acknowledged) = oneshot::channel();
        let ear = Ear {
            core: self.core.clone(),
            acknowledged: Mutex::new(Some(sender)),
        };
        let mut context = CallContext::new(next_id());
        context.caller = Caller::new(ear)
            .with_handshake(self.handshake.clone())
            .quiet();
        let mut filter = SubscriptionFilter::builder()
            .tools_list_changed()
            .prompts_list_changed()
            .resources_list_changed()
            .build();
        let uris: Vec<String> = uris.iter().map(|uri| uri.to_string()).collect();
        filter.resource_subscriptions = (!uris.is_empty()).then_some(uris);
        let message =
            SubscriptionsListenRequest::new(SubscriptionsListenRequestParams::new(filter));
        let request = McpRequest::from_parts(message.into(), context);
        let call = self.inner.clone().oneshot(request);
        let mut listen: Listen = AbortOnDropHandle::new(tokio::spawn(async move {
            call.await.map(drop).map_err(Into::into)
        }));
        tokio::select! {
            biased;
            Ok(told) = acknowledged => Ok((listen, told)),
            ended = &mut listen => Err(match ended {
                Ok(Err(error)) => error,
                _ => Error::timeout(Duration::ZERO),
            }),
            () = tokio::time::sleep(ACKNOWLEDGE_WITHIN) => Err(Error::timeout(ACKNOWLEDGE_WITHIN)),
        }
    }

    /// Switches to a listen that was acknowledged.
    fn begin(&mut self, listen: Listen, mut uris: Uris, told: &SubscriptionFilter) {
        let of = told.resource_subscriptions.as_deref().unwrap_or_default();
        let is_told = |uri: &Arc<str>| of.iter().any(|told| **told == **uri);
        self.refused
            .extend(uris.iter().filter(|uri| !is_told(uri)).cloned());
        uris.retain(is_told);
        if let Some(missed) = self.missed.take() {
            // Notifications were missed while there was no listen.
            self.core.unheard(told, missed.union(&uris));
        }
        if self.open.replace(Open { listen, uris }).is_some() {
            self.settle();
        } else {
            self.since = Instant::now();
        }
    }

    /// Resets the failure count after a listen that has lasted.
    fn settle(&mut self) {
        if self.since.elapsed() >= LASTING {
            self.failures = 0;
        }
    }

    /// Handles a listen that could not be opened.
    async fn refuse(&mut self, wanted: &Uris, error: Error) -> ControlFlow<()> {
        let before = self.open.as_ref().map(|open| &open.uris);
        let mut new = wanted
            .iter()
            .filter(|uri| before.is_none_or(|before| !before.contains(*uri)));
        match (may_pass(&error), new.next(), new.next()) {
            (false, None, _) if before.is_none() => return give_up(&error),
            (false, Some(uri), None) => {
                self.refused.insert(uri.clone());
            }
            (false, Some(_), Some(_)) => self.singly = true,
            _ => self.pause(Some(&error)).await,
        }
        ControlFlow::Continue(())
    }

    async fn pause(&mut self, error: Option<&Error>) {
        let said = error.and_then(Error::retry_after).unwrap_or_default();
        let wait = REOPEN.delay(self.failures).max(said.min(LASTING));
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(wait).await;
    }
}

type Listen = AbortOnDropHandle<Result<(), Error>>;

/// Returns `true` if a listen may succeed later: the connection failed, or the stack had no room.
fn may_pass(error: &Error) -> bool {
    let is_busy = |refusal: &Refusal| [code::UNAVAILABLE, code::TOO_MANY].contains(&refusal.code());
    error.is_transport()
        || error.is_timeout()
        || error.retry_after().is_some()
        || matches!(error, Error::Refused(refusal) if is_busy(refusal))
}

/// Stops listening: the stack has no listens, or none without an authorized caller.
fn give_up(error: &Error) -> ControlFlow<()> {
    tracing::debug!(target: "rmcp_layers::cache", %error, "the inner stack tells the cache of no changes");
    ControlFlow::Break(())
}

impl Core {
    /// Treats everything as changed that may have changed while there was no listen.
    fn unheard<'a>(&self, told: &SubscriptionFilter, uris: impl Iterator<Item = &'a Arc<str>>) {
        if told.tools_list_changed == Some(true) {
            self.heard(&ToolListChangedNotification::default().into());
        }
        if told.prompts_list_changed == Some(true) {
            self.heard(&PromptListChangedNotification::default().into());
        }
        if told.resources_list_changed == Some(true) {
            self.heard(&ResourceListChangedNotification::default().into());
        }
        for uri in uris {
            let params = ResourceUpdatedNotificationParam::new(&**uri);
            self.heard(&ResourceUpdatedNotification::new(params).into());
        }
    }
}

/// Receives the notifications of the inner stack.
struct Ear {
    core: Arc<Core>,
    acknowledged: Mutex<Option<oneshot::Sender<SubscriptionFilter>>>,
}

impl CallerSink for Ear {
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        if let ServerNotification::SubscriptionsAcknowledgedNotification(told) = notification {
            let waiting = self.acknowledged.lock();
            if let Some(waiting) = waiting.unwrap_or_else(PoisonError::into_inner).take() {
                let _ = waiting.send(told.params.notifications);
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
