use std::{
    fmt,
    future::ready,
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use futures::future::BoxFuture;
use rmcp::model::{CacheScope, ClientRequest, ServerNotification, ServerResult};
use serde_json::Value;
use tower::Service;

use super::{
    AuthError, Item, Policy, PolicyDecision, Rules, Verified, credential::CallerToken,
    hide::NamedTarget, layer::Shared, token_source::PresentedToken, visibility::CallerVisibility,
};
use crate::{
    Decision, Error, Lossless, McpRequest, McpResponse, Principal, Stack,
    protocol::{
        self, legacy_tasks,
        lists::ListKind,
        methods::{self, Method},
        results,
        target::TargetKind,
    },
    response::CallResult,
};

/// Limit of the age of an authentication by the HTTP companion. It usually is milliseconds old, but
/// a session keeps a copy of its first request for its listen.
const AUTHENTICATED_FOR: std::time::Duration = std::time::Duration::from_secs(60);

/// The service of an [`AuthLayer`](super::AuthLayer).
pub struct Auth<S> {
    shared: Arc<Shared>,
    inner: S,
}

/// No scope would help.
const NONE: [&str; 0] = [];

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

impl<S: Stack> Service<McpRequest> for Auth<S> {
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, CallResult>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: McpRequest) -> Self::Future {
        // The instance that `poll_ready` made ready must be the one that is called.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let shared = &self.shared;
        // Any principal that was set before is replaced.
        request.context.extensions.remove::<Principal>();
        let presented = shared.sources.remove_tokens(&mut request);
        if let Some(known) = shared.remembered(&presented, &mut request) {
            // Nothing has to be awaited before the inner call, which keeps the future small.
            return match shared.decide(Some(known), &mut request) {
                Ok(guard) => {
                    let call = inner.call(request);
                    Box::pin(guard.watch(call))
                }
                Err(refused) => Box::pin(ready(Err(refused))),
            };
        }
        // A call that is dropped while its token is verified ends without a decision.
        request
            .context
            .state_decision(Decision::Undecided, None, "");
        let shared = shared.clone();
        Box::pin(async move {
            let guard = shared.admit(presented, &mut request).await?;
            guard.watch(inner.call(request)).await
        })
    }
}

/// The checks and filters that apply to a response.
struct Guard {
    /// The expiry of the caller's token.
    expires_at: Option<SystemTime>,
    /// The method, if its result is a list.
    lists: Option<Method>,
    /// The target of the request, if the caller may not learn whether it exists.
    named: Option<NamedTarget>,
    /// The caller's visibility, if the caller is known, with the inner calls that it decided on.
    visibility: Option<Arc<CallerVisibility>>,
    listens: bool,
    /// The request is for a list of tasks.
    lists_tasks: bool,
}

impl Shared {
    /// States and counts the decision on a request.
    fn state_decision(
        &self,
        request: &McpRequest,
        decision: Decision,
        principal: Option<&Principal>,
        reason: &str,
    ) {
        self.decisions.count(decision);
        let context = &request.context;
        context.state_decision(decision, principal, reason);
    }

    /// Refuses a request of a caller that is not authenticated.
    fn refuse_caller(&self, request: &McpRequest, error: AuthError) -> Error {
        tracing::debug!(
            kind = error.kind().as_str(),
            reason = error.reason(),
            "a caller is not let in"
        );
        self.state_decision(request, Decision::Unauthenticated, None, error.reason());
        error.into()
    }

    /// Authenticates a request and decides whether it goes on.
    async fn admit(
        self: &Arc<Self>,
        presented: Result<PresentedToken, AuthError>,
        request: &mut McpRequest,
    ) -> Result<Guard, Error> {
        let known = self.authenticate(presented, request).await?;
        self.decide(known, request)
    }

    /// Returns the verified caller of a request. Returns `None` if the method needs no token.
    async fn authenticate(
        &self,
        presented: Result<PresentedToken, AuthError>,
        request: &mut McpRequest,
    ) -> Result<Option<Verified>, Error> {
        let known = match presented {
            Ok(PresentedToken::Nothing) if self.open.iter().any(|open| covers(open, request)) => {
                return Ok(None);
            }
            Ok(PresentedToken::Nothing) => Err(AuthError::missing_token()),
            Ok(PresentedToken::Token(token)) => match token.as_str() {
                Ok(text) => {
                    let known = match self.verifier.remembered(text) {
                        Some(known) => Ok(known),
                        None => match token.check() {
                            Ok(()) => self.verifier.verify(text).await,
                            Err(error) => Err(error),
                        },
                    };
                    if known.is_ok() && self.allows_token_exchange {
                        request.context.extensions.insert(CallerToken::new(text));
                    }
                    known
                }
                Err(error) => Err(error),
            },
            Ok(PresentedToken::Authenticated(authenticated)) => {
                let is_old = authenticated.age() > AUTHENTICATED_FOR;
                let (known, token) = authenticated.into_parts();
                if self.allows_token_exchange {
                    let caller_token = CallerToken::new(token.reveal());
                    request.context.extensions.insert(caller_token);
                }
                match is_old {
                    true => self.verifier.verify(token.reveal()).await,
                    false => Ok(known),
                }
            }
            Err(error) => Err(error),
        };
        match known.and_then(|known| self.check_expiry(known)) {
            Ok(known) => Ok(Some(known)),
            Err(error) => Err(self.refuse_caller(request, error)),
        }
    }

