//! One call and its attempts.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;
use tower::Service;

use super::{
    IDEMPOTENCY_META_KEY, RETRY_META_KEY, RetryEvent, RetryPolicy, layer::Shared, observed::Seen,
    policy::MOST_RETRIES, service::StackState,
};
use crate::{
    Audience, Error, McpRequest, Outcome, Repeat,
    context::next_id,
    protocol::methods::{Effect, Method},
    response::CallResult,
    util::{deadline::reached, metrics::count, text::hex},
};

pub(super) struct Call {
    policy: Arc<RetryPolicy>,
    max_retries: u32,
    /// The number of the current attempt.
    attempt: u32,
    last_delay: Option<Duration>,
    seen: Option<Arc<Seen>>,
}

/// The reason why a failed call is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GivenUp {
    Unsafe,
    Retries,
    Cancelled,
    TooLong,
    Deadline,
    Budget,
}

impl GivenUp {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unsafe => "unsafe",
            Self::Retries => "retries",
            Self::Cancelled => "cancelled",
            Self::TooLong => "too_long",
            Self::Deadline => "deadline",
            Self::Budget => "budget",
        }
    }
}

impl Call {
    /// Prepares a request for several attempts. Returns `None` if there will be only one in any
    /// case.
    pub(super) fn begin(shared: &Shared, request: &mut McpRequest) -> Option<Self> {
        // No caller waits for a notification, and it may be outdated later.
        if request.as_notification().is_some() {
            return None;
        }
        let policy = shared.policy(request);
        let mut max_retries = policy.max_retries.min(MOST_RETRIES);
        if let Some(asked) = request.context.meta.get(RETRY_META_KEY) {
            let asked = asked.get("maxRetries").and_then(Value::as_u64);
            let asked = asked.and_then(|retries| u32::try_from(retries).ok());
            max_retries = max_retries.min(asked.unwrap_or(u32::MAX));
        }
        if max_retries == 0 {
            return None;
        }
        if shared.idempotency_key && !is_harmless(request) && !request.is_listen() {
            let own = request.context.meta.entry(IDEMPOTENCY_META_KEY);
            own.or_insert_with(|| hex(&rand::random::<[u8; 16]>()).into());
        }
        // An attempt can have reached the caller only if it may have run.
        let seen = may_be_safe(shared, &policy, request).then(|| watch(request));
        Some(Self {
            policy,
            max_retries,
            attempt: 1,
            last_delay: None,
            seen: seen.flatten(),
        })
    }

    /// Returns the request for the next attempt, if there may be one.
    pub(super) fn copy(&self, request: &McpRequest) -> Option<McpRequest> {
        (self.attempt <= self.max_retries).then(|| request.clone())
    }

    /// Decides whether the call is repeated, and waits for the delay and the inner service. Returns
    /// the request for the next attempt, or `None` if the call ends with `answer`.
    pub(super) async fn wait<S>(
        &mut self,
        stack: &StackState,
        inner: &mut S,
        mut again: McpRequest,
        answer: &mut CallResult,
    ) -> Option<McpRequest>
    where
        S: Service<McpRequest>,
        S::Error: Into<Error>,
    {
        let outcome = Outcome::of(answer);
        let delay = match self.decide(stack, &again, outcome, answer)? {
            Ok(delay) => delay,
            Err(reason) => {
                self.give_up(&stack.shared, reason, Some(again.method()));
                return None;
            }
        };
        self.report(&stack.shared, &again, outcome, answer, delay);
        let ready = async {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            poll_fn(|cx| inner.poll_ready(cx)).await
        };
        let cancellation = again.context.cancellation.clone();
        tokio::select! {
            biased;
            () = cancellation.cancelled() => {
                *answer = Err(Error::cancelled("the caller cancelled the request between two attempts"));
                self.give_up(&stack.shared, GivenUp::Cancelled, Some(again.method()));
                return None;
            }
            () = reached(again.context.deadline) => {
                self.give_up(&stack.shared, GivenUp::Deadline, Some(again.method()));
                return None;
            }
            ready = ready => if let Err(error) = ready {
                *answer = Err(error.into());
                return None;
            },
        }
        if let Some(seen) = &self.seen {
            seen.repeat();
        }
        stack.shared.totals.retries.fetch_add(1, Ordering::Relaxed);
        self.attempt += 1;
        self.last_delay = Some(delay);
        again.context.id = next_id();
        Some(again)
    }

