//! One call over a connection.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rmcp::{
    RoleClient,
    model::{
        CancelledNotification, CancelledNotificationParam, ClientRequest, ErrorData, GetExtensions,
        GetMeta, NotificationMetaObject, ProgressToken, RequestId, RequestMetaObject,
        ServerNotification, ServerRequest, ServerResult,
    },
    service::{PeerRequestOptions, RequestHandle, ServiceError},
};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    answers::Expected,
    connection::{Connection, Kind},
    errors,
    route::{Mail, Mailbox, Reply, Route},
};
#[cfg(feature = "http-client")]
use super::{
    connect::{Direct, Opened, Posted},
    route::Routes,
};
#[cfg(feature = "http-client")]
use crate::context::credential::OutboundCredential;
use crate::{
    CallContext, Caller, Error, McpRequest, McpResponse,
    caller::Era,
    lines::Why,
    protocol::{
        methods::Method, notifications::server_request_method, outgoing::WithoutProgress, results,
    },
};

/// A request on its way to rmcp's loop.
type Sending<'a> = BoxFuture<'a, Result<RequestHandle<RoleClient>, ServiceError>>;

/// The context of a call besides its message.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) connection: Arc<Connection>,
    pub(super) upstream: Arc<str>,
    /// Limit of the server's silence.
    pub(super) timeout: Option<Duration>,
    /// The era of the caller's protocol revision.
    pub(super) era: Era,
}

/// The caller's end of a call: where the server's notifications and requests for it go, and the ids
/// that the caller knows.
pub(super) struct Return {
    caller: Caller,
    id: RequestId,
    token: Option<ProgressToken>,
    era: Era,
}

/// Returns a request that the upstream makes on its own behalf.
pub(super) fn own(message: ClientRequest) -> McpRequest {
    let mut request = McpRequest::new(message);
    request.context.caller = Caller::detached().quiet();
    request
}

impl Call {
    /// Sends the request and waits for the answer. Passes messages that come meanwhile on to the
    /// caller.
    ///
    /// Dropping the future tells the server that the request is cancelled.
    pub(super) async fn run(&self, request: McpRequest) -> Result<McpResponse, Error> {
        let listens = request.is_listen();
        let timeout = if listens { None } else { self.timeout };
        if self.connection.is_foreign() {
            return Box::pin(self.send_by_owner(request, listens, timeout)).await;
        }
        #[cfg(feature = "http-client")]
        if let Some(direct) = self.connection.direct()
            && direct.takes(&request.message)
        {
            return self.post(direct, request).await;
        }
        let expected = Expected::of(&request.message);
        let (route, mailbox) = Route::new(&request.context.caller, listens);
        let method = Method::of(&request.message);
        let route = route.is_quick(method.is_some_and(|method| method.row().is_quick));
        let (sending, back) = self.send(request, route);
        let handle = sending.await.map_err(|error| self.failed(error))?;
        let mut flight = Flight {
            connection: &self.connection,
            handle: Some(handle),
        };
        let lost = || self.lost();
        let rx = &mut flight.handle.as_mut().ok_or_else(lost)?.rx;
        let answer = self.wait(rx, mailbox, &back, timeout).await?;
        if let Some(why) = flight.land() {
            return Err(errors::unreadable(&self.upstream, why));
        }
        let mut result = answer.map_err(|error| {
            if errors::ends_connection(&error) {
                self.connection.retire();
            }
            self.failed(error)
        })?;
        #[cfg(feature = "http-client")]
        if let Some(direct) = self.connection.direct() {
            direct.saw(&result);
        }
        result = expected.read(result, self.connection.era);
        if self.connection.era == Era::Legacy && !expected.is_custom() {
            results::mark_complete(&mut result);
        }
        Ok(McpResponse::new(result))
    }

    /// Sends a request directly over HTTP. Dropping the future ends its HTTP exchange.
    #[cfg(feature = "http-client")]
    async fn post(&self, direct: &Direct, request: McpRequest) -> Result<McpResponse, Error> {
        let expected = Expected::of(&request.message);
        let (message, meta, back) = self.outgoing(request);
        let posting = direct.prepare(message, meta);
        let id = posting.id.clone();
        let _counted = self.connection.routes.count();
        let posted = self.while_connected(Box::pin(direct.post(posting, expected)));
        let answer = match posted.await? {
            Posted::Answer(answer) => *answer,
            Posted::Stream(opened) => {
                Box::pin(self.follow(direct, opened, expected, id, &back)).await?
            }
        };
        let result = answer.map_err(|error| {
            if errors::ends_connection(&error) {
                self.connection.retire();
            }
            errors::of_call(&self.upstream, error)
        })?;
        Ok(McpResponse::new(expected.read(result, self.connection.era)))
    }

