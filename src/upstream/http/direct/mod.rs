//! Requests that go to the server without rmcp's client loop.

mod stream;

use std::{
    any::TypeId,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::{self, BoxFuture};
use http::{HeaderName, HeaderValue};
use rmcp::{
    model::{
        ClientJsonRpcMessage, ClientRequest, ErrorData, ProtocolVersion, RequestId, ServerResult,
    },
    service::ServiceError,
    transport::{
        DynamicTransportError,
        common::client_side_sse::{BoxedSseResponse, SseRetryPolicy},
        streamable_http_client::{
            SseError, StreamableHttpClient, StreamableHttpClientTransportConfig,
            StreamableHttpResponseLimits,
        },
    },
};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use self::stream::ResponseStream;
use super::{
    answer::{self, Awaited},
    client::{Client, Resume, VERSION, credential_of, no_stream},
    endpoint::MAX_CONCURRENT_REQUESTS,
    event_stream::too_long,
    exchange::Reply,
    failure::{HttpError, HttpResult},
};
use crate::upstream::{
    connection::Handshake,
    direct::{Answer, DirectAnswer, DirectRequest, DirectSender, RequestParts},
    route::Routes,
};

/// Posts requests, and reads their answers in the caller's task. rmcp's client takes each request
/// through two tasks of the connection and two of its own, a quarter of what a gateway spends on a
/// call.
///
/// Since 2026-07-28 an HTTP request is self-contained: there is no session and there are no
/// requests of the server, and each message on the response belongs to the request. Requests other
/// than tool calls go through rmcp's client, which knows the headers that they need.
///
/// Before, a session's messages may come on any response or on the session's own stream. rmcp's
/// client loop has the handshake, that stream, and the server's requests.
pub(super) struct DirectClient {
    client: Client,
    uri: Arc<str>,
    auth: Option<String>,
    headers: HashMap<HeaderName, HeaderValue>,
    limits: StreamableHttpResponseLimits,
    /// The parts that the POSTs of all requests have in common, once the handshake is over.
    template: Option<reqwest::Request>,
    parts: RequestParts,
    /// The limit of requests that wait for their response headers.
    room: Semaphore,
    /// `true` if the server has tools whose arguments also go in headers (SEP-2243). rmcp then
    /// sends the calls.
    has_header_tools: AtomicBool,
}

impl DirectClient {
    pub(super) fn new(
        client: Client,
        config: &StreamableHttpClientTransportConfig,
        handshake: &Handshake,
    ) -> Self {
        let mut limits = StreamableHttpResponseLimits::default();
        limits.max_json_response_size = config.max_json_response_size;
        limits.max_sse_event_size = config.max_sse_event_size;
        Self {
            client,
            uri: config.uri.clone(),
            auth: config.auth_header.clone(),
            headers: config.custom_headers.clone(),
            limits,
            template: None,
            parts: RequestParts::new(handshake.info.clone()),
            room: Semaphore::new(MAX_CONCURRENT_REQUESTS),
            has_header_tools: AtomicBool::new(false),
        }
    }

    /// Returns the POST of a request, without its text. It is missing before the handshake.
    fn template_of(&self, request: &ClientRequest) -> Option<reqwest::Request> {
        let mut template = self.template.as_ref()?.try_clone()?;
        if self.parts.is_modern()
            && let ClientRequest::CallToolRequest(call) = request
            && let Ok(name) = HeaderValue::from_str(&call.params.name)
        {
            let headers = template.headers_mut();
            headers.insert("mcp-method", HeaderValue::from_static("tools/call"));
            headers.insert("mcp-name", name);
        }
        Some(template)
    }

    /// Returns the answer to a request. The future does not hold the request itself, which takes
    /// half a kilobyte.
    fn post<'a>(
        &'a self,
        request: DirectRequest,
        routes: &'a Arc<Routes>,
    ) -> Result<BoxFuture<'a, DirectAnswer<'a>>, ServiceError> {
        let own = Awaited {
            id: RequestId::Number(request.id),
            expected: request.expected,
        };
        let template = self.template_of(&request.message).ok_or_else(closed)?;
        let message = self.parts.message(request);
        let auth = credential_of(&message).or_else(|| self.auth.clone());
        let room = self.room.try_acquire();
        let post = self
            .client
            .to_post(template, message, auth.clone(), room.is_ok());
        let post = post.map_err(failed)?;
        Ok(Box::pin(async move {
            let room = match room {
                Ok(room) => Ok(room),
                Err(_) => self.room.acquire().await,
            };
            let reply = match post.await {
                Ok(sending) => {
                    let arrives = !self.parts.is_modern();
                    self.client.post(sending, &own, arrives, self.limits).await
                }
                Err(error) => Err(error),
            };
            drop(room);
            self.read(reply, own, auth, routes).await
        }))
    }

    /// Reads the answer in the reply to a request.
    async fn read<'a>(
        &'a self,
        reply: HttpResult<Reply>,
        own: Awaited,
        auth: Option<String>,
        routes: &'a Arc<Routes>,
    ) -> DirectAnswer<'a> {
        DirectAnswer::Complete(match reply {
            Ok(Reply::Answer(answer)) => answered(answer),
            Ok(Reply::Events(stream)) => {
                let response = ResponseStream::new(self, own, stream, auth);
                match self.parts.is_modern() {
                    true => return response.first().await,
                    false => response.follow(None, routes).await,
                }
            }
            Ok(Reply::Accepted) if self.client.expect_answers().await => {
                routes.record_accepted(&own.id);
                return DirectAnswer::ByRoute;
            }
            Ok(Reply::Accepted) => Err(failed(no_stream())),
            Ok(Reply::Aside(_)) => Err(closed()),
            Err(error) => Err(failed(error)),
        })
    }

    async fn resume(
        &self,
        last: &str,
        pause: Option<Duration>,
        auth: &Option<String>,
    ) -> HttpResult<BoxedSseResponse> {
        let mut attempts = 0;
        loop {
            let wait = Resume.retry(attempts);
            tokio::time::sleep(pause.max(wait).unwrap_or_default()).await;
            let stream = self.client.get_stream_with_max_sse_event_size(
                self.uri.clone(),
                self.client.session_id().cloned(),
                Some(last.to_owned()),
                auth.clone(),
                self.headers.clone(),
                self.limits.max_sse_event_size,
            );
            attempts += 1;
            match stream.await {
                Err(error) if Resume.retry(attempts).is_some() => {
                    tracing::debug!(%error, "a response stream is not taken up");
                }
                stream => return stream,
            }
        }
    }

    /// Tells the server that it cannot send requests.
    async fn decline(&self, id: RequestId, auth: &Option<String>) {
        let why = "a server asks nothing of its client on protocol 2026-07-28 or later";
        let error = ErrorData::invalid_request(why, None);
        let answered = self.client.post_message_with_response_limits(
            self.uri.clone(),
            ClientJsonRpcMessage::error(error, Some(id)),
            None,
            auth.clone(),
            self.headers.clone(),
            self.limits,
        );
        if let Err(error) = answered.await {
            tracing::debug!(%error, "a server's request could not be declined");
        }
    }
}

