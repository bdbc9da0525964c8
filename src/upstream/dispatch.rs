//! The way of a request through an upstream: the connection that it needs, and the translation
//! between revisions.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rmcp::model::{
    ClientNotification, ClientRequest, EmptyResult, ErrorCode, ErrorData, LoggingLevel,
    SetLevelRequest, SetLevelRequestParams,
};

use super::{
    call::{self, UpstreamCall},
    capabilities::ClaimedCapabilities,
    connection::Connection,
    connections::Connections,
    errors, listen, multi_round,
    stats::UpstreamCounters,
};
use crate::{
    Error, McpRequest, McpResponse, Refusal, ServedBy,
    caller::Era,
    code,
    context::{OnlyDeclared, credential::OutboundCredential, served_by::Endpoint},
    in_flight::InFlight,
    protocol::{
        self,
        methods::Method,
        unreadable_items::{LeftOut, Listing, UnreadableLog},
    },
    util::lock,
};

/// The state that all clones of an upstream share.
pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) endpoint: Option<Arc<Endpoint>>,
    /// Limit of the server's silence.
    pub(super) request_timeout: Option<Duration>,
    pub(super) connections: Connections,
    /// The log level that a caller set last, where the level belongs to the connection.
    pub(super) level: Mutex<Option<LoggingLevel>>,
    pub(super) unreadable: UnreadableLog,
    pub(super) claims: Arc<ClaimedCapabilities>,
    pub(super) counters: Arc<UpstreamCounters>,
    pub(super) calls: InFlight,
}

impl Shared {
    /// Handles one request.
    ///
    /// The future of every call is as large as the largest branch here. So the rare branches are
    /// boxed, and the request stays in its own box.
    pub(super) async fn handle(&self, mut request: McpRequest) -> Result<McpResponse, Error> {
        ServedBy::set(&request.context.extensions, &self.name);
        if let Some(endpoint) = &self.endpoint {
            ServedBy::set_endpoint(&request.context.extensions, endpoint);
        }
        let era = request.context.era();
        if request.as_notification().is_some() {
            return Box::pin(self.notify(request, era)).await;
        }
        if let Some(refused) = protocol::refuse(&request) {
            return Err(refused);
        }
        let entered = self.calls.enter(&request);
        let _in_flight = entered.ok_or_else(|| errors::closed(&self.name))?;
        let connection = match self.connections.ready(era) {
            Some(connection) => connection,
            None => {
                self.claims.set_next_caller(&request.context);
                Box::pin(self.connections.get(era)).await?
            }
        };
        self.record(&connection, &request);
        let again = connection
            .may_be_forgotten()
            .then(|| take_copy(&mut request));
        match (self.dispatch(&connection, era, request).await, again) {
            (Err(error), Some(again)) if error.is_not_delivered() && connection.is_lost() => {
                Box::pin(self.dispatch_again(era, again)).await
            }
            (answer, _) => answer,
        }
    }

    /// Sends a request again in a new session after the server has forgotten the session: it has
    /// done nothing for the first one.
    async fn dispatch_again(&self, era: Era, request: McpRequest) -> Result<McpResponse, Error> {
        let connection = self.connections.get(era).await?;
        self.record(&connection, &request);
        let answer = self.dispatch(&connection, era, request).await;
        answer.map_err(errors::forgotten_again)
    }

    /// Records the connection for the request's layers, and the caller for the connection.
    fn record(&self, connection: &Connection, request: &McpRequest) {
        #[cfg(feature = "metrics")]
        self.state_connection(connection, request);
        // A server does no work for the lists and listens that layers request on their own behalf.
        let begins_no_work = || {
            Method::of(&request.message)
                .is_some_and(|method| method.row().is_quick || method == Method::Listen)
        };
        if !request.context.caller.is_quiet() || !begins_no_work() {
            connection.record_caller(&request.context);
        }
    }

    /// States the facts of the connection that a request goes over.
    #[cfg(feature = "metrics")]
    fn state_connection(&self, connection: &Connection, request: &McpRequest) {
        let extensions = &request.context.extensions;
        ServedBy::set_version(extensions, &connection.info.protocol_version);
        if let (Some(endpoint), Some(session)) = (&self.endpoint, connection.session_id()) {
            ServedBy::set_session(extensions, endpoint, session);
        }
    }

