//! One call over a connection.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rmcp::{
    RoleClient,
    model::{
        ClientRequest, ErrorData, GetExtensions, GetMeta, NotificationMetaObject, ProgressToken,
        RequestId, RequestMetaObject, ResultType, ServerNotification, ServerRequest, ServerResult,
    },
    service::{PeerRequestOptions, RequestHandle, ServiceError},
};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    connection::{Connection, Kind},
    errors,
    routes::{Mail, Mailbox, Route, method},
};
#[cfg(feature = "http-client")]
use crate::credential::OutboundCredential;
use crate::{CallContext, Caller, Error, McpRequest, McpResponse, caller::Era, lines::Why};

/// A request that goes to rmcp's loop.
type Sending<'a> = BoxFuture<'a, Result<RequestHandle<RoleClient>, ServiceError>>;

/// What a call needs beside its message.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) connection: Arc<Connection>,
    pub(super) upstream: Arc<str>,
    /// How long the server may be silent.
    pub(super) timeout: Option<Duration>,
    /// The caller's generation of the protocol.
    pub(super) era: Era,
}

/// Where what the server sends beside its answer goes, and under which names.
struct Return {
    caller: Caller,
    id: RequestId,
    token: Option<ProgressToken>,
    era: Era,
}

impl Call {
    /// Sends the request and waits for the answer, taking what comes meanwhile to the caller.
    ///
    /// Dropping the future tells the server that the request is cancelled.
    pub(super) async fn run(&self, request: McpRequest) -> Result<McpResponse, Error> {
        let listens = matches!(
            request.message,
            ClientRequest::SubscriptionsListenRequest(_)
        );
        let timeout = if listens { None } else { self.timeout };
        let (route, mailbox) = Route::new(&request.context.caller, listens);
        let (sending, back) = self.send(request, route);
        let handle = sending
            .await
            .map_err(|error| errors::of_call(&self.upstream, error))?;
        let mut flight = Flight {
            connection: &self.connection,
            handle: Some(handle),
        };
        let answer = self.wait(&mut flight, mailbox, &back, timeout).await?;
        if let Some(why) = flight.land() {
            return Err(errors::unreadable(&self.upstream, why));
        }
        let mut result = answer.map_err(|error| {
            if errors::is_forgotten_session(&error) {
                self.connection.retire();
            }
            errors::of_call(&self.upstream, error)
        })?;
        if self.connection.era == Era::Legacy {
            say_complete(&mut result);
        }
        Ok(McpResponse::new(result))
    }

    /// The message on its way as this hop sends it: the caller's `_meta` without what belongs to the
    /// caller's hop.
    fn send(&self, request: McpRequest, route: Route) -> (Sending<'_>, Return) {
        let (mut message, mut context) = request.into_parts();
        let token = context.progress_token();
        let mut options = PeerRequestOptions::no_options();
        if self.connection.era == Era::Modern {
            options.meta = Some(own_meta(&mut context, self.connection.kind));
        }
        let mut meta = context.meta;
        for key in HOP_KEYS {
            meta.remove(*key);
        }
        // What is meant for an upstream over HTTP reaches no other.
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
        message.extensions_mut().insert(route);
        if !meta.is_empty() {
            *message.get_meta_mut() = meta;
        }
        let back = Return {
            id: context.id,
            token,
            caller: context.caller,
            era: self.era,
        };
        // It is 1.5 KB that are not needed any more once the message is with rmcp.
        let sending = Box::pin(
            self.connection
                .peer
                .send_request_with_option(message, options),
        );
        (sending, back)
    }