    /// Sends a request over a client that its owner serves, where only the answer arrives here.
    /// rmcp times the server's silence, because it sees the progress.
    async fn send_by_owner(
        &self,
        request: McpRequest,
        listens: bool,
        timeout: Option<Duration>,
    ) -> Result<McpResponse, Error> {
        let (route, mailbox) = Route::new(&request.context.caller, listens);
        let (message, meta, back) = self.outgoing(request);
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
            .map_err(|error| errors::of_call(&self.upstream, error))?;
        let mut flight = OwnersFlight {
            connection: &self.connection,
            id: handle.id.clone(),
            token: handle.progress_token.clone(),
            answered: false,
        };
        let (id, token) = (flight.id.clone(), flight.token.clone());
        self.connection.routes.enter(id, Some(token), route);
        let coming = Box::pin(handle.await_response().map(Ok::<_, Infallible>));
        let answer = self.wait(coming, mailbox, &back, None).await?;
        flight.answered = true;
        let mut result = answer.map_err(|error| errors::of_call(&self.upstream, error))?;
        if self.connection.era == Era::Legacy {
            results::mark_complete(&mut result);
        }
        Ok(McpResponse::new(result))
    }

    /// Waits for a message of the server, as long as there is a connection, and within the limit of
    /// the server's silence.
    #[cfg(feature = "http-client")]
    async fn while_connected<F: Future + Unpin>(&self, coming: F) -> Result<F::Output, Error> {
        let timeout = self.timeout.unwrap_or_default();
        tokio::select! {
            biased;
            came = coming => Ok(came),
            () = self.connection.until_lost() => Err(errors::lost(&self.upstream)),
            () = tokio::time::sleep(timeout), if self.timeout.is_some() => Err(Error::timeout(timeout)),
        }
    }

    /// Passes the messages on a call's stream on to the caller, up to the answer.
    #[cfg(feature = "http-client")]
    async fn follow(
        &self,
        direct: &Direct,
        opened: Opened,
        expected: Expected,
        id: RequestId,
        back: &Return,
    ) -> Result<Answer, Error> {
        let (route, mailbox) = Route::new(&back.caller, false);
        let routes = &self.connection.routes;
        let entered = Entered::new(routes, id, route.direct());
        let answer = direct.follow(opened, expected, &entered.id, routes);
        let answer = Box::pin(answer.map(Ok::<_, Infallible>));
        self.wait(answer, mailbox, back, self.timeout).await
    }

    fn failed(&self, error: ServiceError) -> Error {
        let error = errors::of_call(&self.upstream, error);
        self.connection.end().explain(error)
    }

    fn lost(&self) -> Error {
        self.connection.end().explain(errors::lost(&self.upstream))
    }

    /// Sends the message through rmcp.
    fn send(&self, request: McpRequest, route: Route) -> (Sending<'_>, Return) {
        let (mut message, meta, back) = self.outgoing(request);
        message.extensions_mut().insert(route);
        let mut options = PeerRequestOptions::no_options();
        options.meta = meta;
        // The message takes 1.5 KB, which are not needed any more once rmcp has it.
        let sending = Box::pin(
            self.connection
                .peer
                .send_request_with_option(message, options),
        );
        (sending, back)
    }

    /// Returns the message as this hop sends it: the entries of `_meta` that belong to the caller's
    /// hop are replaced by this hop's own.
    fn outgoing(&self, request: McpRequest) -> (ClientRequest, Option<RequestMetaObject>, Return) {
        let (mut message, mut context) = request.into_parts();
        let token = context.progress_token();
        let own = (self.connection.era == Era::Modern)
            .then(|| own_meta(&mut context, self.connection.kind));
        let mut meta = context.meta;
        for key in HOP_KEYS {
            meta.shift_remove(*key);
        }
        // A credential for an upstream over HTTP must not reach any other.
        #[cfg(feature = "http-client")]
        let credential = context.extensions.remove::<OutboundCredential>();
        if self.connection.kind == Kind::InProcess {
            *message.extensions_mut() = context.extensions;
        }
        #[cfg(feature = "http-client")]
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
        let back = Return {
            id: context.id,
            token,
            caller: context.caller,
            era: self.era,
        };
        (message, own, back)
    }