/// Since 2026-07-28 closing the connection tells the server that the caller no longer waits (MCP
/// 2026-07-28, basic/transports, cancellation). Dropping a request's future does so.
impl DirectSender for DirectClient {
    fn set_version(&mut self, version: &ProtocolVersion) {
        self.parts.set_version(version);
        if let Ok(version) = HeaderValue::from_str(version.as_str()) {
            self.headers.insert(VERSION, version);
        }
        self.template = self.client.template(&self.uri, &self.headers);
    }

    fn names_calls(&self) -> bool {
        self.parts.is_modern()
    }

    fn accepts(&self, request: &ClientRequest) -> bool {
        if self.template.is_none() || !self.parts.is_modern() {
            return self.template.is_some();
        }
        match request {
            ClientRequest::CallToolRequest(call) => {
                !self.has_header_tools.load(Ordering::Relaxed) && is_plain(&call.params.name)
            }
            _ => false,
        }
    }

    fn record_tools(&self, result: &ServerResult) {
        if let ServerResult::ListToolsResult(list) = result
            && list
                .tools
                .iter()
                .any(|tool| wants_headers(&tool.input_schema))
        {
            self.has_header_tools.store(true, Ordering::Relaxed);
        }
    }

    #[cfg(feature = "metrics")]
    fn session_id(&self) -> Option<&Arc<str>> {
        self.client.session_id()
    }

    fn next_id(&self) -> i64 {
        self.parts.next_id()
    }

    fn send<'a>(
        &'a self,
        request: DirectRequest,
        routes: &'a Arc<Routes>,
    ) -> BoxFuture<'a, DirectAnswer<'a>> {
        match self.post(request, routes) {
            Ok(answer) => answer,
            Err(error) => Box::pin(future::ready(DirectAnswer::Complete(Err(error)))),
        }
    }
}

/// Returns the outcome of a request with this answer.
fn answered(answer: answer::Answer) -> Answer {
    answer.map_err(ServiceError::McpError)
}

/// Returns the outcome for a stream that broke off, or has an event that is too long.
fn unreadable(error: &SseError) -> Answer {
    Err(match too_long(error) {
        Some(why) => ServiceError::McpError(answer::unreadable(why)),
        None => closed(),
    })
}

/// Returns the error for an exchange that ended without an answer.
fn closed() -> ServiceError {
    ServiceError::TransportClosed
}

fn failed(error: HttpError) -> ServiceError {
    let kind = TypeId::of::<DirectClient>();
    ServiceError::TransportSend(DynamicTransportError::from_parts(
        "streamable HTTP",
        kind,
        Box::new(error),
    ))
}

/// Returns `true` if a name can be a header value unencoded (SEP-2243). rmcp encodes the others.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with("=?") && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Returns `true` if arguments of a tool also go in headers: a property, or a property of a
/// property, is marked so.
fn wants_headers(schema: &Map<String, Value>) -> bool {
    let properties = schema.get("properties").and_then(Value::as_object);
    let mut properties = properties.into_iter().flat_map(Map::values);
    properties.any(|property| {
        property
            .as_object()
            .is_some_and(|it| it.contains_key("x-mcp-header") || wants_headers(it))
    })
}