    /// Returns the verified caller if the token is remembered.
    fn remembered(
        &self,
        presented: &Result<PresentedToken, AuthError>,
        request: &mut McpRequest,
    ) -> Option<Verified> {
        let Ok(PresentedToken::Token(token)) = presented else {
            return None;
        };
        let text = token.as_str().ok()?;
        let known = self.verifier.remembered(text)?;
        if self.allows_token_exchange {
            request.context.extensions.insert(CallerToken::new(text));
        }
        // A remembered token is valid, so its expiry is not checked again.
        Some(known)
    }

    fn check_expiry(&self, known: Verified) -> Result<Verified, AuthError> {
        match known.expires_at {
            Some(time) if time <= (self.clock)() => Err(AuthError::expired()),
            _ => Ok(known),
        }
    }

    /// Decides whether the request goes on, and how its response is handled.
    fn decide(
        self: &Arc<Self>,
        known: Option<Verified>,
        request: &mut McpRequest,
    ) -> Result<Guard, Error> {
        let Some(known) = known else {
            self.state_decision(request, Decision::Allowed, None, "");
            return Ok(Guard {
                expires_at: None,
                lists: None,
                named: None,
                visibility: None,
                listens: false,
                lists_tasks: false,
            });
        };
        let Verified {
            principal,
            expires_at,
            ..
        } = known;
        if let Some(unreadable) = protocol::unreadable(request) {
            let (decision, reason) = (Decision::Denied, unreadable.reason());
            self.state_decision(request, decision, Some(&principal), reason);
            return Err(unreadable.refusal());
        }
        let rules = self.rules();
        let reveals = rules.reveals_forbidden();
        if let PolicyDecision::Deny(denial) = self.judge(&rules, request, &principal) {
            let hides = !reveals;
            return Err(self.deny(&rules, &principal, hides, request, denial.into()));
        }
        if !self.record_task_use(request, &principal) {
            let error = AuthError::insufficient_scope(NONE)
                .with_reason("the task belongs to another principal, or is unknown");
            return Err(self.deny(&rules, &principal, true, request, error));
        }
        let listens = request.is_listen();
        if listens {
            self.narrow_listen(request, &principal);
        }
        self.state_decision(request, Decision::Allowed, Some(&principal), "");
        request.context.set_principal(principal.clone());
        let visibility = Arc::new(CallerVisibility::new(self.clone(), principal));
        request.context.limit_visibility_to(visibility.clone());
        Ok(Guard {
            visibility: Some(visibility),
            lists: Method::of(&request.message).filter(|method| method.row().list.is_some()),
            named: (!reveals)
                .then(|| NamedTarget::of_inner_tool(request).or_else(|| NamedTarget::of(request)))
                .flatten(),
            listens,
            lists_tasks: matches!(&*request.message, ClientRequest::CustomRequest(custom)
                if legacy_tasks::is_list(custom)),
            expires_at,
        })
    }