    async fn wait<E>(
        &self,
        mut coming: impl Future<Output = Result<Answer, E>> + Unpin,
        mut mailbox: Mailbox,
        back: &Return,
        timeout: Option<Duration>,
    ) -> Result<Answer, Error> {
        let lost = || self.lost();
        // An answer that has arrived counts in time, even if tokio's task budget is used up.
        let here = |coming| tokio::task::unconstrained(coming).now_or_never();
        let mut asked = FuturesUnordered::<BoxFuture<'_, ()>>::new();
        // One notification at a time keeps their order.
        let mut telling: Option<BoxFuture<'_, ()>> = None;
        let mut answer: Option<Answer> = None;
        let mut silence = std::pin::pin!(tokio::time::sleep(timeout.unwrap_or_default()));
        loop {
            tokio::select! {
                biased;
                () = finish(&mut telling), if telling.is_some() => {}
                mail = mailbox.recv(), if telling.is_none() && answer.is_none() => {
                    let Some(mail) = mail else {
                        // A closed mailbox means a lost connection, unless the answer came before.
                        return here(&mut coming).and_then(Result::ok).ok_or_else(lost);
                    };
                    back.take(mail, &mut telling, &mut asked);
                    if let Some(timeout) = timeout {
                        silence.as_mut().reset(Instant::now() + timeout);
                    }
                }
                Some(()) = asked.next(), if !asked.is_empty() => {
                    if let Some(timeout) = timeout {
                        silence.as_mut().reset(Instant::now() + timeout);
                    }
                }
                came = &mut coming, if answer.is_none() => {
                    answer = Some(came.map_err(|_| lost())?);
                }
                // A caller that does not take its notifications learns of a lost connection only
                // here.
                () = self.connection.until_lost(), if telling.is_some() && answer.is_none() => {
                    return here(&mut coming).and_then(Result::ok).ok_or_else(lost);
                }
                // The server is not silent while the caller is asked something.
                () = &mut silence, if timeout.is_some() && asked.is_empty() => {
                    return answer.ok_or_else(|| Error::timeout(timeout.unwrap_or_default()));
                }
            }
            if answer.is_some() && telling.is_none() {
                // Messages that were sent before the answer are delivered before it.
                match mailbox.try_recv() {
                    Ok(mail) => back.take(mail, &mut telling, &mut asked),
                    Err(_) => return answer.ok_or_else(lost),
                }
            }
        }
    }
}

/// The outcome of a request, as rmcp gives it.
type Answer = Result<ServerResult, rmcp::ServiceError>;

/// Awaits the notification under way, and clears it.
async fn finish(telling: &mut Option<BoxFuture<'_, ()>>) {
    if let Some(future) = telling {
        future.await;
    }
    *telling = None;
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
fn own_meta(context: &mut CallContext, kind: Kind) -> RequestMetaObject {
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

/// A question of the server on its way to the caller and back.
pub(super) type Asking<'a> = BoxFuture<'a, ()>;

impl Return {
    pub(super) fn new(caller: Caller, id: RequestId, era: Era) -> Self {
        Self {
            caller,
            id,
            token: None,
            era,
        }
    }

    /// Delivers mail to the caller.
    fn take<'a>(
        &'a self,
        mail: Mail,
        telling: &mut Option<BoxFuture<'a, ()>>,
        asked: &mut FuturesUnordered<BoxFuture<'a, ()>>,
    ) {
        match mail {
            Mail::Notification(mut notification) => {
                if self.address(&mut notification) {
                    *telling = Some(Box::pin(async move {
                        if let Err(error) = self.caller.notify(*notification).await {
                            tracing::debug!(%error, "a notification did not reach its caller");
                        }
                    }));
                }
            }
            Mail::Request(request, reply) => asked.extend(self.ask(request, reply)),
        }
    }

    /// Asks the caller, if the caller can be asked.
    pub(super) fn ask(&self, request: Box<ServerRequest>, mut reply: Reply) -> Option<Asking<'_>> {
        if self.era == Era::Modern && !self.caller.answers_requests() {
            let _ = reply.send(Err(self.unanswerable(&request)));
            return None;
        }
        Some(Box::pin(async move {
            tokio::select! {
                answer = self.caller.request(*request) => {
                    let _ = reply.send(answer.map_err(ErrorData::from));
                }
                // The server no longer waits for the answer.
                () = reply.closed() => {}
            }
        }))
    }

    /// Returns the error for a caller that cannot be asked over a wire: revision 2026-07-28 has no
    /// requests from the server.
    fn unanswerable(&self, request: &ServerRequest) -> ErrorData {
        let message = format!(
            "`{}` cannot be passed on: the caller speaks a revision without requests from the server",
            server_request_method(request)
        );
        ErrorData::invalid_request(message, None)
    }

    /// Puts the caller's own ids into a notification. Returns `false` if the caller did not ask for
    /// it.
    fn address(&self, notification: &mut ServerNotification) -> bool {
        if let ServerNotification::ProgressNotification(progress) = notification {
            return match &self.token {
                Some(token) => {
                    progress.params.progress_token = token.clone();
                    true
                }
                None => false,
            };
        }
        let meta = notification
            .extensions_mut()
            .get_mut::<NotificationMetaObject>();
        if let Some(meta) = meta.filter(|meta| meta.subscription_id().is_some()) {
            meta.set_subscription_id(self.id.clone());
        }
        true
    }
}

