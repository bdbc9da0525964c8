use std::{
    fmt,
    future::ready,
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use futures::future::BoxFuture;
use rmcp::model::{ClientRequest, ServerNotification, ServerResult};
use tower::Service;

use super::{
    AuthError, Decision, Item, Policy, Rules, Verified,
    audit::Verdict,
    conceal::Named,
    credential::Delegation,
    filter::{self, List},
    layer::Shared,
    sight::CallerSight,
    source::Shown,
};
use crate::{Error, McpRequest, McpResponse, Principal, protocol};

/// How old an authentication of the HTTP companion may be. It is milliseconds old, but where a session keeps a copy
/// of its first request for its listen.
const AUTHENTICATED_FOR: std::time::Duration = std::time::Duration::from_secs(60);

/// The service of an [`AuthLayer`](super::AuthLayer).
pub struct Auth<S> {
    shared: Arc<Shared>,
    inner: S,
}

/// No scope would help.
const NONE: [&str; 0] = [];

type Answer = Result<McpResponse, Error>;

impl<S> Auth<S> {
    pub(super) fn new(shared: Arc<Shared>, inner: S) -> Self {
        Self { shared, inner }
    }
}

impl<S: Clone> Clone for Auth<S> {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone(), self.inner.clone())
    }
}

impl<S> fmt::Debug for Auth<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl<S> Service<McpRequest> for Auth<S>
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, Answer>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: McpRequest) -> Self::Future {
        // The service that said it was ready is the one to call; its clone waits for the next.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let shared = &self.shared;
        // Whatever was said before of who is calling, it is said anew.
        request.context.extensions.remove::<Principal>();
        let shown = shared.sources.take(&mut request);
        if shared.audit.is_none()
            && let Some(known) = shared.remembered(&shown, &mut request)
        {
            // Nothing has to be waited for before the inner service is called, so the future is a small one.
            return match shared.decide(Some(known), &mut request) {
                Ok(guard) => {
                    let call = inner.call(request);
                    Box::pin(guard.watch(call))
                }
                Err(refused) => Box::pin(ready(Err(refused.answer))),
            };
        }
        let shared = shared.clone();
        Box::pin(async move {
            let Some(audit) = &shared.audit else {
                return match shared.admit(shown, &mut request).await {
                    Ok(guard) => guard.watch(inner.call(request)).await,
                    Err(refused) => Err(refused.answer),
                };
            };
            // Begun before anything is decided: whoever goes away meanwhile is on record too.
            let mut entry = audit.begin(&mut request);
            let admitted = entry.during(shared.admit(shown, &mut request)).await;
            let refused = admitted.as_ref().err();
            let principal = match refused {
                Some(refused) => refused.principal.as_ref(),
                None => request.context.principal(),
            };
            entry.decided(principal, Refused::verdict(refused));
            entry.admitted().await?;
            match admitted {
                Ok(guard) => {
                    let sight = guard.sight.clone();
                    let call = || guard.watch(inner.call(request));
                    let answer = entry.during_call(call).await;
                    if let Some(denied) = sight.and_then(|sight| sight.denied()) {
                        entry.denied(&denied);
                    }
                    entry.end(&answer);
                    answer
                }
                Err(refused) => {
                    let answer = Err(refused.answer);
                    entry.end(&answer);
                    answer
                }
            }
        })
    }
}

/// A request that does not go on.
struct Refused {
    principal: Option<Principal>,
    /// For the record.
    reason: String,
    /// What the caller hears, which may be less.
    answer: Error,
}

impl Refused {
    fn unknown_caller(error: AuthError) -> Self {
        tracing::debug!(
            kind = error.kind().as_str(),
            reason = error.reason(),
            "a caller is not let in"
        );
        Self {
            principal: None,
            reason: error.reason().to_owned(),
            answer: error.into(),
        }
    }

    fn verdict(refused: Option<&Self>) -> Verdict<'_> {
        match refused {
            None => Verdict::Allowed,
            Some(refused) if refused.principal.is_some() => Verdict::Denied(&refused.reason),
            Some(refused) => Verdict::Unauthenticated(&refused.reason),
        }
    }
}

/// What an answer has to be seen through on its way back.
struct Guard {
    /// When the caller's token expires.
    expires_at: Option<SystemTime>,
    list: Option<List>,
    /// What the request names, where the caller may not learn whether it is there.
    named: Option<Named>,
    /// Who the caller is, if it is anybody, and what was asked of it further in.
    sight: Option<Arc<CallerSight>>,
    listens: bool,
}

impl Shared {
    /// Finds out whose request it is, and whether it goes on.
    async fn admit(
        self: &Arc<Self>,
        shown: Result<Shown, AuthError>,
        request: &mut McpRequest,
    ) -> Result<Guard, Refused> {
        let known = self.authenticate(shown, request).await?;
        self.decide(known, request)
    }

