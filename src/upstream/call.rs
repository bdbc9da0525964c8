//! One call over a connection.

use std::{borrow::Cow, collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rmcp::{
    RoleClient,
    model::{ClientRequest, GetExtensions, GetMeta, RequestId, RequestMetaObject, ServerResult},
    service::{PeerRequestOptions, RequestHandle, ServiceError},
};
use serde_json::Value;
use tokio::{
    sync::oneshot::{self, error::RecvError},
    time::Instant,
};

use super::{
    caller_end::CallerEnd,
    connection::{Connection, Kind},
    direct::{self, Answer, DirectAnswer, DirectRequest, DirectSender},
    errors, liveness,
    request_in_flight::{EnteredRequest, EnteredRoute, RequestInFlight},
    route::{CallMessage, Mailbox, Route, RouteMark, RoutedAnswer},
};
use crate::{
    CallContext, Error, Item, McpRequest, McpResponse,
    caller::Era,
    context::credential::OutboundCredential,
    protocol::{methods::Method, outgoing::WithoutProgress, unreadable_items::LeftOut},
    wire::{
        ParamsText,
        answers::{Expected, ReadAnswer, ReadResult},
    },
};

/// A request on its way to rmcp's loop.
type Sending<'a> = BoxFuture<'a, Result<RequestHandle<RoleClient>, ServiceError>>;

/// The context of a call besides its message.
#[derive(Clone)]
pub(super) struct UpstreamCall {
    pub(super) connection: Arc<Connection>,
    pub(super) upstream: Arc<str>,
    /// Limit of the server's silence.
    pub(super) timeout: Option<Duration>,
    /// The era of the caller's protocol revision.
    pub(super) era: Era,
}

/// Returns a request that the upstream makes on its own behalf.
pub(super) fn own(message: ClientRequest) -> McpRequest {
    McpRequest::from_parts(message, CallContext::background())
}

impl UpstreamCall {
    /// Sends the request and waits for the answer. Passes messages that come meanwhile on to the
    /// caller.
    ///
    /// Dropping the future tells the server that the request is cancelled.
    pub(super) async fn run(&self, request: McpRequest) -> Result<McpResponse, Error> {
        let listens = request.is_listen();
        let timeout = if listens { None } else { self.timeout };
        if self.connection.is_foreign() {
            return Box::pin(self.send_over_foreign(request, listens, timeout)).await;
        }
        if let Some(direct) = self.connection.direct.as_deref()
            && direct.accepts(&request.message)
        {
            return match direct.names_calls() {
                true => self.exchange(direct, request).await,
                false => self.send_directly(direct, request).await,
            };
        }
        Box::pin(self.send_by_loop(request, listens, timeout)).await
    }

    /// Sends a request by rmcp's client loop.
    async fn send_by_loop(
        &self,
        request: McpRequest,
        listens: bool,
        timeout: Option<Duration>,
    ) -> Result<McpResponse, Error> {
        let expected = Expected::of(&request.message);
        let (route, mailbox) = Route::new(&request.context.caller, listens);
        let is_quick = expected.method().is_some_and(|it| it.row().is_quick);
        let method = method_of(&request.message);
        let (sending, caller) = self.send(request, route.quick(is_quick));
        let handle = sending.await.map_err(|error| self.failed(&method, error))?;
        let mut in_flight = RequestInFlight {
            connection: &self.connection,
            handle: Some(handle),
        };
        let lost = || self.lost();
        let rx = &mut in_flight.handle.as_mut().ok_or_else(lost)?.rx;
        let answer = self.wait(rx, mailbox, &caller, timeout).await;
        let answer = self.checked(answer)?;
        let completed = in_flight.complete();
        if let Some(why) = completed.unreadable {
            return Err(errors::unreadable(&self.upstream, &method, why));
        }
        let result = answer.map_err(|error| self.ended(&method, error))?;
        let Some(answer) = completed.answer else {
            self.connection.record_tools(&result);
            return Ok(self.response(result, expected));
        };
        let mut response = self.response(*answer, expected);
        if self.connection.kind == Kind::Http
            && let ServerResult::ListToolsResult(kept) = &result
        {
            // rmcp has removed the tools whose arguments cannot go in headers as they want (MCP
            // 2026-07-28, SEP-2243).
            let names: HashSet<_> = kept.tools.iter().map(|tool| &*tool.name).collect();
            response.result.retain_items(|item| match item {
                Item::Tool(name) => names.contains(name),
                _ => true,
            });
        }
        self.connection.record_tools(&response.result);
        Ok(response)
    }

    /// Checks a server that has been silent for too long.
    fn checked<A>(&self, answer: Result<A, Error>) -> Result<A, Error> {
        answer.inspect_err(|error| {
            if error.is_timeout() {
                liveness::check(self);
            }
        })
    }

    /// Returns the error of a call, after which the connection may have to end.
    fn ended(&self, method: &str, error: ServiceError) -> Error {
        if errors::ends_connection(&error) {
            self.connection.retire();
        }
        self.failed(method, error)
    }

    /// Sends a request without rmcp's client loop. Messages for it may come elsewhere than on its
    /// own response.
    async fn send_directly(
        &self,
        direct: &dyn DirectSender,
        request: McpRequest,
    ) -> Result<McpResponse, Error> {
        let expected = Expected::of(&request.message);
        let method = method_of(&request.message);
        let is_quick = expected.method().is_some_and(|it| it.row().is_quick);
        let (route, mailbox) = Route::new(&request.context.caller, false);
        let mut route = route.quick(is_quick).expects(expected);
        let answer = route.take_answer();
        let (message, meta, caller) = self.outgoing(request);
        let id = direct.next_id();
        let token = caller.token.is_some().then(|| direct::token(id));
        let in_flight = EnteredRequest::new(&self.connection, RequestId::Number(id), token, route);
        let request = DirectRequest {
            id,
            message,
            meta,
            expected,
        };
        let sending = direct.send(request, &self.connection.routes);
        let coming = std::pin::pin!(direct_answer(sending, answer));
        // Two small boxes are faster to allocate than a large one.
        let waiting = Box::pin(self.wait(coming, mailbox, &caller, self.timeout));
        let answer = self.checked(waiting.await)?;
        if let Some(why) = in_flight.complete().unreadable {
            return Err(errors::unreadable(&self.upstream, &method, why));
        }
        let answer = answer.map_err(|error| self.ended(&method, error))?;
        Ok(self.response(*answer, expected))
    }

    /// Sends a request without rmcp's client loop, where all messages for it come on its own
    /// response. Dropping the future cancels it at the server.
    async fn exchange(
        &self,
        direct: &dyn DirectSender,
        request: McpRequest,
    ) -> Result<McpResponse, Error> {
        let expected = Expected::of(&request.message);
        let method = method_of(&request.message);
        let (message, meta, caller) = self.outgoing(request);
        let id = direct.next_id();
        let request = DirectRequest {
            id,
            message,
            meta,
            expected,
        };
        let routes = &self.connection.routes;
        let sending = direct.send(request, routes);
        let answer = match self.while_connected(sending).await? {
            DirectAnswer::Complete(answer) => answer,
            DirectAnswer::ByRoute => return Err(self.lost()),
            DirectAnswer::Stream(stream) => {
                Box::pin(async {
                    let (route, mailbox) = Route::new(&caller.caller, false);
                    let id = RequestId::Number(id);
                    let _entered = EnteredRoute::new(routes, id, route.direct());
                    let answer = stream.read(routes).map(Ok::<_, Infallible>);
                    self.wait(answer, mailbox, &caller, self.timeout).await
                })
                .await?
            }
        };
        let answer = answer.map_err(|error| self.ended(&method, error))?;
        Ok(self.response(*answer, expected))
    }

    /// Sends a request over a client that its owner serves, where only the answer arrives here.
    /// rmcp times the server's silence, because it sees the progress.
    async fn send_over_foreign(
        &self,
        request: McpRequest,
        listens: bool,
        timeout: Option<Duration>,
    ) -> Result<McpResponse, Error> {
        let expected = Expected::of(&request.message);
        let method = method_of(&request.message);
        let (route, mailbox) = Route::new(&request.context.caller, listens);
        let (message, meta, caller) = self.outgoing(request);
        let mut options = PeerRequestOptions::no_options();
        options.meta = meta;
        options.timeout = timeout;
        options.reset_timeout_on_progress = true;
        let sending = self
            .connection
            .peer
            .send_request_with_option(message, options);
        let handle = sending
            .await
            .map_err(|error| errors::of_call(&self.upstream, &method, error))?;
        let (id, token) = (handle.id.clone(), handle.progress_token.clone());
        let in_flight = EnteredRequest::new(&self.connection, id, Some(token), route);
        let coming = Box::pin(handle.await_response().map(Ok::<_, Infallible>));
        let answer = self.wait(coming, mailbox, &caller, None).await?;
        in_flight.complete();
        let result = answer.map_err(|error| errors::of_call(&self.upstream, &method, error))?;
        Ok(self.response(result, expected))
    }

    /// Returns the response with a result of the server.
    fn response(&self, answer: impl Into<ReadAnswer>, expected: Expected) -> McpResponse {
        let era = self.connection.era;
        let reading = ReadResult { expected, era };
        let (result, left_out) = reading.lossless(answer.into());
        let mut response = McpResponse::lossless(result);
        if !left_out.is_empty() {
            response.extensions.insert(LeftOut(left_out.into()));
        }
        response
    }

    /// Waits for a message of the server, as long as there is a connection, and within the limit of
    /// the server's silence.
    async fn while_connected<F: Future + Unpin>(&self, coming: F) -> Result<F::Output, Error> {
        let timeout = self.timeout.unwrap_or_default();
        tokio::select! {
            biased;
            came = coming => Ok(came),
            () = self.connection.until_lost() => Err(errors::lost(&self.upstream)),
            () = tokio::time::sleep(timeout), if self.timeout.is_some() => Err(Error::timeout(timeout)),
        }
    }

    fn failed(&self, method: &str, error: ServiceError) -> Error {
        let error = errors::of_call(&self.upstream, method, error);
        self.connection.end().explain(error)
    }

    fn lost(&self) -> Error {
        self.connection.end().explain(errors::lost(&self.upstream))
    }

    /// Sends the message through rmcp.
    fn send(&self, request: McpRequest, route: Route) -> (Sending<'_>, CallerEnd) {
        let (mut message, meta, caller) = self.outgoing(request);
        message.extensions_mut().insert(RouteMark::new(route));
        let mut options = PeerRequestOptions::no_options();
        options.meta = meta;
        // The message takes 1.5 KB, which are not needed any more once rmcp has it.
        let sending = Box::pin(
            self.connection
                .peer
                .send_request_with_option(message, options),
        );
        (sending, caller)
    }

    /// Returns the message as this hop sends it: the entries of `_meta` that belong to the caller's
    /// hop are replaced by this hop's own.
    fn outgoing(
        &self,
        request: McpRequest,
    ) -> (ClientRequest, Option<RequestMetaObject>, CallerEnd) {
        let (message, mut context) = request.into_parts();
        let params = ParamsText::of(&message);
        let mut message = message.into_inner();
        let token = context.progress_token();
        let own = (self.connection.era == Era::Modern)
            .then(|| hop_meta(&mut context, self.connection.kind));
        let mut meta = context.meta;
        for key in HOP_KEYS {
            meta.shift_remove(*key);
        }
        // A credential for an upstream over HTTP must not reach any other.
        let credential = context.extensions.remove::<OutboundCredential>();
        if self.connection.kind == Kind::InProcess {
            *message.extensions_mut() = context.extensions;
        }
        if let Some(credential) = credential
            && self.connection.kind == Kind::Http
        {
            message.extensions_mut().insert(credential);
        }
        if !meta.is_empty() {
            *message.get_meta_mut() = meta;
        }
        if token.is_none() {
            message.extensions_mut().insert(WithoutProgress);
        }
        if let Some(params) = params.filter(|_| self.connection.kind != Kind::InProcess) {
            message.extensions_mut().insert(params);
        }
        let caller = CallerEnd {
            id: context.id,
            token,
            caller: context.caller,
            era: self.era,
        };
        (message, own, caller)
    }

    async fn wait<A, E>(
        &self,
        mut coming: impl Future<Output = Result<A, E>> + Unpin,
        mut mailbox: Mailbox,
        caller: &CallerEnd,
        timeout: Option<Duration>,
    ) -> Result<A, Error> {
        let lost = || self.lost();
        // An answer that has arrived counts in time, even if tokio's task budget is used up.
        let here = |coming| tokio::task::unconstrained(coming).now_or_never();
        let mut requests = FuturesUnordered::<BoxFuture<'_, ()>>::new();
        // One notification at a time keeps their order.
        let mut delivering: Option<BoxFuture<'_, ()>> = None;
        let mut answer: Option<A> = None;
        let mut silence = std::pin::pin!(tokio::time::sleep(timeout.unwrap_or_default()));
        loop {
            tokio::select! {
                biased;
                () = finish(&mut delivering), if delivering.is_some() => {}
                message = mailbox.recv(), if delivering.is_none() && answer.is_none() => {
                    let Some(message) = message else {
                        // A closed mailbox means a lost connection, unless the answer came before.
                        return here(&mut coming).and_then(Result::ok).ok_or_else(lost);
                    };
                    if let CallMessage::ReplyLost(why) = message {
                        return Err(errors::reply_lost(&self.upstream, &why));
                    }
                    caller.deliver(message, &mut delivering, &mut requests);
                    if let Some(timeout) = timeout {
                        silence.as_mut().reset(Instant::now() + timeout);
                    }
                }
                Some(()) = requests.next(), if !requests.is_empty() => {
                    if let Some(timeout) = timeout {
                        silence.as_mut().reset(Instant::now() + timeout);
                    }
                }
                came = &mut coming, if answer.is_none() => {
                    answer = Some(came.map_err(|_| lost())?);
                }
                // A caller that does not take its notifications learns of a lost connection only
                // here.
                () = self.connection.until_lost(), if delivering.is_some() && answer.is_none() => {
                    return here(&mut coming).and_then(Result::ok).ok_or_else(lost);
                }
                // The server is not silent while the caller is asked something.
                () = &mut silence, if timeout.is_some() && requests.is_empty() => {
                    return answer.ok_or_else(|| Error::timeout(timeout.unwrap_or_default()));
                }
            }
            if answer.is_some() && delivering.is_none() {
                // Messages that were sent before the answer are delivered before it.
                match mailbox.try_recv() {
                    Ok(message) => caller.deliver(message, &mut delivering, &mut requests),
                    Err(_) => return answer.ok_or_else(lost),
                }
            }
        }
    }
}

/// Returns a request's method.
fn method_of(message: &ClientRequest) -> Cow<'static, str> {
    match Method::of(message) {
        Some(method) => method.name().into(),
        None => message.method().to_owned().into(),
    }
}