/// A direct call, entered as long as messages can come for it.
#[cfg(feature = "http-client")]
struct Entered<'a> {
    routes: &'a Routes,
    id: RequestId,
}

#[cfg(feature = "http-client")]
impl<'a> Entered<'a> {
    fn new(routes: &'a Arc<Routes>, id: RequestId, route: Route) -> Self {
        routes.enter(id.clone(), None, route);
        Self { routes, id }
    }
}

#[cfg(feature = "http-client")]
impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.routes.leave(&self.id);
    }
}

/// A request that was sent and is not answered. Dropping it cancels the request at the server.
struct Flight<'a> {
    connection: &'a Arc<Connection>,
    handle: Option<RequestHandle<RoleClient>>,
}

impl Flight<'_> {
    /// Ends the flight: the answer has arrived. Returns the reason if it cannot be read.
    fn land(mut self) -> Option<Why> {
        let handle = self.handle.take()?;
        let routes = &self.connection.routes;
        routes.land(&handle.id, &handle.progress_token)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let Some(handle) = self.handle.take() else {
            return;
        };
        let (connection, routes) = (self.connection, &self.connection.routes);
        routes.abandon(&handle.id, &handle.progress_token);
        tell_cancelled(connection, handle.cancel(Some(CANCELLED.to_owned())));
    }
}

/// A request over a client that its owner serves. Dropping it before the answer cancels the request
/// at the server.
struct OwnersFlight<'a> {
    connection: &'a Arc<Connection>,
    id: RequestId,
    token: ProgressToken,
    answered: bool,
}

impl Drop for OwnersFlight<'_> {
    fn drop(&mut self) {
        let routes = &self.connection.routes;
        if self.answered {
            routes.land(&self.id, &self.token);
            return;
        }
        routes.abandon(&self.id, &self.token);
        let peer = self.connection.peer.clone();
        let params =
            CancelledNotificationParam::new(Some(self.id.clone()), Some(CANCELLED.to_owned()));
        let cancelled = CancelledNotification::new(params).into();
        let told = async move { peer.send_notification(cancelled).await };
        tell_cancelled(self.connection, told);
    }
}

/// The reason in a cancellation to a server.
const CANCELLED: &str = "the caller does not wait for it any more";

/// The time a cancellation keeps a connection that has no other user.
const TELL_WITHIN: Duration = Duration::from_secs(1);

/// Tells the server of a cancellation. The connection is kept until then: rmcp sends nothing more
/// once its client has been dropped.
fn tell_cancelled(
    connection: &Arc<Connection>,
    told: impl Future<Output = Result<(), ServiceError>> + Send + 'static,
) {
    if connection.is_lost() {
        return;
    }
    let kept = connection.clone();
    connection.runtime.spawn(async move {
        let mut told = std::pin::pin!(told);
        let in_time = tokio::time::timeout(TELL_WITHIN, &mut told).await;
        drop(kept);
        let told = match in_time {
            Ok(told) => told,
            Err(_) => told.await,
        };
        if let Err(error) = told {
            tracing::debug!(%error, "the server could not be told of a cancellation");
        }
    });
}