    /// Whose request it is. `None` if it needs to be nobody's.
    async fn authenticate(
        &self,
        shown: Result<Shown, AuthError>,
        request: &mut McpRequest,
    ) -> Result<Option<Verified>, Refused> {
        let known = match shown {
            Ok(Shown::Nothing) if self.open.iter().any(|open| covers(open, request)) => {
                return Ok(None);
            }
            Ok(Shown::Nothing) => Err(AuthError::missing_token()),
            Ok(Shown::Token(token)) => match token.as_str() {
                Ok(text) => {
                    let known = match self.verifier.remembered(text) {
                        Some(known) => Ok(known),
                        None => match token.check() {
                            Ok(()) => self.verifier.verify(text).await,
                            Err(error) => Err(error),
                        },
                    };
                    if known.is_ok() && self.delegates {
                        request.context.extensions.insert(Delegation::new(text));
                    }
                    known
                }
                Err(error) => Err(error),
            },
            Ok(Shown::Authenticated(authenticated)) => {
                let is_old = authenticated.age() > AUTHENTICATED_FOR;
                let (known, token) = authenticated.into_parts();
                if self.delegates {
                    let delegation = Delegation::new(token.reveal());
                    request.context.extensions.insert(delegation);
                }
                match is_old {
                    true => self.verifier.verify(token.reveal()).await,
                    false => Ok(known),
                }
            }
            Err(error) => Err(error),
        };
        let known = known.map_err(Refused::unknown_caller)?;
        self.unexpired(known).map(Some)
    }

    /// Whose request it is, if its token was verified before.
    fn remembered(
        &self,
        shown: &Result<Shown, AuthError>,
        request: &mut McpRequest,
    ) -> Option<Verified> {
        let Ok(Shown::Token(token)) = shown else {
            return None;
        };
        let text = token.as_str().ok()?;
        let known = self.verifier.remembered(text)?;
        if self.delegates {
            request.context.extensions.insert(Delegation::new(text));
        }
        // What is remembered is good: it is not asked twice whether it has expired.
        Some(known)
    }

    fn unexpired(&self, known: Verified) -> Result<Verified, Refused> {
        match known.expires_at {
            Some(time) if time <= (self.clock)() => {
                Err(Refused::unknown_caller(AuthError::expired()))
            }
            _ => Ok(known),
        }
    }

    /// Whether the request goes on, and what becomes of its answer.
    fn decide(
        self: &Arc<Self>,
        known: Option<Verified>,
        request: &mut McpRequest,
    ) -> Result<Guard, Refused> {
        let Some(known) = known else {
            return Ok(Guard {
                expires_at: None,
                list: None,
                named: None,
                sight: None,
                listens: false,
            });
        };
        let Verified {
            principal,
            expires_at,
            ..
        } = known;
        if let Some(unreadable) = protocol::unreadable(request) {
            return Err(Refused {
                principal: Some(principal),
                reason: unreadable.reason().to_owned(),
                answer: unreadable.refusal(),
            });
        }
        let rules = self.rules();
        let reveals = rules.reveals_forbidden();
        if let Decision::Deny(denial) = self.judge(&rules, request, &principal) {
            let hides = !reveals;
            return Err(self.deny(&rules, &principal, hides, request, denial.into()));
        }
        if self.is_anothers_task(request, &principal) {
            let error = AuthError::insufficient_scope(NONE)
                .with_reason("the task is another's, or nobody's");
            return Err(self.deny(&rules, &principal, true, request, error));
        }
        let listens = matches!(
            request.message,
            ClientRequest::SubscriptionsListenRequest(_)
        );
        if listens {
            self.narrow_listen(request, &principal);
        }
        request.context.set_principal(principal.clone());
        let sight = Arc::new(CallerSight::new(self.clone(), principal));
        request.context.limit_sight_to(sight.clone());
        Ok(Guard {
            sight: Some(sight),
            list: List::of(&request.message),
            named: (!reveals)
                .then(|| Named::called(request).or_else(|| Named::of(request)))
                .flatten(),
            listens,
            expires_at,
        })
    }

    /// Asks the rules, and all policies as long as nothing denies it.
    pub(super) fn judge(
        &self,
        rules: &Rules,
        request: &McpRequest,
        principal: &Principal,
    ) -> Decision {
        let mut decision = rules.decide(request, principal);
        if !self.policies.is_empty() {
            let meant = request.meant();
            for request in std::iter::once(request).chain(&meant) {
                for policy in &self.policies {
                    if decision.is_allowed() {
                        decision = policy.decide(request, principal);
                    }
                }
            }
        }
        decision
    }

