use std::{
    fmt,
    future::Ready,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use futures::{
    TryFutureExt,
    future::{BoxFuture, Either},
};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::{Service, ServiceExt};

use super::{
    change_listener as changes,
    counters::Event,
    entry::Entry,
    fetch::{Call, may_be_asked},
    key::{Key, with_key},
    plan::Plan,
    rules::cacheable,
    single_flight::Join,
    state::{Core, Shared, StartedTasks},
    watched_resources::WatchedResources,
};
use crate::{
    Audience, CacheStatus, Error, McpRequest, McpResponse, Stack, context::tool_hints::KnownHints,
    protocol::methods::Method, response::CallResult,
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
        let watched = WatchedResources::new(shared.rules.max_watched_resources);
        let core = Core {
            number: shared.next_stack.fetch_add(1, Ordering::Relaxed),
            shared,
            hints: KnownHints::default(),
            stop: stop.clone(),
            started: StartedTasks::default(),
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
    S: Stack,
{
    type Response = McpResponse;
    type Error = Error;
    type Future = Either<Ready<CallResult>, BoxFuture<'static, CallResult>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: McpRequest) -> Self::Future {
        let core = &self.core;
        let Some(method) = cacheable(&request) else {
            if request.is_listen() {
                let core = core.clone();
                let caller = &mut request.context.caller;
                // The cache comes first, so that a caller that reacts at once does not get an
                // outdated entry.
                *caller =
                    caller.inspect_listen(move |notification| core.apply_change(notification));
            }
            return self.pass(request);
        };
        let audience = Audience::of(&request.context);
        let mut plan = Plan::of(method, &request);
        if request.is_mrtr_round() || request.message.has_more() || plan.directives.no_store {
            return self.bypass(method, request, audience);
        }
        let now = Instant::now();
        let found = self.lookup(&request, &audience, &plan, now);
        if let Found::Fresh(entry, status) = &found
            && (method != Method::CallTool || core.is_checked(&request, entry))
        {
            return Either::Left(std::future::ready(Ok(core.serve(entry, *status))));
        }
        if core
            .set_time_to_live(&mut plan, &request, &audience)
            .is_none()
        {
            return self.bypass(method, request, audience);
        }
        match found {
            Found::Fresh(entry, status) => {
                entry.checked.store(plan.checked, Ordering::Relaxed);
                Either::Left(std::future::ready(Ok(core.serve(&entry, status))))
            }
            Found::Stale(entry, key) => {
                self.refresh(&request, audience, key, plan);
                Either::Left(std::future::ready(Ok(core.serve_stale(&entry, now))))
            }
            Found::Missing(key, stale) => {
                changes::start(core, &self.inner, request.context.era());
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
    S: Stack,
{
    fn pass(
        &self,
        request: McpRequest,
    ) -> Either<Ready<CallResult>, BoxFuture<'static, CallResult>> {
        let inner = self.inner.clone();
        Either::Right(Box::pin(inner.oneshot(request).map_err(Into::into)))
    }

    /// Passes on a request whose response is not cached.
    fn bypass(
        &self,
        method: Method,
        request: McpRequest,
        audience: Audience,
    ) -> Either<Ready<CallResult>, BoxFuture<'static, CallResult>> {
        self.core.count(Event::Bypass, method);
        if method != Method::ListTools {
            return self.pass(request);
        }
        let listed = list_uncached(self.core.clone(), self.inner.clone(), request, audience);
        Either::Right(Box::pin(listed))
    }

    fn lookup(
        &self,
        request: &McpRequest,
        audience: &Audience,
        plan: &Plan,
        now: Instant,
    ) -> Found {
        let (core, shared) = (&self.core, &self.core.shared);
        let (rules, hasher) = (&shared.rules, &shared.hasher);
        with_key(
            core.number,
            plan.method,
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
                if plan.method.has_cache_hints() {
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
                if plan.accepts_stale(&entry, now, while_fetched) && !may_be_asked(&request.context)
                {
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
        let subject = core.subject(plan.method, request, audience, key);
        let Join::Leader(lead) = core.shared.single_flight.join(subject) else {
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
                tracing::debug!(%error, "an expired entry could not be refreshed");
            }
        });
    }
}

fn fresh(
    plan: &Plan,
    entry: &mut Option<Arc<Entry>>,
    now: Instant,
) -> Option<(Arc<Entry>, CacheStatus)> {
    let status = plan.accepts(entry.as_deref()?, now)?;
    Some((entry.take()?, status))
}

async fn list_uncached<S>(
    core: Arc<Core>,
    inner: S,
    request: McpRequest,
    audience: Audience,
) -> CallResult
where
    S: Service<McpRequest, Response = McpResponse>,
    S::Error: Into<Error>,
{
    let asked = core.hints.ask(audience);
    let answer = inner.oneshot(request).await.map_err(Into::into);
    core.learn(Some(&asked), answer.as_ref().ok());
    answer
}