    /// Asks the rules, and then the policies until one denies.
    pub(super) fn judge(
        &self,
        rules: &Rules,
        request: &McpRequest,
        principal: &Principal,
    ) -> PolicyDecision {
        let mut decision = rules.decide(request, principal);
        if !self.policies.is_empty() {
            let inner = request.inner_call();
            for request in std::iter::once(request).chain(&inner) {
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
    ) -> Error {
        tracing::debug!(
            method = request.method(),
            missing = ?error.missing_scopes(),
            reason = error.reason(),
            "a request is denied"
        );
        // The caller may be told about items that it can see on a list.
        let named = [
            NamedTarget::of(request),
            NamedTarget::of_inner_tool(request),
        ];
        let hidden = named.into_iter().flatten().find(|named| {
            hides
                && named
                    .item()
                    .is_none_or(|item| !self.shows_by(rules, item, principal))
        });
        let (decision, refused) = match hidden {
            Some(named) => (Decision::Concealed, named.unknown_error()),
            None => (Decision::Denied, error.clone().into()),
        };
        self.state_decision(request, decision, Some(principal), error.reason());
        refused
    }

    /// Records the use of the request's task, if it has one. Returns `false` if the principal may
    /// not use it.
    fn record_task_use(&self, request: &McpRequest, principal: &Principal) -> bool {
        methods::target(&request.message).is_none_or(|target| {
            target.kind != TargetKind::Task || self.task_owners.record_use(target.name, principal)
        })
    }

    /// Removes resources that the caller may not see from a listen, also when the rules change
    /// later.
    fn narrow_listen(self: &Arc<Self>, request: &mut McpRequest, principal: &Principal) {
        let shows = |uri: &String| self.shows(Item::Resource(uri), principal);
        if let ClientRequest::SubscriptionsListenRequest(listen) = &*request.message
            && let Some(uris) = &listen.params.notifications.resource_subscriptions
            && !uris.iter().all(shows)
            && let ClientRequest::SubscriptionsListenRequest(listen) = &mut *request.message
            && let Some(uris) = &mut listen.params.notifications.resource_subscriptions
        {
            uris.retain(shows);
        }
        let (shared, principal) = (self.clone(), principal.clone());
        let caller = request
            .context
            .caller
            .filter_map_notifications(move |notification| {
                let passes = match &notification {
                    ServerNotification::ResourceUpdatedNotification(updated) => {
                        shared.shows(Item::Resource(&updated.params.uri), &principal)
                    }
                    ServerNotification::TaskStatusNotification(status) => {
                        // A status contains the id and the result of a task.
                        let task = &status.params.task.task.task_id;
                        shared.task_owners.is_owned_by(task, &principal)
                    }
                    other => legacy_tasks::status(other)
                        .is_none_or(|task| shared.task_owners.is_owned_by(task, &principal)),
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

/// Returns `true` if an open method covers the request. A request with the method name of a
/// notification is not covered.
fn covers(open: &str, request: &McpRequest) -> bool {
    let method = request.method();
    let same = match open.strip_suffix('*') {
        Some(start) => method.starts_with(start),
        None => open == method,
    };
    let custom = matches!(*request.message, ClientRequest::CustomRequest(_));
    same && (!custom || request.as_notification().is_some())
}

/// Removes the tasks of a list that are not to be shown. Returns `true` if there were any.
fn retain_tasks(list: &mut Value, shows: impl Fn(&str) -> bool) -> bool {
    let Some(Value::Array(tasks)) = list.get_mut("tasks") else {
        return false;
    };
    let all = tasks.len();
    tasks.retain(|task| {
        let id = task.get(legacy_tasks::TASK_ID).and_then(Value::as_str);
        id.is_some_and(&shows)
    });
    tasks.len() != all
}

/// Sets the cache scope of a result to private (MCP 2026-07-28, SEP-2549). A server may declare it
/// public, but behind a guard it is not, and caches between here and the caller obey the scope.
fn set_private_scope(result: &mut Lossless<ServerResult>) {
    let scope = results::cache_hints(result.as_read_mut()).1;
    if scope.is_some_and(|scope| *scope != CacheScope::Private) {
        let place = result.place_of(results::CACHE_SCOPE);
        result.set_at(place.as_ref(), r#""private""#, |result| {
            if let (_, Some(scope)) = results::cache_hints(result) {
                *scope = CacheScope::Private;
            }
        });
    }
}

impl Guard {
    /// Waits for the response, and filters it for the caller.
    async fn watch<E: Into<Error>>(
        self,
        call: impl Future<Output = Result<McpResponse, E>>,
    ) -> CallResult {
        let Some(visibility) = &self.visibility else {
            return call.await.map_err(Into::into);
        };
        let (shared, principal) = (&visibility.shared, &visibility.principal);
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
            let named = visibility.named().unwrap_or(named);
            if named.is_reported_unknown(&answer) {
                return Err(named.unknown_error());
            }
        }
        let mut response = answer?;
        if let Some(method) = self.lists {
            // rmcp may have read the list as another type, which would not be filtered.
            if !method.has_result(&response.result) {
                let result = mem::replace(&mut *response.result, ServerResult::empty(()));
                *response.result = method.expect(result)?;
            }
        }
        match &*response.result {
            ServerResult::CreateTaskResult(created) => {
                shared.task_owners.add(&created.task.task_id, principal);
            }
            ServerResult::CustomResult(_) if self.lists_tasks => {
                let owners = &shared.task_owners;
                response
                    .result
                    .change_json(|list| retain_tasks(list, |task| owners.lists(task, principal)));
            }
            ServerResult::CustomResult(_) => {
                if let Some(task) = legacy_tasks::begun(&response.result) {
                    shared.task_owners.add(task, principal);
                }
            }
            // Every result that is a list is filtered, whatever the request was.
            result if ListKind::of(result).is_some() => {
                let rules = shared.rules();
                let shows = |item: Item<'_>| shared.shows_by(&rules, item, principal);
                response.result.retain_items(shows);
            }
            _ => {}
        }
        set_private_scope(&mut response.result);
        response.mark_private(principal);
        Ok(response)
    }
}