    fn deny(
        &self,
        rules: &Rules,
        principal: &Principal,
        hides: bool,
        request: &McpRequest,
        error: AuthError,
    ) -> Refused {
        tracing::debug!(
            method = request.method(),
            missing = ?error.missing_scopes(),
            reason = error.reason(),
            "a request is denied"
        );
        // What the caller can see on a list it may be told about.
        let named = [Named::of(request), Named::called(request)];
        let hidden = named.into_iter().flatten().find(|named| {
            hides
                && named
                    .item()
                    .is_none_or(|item| !self.shows_by(rules, item, principal))
        });
        let answer = match hidden {
            Some(named) => named.unknown(),
            None => error.clone().into(),
        };
        Refused {
            principal: Some(principal.clone()),
            reason: error.reason().to_owned(),
            answer,
        }
    }

    fn is_anothers_task(&self, request: &McpRequest, principal: &Principal) -> bool {
        match &request.message {
            ClientRequest::GetTaskRequest(_)
            | ClientRequest::UpdateTaskRequest(_)
            | ClientRequest::CancelTaskRequest(_) => request
                .target()
                .is_some_and(|task| self.tasks.is_anothers(task, principal)),
            _ => false,
        }
    }

    /// Leaves to a listen only resources that the caller may know of, also when the rules change later.
    fn narrow_listen(self: &Arc<Self>, request: &mut McpRequest, principal: &Principal) {
        if let ClientRequest::SubscriptionsListenRequest(listen) = &mut request.message
            && let Some(uris) = &mut listen.params.notifications.resource_subscriptions
        {
            uris.retain(|uri| self.shows(Item::Resource(uri), principal));
        }
        let (shared, principal) = (self.clone(), principal.clone());
        let caller = request
            .context
            .caller
            .filter_map_notifications(move |notification| {
                let shows = |item: Item<'_>| shared.shows(item, &principal);
                let passes = match &notification {
                    ServerNotification::TaskStatusNotification(status) => {
                        // It says a task's id, and what became of it, to whoever listens.
                        let task = &status.params.task.task.task_id;
                        shared.tasks.is_known_as(task, &principal)
                    }
                    other => filter::lets_pass(other, shows),
                };
                passes.then_some(notification)
            });
        request.context.caller = caller;
    }

    pub(super) fn shows(&self, item: Item<'_>, principal: &Principal) -> bool {
        self.shows_by(&self.rules(), item, principal)
    }

    pub(super) fn shows_by(&self, rules: &Rules, item: Item<'_>, principal: &Principal) -> bool {
        rules.shows(item, principal)
            && self
                .policies
                .iter()
                .all(|policy| policy.shows(item, principal))
    }
}

/// Whether an open method is the request's. A request that is none is not opened by the name of a notification.
fn covers(open: &str, request: &McpRequest) -> bool {
    let method = request.method();
    let same = match open.strip_suffix('*') {
        Some(start) => method.starts_with(start),
        None => open == method,
    };
    let custom = matches!(request.message, ClientRequest::CustomRequest(_));
    same && (!custom || request.as_notification().is_some())
}

impl Guard {
    /// Waits for the answer, and takes off it what is not the caller's to know.
    async fn watch<E: Into<Error>>(
        self,
        call: impl Future<Output = Result<McpResponse, E>>,
    ) -> Answer {
        let Some(sight) = &self.sight else {
            return call.await.map_err(Into::into);
        };
        let (shared, principal) = (&sight.shared, &sight.principal);
        let answer = match (self.listens, self.expires_at) {
            (true, Some(until)) => {
                let left = until.duration_since((shared.clock)()).unwrap_or_default();
                tokio::select! {
                    biased;
                    answer = call => answer.map_err(Into::into),
                    () = tokio::time::sleep(left) => Err(AuthError::expired().into()),
                }
            }
            _ => call.await.map_err(Into::into),
        };
        if let Some(named) = self.named {
            let named = sight.named().unwrap_or(named);
            if named.is_unknown(&answer) {
                return Err(named.unknown());
            }
        }
        let mut response = answer?;
        if let Some(list) = self.list {
            let result = mem::replace(&mut response.result, ServerResult::empty(()));
            response.result = list.expect(result)?;
        }
        match &mut response.result {
            ServerResult::CreateTaskResult(created) => {
                shared.tasks.began(&created.task.task_id, principal);
            }
            // Whatever was asked for: what names things is filtered.
            result if List::is_one(result) => {
                let rules = shared.rules();
                filter::filter(result, |item: Item<'_>| {
                    shared.shows_by(&rules, item, principal)
                });
            }
            _ => {}
        }
        filter::close(&mut response.result);
        response.mark_private(principal);
        Ok(response)
    }
}
