//! The requests of one attempt.

use std::sync::Arc;

use futures::{
    TryFutureExt,
    future::{BoxFuture, ready},
};
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientCapabilities, ClientRequest, ClientResult,
    DEFAULT_MRTR_MAX_ROUNDS, ElicitationCapability, ErrorCode, ErrorData,
    FormElicitationCapability, Implementation, InputRequest, InputRequests, InputResponses,
    JsonObject, ProgressToken, ProtocolVersion, RequestMetaObject, ServerNotification,
    ServerRequest, ServerResult,
};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

use super::{AgentProgress, AttemptReports, Question, QuestionOrigin, Shared, mapping::ToCall};
use crate::{
    CallContext, Caller, CallerSink, Error, McpRequest, McpResponse,
    context::next_id,
    delegate::hops::Hops,
    long_call::{LongCall, Wanted, WantedBy, client_result},
    util::deadline::end_of,
};

/// The number of consecutive failed polls after which the work of an agent is given up. Between
/// them, its process may start again.
const FAILED_POLLS: usize = 10;

/// The requests of an attempt go through the agent's stack, each in a context of its own.
pub(super) struct AgentCall {
    agent: Arc<Shared>,
    /// The context of the caller. What is the attempt's own in the context of a request is below.
    origin: Arc<CallContext>,
    progress: ProgressToken,
    caller: Caller,
    deadline: Option<Instant>,
    hops: Hops,
    reports: Arc<OneQuestionAtATime>,
    /// Cancelled with the attempt: inner layers may have spawned work.
    cancel: DropGuard,
}

impl AgentCall {
    pub(super) fn new(
        agent: Arc<Shared>,
        origin: Arc<CallContext>,
        hops: Hops,
        reports: Arc<dyn AttemptReports>,
    ) -> Self {
        let reports = Arc::new(OneQuestionAtATime {
            reports,
            turn: Semaphore::new(1),
        });
        // The caller's own session, so that callers without a principal stay apart; else one
        // session for all work of this process.
        let session = origin.caller.session().unwrap_or(&agent.session).clone();
        Self {
            progress: ProgressToken(next_id()),
            caller: Caller::new(AgentSink(reports.clone()))
                .in_session(session)
                .answering_requests(true),
            deadline: end_of(hops.remaining_time),
            agent,
            origin,
            hops,
            reports,
            cancel: CancellationToken::new().drop_guard(),
        }
    }

    /// Returns the context of a request of the attempt, without its hops.
    fn context(&self) -> CallContext {
        let origin = &*self.origin;
        // With room for the token and the hops.
        let mut meta = JsonObject::with_capacity(origin.meta.len() + 2);
        for (key, value) in origin.meta.iter() {
            meta.insert(key.clone(), value.clone());
        }
        let mut meta = RequestMetaObject::from(meta);
        meta.set_progress_token(self.progress.clone());
        CallContext {
            id: next_id(),
            meta,
            extensions: origin.extensions.clone(),
            cancellation: self.cancel.token().clone(),
            caller: self.caller.clone(),
            deadline: self.deadline,
            notification: None,
            unreadable: None,
        }
    }

    /// Returns the context of a request that outlives the attempt.
    pub(super) fn background(&self) -> CallContext {
        self.context().to_background()
    }

    pub(super) fn agent(&self) -> &Arc<Shared> {
        &self.agent
    }

    pub(super) fn reports(&self) -> &Arc<dyn AttemptReports> {
        &self.reports.reports
    }
}

impl LongCall for AgentCall {
    fn request(
        &self,
        message: ClientRequest,
    ) -> impl Future<Output = Result<ServerResult, Error>> + Send {
        let mut context = self.context();
        let left = self.deadline;
        let left = left.map(|end| end.saturating_duration_since(Instant::now()));
        self.hops.write(left, &mut context.meta);
        send(&self.agent, message, context)
    }

    async fn answers(&self, wanted: Wanted) -> Result<InputResponses, Error> {
        let origin = match wanted.by {
            WantedBy::Round { request_state } => QuestionOrigin::Round { request_state },
            WantedBy::Task => QuestionOrigin::Remote,
        };
        let question = Question::new(wanted.requests, origin);
        self.reports.ask(question).await
    }

    fn max_rounds(&self) -> usize {
        DEFAULT_MRTR_MAX_ROUNDS
    }

    fn max_failed_polls(&self) -> usize {
        FAILED_POLLS
    }
}

