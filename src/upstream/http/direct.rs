//! Tool calls that go to the server without rmcp's client loop.

use std::{
    any::TypeId,
    collections::HashMap,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture};
use http::{HeaderName, HeaderValue};
use rmcp::{
    model::{
        ClientJsonRpcMessage, ClientRequest, ErrorData, GetMeta, InitializeRequestParams,
        JsonRpcMessage, NumberOrString, ProgressToken, ProtocolVersion, RequestId,
        RequestMetaObject, ServerJsonRpcMessage, ServerResult,
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
use sse_stream::Sse;
use tokio::sync::Semaphore;

use super::{
    answer::{self, Awaited, ResponseMessage, response_message, take_text},
    client::{Client, Resume, credential_of},
    endpoint::MAX_CONCURRENT_REQUESTS,
    event_stream::too_long,
    exchange::Reply,
    failure::{HttpError, HttpResult},
    response_stream::{drain, drain_before_answer},
};
use crate::{
    protocol::outgoing::trim_request,
    upstream::{
        call::CLIENT_CAPABILITIES,
        connection::Handshake,
        direct::{Answer, AnswerStream, DirectAnswer, DirectSender},
        route::Routes,
    },
    wire::answers::Expected,
};

/// The first id of direct calls. rmcp counts its own from zero.
const FIRST_ID: i64 = 1 << 40;

/// Posts tool calls, and reads their answers in the caller's task.
///
/// Since 2026-07-28 an HTTP request is self-contained: there is no session and there are no
/// requests of the server, and each message on the response belongs to the request. rmcp's client
/// takes each call through two tasks of the connection and two of its own nevertheless, a quarter
/// of what a gateway spends on a call. All other requests go through rmcp's client.
pub(super) struct DirectClient {
    client: Client,
    uri: Arc<str>,
    auth: Option<String>,
    headers: HashMap<HeaderName, HeaderValue>,
    limits: StreamableHttpResponseLimits,
    info: Arc<InitializeRequestParams>,
    /// The entries that every request has in `_meta`, as JSON.
    meta: Map<String, Value>,
    next: AtomicI64,
    /// The limit of requests that wait for their response headers.
    room: Semaphore,
    /// `true` if the server has tools whose arguments also go in headers (SEP-2243). rmcp then
    /// sends the calls.
    has_header_tools: AtomicBool,
}

/// A call that is to be posted.
struct PreparedCall {
    id: RequestId,
    message: ClientJsonRpcMessage,
    headers: HashMap<HeaderName, HeaderValue>,
}

/// The response stream of a request, and the credential it was opened with. It is resumed with the
/// same credential.
struct ResponseStream<'a> {
    direct: &'a DirectClient,
    own: Awaited,
    stream: BoxedSseResponse,
    auth: Option<String>,
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
            info: handshake.info.clone(),
            meta: Map::new(),
            next: AtomicI64::new(FIRST_ID),
            room: Semaphore::new(MAX_CONCURRENT_REQUESTS),
            has_header_tools: AtomicBool::new(false),
        }
    }

    /// Makes a request of this hop. `meta` holds its entries besides those that every request has.
    fn prepare(&self, mut request: ClientRequest, meta: Option<RequestMetaObject>) -> PreparedCall {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let of_request = request.get_meta_mut();
        for (name, value) in &self.meta {
            of_request.insert(name.clone(), value.clone());
        }
        for (name, value) in meta.into_iter().flat_map(|meta| meta.0.0) {
            of_request.insert(name, value);
        }
        if !of_request.contains_key(CLIENT_CAPABILITIES) {
            of_request.set_client_capabilities(self.info.capabilities.clone());
        }
        of_request.set_progress_token(ProgressToken(NumberOrString::Number(number)));
        trim_request(&mut request);
        let mut headers = self.headers.clone();
        if let ClientRequest::CallToolRequest(call) = &request
            && let Ok(name) = HeaderValue::from_str(&call.params.name)
        {
            let method = HeaderValue::from_static("tools/call");
            headers.insert(HeaderName::from_static("mcp-method"), method);
            headers.insert(HeaderName::from_static("mcp-name"), name);
        }
        let id = RequestId::Number(number);
        PreparedCall {
            message: ClientJsonRpcMessage::request(request, id.clone()),
            id,
            headers,
        }
    }

    async fn post(&self, prepared: PreparedCall, expected: Expected) -> DirectAnswer<'_> {
        let auth = credential_of(&prepared.message).or_else(|| self.auth.clone());
        let own = Awaited {
            id: prepared.id,
            expected,
        };
        let room = self.room.acquire().await;
        let response = self.client.post(
            self.uri.clone(),
            prepared.message,
            &own,
            auth.clone(),
            prepared.headers,
            self.limits,
        );
        let response = response.await;
        drop(room);
        DirectAnswer::Complete(Box::new(match response {
            Ok(Reply::Answer(answer)) => answered(answer),
            Ok(Reply::Events(stream)) => {
                let response = ResponseStream {
                    direct: self,
                    own,
                    stream,
                    auth,
                };
                return response.first().await;
            }
            Ok(Reply::Accepted | Reply::Aside(_)) => Err(closed()),
            Err(error) => Err(failed(error)),
        }))
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
                None,
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
        let mut meta = RequestMetaObject::new();
        meta.set_protocol_version(version.clone());
        meta.set_client_info(self.info.client_info.clone());
        self.meta = meta.0.0;
        if let Ok(version) = HeaderValue::from_str(version.as_str()) {
            let name = HeaderName::from_static("mcp-protocol-version");
            self.headers.insert(name, version);
        }
    }

    fn accepts(&self, request: &ClientRequest) -> bool {
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

    fn send(
        &self,
        request: ClientRequest,
        meta: Option<RequestMetaObject>,
        expected: Expected,
    ) -> BoxFuture<'_, DirectAnswer<'_>> {
        let prepared = self.prepare(request, meta);
        Box::pin(self.post(prepared, expected))
    }
}

