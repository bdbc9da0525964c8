//! Requests that go to the server without rmcp's client loop.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use futures::future::BoxFuture;
use rmcp::{
    model::{
        ClientJsonRpcMessage, ClientRequest, GetExtensions, GetMeta, InitializeRequestParams,
        NumberOrString, ProgressToken, ProtocolVersion, RequestId, RequestMetaObject, ServerResult,
    },
    service::ServiceError,
};
use serde_json::{Map, Value};

use super::{call::CLIENT_CAPABILITIES, route::Routes};
use crate::{
    caller::Era,
    protocol::outgoing::{WithoutProgress, trim_request},
    wire::answers::{Expected, ReadAnswer},
};

/// The first id of direct requests. rmcp counts its own from zero. Some servers hold an id in 32
/// bits.
const FIRST_ID: i64 = 1 << 30;

/// The outcome of a request.
pub(super) type Answer = Result<Box<ReadAnswer>, ServiceError>;

/// A transport that can send single requests by itself.
pub(super) trait DirectSender: Send + Sync {
    /// Sets the revision of the connection, once its handshake is over.
    fn set_version(&mut self, version: &ProtocolVersion);

    /// Returns `true` if all messages for a request come on the request's own response. The request
    /// then needs no route, unless the response holds more than the answer.
    fn names_calls(&self) -> bool;

    /// Returns `true` if this request can be sent directly.
    fn accepts(&self, request: &ClientRequest) -> bool;

    /// Records the tools in a result: calls of some cannot be sent directly.
    fn record_tools(&self, result: &ServerResult);

    /// Returns the id of the next request, which is its progress token too.
    fn next_id(&self) -> i64;

    /// Returns the id of the session with the server, if the transport has sessions with ids.
    #[cfg(feature = "metrics")]
    fn session_id(&self) -> Option<&Arc<str>> {
        None
    }

    /// Sends a request. Unless the transport [names calls](Self::names_calls), the request has been
    /// entered in the routes, and dropping the future does not cancel it at the server.
    fn send<'a>(
        &'a self,
        request: DirectRequest,
        routes: &'a Arc<Routes>,
    ) -> BoxFuture<'a, DirectAnswer<'a>>;
}

/// A request that is to be sent directly.
pub(super) struct DirectRequest {
    pub(super) id: i64,
    pub(super) message: ClientRequest,
    /// This hop's entries of `_meta` besides those that every request has.
    pub(super) meta: Option<RequestMetaObject>,
    #[cfg_attr(
        not(feature = "http-client"),
        expect(dead_code, reason = "only HTTP reads answers where it sends requests")
    )]
    pub(super) expected: Expected,
}

/// The answer to a request that was sent directly.
pub(super) enum DirectAnswer<'a> {
    Complete(Answer),
    /// The answer comes on a stream, after other messages or later.
    #[cfg_attr(
        not(feature = "http-client"),
        expect(dead_code, reason = "only HTTP has a response stream for each call")
    )]
    Stream(Box<dyn AnswerStream<'a> + 'a>),
    /// The answer comes to the request's route.
    ByRoute,
}

/// The stream of an answer, and of the messages before it.
pub(super) trait AnswerStream<'a>: Send {
    /// Delivers the messages to the request's route, and returns the answer.
    fn read(self: Box<Self>, routes: &'a Arc<Routes>) -> BoxFuture<'a, Answer>;
}

/// The parts that the direct requests of a connection have in common.
pub(super) struct RequestParts {
    info: Arc<InitializeRequestParams>,
    is_modern: bool,
    /// The entries that every request has in `_meta`, as JSON.
    meta: Map<String, Value>,
    next: AtomicI64,
}

impl RequestParts {
    pub(super) fn new(info: Arc<InitializeRequestParams>) -> Self {
        Self {
            info,
            is_modern: false,
            meta: Map::new(),
            next: AtomicI64::new(FIRST_ID),
        }
    }

    /// Sets the revision of the connection. Since 2026-07-28, each request declares its client.
    pub(super) fn set_version(&mut self, version: &ProtocolVersion) {
        self.is_modern = Era::of(version) == Era::Modern;
        if self.is_modern {
            let mut meta = RequestMetaObject::new();
            meta.set_protocol_version(version.clone());
            meta.set_client_info(self.info.client_info.clone());
            self.meta = meta.0.0;
        }
    }

    /// Returns `true` if the connection's revision is 2026-07-28 or later.
    #[cfg_attr(
        not(feature = "http-client"),
        expect(
            dead_code,
            reason = "only over HTTP the way of a request depends on it"
        )
    )]
    pub(super) fn is_modern(&self) -> bool {
        self.is_modern
    }

    pub(super) fn next_id(&self) -> i64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the message of a request.
    pub(super) fn message(&self, request: DirectRequest) -> ClientJsonRpcMessage {
        let DirectRequest {
            id,
            mut message,
            meta,
            ..
        } = request;
        for (name, value) in &self.meta {
            message.get_meta_mut().insert(name.clone(), value.clone());
        }
        for (name, value) in meta.into_iter().flat_map(|meta| meta.0.0) {
            message.get_meta_mut().insert(name, value);
        }
        if self.is_modern && !message.get_meta().contains_key(CLIENT_CAPABILITIES) {
            let capabilities = self.info.capabilities.clone();
            message.get_meta_mut().set_client_capabilities(capabilities);
        }
        if message.extensions().get::<WithoutProgress>().is_none() {
            message.get_meta_mut().set_progress_token(token(id));
        }
        trim_request(&mut message);
        ClientJsonRpcMessage::request(message, RequestId::Number(id))
    }
}

/// Returns the progress token of a direct request.
pub(super) fn token(id: i64) -> ProgressToken {
    ProgressToken(NumberOrString::Number(id))
}