    async fn wait(
        &self,
        flight: &mut Flight<'_>,
        mut mailbox: Mailbox,
        back: &Return,
        timeout: Option<Duration>,
    ) -> Result<Answer, Error> {
        let lost = || errors::lost(&self.upstream);
        let Some(handle) = flight.handle.as_mut() else {
            return Err(lost());
        };
        let mut asked = FuturesUnordered::<BoxFuture<'_, ()>>::new();
        // One notification at a time, so that they keep their order.
        let mut telling: Option<BoxFuture<'_, ()>> = None;
        let mut answer: Option<Answer> = None;
        let mut silence = std::pin::pin!(tokio::time::sleep(timeout.unwrap_or_default()));
        loop {
            tokio::select! {
                biased;
                () = finish(&mut telling), if telling.is_some() => {}
                mail = mailbox.recv(), if telling.is_none() && answer.is_none() => {
                    let Some(mail) = mail else {
                        // A closed mailbox is a lost connection, unless the answer came before.
                        return handle.rx.try_recv().map_err(|_| lost());
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
                came = &mut handle.rx, if answer.is_none() => {
                    answer = Some(came.map_err(|_| lost())?);
                }
                // A caller that does not take what it is sent sees of a lost connection only this.
                () = self.connection.until_lost(), if telling.is_some() && answer.is_none() => {
                    return handle.rx.try_recv().map_err(|_| lost());
                }
                // While the caller is asked something, it is not the server that is silent.
                () = &mut silence, if timeout.is_some() && asked.is_empty() => {
                    return answer.ok_or_else(|| Error::timeout(timeout.unwrap_or_default()));
                }
            }
            if answer.is_some() && telling.is_none() {
                // What was sent before the answer arrives before it.
                match mailbox.try_recv() {
                    Ok(mail) => back.take(mail, &mut telling, &mut asked),
                    Err(_) => return answer.ok_or_else(lost),
                }
            }
        }
    }
}

/// What rmcp says of how a request ended.
type Answer = Result<ServerResult, rmcp::ServiceError>;

/// Drives what there is to its end, and forgets it.
async fn finish(telling: &mut Option<BoxFuture<'_, ()>>) {
    if let Some(future) = telling {
        future.await;
    }
    *telling = None;
}

/// `_meta` entries that each hop says for itself.
const HOP_KEYS: &[&str] = &[
    "progressToken",
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientInfo",
    CLIENT_CAPABILITIES,
];

const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// What this hop says for the caller: what the caller can do, so that the server asks it for nothing
/// else, and the log level it set for its session. Within this process there is no hop, and the caller is
/// who it is.
fn own_meta(context: &mut CallContext, kind: Kind) -> RequestMetaObject {
    let mut meta = RequestMetaObject::new();
    if kind == Kind::InProcess
        && let Some(info) = context.client_info()
    {
        meta.set_client_info(info);
    }
    match context.meta.remove(CLIENT_CAPABILITIES) {
        // As it came: reading it and writing it again costs as much as all else that is done here.
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

/// Before 2026-07-28 every result was complete and none said so; since then each has to say it. Where the
/// caller is older too, rmcp leaves it out again.
fn say_complete(result: &mut ServerResult) {
    let result_type = match result {
        ServerResult::CompleteResult(result) => &mut result.result_type,
        ServerResult::GetPromptResult(result) => &mut result.result_type,
        ServerResult::ListPromptsResult(result) => &mut result.result_type,
        ServerResult::ListResourcesResult(result) => &mut result.result_type,
        ServerResult::ListResourceTemplatesResult(result) => &mut result.result_type,
        ServerResult::ReadResourceResult(result) => &mut result.result_type,
        ServerResult::ListToolsResult(result) => &mut result.result_type,
        ServerResult::CallToolResult(result) => &mut result.result_type,
        ServerResult::ListSkillsResult(result) => &mut result.result_type,
        ServerResult::GetSkillResult(result) => &mut result.result_type,
        _ => return,
    };
    result_type.get_or_insert(ResultType::COMPLETE);
}

impl Return {
    /// Takes mail to the caller.
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
            Mail::Request(request, reply)
                if self.era == Era::Modern && !self.caller.answers_requests() =>
            {
                let _ = reply.send(Err(self.unanswerable(&request)));
            }
            Mail::Request(request, mut reply) => asked.push(Box::pin(async move {
                tokio::select! {
                    answer = self.caller.request(*request) => {
                        let _ = reply.send(answer.map_err(ErrorData::from));
                    }
                    // The server does not wait for it any more.
                    () = reply.closed() => {}
                }
            })),
        }
    }

    /// Revision 2026-07-28 has no requests from the server, so there is no way to ask such a caller over a
    /// wire.
    fn unanswerable(&self, request: &ServerRequest) -> ErrorData {
        let message = format!(
            "`{}` cannot be passed on: the caller speaks a revision without requests from the server",
            method(request)
        );
        ErrorData::invalid_request(message, None)
    }

    /// Puts the caller's own names into a notification. False if the caller did not ask for it.
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

/// A request that was sent and is not answered. Dropped so, it is cancelled at the server.
struct Flight<'a> {
    connection: &'a Arc<Connection>,
    handle: Option<RequestHandle<RoleClient>>,
}

impl Flight<'_> {
    /// The answer is here. Says why, if it cannot be read.
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
        self.connection
            .routes
            .abandon(&handle.id, &handle.progress_token);
        if self.connection.is_lost() {
            return;
        }
        self.connection.runtime.spawn(async move {
            let reason = "the caller does not wait for it any more";
            if let Err(error) = handle.cancel(Some(reason.to_owned())).await {
                tracing::debug!(%error, "the server could not be told of a cancellation");
            }
        });
    }
}
