use std::{
    fmt,
    future::Ready,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures::{
    TryFutureExt,
    future::{BoxFuture, Either},
};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::{Service, ServiceExt};

use super::{
    change_listener as changes,
    counters::Event,
    entry::Entry,
    key::{Key, with_key},
    remote::Looked,
    rules::cacheable,
    single_flight::{Followed, Join, Lead, Phase},
    state::{Answer, Begun, Core, Fetched, Plan, Shared},
    watched_resources::Watched,
};
use crate::{
    Audience, CacheStatus, CallContext, Error, McpRequest, McpResponse, caller::Era,
    context::tool_hints::KnownHints, protocol::methods::Method,
};

/// The service of a [`CacheLayer`](super::CacheLayer).
///
/// It is always ready, so hits are answered while the inner stack is busy. Only a request that goes
/// to the inner stack waits for that stack's readiness.
pub struct Cache<S> {
    core: Arc<Core>,
    /// Stops the background tasks when the last clone is dropped.
    life: Arc<DropGuard>,
    inner: S,
}

impl<S> Cache<S> {
    pub(super) fn new(shared: Arc<Shared>, inner: S) -> Self {
        let stop = CancellationToken::new();
        let watched = Watched::new(shared.rules.max_watched_resources);
        let core = Core {
            number: shared.next_stack.fetch_add(1, Ordering::Relaxed),
            shared,
            hints: KnownHints::default(),
            stop: stop.clone(),
            begun: Begun::default(),
            watched,
        };
        Self {
            core: Arc::new(core),
            life: Arc::new(stop.drop_guard()),
            inner,
        }
    }
}

impl<S: Clone> Clone for Cache<S> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
            life: self.life.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl<S> fmt::Debug for Cache<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

/// The result of a lookup in memory.
enum Found {
    Fresh(Arc<Entry>, CacheStatus),
    /// Expired, and usable while a new response is fetched.
    Stale(Arc<Entry>, Key),
    Missing(Key, Option<Arc<Entry>>),
}

impl<S> Service<McpRequest> for Cache<S>
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    type Response = McpResponse;
    type Error = Error;
    type Future = Either<Ready<Answer>, BoxFuture<'static, Answer>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: McpRequest) -> Self::Future {
        let core = &self.core;
        let Some(kind) = cacheable(&request) else {
            if request.is_listen() {
                let core = core.clone();
                let caller = &mut request.context.caller;
                // The cache comes first, so that a caller that reacts at once does not get an
                // outdated entry.
                *caller = caller.inspect_listen(move |notification| core.heard(notification));
            }
            return self.pass(request);
        };
        let audience = Audience::of(&request.context);
        let mut plan = Plan::of(kind, &request);
        if request.is_mrtr_round() || plan.directives.no_store {
            return self.bypass(kind, request, audience);
        }
        let now = Instant::now();
        let found = self.look(&request, &audience, &plan, now);
        if let Found::Fresh(entry, status) = &found
            && (kind != Method::CallTool || core.is_checked(&request, entry))
        {
            return Either::Left(std::future::ready(Ok(core.hit(entry, *status))));
        }
        if core.settle(&mut plan, &request, &audience).is_none() {
            return self.bypass(kind, request, audience);
        }
        match found {
            Found::Fresh(entry, status) => {
                entry.checked.store(plan.checked, Ordering::Relaxed);
                Either::Left(std::future::ready(Ok(core.hit(&entry, status))))
            }
            Found::Stale(entry, key) => {
                self.refresh(&request, audience, key, plan);
                Either::Left(std::future::ready(Ok(core.stale(&entry, now))))
            }
            Found::Missing(key, stale) => {
                changes::begin(core, &self.inner, request.context.era());
                let call = Call {
                    core: core.clone(),
                    plan,
                    stale,
                };
                let (inner, key) = (self.inner.clone(), (key, audience));
                Either::Right(Box::pin(call.fetch(inner, request, key)))
            }
        }
    }
}

