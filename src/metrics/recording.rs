use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rmcp::model::{GetMeta, RequestId};
use tokio::time::Instant;

use super::{
    convention::{OTHER, TARGET, names},
    finished::FinishedCall,
    known_names::Kind,
    labels::{End, Labels},
    shared::Shared,
    span::{CallSpan, MAX_TEXT, SpanEnd},
    tally::Sample,
};
use crate::{
    CacheStatus, CallReport, DecisionSlot, Ended, Error, McpRequest, McpResponse, Outcome,
    Principal, ServedBy,
    context::bounded_id,
    protocol::{
        methods::{self, Method},
        notifications,
        target::TargetKind,
    },
    response::CallResult,
    util::text::cut,
};

/// Limit of a method and of a request id, in bytes.
const MAX_SHORT: usize = 128;

/// The record of one request in flight. If it is dropped before [`end`](Self::end), the request was
/// cancelled or has panicked.
pub(super) struct Recording {
    shared: Arc<Shared>,
    since: Instant,
    method: &'static str,
    /// The method as the caller gave it, if it is unknown.
    unknown_method: Option<String>,
    kind: Option<Kind>,
    /// The known name of the tool or prompt.
    known: Option<Arc<str>>,
    /// The name as the caller gave it, if it is unknown.
    unknown: Option<String>,
    id: RequestId,
    trace_id: Option<String>,
    is_listen: bool,
    served_by: ServedBy,
    principal: Option<Principal>,
    decision: Option<DecisionSlot>,
    span: CallSpan,
    /// `true` while the request is being polled: a drop in this state is caused by a panic.
    polled: bool,
    done: bool,
}

impl Recording {
    pub(super) fn begin(shared: &Arc<Shared>, request: &mut McpRequest) -> Self {
        let method = method_of(request);
        let target = name_of(request);
        let kind = target.map(|(kind, _)| kind);
        let known = target.and_then(|(kind, name)| shared.names.get(kind, name));
        let unknown = match (&known, target) {
            (None, Some((_, name))) => Some(cut(name, MAX_TEXT)),
            _ => None,
        };
        let unknown_method = method.is_none().then(|| cut(request.method(), MAX_SHORT));
        let trace_id = trace_id(request);
        let method = method.unwrap_or(OTHER);
        let name = known.as_deref().or(unknown.as_deref());
        let span = CallSpan::begin(&shared.spans, shared.side, request, method, name);
        let decision = span
            .is_enabled()
            .then(|| DecisionSlot::slot(&mut request.context.extensions));
        shared.sessions.begin(request);
        let is_listen = request.is_listen();
        if !is_listen {
            shared.enter();
        }
        Self {
            since: Instant::now(),
            method,
            unknown_method,
            kind,
            known,
            unknown,
            id: bounded_id(&request.context.id, MAX_SHORT),
            trace_id,
            is_listen,
            served_by: ServedBy::slot(&mut request.context.extensions),
            principal: decision
                .as_ref()
                .and_then(|_| request.context.principal().cloned()),
            decision,
            span,
            shared: shared.clone(),
            polled: false,
            done: false,
        }
    }

    /// Runs a step of the request within its span.
    pub(super) fn poll_call<T>(&mut self, step: impl FnOnce() -> T) -> T {
        self.polled = true;
        let polled = self.span.get().in_scope(step);
        self.polled = false;
        polled
    }

    /// Records the answer.
    pub(super) fn end(&mut self, answer: &CallResult) {
        match answer {
            Ok(response) => {
                self.shared.names.learn(&response.result);
                self.record(End::of_result(&response.result), Some(response));
            }
            Err(error) => {
                if let Error::Refused(refusal) = error {
                    let (layer, side) = (refusal.layer(), self.shared.side.as_str());
                    ::metrics::counter!(names::REFUSALS, "layer" => layer, "side" => side)
                        .increment(1);
                }
                self.record(End::of_error(error, self.shared.side), None);
            }
        }
    }