    async fn dispatch(
        &self,
        connection: &Arc<Connection>,
        era: Era,
        request: McpRequest,
    ) -> Result<McpResponse, Error> {
        let modern = connection.era == Era::Modern;
        let method = Method::of(&request.message);
        let call = UpstreamCall {
            connection: connection.clone(),
            upstream: self.name.clone(),
            timeout: self.request_timeout,
            era,
        };
        if !modern && !matches!(*request.message, ClientRequest::SetLevelRequest(_)) {
            self.restore_level(&call);
        }
        if !modern
            && request.context.extensions.get::<OnlyDeclared>().is_some()
            && method
                .is_some_and(|method| !method.may_be_served(&call.connection.info.capabilities))
        {
            // A server without this list would answer so, but some servers never answer.
            let method = request.method().to_owned();
            return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, method, None).into());
        }
        match &*request.message {
            ClientRequest::DiscoverRequest(_) => {
                Ok(McpResponse::lossless(call.connection.describe()))
            }
            ClientRequest::InitializeRequest(_) => Err(Refusal::new(
                "upstream",
                "the connection to this server has been initialized; ask `server/discover`",
            )
            .with_code(code::FORBIDDEN)
            .into()),
            // Revision 2026-07-28 has neither; the level goes with each request.
            ClientRequest::PingRequest(_) | ClientRequest::SetLevelRequest(_) if modern => {
                Ok(McpResponse::new(EmptyResult {}))
            }
            ClientRequest::SetLevelRequest(request_level) => {
                let level = request_level.params.level;
                let answer = call.run(request).await?;
                self.remember_level(&call, level);
                Ok(answer)
            }
            ClientRequest::SubscriptionsListenRequest(_) if !modern => {
                Box::pin(listen::run(call, request)).await
            }
            message => {
                if modern
                    && era == Era::Legacy
                    && method.is_some_and(|method| method.row().has_rounds)
                {
                    return Box::pin(multi_round::run(&call, request)).await;
                }
                let listing = Listing::of(message);
                let answer = call.run(request).await;
                if let (Some(listing), Ok(list)) = (listing, &answer) {
                    self.record_unreadable(listing, list);
                }
                answer
            }
        }
    }

    /// Records the items that a list was read without.
    fn record_unreadable(&self, listing: Listing, list: &McpResponse) {
        let left_out = list.extensions.get::<LeftOut>();
        let left_out = left_out.map_or(&[][..], |left_out| &left_out.0);
        self.unreadable.read(listing, left_out);
        if !left_out.is_empty() {
            self.unreadable.log(&self.name, left_out);
        }
    }

    fn remember_level(&self, call: &UpstreamCall, level: LoggingLevel) {
        *lock(&self.level) = Some(level);
        call.connection.mark_level_set();
    }

    /// Sends a new connection the log level that was set on the one before.
    fn restore_level(&self, call: &UpstreamCall) {
        let level = *lock(&self.level);
        let Some(level) = level.filter(|_| call.connection.mark_level_set()) else {
            return;
        };
        let call = call.clone();
        tokio::spawn(async move {
            let request = SetLevelRequest::new(SetLevelRequestParams::new(level));
            if let Err(error) = call
                .run(call::own(ClientRequest::SetLevelRequest(request)))
                .await
            {
                tracing::debug!(%error, "the log level could not be set again");
            }
        });
    }

    /// Passes a client's notification on, if it concerns the server.
    async fn notify(&self, request: McpRequest, era: Era) -> Result<McpResponse, Error> {
        let mut parts = request.into_all_parts();
        match parts.take_notification().and_then(protocol::from_client) {
            None => {}
            // These notifications concern the caller's connection. The upstream's connection has
            // its own handshake, cancels by itself, and gives its own progress tokens.
            Some(
                ClientNotification::InitializedNotification(_)
                | ClientNotification::CancelledNotification(_)
                | ClientNotification::ProgressNotification(_),
            ) => {}
            Some(notification) => {
                let connection = self.connections.get(era).await?;
                connection.record_caller(&parts.context);
                let sent = connection.notify(notification).await;
                sent.map_err(|error| errors::of_call(&self.name, "a notification", error))?;
            }
        }
        Ok(McpResponse::new(EmptyResult {}))
    }
}

/// Returns a copy of a request to a server over HTTP. The copy takes the parts that are costly to
/// copy and are not sent: the extensions, except for those that an upstream reads.
fn take_copy(request: &mut McpRequest) -> McpRequest {
    let message = request.message.take_copy();
    let extensions = std::mem::take(&mut request.context.extensions);
    let mut context = request.context.clone();
    let read = &mut request.context.extensions;
    if let Some(credential) = extensions.get::<OutboundCredential>() {
        read.insert(credential.clone());
    }
    if let Some(only_declared) = extensions.get::<OnlyDeclared>() {
        read.insert(*only_declared);
    }
    context.extensions = extensions;
    McpRequest::from_parts(message, context)
}