impl<S> Cache<S>
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    fn pass(&self, request: McpRequest) -> Either<Ready<Answer>, BoxFuture<'static, Answer>> {
        let inner = self.inner.clone();
        Either::Right(Box::pin(inner.oneshot(request).map_err(Into::into)))
    }

    /// Passes on a request whose response is not cached.
    fn bypass(
        &self,
        kind: Method,
        request: McpRequest,
        audience: Audience,
    ) -> Either<Ready<Answer>, BoxFuture<'static, Answer>> {
        self.core.count(Event::Bypass, kind);
        if kind != Method::ListTools {
            return self.pass(request);
        }
        let listed = list_uncached(self.core.clone(), self.inner.clone(), request, audience);
        Either::Right(Box::pin(listed))
    }

    fn look(&self, request: &McpRequest, audience: &Audience, plan: &Plan, now: Instant) -> Found {
        let (core, shared) = (&self.core, &self.core.shared);
        let (rules, hasher) = (&shared.rules, &shared.hasher);
        with_key(
            core.number,
            plan.kind,
            request,
            audience,
            rules,
            hasher,
            |draft| {
                let hash = draft.hash();
                if plan.directives.no_cache {
                    return Found::Missing(draft.to_key(hash), None);
                }
                let mut expired = shared.memory.get(hash, draft.bytes());
                if let Some((entry, status)) = fresh(plan, &mut expired, now) {
                    return Found::Fresh(entry, status);
                }
                if plan.kind.has_cache_hints() {
                    let mut public = draft.as_everybody(|hash, key| shared.memory.get(hash, key));
                    if let Some((entry, status)) = fresh(plan, &mut public, now) {
                        return Found::Fresh(entry, status);
                    }
                    expired = expired.or(public);
                }
                let key = draft.to_key(hash);
                let Some(entry) = expired else {
                    return Found::Missing(key, None);
                };
                shared.drop_expired(&entry, now);
                let while_fetched = rules.stale_while_revalidate;
                if plan.takes_stale(&entry, now, while_fetched) && !may_be_asked(&request.context) {
                    return Found::Stale(entry, key);
                }
                Found::Missing(key, Some(entry))
            },
        )
    }

    /// Fetches a new response in the background, unless such a fetch is under way.
    fn refresh(&self, request: &McpRequest, audience: Audience, key: Key, plan: Plan) {
        let core = self.core.clone();
        let Ok(permit) = core.shared.refreshes.clone().try_acquire_owned() else {
            return;
        };
        let subject = core.subject(plan.kind, request, audience, key);
        let Join::Lead(lead) = core.shared.flights.join(subject) else {
            return;
        };
        // The caller may be gone before the response arrives.
        let context = request.context.to_background();
        let request = McpRequest::from_parts(request.message.clone(), context);
        let (inner, stop) = (self.inner.clone(), core.stop.clone());
        let call = Call {
            core,
            plan,
            stale: None,
        };
        tokio::spawn(async move {
            let _permit = permit;
            let refreshed = stop.run_until_cancelled(call.lead(inner, request, lead));
            if let Some(Err(error)) = refreshed.await {
                tracing::debug!(target: "rmcp_layers::cache", %error, "an expired answer could not be fetched anew");
            }
        });
    }
}

fn fresh(
    plan: &Plan,
    entry: &mut Option<Arc<Entry>>,
    now: Instant,
) -> Option<(Arc<Entry>, CacheStatus)> {
    let status = plan.takes(entry.as_deref()?, now)?;
    Some((entry.take()?, status))
}

async fn list_uncached<S>(
    core: Arc<Core>,
    inner: S,
    request: McpRequest,
    audience: Audience,
) -> Answer
where
    S: Service<McpRequest, Response = McpResponse>,
    S::Error: Into<Error>,
{
    let asked = core.hints.ask(audience);
    let answer = inner.oneshot(request).await.map_err(Into::into);
    core.learn(Some(&asked), answer.as_ref().ok());
    answer
}

/// A call that has no entry in memory.
struct Call {
    core: Arc<Core>,
    plan: Plan,
    /// The expired entry, used if no newer response can be had.
    stale: Option<Arc<Entry>>,
}

impl Call {
    async fn fetch<S>(self, inner: S, request: McpRequest, key: (Key, Audience)) -> Answer
    where
        S: Service<McpRequest, Response = McpResponse>,
        S::Error: Into<Error>,
    {
        let core = self.core.clone();
        let flights = &core.shared.flights;
        let (key, audience) = key;
        let subject = core.subject(self.plan.kind, &request, audience, key);
        if self.plan.directives.no_cache || core.shared.is_apart(subject.key.hash) {
            let lead = flights.alone(subject);
            return self.lead(inner, request, lead).await;
        }
        let began = Instant::now();
        loop {
            let phase = match flights.join(subject.clone()) {
                Join::Lead(lead) => {
                    // Another fetch may have ended since the lookup.
                    if let Some(hit) = self.landed(&subject.key) {
                        return Ok(hit);
                    }
                    return self.lead(inner, request, lead).await;
                }
                Join::Follow(followed) => {
                    let (fetch, deadline) = (followed.fetch, request.context.deadline);
                    let patience = began.checked_add(core.shared.rules.follower_wait);
                    match wait(followed, began, deadline, patience).await? {
                        Some(phase) => phase,
                        None => {
                            let lead = flights.overtake(subject, fetch);
                            return self.lead(inner, request, lead).await;
                        }
                    }
                }
            };
            match phase {
                Phase::Landed(entry) if self.plan.is_young(&entry, Instant::now()) => {
                    return Ok(core.hit(&entry, CacheStatus::Shared));
                }
                Phase::Failed(Some(error)) => return Err(error),
                Phase::Failed(None) => {
                    let (now, grace) = (Instant::now(), core.shared.rules.stale_if_error);
                    if let Some(stale) = &self.stale
                        && self.plan.takes_stale(stale, now, grace)
                    {
                        return Ok(core.stale(stale, now));
                    }
                    return self.lead(inner, request, flights.alone(subject)).await;
                }
                Phase::Landed(_) | Phase::Apart => {
                    return self.lead(inner, request, flights.alone(subject)).await;
                }
                Phase::Running | Phase::Abandoned => {}
            }
        }
    }

