//! The kinds of messages between an upstream and its server.

use rmcp::model::{
    ClientRequest, ConstString, NumberOrString, RequestId, SKILLS_EXTENSION_ID, ServerCapabilities,
    ServerRequest,
};

/// Returns the number of a request of this side in the `id` of an answer. Requests are counted from
/// zero. Some servers return the number as a text, which rmcp takes for the same. Any other `id`
/// names no request.
pub(super) fn number_in(id: &RequestId) -> Option<i64> {
    let number = match id {
        NumberOrString::Number(number) => *number,
        NumberOrString::String(text) => text.parse().ok()?,
    };
    (number >= 0).then_some(number)
}

/// Returns `true` if a request is for a list, or as quickly done as one.
pub(super) fn lists(request: &ClientRequest) -> bool {
    matches!(
        request,
        ClientRequest::PingRequest(_)
            | ClientRequest::DiscoverRequest(_)
            | ClientRequest::SetLevelRequest(_)
            | ClientRequest::SubscribeRequest(_)
            | ClientRequest::UnsubscribeRequest(_)
            | ClientRequest::ListToolsRequest(_)
            | ClientRequest::ListPromptsRequest(_)
            | ClientRequest::ListResourcesRequest(_)
            | ClientRequest::ListResourceTemplatesRequest(_)
            | ClientRequest::ListSkillsRequest(_)
    )
}

/// Returns `true` if a server has no work left for a request once the request is answered. For a
/// listen: no work but what the listen asked for.
pub(super) fn begins_no_work(request: &ClientRequest) -> bool {
    lists(request) || matches!(request, ClientRequest::SubscriptionsListenRequest(_))
}

/// Returns `true` if a server with these capabilities has declared support for a request: for a
/// list, or for log levels. A server that declares no list at all may still have any.
pub(super) fn is_declared(request: &ClientRequest, declared: &ServerCapabilities) -> bool {
    let (tools, prompts) = (declared.tools.is_some(), declared.prompts.is_some());
    let resources = declared.resources.is_some();
    if !tools && !prompts && !resources {
        return true;
    }
    match request {
        ClientRequest::ListToolsRequest(_) => tools,
        ClientRequest::ListPromptsRequest(_) => prompts,
        ClientRequest::ListResourcesRequest(_) | ClientRequest::ListResourceTemplatesRequest(_) => {
            resources
        }
        ClientRequest::ListSkillsRequest(_) => {
            let extensions = declared.extensions.as_ref();
            extensions.is_some_and(|declared| declared.contains_key(SKILLS_EXTENSION_ID))
        }
        ClientRequest::SetLevelRequest(_) => declared.logging.is_some(),
        _ => true,
    }
}

/// Returns the name of a request of the server, for logs.
pub(super) fn method(request: &ServerRequest) -> &str {
    match request {
        ServerRequest::PingRequest(request) => request.method.as_str(),
        ServerRequest::CreateMessageRequest(request) => request.method.as_str(),
        ServerRequest::ListRootsRequest(request) => request.method.as_str(),
        ServerRequest::ElicitRequest(request) => request.method.as_str(),
        ServerRequest::CustomRequest(request) => &request.method,
        _ => "unknown",
    }
}
