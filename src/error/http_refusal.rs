use futures::future::BoxFuture;
use http::{Method, StatusCode};
use rmcp::model::{ErrorCode, RequestId};
use tokio::time::Instant;

use crate::{Decision, Principal};

/// An HTTP request that a layer in front of the MCP service has refused. It never becomes an MCP
/// request, so no layer of a stack sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HttpRefusal<'a> {
    /// The layer that refused the request, such as `auth`.
    pub layer: &'static str,
    /// The HTTP method.
    pub http_method: &'a Method,
    /// The HTTP status of the response.
    pub status: StatusCode,
    /// The JSON-RPC code of the response.
    pub code: ErrorCode,
    /// The JSON-RPC method, if it is known.
    pub method: Option<&'a str>,
    /// The target of the request, if it is known: the name of a tool or prompt, or the URI of a
    /// resource.
    pub name: Option<&'a str>,
    /// The id of the request, if it is known.
    pub id: Option<&'a RequestId>,
    /// The calling principal, if it is known.
    pub principal: Option<&'a Principal>,
    /// The decision on the request.
    pub decision: Decision,
    /// The reason for logs and audit records. It is not sent to the caller.
    pub reason: &'a str,
    /// The time at which the request arrived.
    pub since: Instant,
}

impl<'a> HttpRefusal<'a> {
    /// Creates the refusal of a request that arrives now, with the decision
    /// [`Denied`](Decision::Denied) and without further facts.
    pub fn new(
        layer: &'static str,
        http_method: &'a Method,
        status: StatusCode,
        code: ErrorCode,
        reason: &'a str,
    ) -> Self {
        Self {
            layer,
            http_method,
            status,
            code,
            method: None,
            name: None,
            id: None,
            principal: None,
            decision: Decision::Denied,
            reason,
            since: Instant::now(),
        }
    }
}

/// Receives HTTP requests that a layer in front of the MCP service has refused, to keep a record of
/// them. An audit log implements it.
pub trait OnHttpRefusal: Send + Sync + 'static {
    /// Called for each refused request, before it is answered. The response waits for the returned
    /// future.
    fn on_http_refusal<'a>(&'a self, refusal: HttpRefusal<'a>) -> BoxFuture<'a, ()>;
}