    fn record(&mut self, end: End, response: Option<&McpResponse>) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        let now = Instant::now();
        let duration = now.saturating_duration_since(self.since);
        let report = response.map_or_else(CallReport::new, |response| response.report);
        let status = report.cache_status;
        let upstream = self.served_by.name();
        let sample = Sample {
            duration,
            hit: status.map(|status| status != CacheStatus::Miss),
            tokens: charged(&report).unwrap_or_default(),
            repeats: report.attempts.saturating_sub(1),
        };
        self.end_span(end, duration, &report, upstream.as_deref(), response);
        let labels = self.labels(end, upstream);
        self.shared.record(&labels, now, &sample);
        let wanted = self.shared.recent.wants(end.is_error());
        if wanted || self.shared.logs_calls {
            let call = self.finished(end, duration, &report, labels);
            if self.shared.logs_calls {
                self.log(&call);
            }
            if wanted {
                self.shared.recent.add(call);
            }
        }
        if !self.is_listen {
            self.shared.leave();
        }
        // The span ends with the request, not with the future.
        self.span = CallSpan::none();
    }

    fn end_span(
        &self,
        end: End,
        duration: Duration,
        report: &CallReport,
        upstream: Option<&str>,
        response: Option<&McpResponse>,
    ) {
        if !self.span.is_enabled() {
            return;
        }
        let stated = self.decision.as_ref().and_then(DecisionSlot::principal);
        let session = match self.shared.side {
            super::Side::Client => self.served_by.session(),
            super::Side::Server => None,
        };
        let facts = SpanEnd {
            end,
            duration,
            cache: report.cache_status.map(CacheStatus::as_str),
            attempts: report.attempts,
            tokens: charged(report),
            upstream,
            endpoint: match self.shared.side {
                super::Side::Client => self.served_by.endpoint(),
                super::Side::Server => None,
            },
            version: match self.shared.side {
                super::Side::Client => self.served_by.version(),
                super::Side::Server => None,
            },
            session: session.as_deref(),
            principal: stated.as_ref().or(self.principal.as_ref()),
            response,
        };
        self.span.end(&self.shared.spans, &facts);
    }

    fn labels(&mut self, end: End, upstream: Option<Arc<str>>) -> Labels {
        let known = self.known.take();
        let name = || known.unwrap_or_else(|| self.shared.names.other());
        let (tool, prompt) = match self.kind {
            Some(Kind::Tool) => (Some(name()), None),
            Some(Kind::Prompt) => (None, Some(name())),
            None => (None, None),
        };
        Labels {
            method: self.method,
            tool,
            prompt,
            upstream,
            end: end.as_label(),
        }
    }

    fn finished(
        &mut self,
        end: End,
        duration: Duration,
        report: &CallReport,
        labels: Labels,
    ) -> FinishedCall {
        let known = labels.tool.or(labels.prompt);
        let method = self.unknown_method.take();
        FinishedCall {
            time: SystemTime::now(),
            side: self.shared.side.as_str(),
            request_id: self.id.clone(),
            method: method.unwrap_or_else(|| self.method.to_owned()),
            name: match self.unknown.take() {
                None => known.map(|known| known.as_ref().to_owned()),
                unknown => unknown,
            },
            upstream: labels.upstream,
            outcome: end.outcome,
            failed: end.is_error(),
            code: end.code,
            duration,
            cache: report.cache_status.map(CacheStatus::as_str),
            attempts: report.attempts,
            trace_id: self.trace_id.take(),
        }
    }

    fn log(&self, call: &FinishedCall) {
        tracing::info!(
            target: TARGET,
            parent: self.span.get(),
            side = call.side,
            // As a string, a subscriber escapes it.
            request_id = call.request_id.to_string(),
            method = call.method,
            name = call.name,
            upstream = call.upstream.as_deref(),
            outcome = call.outcome,
            code = call.code,
            duration_ms = call.duration.as_secs_f64() * 1_000.0,
            cache = call.cache,
            attempts = call.attempts,
            trace_id = call.trace_id,
            "a request ended"
        );
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let ended = match self.polled {
            true => Ended::Panicked,
            false => Ended::With(Outcome::Cancelled),
        };
        self.record(End::without_answer(ended), None);
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// Returns the tokens that the outermost budget has charged for a response.
fn charged(report: &CallReport) -> Option<u64> {
    report.budget.map(|budget| budget.charged)
}

/// Returns the method of a request, if the protocol has it.
fn method_of(request: &McpRequest) -> Option<&'static str> {
    if let Some(notification) = request.as_notification() {
        return notifications::known_client_method(notification);
    }
    let method = Method::of(&request.message).or_else(|| Method::named(request.method()));
    method.map(Method::name)
}

/// Returns the name of the tool or prompt that a request is about. For a call of a registry's
/// `call_tool`, it is the tool that is called in the end.
fn name_of(request: &McpRequest) -> Option<(Kind, &str)> {
    if let Some(name) = request.inner_tool() {
        return Some((Kind::Tool, name));
    }
    let target = methods::target(&request.message)?;
    match target.kind {
        TargetKind::Tool => Some((Kind::Tool, target.name)),
        TargetKind::Prompt => Some((Kind::Prompt, target.name)),
        _ => None,
    }
}

/// Returns the trace id of the caller (W3C Trace Context, `traceparent`).
fn trace_id(request: &McpRequest) -> Option<String> {
    let traceparent = match request.as_notification() {
        Some(notification) => notification.get_meta().get_traceparent(),
        None => request.context.meta.get_traceparent(),
    };
    let id = traceparent?.split('-').nth(1)?;
    let is_valid = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_valid.then(|| id.to_owned())
}