    /// Returns the delay before the next attempt, or the reason against one. Returns `None` if the
    /// outcome is not repeatable at all.
    fn decide(
        &self,
        stack: &StackState,
        again: &McpRequest,
        outcome: Outcome,
        answer: &CallResult,
    ) -> Option<Result<Duration, GivenUp>> {
        let floor = match answer {
            Ok(response) => response.retry_after(),
            Err(error) => error.retry_after(),
        };
        let may = match self.repeat(outcome, answer) {
            Repeat::Always => true,
            Repeat::IfSafe => self.is_safe(stack, again),
            Repeat::Never | Repeat::IfClassified => return None,
        };
        if !may {
            return Some(Err(GivenUp::Unsafe));
        }
        if again.context.cancellation.is_cancelled() {
            return Some(Err(GivenUp::Cancelled));
        }
        let delay = self.policy.delay(self.attempt, self.last_delay);
        let Some(delay) = self.policy.at_least(floor.unwrap_or_default(), delay) else {
            return Some(Err(GivenUp::TooLong));
        };
        let next = Instant::now().checked_add(delay);
        if again
            .context
            .deadline
            .is_some_and(|end| next.is_none_or(|next| next >= end))
        {
            return Some(Err(GivenUp::Deadline));
        }
        if stack
            .shared
            .budget
            .as_ref()
            .is_some_and(|budget| !budget.withdraw())
        {
            return Some(Err(GivenUp::Budget));
        }
        Some(Ok(delay))
    }

    fn repeat(&self, outcome: Outcome, answer: &CallResult) -> Repeat {
        match answer {
            Ok(response) => self.policy.classify(response.as_tool_result()),
            Err(_) => outcome.repeat(),
        }
    }

    /// Notes the end of a call whose last possible attempt failed.
    pub(super) fn note_last(&self, shared: &Shared, outcome: Outcome, answer: &CallResult) {
        if !outcome.is_success()
            && matches!(
                self.repeat(outcome, answer),
                Repeat::Always | Repeat::IfSafe
            )
        {
            self.give_up(shared, GivenUp::Retries, None);
        }
    }

    fn give_up(&self, shared: &Shared, reason: GivenUp, method: Option<&str>) {
        let (attempts, reason_name) = (self.attempt, reason.as_str());
        tracing::debug!(
            method,
            attempts,
            reason = reason_name,
            "a failed call is not repeated"
        );
        count!(retry.given_up, 1_u64, reason = reason_name);
        shared.totals.given_up.fetch_add(1, Ordering::Relaxed);
        if reason == GivenUp::Budget {
            shared.totals.out_of_budget.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns `true` if the request can safely run once more.
    fn is_safe(&self, stack: &StackState, request: &McpRequest) -> bool {
        // A person who has answered must not be asked the same again.
        if request.is_listen() || self.seen.as_ref().is_some_and(|seen| seen.asked()) {
            return false;
        }
        self.policy.safe.unwrap_or_else(|| {
            is_harmless(request)
                || (stack.shared.trusts_annotations && has_safe_tool(stack, request))
        })
    }

    /// Reports the next retry in the log, as a metric, and to the operator's function.
    fn report(
        &self,
        shared: &Shared,
        again: &McpRequest,
        outcome: Outcome,
        answer: &CallResult,
        delay: Duration,
    ) {
        let event = RetryEvent {
            method: again.method(),
            target: again.target(),
            attempt: self.attempt,
            delay,
            outcome,
            error: answer.as_ref().err(),
        };
        tracing::debug!(
            method = event.method,
            name = event.target,
            attempt = event.attempt,
            delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            outcome = outcome.as_str(),
            error = event.error.map(tracing::field::display),
            "a failed call is repeated after a delay"
        );
        count!(retry.retries, 1_u64, outcome = outcome.as_str());
        if let Some(hook) = &shared.on_retry {
            hook(&event);
        }
    }

    /// Adds the number of attempts to the response.
    pub(super) fn end(&self, mut answer: CallResult) -> CallResult {
        if let Ok(response) = &mut answer
            && self.attempt > 1
        {
            response.report.attempts = self.attempt;
        }
        answer
    }
}

/// Returns `true` if the specification makes the method safe to repeat: it only reads, or sets the
/// same value again.
fn is_harmless(request: &McpRequest) -> bool {
    Method::of(&request.message).is_some_and(|method| method.row().effect != Effect::Acts)
}

fn has_safe_tool(stack: &StackState, request: &McpRequest) -> bool {
    request.as_tool_call().is_some()
        && stack
            .hints
            .of_call(&Audience::of(&request.context), request)
            .is_some_and(|hints| hints.is_safe_to_repeat())
}

/// Returns `false` if [`Call::is_safe`] cannot return `true`. This needs no lookup.
fn may_be_safe(shared: &Shared, policy: &RetryPolicy, request: &McpRequest) -> bool {
    !request.is_listen()
        && policy.safe.unwrap_or_else(|| {
            is_harmless(request) || (shared.trusts_annotations && request.as_tool_call().is_some())
        })
}

/// Notes what the caller receives.
fn watch(request: &mut McpRequest) -> Option<Arc<Seen>> {
    if request.context.caller.is_detached() {
        return None;
    }
    let seen = Arc::new(Seen::default());
    request.context.caller = seen.observe(&request.context.caller);
    Some(seen)
}