/// The reports of an attempt. An agent in a legacy session may ask again before it has the answer to
/// its first question; a task has one question at a time.
struct OneQuestionAtATime {
    reports: Arc<dyn AttemptReports>,
    turn: Semaphore,
}

impl OneQuestionAtATime {
    async fn ask(&self, question: Question) -> Result<InputResponses, Error> {
        let turn = self.turn.acquire().await;
        let _turn = turn.map_err(|_| Error::cancelled("the attempt has ended"))?;
        self.reports.input_required(question).await
    }
}

/// Sends a request through an agent's stack.
pub(super) fn send(
    agent: &Shared,
    message: ClientRequest,
    context: CallContext,
) -> impl Future<Output = Result<ServerResult, Error>> + Send + use<> {
    let request = McpRequest::from_parts(message, context);
    let answered = agent.stack.clone().oneshot(request);
    // Not an async block, which would have room for the request twice.
    answered.map_ok(McpResponse::into_result)
}

/// Returns the params of a tool call.
pub(super) fn params(call: ToCall) -> CallToolRequestParams {
    CallToolRequestParams::new(call.tool).with_arguments(call.arguments)
}

pub(super) fn tool_call(call: ToCall) -> ClientRequest {
    CallToolRequest::new(params(call)).into()
}

/// Returns the context of a caller for calls of agents: with the description of the client that
/// they see. It is the same for all attempts of a plan.
pub(in crate::delegate) fn introduced(mut context: CallContext) -> CallContext {
    let mut meta = introduction(&context);
    let caller = &context.meta;
    // Of the caller's own entries, agents get the trace. Others are for this process, such as the
    // tokens of the caller.
    if let Some(parent) = caller.get_traceparent() {
        meta.set_traceparent(parent);
    }
    if let Some(state) = caller.get_tracestate() {
        meta.set_tracestate(state);
    }
    if let Some(baggage) = caller.get_baggage() {
        meta.set_baggage(baggage);
    }
    context.meta = meta;
    context
}

/// Returns the description of the client that agents see. Questions to a user can always be
/// answered, because they are kept. Of sampling and roots, the caller has to be capable.
fn introduction(context: &CallContext) -> RequestMetaObject {
    let able = context.client_capabilities().unwrap_or_default();
    let mut capabilities = ClientCapabilities::builder().enable_tasks().build();
    capabilities.elicitation =
        Some(ElicitationCapability::default().with_form(FormElicitationCapability::default()));
    capabilities.sampling = able.sampling;
    capabilities.roots = able.roots;
    let info = Implementation::new("rmcp-layers", env!("CARGO_PKG_VERSION"));
    RequestMetaObject::with_client_context(ProtocolVersion::LATEST, info, capabilities)
}

/// The destination of an agent's messages.
struct AgentSink(Arc<OneQuestionAtATime>);

impl CallerSink for AgentSink {
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        if let ServerNotification::ProgressNotification(progress) = notification {
            let progress = progress.params;
            self.0.reports.progress(AgentProgress {
                done: progress.progress,
                total: progress.total,
                message: progress.message,
            });
        } else {
            tracing::trace!(?notification, "a notification of an agent is dropped");
        }
        Box::pin(ready(Ok(())))
    }

    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(self.answer(request))
    }
}

impl AgentSink {
    /// Has a request of an agent in a legacy session answered.
    async fn answer(&self, request: ServerRequest) -> Result<ClientResult, Error> {
        let input = match request {
            ServerRequest::PingRequest(_) => return Ok(ClientResult::empty(())),
            ServerRequest::CreateMessageRequest(request) => InputRequest::CreateMessage(request),
            ServerRequest::ElicitRequest(request) => InputRequest::Elicitation(request),
            ServerRequest::ListRootsRequest(request) => InputRequest::ListRoots(request),
            _ => {
                let message = "a delegation answers no requests of this method";
                return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None).into());
            }
        };
        // Unique among the requests that are open at the same time.
        let key = format!("session-{}", next_id());
        let requests = InputRequests::from([(key.clone(), input.clone())]);
        let question = Question::new(requests, QuestionOrigin::Session);
        let answer = self.0.ask(question).await?.remove(&key);
        let answer = answer.ok_or_else(|| {
            ErrorData::invalid_params(format!("the answer to `{key}` is missing"), None)
        })?;
        client_result(&input, answer)
    }
}
