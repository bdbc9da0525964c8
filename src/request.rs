use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientCapabilities, ClientNotification, ClientRequest,
    CustomRequest, Extensions, GetExtensions, GetMeta, GetPromptRequest, GetPromptRequestParams,
    Implementation, JsonObject, ListToolsRequest, ProgressToken, ProtocolVersion,
    ReadResourceRequest, ReadResourceRequestParams, Reference, RequestId, RequestMetaObject,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Caller, Principal, caller::Era, protocol::Unreadable};

/// The tool that a registry shows in place of a catalogue: it calls the one that its argument `name` names.
#[cfg(any(feature = "auth", feature = "registry"))]
pub(crate) const CALL_TOOL: &str = "call_tool";

/// One request on its way down through a stack.
///
/// It dereferences to its [`RequestParts`]: `request.message` is rmcp's own [`ClientRequest`] and
/// `request.context` what belongs to the call but not to the message. The parts are boxed: rmcp's message
/// is several hundred bytes, and a stack passes a request through many futures.
///
/// A client's notifications (`notifications/roots/list_changed`, custom ones) take the same way down as
/// requests that nobody waits for; see [`McpRequest::notification`].
///
/// ```
/// use rmcp_layers::McpRequest;
///
/// let request = McpRequest::call_tool("search").argument("query", "tower").build();
/// assert_eq!(request.method(), "tools/call");
/// assert_eq!(request.target(), Some("search"));
/// ```
#[derive(Clone, Debug)]
pub struct McpRequest(Box<RequestParts>);

/// The parts of an [`McpRequest`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestParts {
    /// What is asked. Its `_meta` and extensions are empty: they are in the context.
    pub message: ClientRequest,
    /// What belongs to this call.
    pub context: CallContext,
}

/// What belongs to one call beside its message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CallContext {
    /// The caller's id for the request. An upstream sees another one.
    pub id: RequestId,
    /// The request's `_meta`, as the caller sent it.
    pub meta: RequestMetaObject,
    /// Facts for inner layers: the HTTP request's parts where rmcp serves HTTP, the [`Principal`] once
    /// somebody has authenticated it, and what layers add. They never reach the wire.
    pub extensions: Extensions,
    /// Cancelled when the caller cancels the request or goes away. The stack's future is dropped at that
    /// moment; this is for work that was spawned beside it.
    pub cancellation: CancellationToken,
    /// The way back to the caller.
    pub caller: Caller,
    /// When the caller stops waiting, if it said so.
    pub deadline: Option<Instant>,
    /// The notification, if the request carries one: here it stays with the request when that is taken
    /// apart.
    pub(crate) notification: Option<Box<ClientNotification>>,
    /// Why the request cannot be read, if the top has found that it cannot.
    pub(crate) unreadable: Option<Arc<Unreadable>>,
}

impl McpRequest {
    /// What a call of [`CALL_TOOL`] stands for: the call of the tool that it names.
    #[cfg(feature = "auth")]
    pub(crate) fn meant(&self) -> Option<Self> {
        let name = self.called_tool()?.to_owned();
        let mut meant = self.clone();
        let call = meant.as_tool_call_mut()?;
        call.name = name.into();
        call.arguments = match call.arguments.take()?.shift_remove("arguments") {
            Some(serde_json::Value::Object(arguments)) => Some(arguments),
            _ => None,
        };
        Some(meant)
    }

    /// A request with this message and a context of its own: a fresh id, nobody to go back to.
    ///
    /// `_meta` and extensions that the message carries move into the context.
    pub fn new(message: impl Into<ClientRequest>) -> Self {
        let mut message = message.into();
        let meta = std::mem::take(message.get_meta_mut());
        let mut extensions = std::mem::take(message.extensions_mut());
        extensions.remove::<RequestMetaObject>();
        let mut context = CallContext::new(next_id());
        context.meta = meta;
        context.extensions = extensions;
        Self::from_parts(message, context)
    }

    /// Puts a message and a context together.
    pub fn from_parts(message: ClientRequest, context: CallContext) -> Self {
        Self(Box::new(RequestParts { message, context }))
    }

    /// A client's notification, as the request that takes it down a stack.
    ///
    /// Its [`method`](RequestParts::method) is the notification's, its message a custom request of that method
    /// without params; the notification itself is in [`as_notification`](Self::as_notification). A stack
    /// answers it with an empty result, as soon as the notification has been passed on. Layers that know
    /// nothing of it pass it on like any method they do not know.
    pub fn notification(
        notification: impl Into<ClientNotification>,
        mut context: CallContext,
    ) -> Self {
        let notification = notification.into();
        let method = notification_method(&notification).to_owned();
        context.notification = Some(Box::new(notification));
        Self::from_parts(CustomRequest::new(method, None).into(), context)
    }

    /// Starts a `tools/call`.
    pub fn call_tool(name: impl Into<String>) -> ToolCallBuilder {
        ToolCallBuilder {
            params: CallToolRequestParams::new(name.into()),
            context: CallContext::new(next_id()),
        }
    }