/// Sends a request, and returns its answer, however it comes. Fails if the connection is lost.
async fn direct_answer(
    mut sending: BoxFuture<'_, DirectAnswer<'_>>,
    mut routed: oneshot::Receiver<RoutedAnswer>,
) -> Result<Answer, RecvError> {
    tokio::select! {
        biased;
        answer = &mut routed => return answer.map(|answer| answer.map_err(ServiceError::McpError)),
        sent = &mut sending => if let DirectAnswer::Complete(answer) = sent {
            return Ok(answer);
        },
    }
    let answer = routed.await?;
    Ok(answer.map_err(ServiceError::McpError))
}

/// Awaits the notification under way, and clears it.
async fn finish(delivering: &mut Option<BoxFuture<'_, ()>>) {
    if let Some(future) = delivering {
        future.await;
    }
    *delivering = None;
}

/// The `_meta` entries that each hop sets for itself. Every request gets a progress token of this
/// hop, which takes the place of the caller's in the order of the entries.
const HOP_KEYS: &[&str] = &[
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientInfo",
    CLIENT_CAPABILITIES,
];

pub(super) const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// Returns this hop's entries of `_meta`: the caller's capabilities, so that the server asks for
/// nothing else, and the log level of the caller's session. A server in this process is not behind
/// a hop, and sees the caller's own client info.
fn hop_meta(context: &mut CallContext, kind: Kind) -> RequestMetaObject {
    let mut meta = RequestMetaObject::new();
    if kind == Kind::InProcess
        && let Some(info) = context.client_info()
    {
        meta.set_client_info(info);
    }
    match context.meta.shift_remove(CLIENT_CAPABILITIES) {
        // The capabilities are passed on unparsed: parsing them costs as much as the rest of this
        // function.
        Some(capabilities @ Value::Object(_)) => {
            meta.insert(CLIENT_CAPABILITIES.to_owned(), capabilities);
        }
        _ => meta.set_client_capabilities(context.client_capabilities().unwrap_or_default()),
    }
    let session = context.caller.session();
    if let Some(level) = session.and_then(|session| session.log_level())
        && context.meta.log_level().is_none()
    {
        meta.set_log_level(level);
    }
    meta
}
