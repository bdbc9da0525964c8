//! A call that has no entry in memory: it joins the same call of another caller, or fetches.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::time::{Instant, timeout_at};
use tower::{Service, ServiceExt};

use super::{
    admission::Fetched,
    counters::Event,
    entry::Entry,
    key::Key,
    plan::Plan,
    remote::Lookup,
    single_flight::{Follower, Join, Leader, Phase},
    state::Core,
};
use crate::{
    Audience, CacheStatus, CallContext, Error, McpRequest, McpResponse, caller::Era,
    protocol::methods::Method, response::CallResult,
};

/// A call that has no entry in memory.
pub(super) struct Call {
    pub core: Arc<Core>,
    pub plan: Plan,
    /// The expired entry, used if no newer response can be had.
    pub stale: Option<Arc<Entry>>,
}

impl Call {
    pub(super) async fn fetch<S>(
        self,
        inner: S,
        request: McpRequest,
        key: (Key, Audience),
    ) -> CallResult
    where
        S: Service<McpRequest, Response = McpResponse>,
        S::Error: Into<Error>,
    {
        let core = self.core.clone();
        let single_flight = &core.shared.single_flight;
        let (key, audience) = key;
        let subject = core.subject(self.plan.method, &request, audience, key);
        if self.plan.directives.no_cache || core.shared.is_unshared(subject.key.hash) {
            let lead = single_flight.alone(subject);
            return self.lead(inner, request, lead).await;
        }
        let began = Instant::now();
        loop {
            let phase = match single_flight.join(subject.clone()) {
                Join::Leader(lead) => {
                    // Another fetch may have ended since the lookup.
                    if let Some(hit) = self.completed_meanwhile(&subject.key) {
                        return Ok(hit);
                    }
                    return self.lead(inner, request, lead).await;
                }
                Join::Follower(followed) => {
                    let (fetch, deadline) = (followed.fetch, request.context.deadline);
                    let follower_wait = core.shared.rules.follower_wait;
                    let patience = follower_wait.and_then(|wait| began.checked_add(wait));
                    match wait(followed, began, deadline, patience).await? {
                        Some(phase) => phase,
                        None => {
                            let lead = single_flight.overtake(subject, fetch);
                            return self.lead(inner, request, lead).await;
                        }
                    }
                }
            };
            match phase {
                Phase::Completed(entry) if self.plan.is_within_max_age(&entry, Instant::now()) => {
                    return Ok(core.serve(&entry, CacheStatus::Shared));
                }
                Phase::Failed(Some(error)) => return Err(error),
                Phase::Failed(None) => {
                    let (now, grace) = (Instant::now(), core.shared.rules.stale_if_error);
                    if let Some(stale) = &self.stale
                        && self.plan.accepts_stale(stale, now, grace)
                    {
                        return Ok(core.serve_stale(stale, now));
                    }
                    return self
                        .lead(inner, request, single_flight.alone(subject))
                        .await;
                }
                Phase::Completed(_) | Phase::NotShared => {
                    return self
                        .lead(inner, request, single_flight.alone(subject))
                        .await;
                }
                Phase::Running | Phase::Abandoned => {}
            }
        }
    }

    /// Returns a hit that has come into memory meanwhile, for this key or its public form.
    fn completed_meanwhile(&self, key: &Key) -> Option<McpResponse> {
        let shared = &self.core.shared;
        let take = |key: &Key| {
            let entry = shared.memory.get(key.hash, &key.bytes)?;
            let status = self.plan.accepts(&entry, Instant::now())?;
            Some(self.core.serve(&entry, status))
        };
        take(key).or_else(|| {
            let scoped = self.plan.method.has_cache_hints();
            take(&scoped.then(|| key.for_everybody(&shared.hasher))?)
        })
    }

    /// Fetches the response.
    pub(super) async fn lead<S>(self, inner: S, mut request: McpRequest, lead: Leader) -> CallResult
    where
        S: Service<McpRequest, Response = McpResponse>,
        S::Error: Into<Error>,
    {
        let asks_for_tools = self.plan.method == Method::ListTools;
        let asked = asks_for_tools.then(|| self.core.hints.ask(lead.subject().audience.clone()));
        let looked = match &self.core.shared.remote {
            Some(remote) => {
                let wanted = !self.plan.directives.no_cache;
                remote.lookup(&self.core, lead.subject(), wanted).await
            }
            None => Lookup::default(),
        };
        if let Some(read) = looked.entry {
            let context = &request.context;
            if let Some((entry, hit)) = self.core.adopt(&lead, &self.plan, read, context) {
                self.core.learn(asked.as_ref(), Some(&hit));
                lead.end(Phase::Completed(entry));
                return Ok(hit);
            }
        }
        self.core.count(Event::Miss, self.plan.method);
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
    mut followed: Follower,
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
pub(super) fn may_be_asked(context: &CallContext) -> bool {
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