    /// A `tools/list` for the first page.
    pub fn list_tools() -> Self {
        Self::new(ListToolsRequest::default())
    }

    /// A `resources/read`.
    pub fn read_resource(uri: impl Into<String>) -> Self {
        Self::new(ReadResourceRequest::new(ReadResourceRequestParams::new(
            uri,
        )))
    }

    /// A `prompts/get` with these arguments.
    pub fn get_prompt(name: impl Into<String>, arguments: JsonObject) -> Self {
        Self::new(GetPromptRequest::new(
            GetPromptRequestParams::new(name).with_arguments(arguments),
        ))
    }

    /// Takes the request apart. [`from_parts`](Self::from_parts) makes the same of both again, a notification
    /// too, as long as the message is the one it came with.
    pub fn into_parts(self) -> (ClientRequest, CallContext) {
        (self.0.message, self.0.context)
    }

    pub(crate) fn into_all_parts(self) -> RequestParts {
        *self.0
    }

    /// The notification, if that is what this carries.
    pub fn as_notification(&self) -> Option<&ClientNotification> {
        let notification = self.0.context.notification.as_deref()?;
        (notification_method(notification) == self.0.method()).then_some(notification)
    }
}

impl Deref for McpRequest {
    type Target = RequestParts;

    fn deref(&self) -> &RequestParts {
        &self.0
    }
}

impl DerefMut for McpRequest {
    fn deref_mut(&mut self) -> &mut RequestParts {
        &mut self.0
    }
}

impl RequestParts {
    /// The JSON-RPC method.
    pub fn method(&self) -> &str {
        self.message.method()
    }

    /// What the request is about, where it is about one thing: the tool's or prompt's name, the
    /// resource's or skill's URI, the task's id, the reference that is being completed.
    pub fn target(&self) -> Option<&str> {
        match &self.message {
            ClientRequest::CallToolRequest(request) => Some(&request.params.name),
            ClientRequest::GetPromptRequest(request) => Some(&request.params.name),
            ClientRequest::ReadResourceRequest(request) => Some(&request.params.uri),
            ClientRequest::ReadResourceDirectoryRequest(request) => Some(&request.params.uri),
            ClientRequest::SubscribeRequest(request) => Some(&request.params.uri),
            ClientRequest::UnsubscribeRequest(request) => Some(&request.params.uri),
            ClientRequest::GetSkillRequest(request) => Some(&request.params.uri),
            ClientRequest::GetTaskRequest(request) => Some(&request.params.task_id),
            ClientRequest::UpdateTaskRequest(request) => Some(&request.params.task_id),
            ClientRequest::CancelTaskRequest(request) => Some(&request.params.task_id),
            ClientRequest::CompleteRequest(request) => match &request.params.r#ref {
                Reference::Prompt(prompt) => Some(&prompt.name),
                Reference::Resource(resource) => Some(&resource.uri),
                _ => None,
            },
            _ => None,
        }
    }

    /// The tool that a call of [`CALL_TOOL`] is a call of.
    #[cfg(feature = "auth")]
    pub(crate) fn called_tool(&self) -> Option<&str> {
        let call = self.as_tool_call().filter(|call| call.name == CALL_TOOL)?;
        call.arguments.as_ref()?.get("name")?.as_str()
    }

    /// The params of a `tools/call`, if this is one.
    pub fn as_tool_call(&self) -> Option<&CallToolRequestParams> {
        match &self.message {
            ClientRequest::CallToolRequest(request) => Some(&request.params),
            _ => None,
        }
    }

    /// The params of a `tools/call`, to change them.
    pub fn as_tool_call_mut(&mut self) -> Option<&mut CallToolRequestParams> {
        match &mut self.message {
            ClientRequest::CallToolRequest(request) => Some(&mut request.params),
            _ => None,
        }
    }

    /// Whether the method only reads, by the specification: running it twice does no harm. A `tools/call` is not
    /// one, whatever its tool says of itself; see [`ToolHints`](crate::ToolHints) for that.
    pub fn is_read(&self) -> bool {
        matches!(
            self.message,
            ClientRequest::PingRequest(_)
                | ClientRequest::DiscoverRequest(_)
                | ClientRequest::CompleteRequest(_)
                | ClientRequest::ListToolsRequest(_)
                | ClientRequest::ListPromptsRequest(_)
                | ClientRequest::GetPromptRequest(_)
                | ClientRequest::ListResourcesRequest(_)
                | ClientRequest::ListResourceTemplatesRequest(_)
                | ClientRequest::ReadResourceRequest(_)
                | ClientRequest::ReadResourceDirectoryRequest(_)
                | ClientRequest::ListSkillsRequest(_)
                | ClientRequest::GetSkillRequest(_)
                | ClientRequest::GetTaskRequest(_)
        )
    }

    /// Whether this is a later round of a multi-round request (MCP 2026-07-28, SEP-2322): it answers
    /// what the server asked, or brings back its state.
    pub fn is_mrtr_round(&self) -> bool {
        match &self.message {
            ClientRequest::CallToolRequest(request) => {
                request.params.input_responses.is_some() || request.params.request_state.is_some()
            }
            ClientRequest::GetPromptRequest(request) => {
                request.params.input_responses.is_some() || request.params.request_state.is_some()
            }
            ClientRequest::ReadResourceRequest(request) => {
                request.params.input_responses.is_some() || request.params.request_state.is_some()
            }
            _ => false,
        }
    }

    pub(crate) fn take_notification(&mut self) -> Option<ClientNotification> {
        let notification = self.context.notification.take()?;
        (notification_method(&notification) == self.method()).then_some(*notification)
    }
}

