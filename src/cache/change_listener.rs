//! The cache's own `subscriptions/listen`, so that it sees changes while no caller listens.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rmcp::model::{
    ClientCapabilities, ClientRequest, DiscoverRequest, Implementation, InitializeRequestParams,
    ProtocolVersion, ServerResult, SubscriptionFilter,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt;

use super::state::Core;
use crate::{
    CallContext, Error, McpRequest, Refusal, Stack,
    caller::Era,
    code,
    listen::{self, ACKNOWLEDGE_WITHIN, OpenListen, Reopen},
};

/// Minimum time between two listen requests.
const PACE: Duration = Duration::from_millis(250);
/// Interval at which resources without entries are dropped from the listen.
const SWEEP: Duration = Duration::from_secs(30);

/// Starts the background tasks, once per stack: the listen for changes of lists and cached
/// resources, and the poll for invalidations of other processes. They run until the last clone of
/// the service is dropped. An upstream may use another connection or child process for callers of
/// the other era, so each era has its own listen.
pub(super) fn start<S>(core: &Arc<Core>, inner: &S, era: Era)
where
    S: Stack,
{
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    if let Some(remote) = &core.shared.remote
        && is_first(&core.started.polls_store)
    {
        let (core, remote) = (core.clone(), remote.clone());
        runtime.spawn(async move {
            core.stop.run_until_cancelled(remote.poll(&core)).await;
        });
    }
    if core.shared.rules.watch_changes && is_first(&core.started.listens[era as usize]) {
        let (core, inner) = (core.clone(), inner.clone());
        runtime.spawn(async move {
            let stop = core.stop.clone();
            stop.run_until_cancelled(listen(core, inner, era)).await;
        });
    }
}

fn is_first(started: &AtomicBool) -> bool {
    !started.load(Ordering::Relaxed) && !started.swap(true, Ordering::Relaxed)
}

/// Listens until the inner stack refuses it for good.
async fn listen<S>(core: Arc<Core>, inner: S, era: Era)
where
    S: Stack,
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
        reopen: Reopen::default(),
        missed: None,
        one_at_a_time: false,
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
    reopen: Reopen,
    /// Resources that the lost listen covered.
    missed: Option<Uris>,
    /// One of several resources was refused, so they are added one at a time.
    one_at_a_time: bool,
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
    S: Stack,
{
    async fn turn(&mut self) -> ControlFlow<()> {
        tokio::time::sleep_until(self.next).await;
        let wanted = self.wanted().await;
        if self.open.as_ref().is_none_or(|open| open.uris != wanted) {
            match self.open(wanted.clone()).await {
                Ok(open) => self.switch_to(open, wanted),
                Err(error) => return self.handle_refusal(&wanted, error).await,
            }
            if self.one_at_a_time {
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
        // The listen had been acknowledged, so its end is not a refusal.
        self.pause(ended.err().as_ref()).await;
        ControlFlow::Continue(())
    }

    /// Returns the resources to listen for.
    async fn wanted(&mut self) -> Uris {
        let mut wanted = self.core.watched.current();
        self.refused.retain(|uri| wanted.contains(uri));
        wanted.retain(|uri| !self.refused.contains(uri));
        // The lists come first, because they need neither a resource nor the capabilities.
        if self.open.is_none() && self.missed.is_none() || wanted.is_empty() {
            return Uris::new();
        }
        if !self.subscribes().await {
            return Uris::new();
        }
        if self.one_at_a_time {
            let known = self.open.as_ref().map(|open| &open.uris);
            let is_new = |uri: &&Arc<str>| known.is_none_or(|known| !known.contains(*uri));
            let mut new = wanted.iter().filter(is_new);
            let first = new.next().cloned();
            self.one_at_a_time = new.next().is_some();
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
        let request = McpRequest::from_parts(
            ClientRequest::from(DiscoverRequest::default()),
            self.context(),
        );
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

    /// Returns the context of the cache's own requests to callers of this era.
    fn context(&self) -> CallContext {
        let mut context = CallContext::background();
        context.caller = context.caller.with_handshake(self.handshake.clone());
        context
    }

    /// Opens a listen and waits for its acknowledgment.
    async fn open(&mut self, uris: Uris) -> Result<OpenListen, Error> {
        self.next = Instant::now() + PACE;
        let core = self.core.clone();
        let mut context = self.context();
        context.caller = context
            .caller
            .inspect_listen(move |notification| core.apply_change(notification));
        let mut filter = listen::list_changes();
        let uris: Vec<String> = uris.iter().map(|uri| uri.to_string()).collect();
        filter.resource_subscriptions = (!uris.is_empty()).then_some(uris);
        let inner = self.inner.clone();
        let call = |request| inner.oneshot(request);
        listen::open(filter, context, Some(ACKNOWLEDGE_WITHIN), call).await
    }

    /// Switches to a listen that was acknowledged.
    fn switch_to(&mut self, open: OpenListen, mut uris: Uris) {
        let accepted = &open.accepted;
        let of = accepted.resource_subscriptions.as_deref();
        let of = of.unwrap_or_default();
        let is_told = |uri: &Arc<str>| of.iter().any(|accepted| **accepted == **uri);
        self.refused
            .extend(uris.iter().filter(|uri| !is_told(uri)).cloned());
        uris.retain(is_told);
        if let Some(missed) = self.missed.take() {
            // Notifications were missed while there was no listen.
            self.core
                .apply_missed_changes(accepted, missed.union(&uris));
        }
        self.reopen.opened(Instant::now());
        let listen = open.spawn();
        self.open = Some(Open { listen, uris });
    }

    /// Handles a listen that could not be opened.
    async fn handle_refusal(&mut self, wanted: &Uris, error: Error) -> ControlFlow<()> {
        let before = self.open.as_ref().map(|open| &open.uris);
        let mut new = wanted
            .iter()
            .filter(|uri| before.is_none_or(|before| !before.contains(*uri)));
        match (may_pass(&error), new.next(), new.next()) {
            (false, None, _) if before.is_none() => return give_up(&error),
            (false, Some(uri), None) => {
                self.refused.insert(uri.clone());
            }
            (false, Some(_), Some(_)) => self.one_at_a_time = true,
            _ => self.pause(Some(&error)).await,
        }
        ControlFlow::Continue(())
    }

    async fn pause(&mut self, error: Option<&Error>) {
        tokio::time::sleep(self.reopen.lost(error)).await;
    }
}

/// Returns `true` if a listen may succeed later: the connection failed, or the stack had no room.
fn may_pass(error: &Error) -> bool {
    let is_busy = |refusal: &Refusal| [code::UNAVAILABLE, code::TOO_MANY].contains(&refusal.code());
    error.is_transport()
        || error.is_timeout()
        || error.is_cancelled()
        || error.retry_after().is_some()
        || matches!(error, Error::Refused(refusal) if is_busy(refusal))
}

/// Stops listening: the stack has no listens, or none without an authorized caller.
fn give_up(error: &Error) -> ControlFlow<()> {
    tracing::debug!(%error, "the cache does not receive change notifications");
    ControlFlow::Break(())
}

impl Core {
    /// Treats everything as changed that may have changed while there was no listen.
    fn apply_missed_changes<'a>(
        &self,
        accepted: &SubscriptionFilter,
        uris: impl Iterator<Item = &'a Arc<str>>,
    ) {
        let mut filter = accepted.clone();
        filter.resource_subscriptions = Some(uris.map(|uri| uri.to_string()).collect());
        for change in listen::changes_in(&filter) {
            self.apply_change(&change);
        }
    }
}