impl<'a> ResponseStream<'a> {
    /// Reads the answer, if the stream holds nothing else.
    async fn first(mut self) -> DirectAnswer<'a> {
        let mut event = match self.stream.next().await {
            Some(Ok(event)) => event,
            Some(Err(error)) => return DirectAnswer::Complete(Box::new(unreadable(&error))),
            None => return DirectAnswer::Complete(Box::new(Err(closed()))),
        };
        match self.read(&mut event) {
            ControlFlow::Break(answer) => {
                drain_before_answer(self.stream).await;
                DirectAnswer::Complete(Box::new(answer))
            }
            ControlFlow::Continue(message) => {
                let id = self.own.id.clone();
                let first = Some((event, message));
                let stream = Following {
                    response: self,
                    first,
                };
                DirectAnswer::Stream(id, Box::new(stream))
            }
        }
    }

    /// Reads the answer in an event, or else the message in it.
    fn read(&self, event: &mut Sse) -> ControlFlow<Answer, Option<Box<ServerJsonRpcMessage>>> {
        let Some(text) = take_text(event) else {
            return ControlFlow::Continue(None);
        };
        match response_message(&text, &self.own) {
            ResponseMessage::Answer { answer, .. } => ControlFlow::Break(answered(answer)),
            ResponseMessage::OtherAnswer => {
                ControlFlow::Break(Err(ServiceError::McpError(answer::other_request())))
            }
            ResponseMessage::Unreadable(_) if answer::is_heartbeat(&text) => {
                ControlFlow::Continue(None)
            }
            ResponseMessage::Unreadable(why) => {
                ControlFlow::Break(Err(ServiceError::McpError(answer::unreadable(why))))
            }
            ResponseMessage::Other(message) => ControlFlow::Continue(Some(message)),
            ResponseMessage::None => ControlFlow::Continue(None),
        }
    }
}

/// A response stream that does not begin with the answer.
struct Following<'a> {
    response: ResponseStream<'a>,
    /// The first event, and the message in it.
    first: Option<(Sse, Option<Box<ServerJsonRpcMessage>>)>,
}

impl Following<'_> {
    /// Reads the stream up to the answer. A stream that breaks off is resumed, if the server has
    /// said from where.
    async fn follow(mut self, routes: &Routes) -> Answer {
        let response = &mut self.response;
        let mut last: Option<String> = None;
        let mut pause = None;
        loop {
            let (event, message) = match self.first.take() {
                Some(first) => first,
                None => {
                    let mut event = match response.stream.next().await {
                        Some(Ok(event)) => event,
                        Some(Err(error)) if too_long(&error).is_some() => {
                            return unreadable(&error);
                        }
                        Some(Err(_)) | None => {
                            let Some(last) = &last else {
                                return Err(closed());
                            };
                            let resumed = response.direct.resume(last, pause, &response.auth);
                            response.stream = resumed.await.map_err(failed)?;
                            continue;
                        }
                    };
                    match response.read(&mut event) {
                        ControlFlow::Continue(message) => (event, message),
                        ControlFlow::Break(answer) => {
                            drain(self.response.stream);
                            return answer;
                        }
                    }
                }
            };
            pause = event.retry.map(Duration::from_millis).or(pause);
            last = event.id.or(last);
            match message.map(|message| *message) {
                Some(JsonRpcMessage::Notification(message)) => {
                    routes.deliver_to(&response.own.id, message.notification);
                }
                Some(JsonRpcMessage::Request(request)) => {
                    response.direct.decline(request.id, &response.auth).await;
                }
                _ => {}
            }
        }
    }
}

impl<'a> AnswerStream<'a> for Following<'a> {
    fn read(self: Box<Self>, routes: &'a Routes) -> BoxFuture<'a, Answer> {
        Box::pin(self.follow(routes))
    }
}

/// Returns the outcome of a request with this answer.
fn answered(answer: answer::Answer) -> Answer {
    answer.map(|answer| *answer).map_err(ServiceError::McpError)
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