impl CallContext {
    /// The context of a request with this id: no `_meta`, nobody to go back to, no deadline.
    pub fn new(id: RequestId) -> Self {
        Self {
            id,
            meta: RequestMetaObject::new(),
            extensions: Extensions::new(),
            cancellation: CancellationToken::new(),
            caller: Caller::detached(),
            deadline: None,
            notification: None,
            unreadable: None,
        }
    }

    /// Who is calling, if something has authenticated it.
    pub fn principal(&self) -> Option<&Principal> {
        self.extensions.get::<Principal>()
    }

    /// Says who is calling, for every layer further in.
    pub fn set_principal(&mut self, principal: Principal) {
        self.extensions.insert(principal);
    }

    /// The token by which the caller wants to hear of progress, if it wants to.
    pub fn progress_token(&self) -> Option<ProgressToken> {
        self.meta.get_progress_token()
    }

    /// The revision the caller speaks: what the request's `_meta` says, else the handshake.
    pub fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.meta.protocol_version().or_else(|| {
            let handshake = self.caller.handshake()?;
            Some(handshake.protocol_version.clone())
        })
    }

    /// The generation of the protocol the caller speaks. One that says nothing is in this process.
    pub(crate) fn era(&self) -> Era {
        self.protocol_version()
            .as_ref()
            .map_or(Era::Modern, Era::of)
    }

    /// What the caller can do: what the request's `_meta` says, else the handshake.
    pub fn client_capabilities(&self) -> Option<ClientCapabilities> {
        self.meta.client_capabilities().or_else(|| {
            let handshake = self.caller.handshake()?;
            Some(handshake.capabilities.clone())
        })
    }

    /// Which implementation the caller is: what the request's `_meta` says, else the handshake.
    pub fn client_info(&self) -> Option<Implementation> {
        self.meta.client_info().or_else(|| {
            let handshake = self.caller.handshake()?;
            Some(handshake.client_info.clone())
        })
    }
}

/// Builds a `tools/call`; see [`McpRequest::call_tool`].
#[derive(Clone, Debug)]
#[must_use = "call `build` to make the request"]
pub struct ToolCallBuilder {
    params: CallToolRequestParams,
    context: CallContext,
}

impl ToolCallBuilder {
    /// Adds one argument.
    pub fn argument(
        mut self,
        name: impl Into<String>,
        value: impl Into<serde_json::Value>,
    ) -> Self {
        self.params
            .arguments
            .get_or_insert_default()
            .insert(name.into(), value.into());
        self
    }

    /// Sets all arguments, replacing earlier ones.
    pub fn arguments(mut self, arguments: JsonObject) -> Self {
        self.params.arguments = Some(arguments);
        self
    }

    /// Adds one `_meta` entry.
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.context.meta.insert(key.into(), value.into());
        self
    }

    /// Asks for progress under this token.
    pub fn progress_token(mut self, token: ProgressToken) -> Self {
        self.context.meta.set_progress_token(token);
        self
    }

    /// Says who is calling.
    pub fn principal(mut self, principal: Principal) -> Self {
        self.context.set_principal(principal);
        self
    }

    /// Says where notifications and requests of the server go.
    pub fn caller(mut self, caller: Caller) -> Self {
        self.context.caller = caller;
        self
    }

    /// Says when the caller stops waiting.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.context.deadline = Some(deadline);
        self
    }

    /// Makes the request.
    pub fn build(self) -> McpRequest {
        McpRequest::from_parts(CallToolRequest::new(self.params).into(), self.context)
    }
}

/// In the extensions of a request that a layer makes of many servers: a server of a revision before
/// 2026-07-28 is asked only if it declared what the request is for, a list or log levels. Some
/// servers leave other methods unanswered.
#[cfg_attr(not(feature = "gateway"), allow(dead_code))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnlyDeclared;

/// Ids for requests that start inside the process.
pub(crate) fn next_id() -> RequestId {
    static NEXT: AtomicI64 = AtomicI64::new(1);
    RequestId::Number(NEXT.fetch_add(1, Ordering::Relaxed))
}

fn notification_method(notification: &ClientNotification) -> &str {
    use rmcp::model::ConstString;
    match notification {
        ClientNotification::CancelledNotification(inner) => inner.method.as_str(),
        ClientNotification::ProgressNotification(inner) => inner.method.as_str(),
        ClientNotification::InitializedNotification(inner) => inner.method.as_str(),
        ClientNotification::RootsListChangedNotification(inner) => inner.method.as_str(),
        ClientNotification::CustomNotification(inner) => &inner.method,
        _ => "notifications/unknown",
    }
}