    /// Returns a hit that has come into memory meanwhile, for this key or its public form.
    fn landed(&self, key: &Key) -> Option<McpResponse> {
        let shared = &self.core.shared;
        let take = |key: &Key| {
            let entry = shared.memory.get(key.hash, &key.bytes)?;
            let status = self.plan.takes(&entry, Instant::now())?;
            Some(self.core.hit(&entry, status))
        };
        take(key).or_else(|| {
            let scoped = self.plan.kind.has_cache_hints();
            take(&scoped.then(|| key.for_everybody(&shared.hasher))?)
        })
    }

    /// Fetches the response.
    async fn lead<S>(self, inner: S, mut request: McpRequest, lead: Lead) -> Answer
    where
        S: Service<McpRequest, Response = McpResponse>,
        S::Error: Into<Error>,
    {
        let asks_for_tools = self.plan.kind == Method::ListTools;
        let asked = asks_for_tools.then(|| self.core.hints.ask(lead.subject().audience.clone()));
        let looked = match &self.core.shared.remote {
            Some(remote) => {
                let wanted = !self.plan.directives.no_cache;
                remote.look(&self.core, lead.subject(), wanted).await
            }
            None => Looked::default(),
        };
        if let Some(read) = looked.entry {
            let context = &request.context;
            if let Some((entry, hit)) = self.core.adopt(&lead, &self.plan, read, context) {
                self.core.learn(asked.as_ref(), Some(&hit));
                lead.end(Phase::Landed(entry));
                return Ok(hit);
            }
        }
        self.core.count(Event::Miss, self.plan.kind);
        let questions = may_be_asked(&request.context).then(|| notice_questions(&mut request));
        let answer = inner.oneshot(request).await.map_err(Into::into);
        self.core.learn(asked.as_ref(), answer.as_ref().ok());
        let fetched = Fetched {
            asked_caller: questions.is_some_and(|asked| asked.load(Ordering::Relaxed)),
            stale: self.stale.as_ref(),
            generations: looked.generations,
        };
        self.core.conclude(lead, &self.plan, answer, &fetched)
    }
}

/// Waits for the end of another caller's call, up to this caller's own deadline. Returns `None` if
/// `patience` ends first.
async fn wait(
    mut followed: Followed,
    began: Instant,
    deadline: Option<Instant>,
    patience: Option<Instant>,
) -> Result<Option<Phase>, Error> {
    let phase = &mut followed.phase;
    let ended = phase.wait_for(|phase| !matches!(phase, Phase::Running));
    let until = match (deadline, patience) {
        (Some(deadline), Some(patience)) => Some(deadline.min(patience)),
        (either, other) => either.or(other),
    };
    let ended = match until {
        None => ended.await,
        Some(until) => match timeout_at(until, ended).await {
            Ok(ended) => ended,
            Err(_) if deadline == Some(until) => {
                return Err(Error::timeout(until.saturating_duration_since(began)));
            }
            Err(_) => return Ok(None),
        },
    };
    // A leader always sends an outcome, even when it is dropped.
    Ok(Some(ended.map_or(Phase::Abandoned, |phase| phase.clone())))
}

/// Returns `true` if the server may send requests to this caller during the call.
fn may_be_asked(context: &CallContext) -> bool {
    let caller = &context.caller;
    if caller.is_detached() {
        return false;
    }
    let legacy = context.era() == Era::Legacy;
    caller.answers_requests()
        || legacy
            && context.client_capabilities().is_none_or(|can| {
                can.sampling.is_some() || can.elicitation.is_some() || can.roots.is_some()
            })
}

/// Notes whether the server sends a request to the caller: the response then depends on the reply.
fn notice_questions(request: &mut McpRequest) -> Arc<AtomicBool> {
    let asked = Arc::new(AtomicBool::new(false));
    let flag = asked.clone();
    let caller = &mut request.context.caller;
    *caller = caller.inspect_requests(move |_| flag.store(true, Ordering::Relaxed));
    asked
}
