//! The requests of a server to its client.

use rmcp::model::{ConstString, ServerRequest};

/// Returns the method of a server's request.
pub(crate) fn server_request_method(request: &ServerRequest) -> &str {
    match request {
        ServerRequest::PingRequest(request) => request.method.as_str(),
        ServerRequest::CreateMessageRequest(request) => request.method.as_str(),
        ServerRequest::ListRootsRequest(request) => request.method.as_str(),
        ServerRequest::ElicitRequest(request) => request.method.as_str(),
        ServerRequest::CustomRequest(request) => &request.method,
        _ => "unknown",
    }
}
