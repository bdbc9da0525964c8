//! Requests that go to the server without rmcp's client loop.

use futures::future::BoxFuture;
use rmcp::{
    model::{ClientRequest, ProtocolVersion, RequestId, RequestMetaObject, ServerResult},
    service::ServiceError,
};

use super::route::Routes;
use crate::wire::answers::{Expected, ReadAnswer};

/// The outcome of a request.
pub(super) type Answer = Result<ReadAnswer, ServiceError>;

/// A transport that can send single requests by itself, and read their answers in the caller's
/// task.
///
/// Each message on the response to such a request belongs to the request.
pub(super) trait DirectSender: Send + Sync {
    /// Sets the revision of the connection.
    fn set_version(&mut self, version: &ProtocolVersion);

    /// Returns `true` if this request can be sent directly.
    fn accepts(&self, request: &ClientRequest) -> bool;

    /// Records the tools in a result: calls of some cannot be sent directly.
    fn record_tools(&self, result: &ServerResult);

    /// Sends a request. `meta` holds this hop's entries besides those that every request has.
    ///
    /// Dropping the future, or the stream of the answer, cancels the request at the server.
    fn send(
        &self,
        request: ClientRequest,
        meta: Option<RequestMetaObject>,
        expected: Expected,
    ) -> BoxFuture<'_, DirectAnswer<'_>>;
}

/// The answer to a request that was sent directly.
pub(super) enum DirectAnswer<'a> {
    Complete(Box<Answer>),
    /// The answer comes on a stream, after other messages or later.
    Stream(RequestId, Box<dyn AnswerStream<'a> + 'a>),
}

/// The stream of an answer, and of the messages before it.
pub(super) trait AnswerStream<'a>: Send {
    /// Delivers the messages to the request's route, and returns the answer.
    fn read(self: Box<Self>, routes: &'a Routes) -> BoxFuture<'a, Answer>;
}
