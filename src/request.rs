use std::ops::{Deref, DerefMut};

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientNotification, ClientRequest, CustomRequest,
    GetExtensions, GetMeta, GetPromptRequest, GetPromptRequestParams, JsonObject, ListToolsRequest,
    ProgressToken, ReadResourceRequest, ReadResourceRequestParams, RequestMetaObject,
};
use tokio::time::Instant;

use crate::{
    CallContext, Caller, Lossless, Principal,
    protocol::{
        methods::{self, Effect, Method},
        notifications,
    },
};

/// The tool that a registry lists in place of a catalogue. It calls the tool named by its argument
/// `name`.
pub(crate) const CALL_TOOL: &str = "call_tool";

/// A request on its way through a stack.
///
/// It dereferences to its [`RequestParts`]: `request.message` is rmcp's own [`ClientRequest`], with
/// the text that it was read from, and `request.context` has the facts of the call that are not in
/// the message. The parts are boxed,
/// because rmcp's message is several hundred bytes and a stack moves a request through many
/// futures.
///
/// A client's notifications (`notifications/roots/list_changed`, custom ones) pass through the
/// stack as requests without a waiting caller; see [`McpRequest::notification`].
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
    /// The message. Its `_meta` and extensions are empty: they are in the context.
    pub message: Lossless<ClientRequest>,
    /// The facts of this call beside its message.
    pub context: CallContext,
}

impl McpRequest {
    /// Returns the call for which a call of a registry's `call_tool` stands. A layer that decides on
    /// calls decides on both.
    pub fn inner_call(&self) -> Option<Self> {
        let name = self.inner_tool()?.to_owned();
        let params = self.message.inner_call_params();
        let mut inner = self.clone();
        let call = inner.as_tool_call_mut()?;
        call.name = name.into();
        call.arguments = match call.arguments.take()?.shift_remove("arguments") {
            Some(serde_json::Value::Object(arguments)) => Some(arguments),
            _ => None,
        };
        if let Some(params) = params {
            inner.message.set_text(params);
        }
        Some(inner)
    }

    /// Creates a request with this message and a new context: a fresh id and a
    /// [detached](Caller::detached) caller.
    ///
    /// The `_meta` and extensions of the message move into the context.
    pub fn new(message: impl Into<ClientRequest>) -> Self {
        let mut message = message.into();
        let meta = std::mem::take(message.get_meta_mut());
        let mut extensions = std::mem::take(message.extensions_mut());
        extensions.remove::<RequestMetaObject>();
        let context = CallContext {
            meta,
            extensions,
            ..CallContext::default()
        };
        Self::from_parts(message, context)
    }

    /// Creates a request from a message and a context.
    pub fn from_parts(message: impl Into<Lossless<ClientRequest>>, context: CallContext) -> Self {
        let message = message.into();
        Self(Box::new(RequestParts { message, context }))
    }

    /// Creates the request that carries a client's notification through a stack.
    ///
    /// Its [`method`](RequestParts::method) is that of the notification. Its message is a custom
    /// request of that method without params, and [`as_notification`](Self::as_notification)
    /// returns the notification itself. A stack answers it with an empty result as soon as the
    /// notification has been passed on. Layers without support for notifications pass it on like
    /// any unknown method.
    pub fn notification(
        notification: impl Into<ClientNotification>,
        mut context: CallContext,
    ) -> Self {
        let notification = notification.into();
        let method = notifications::client_method(&notification).to_owned();
        context.notification = Some(Box::new(notification));
        let message: ClientRequest = CustomRequest::new(method, None).into();
        Self::from_parts(message, context)
    }

    /// Returns a builder of a `tools/call`.
    pub fn call_tool(name: impl Into<String>) -> ToolCallBuilder {
        ToolCallBuilder {
            params: CallToolRequestParams::new(name.into()),
            context: CallContext::default(),
        }
    }

    /// Creates a `tools/list` for the first page.
    pub fn list_tools() -> Self {
        Self::new(ListToolsRequest::default())
    }

    /// Creates a `resources/read`.
    pub fn read_resource(uri: impl Into<String>) -> Self {
        Self::new(ReadResourceRequest::new(ReadResourceRequestParams::new(
            uri,
        )))
    }

    /// Creates a `prompts/get` with these arguments.
    pub fn get_prompt(name: impl Into<String>, arguments: JsonObject) -> Self {
        Self::new(GetPromptRequest::new(
            GetPromptRequestParams::new(name).with_arguments(arguments),
        ))
    }

    /// Returns the message and the context. [`from_parts`](Self::from_parts) restores the request
    /// from them, including a notification, as long as the message is the original one.
    pub fn into_parts(self) -> (Lossless<ClientRequest>, CallContext) {
        (self.0.message, self.0.context)
    }

    pub(crate) fn into_all_parts(self) -> RequestParts {
        *self.0
    }

    /// Returns the notification, if the request carries one.
    pub fn as_notification(&self) -> Option<&ClientNotification> {
        let notification = self.0.context.notification.as_deref()?;
        (notifications::client_method(notification) == self.0.method()).then_some(notification)
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
    /// Returns the JSON-RPC method.
    pub fn method(&self) -> &str {
        self.message.method()
    }

    /// Returns the target of the request, if it has exactly one: the name of a tool or prompt, the
    /// URI of a resource or skill, the id of a task, or the reference of a completion.
    pub fn target(&self) -> Option<&str> {
        methods::target(&self.message).map(|target| target.name)
    }

    /// Returns the name of the tool that a call of a registry's `call_tool` calls.
    pub fn inner_tool(&self) -> Option<&str> {
        let call = self.as_tool_call().filter(|call| call.name == CALL_TOOL)?;
        call.arguments.as_ref()?.get("name")?.as_str()
    }

    /// Returns the params of a `tools/call`.
    pub fn as_tool_call(&self) -> Option<&CallToolRequestParams> {
        match &*self.message {
            ClientRequest::CallToolRequest(request) => Some(&request.params),
            _ => None,
        }
    }

    /// Returns the params of a `tools/call` for changes.
    pub fn as_tool_call_mut(&mut self) -> Option<&mut CallToolRequestParams> {
        self.as_tool_call()?;
        match &mut *self.message {
            ClientRequest::CallToolRequest(request) => Some(&mut request.params),
            _ => None,
        }
    }

    /// Returns `true` if the method only reads, by the specification, so that it can be repeated
    /// without harm. A `tools/call` is not a read, whatever its tool declares; see
    /// [`ToolHints`](crate::ToolHints) for such declarations.
    pub fn is_read(&self) -> bool {
        Method::of(&self.message).is_some_and(|method| method.row().effect == Effect::Reads)
    }

    /// Returns `true` if this is a later round of a multi-round request (MCP 2026-07-28, SEP-2322):
    /// it has answers to the server's requests for input, or the server's state.
    pub fn is_mrtr_round(&self) -> bool {
        methods::is_later_round(&self.message)
    }

    /// Returns `true` if this is a `subscriptions/listen`.
    pub fn is_listen(&self) -> bool {
        matches!(*self.message, ClientRequest::SubscriptionsListenRequest(_))
    }

    /// Returns `true` unless this asks for a later page of a list of tools.
    #[cfg(any(feature = "budget", feature = "delegate", feature = "registry"))]
    pub(crate) fn is_first_page(&self) -> bool {
        match &*self.message {
            ClientRequest::ListToolsRequest(list) => {
                let params = list.params.as_ref();
                params.is_none_or(|params| params.cursor.is_none())
            }
            _ => true,
        }
    }

    pub(crate) fn take_notification(&mut self) -> Option<ClientNotification> {
        let notification = self.context.notification.take()?;
        (notifications::client_method(&notification) == self.method()).then_some(*notification)
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

    /// Asks for progress notifications with this token.
    pub fn progress_token(mut self, token: ProgressToken) -> Self {
        self.context.meta.set_progress_token(token);
        self
    }

    /// Sets the principal on whose behalf the call is made.
    pub fn principal(mut self, principal: Principal) -> Self {
        self.context.set_principal(principal);
        self
    }

    /// Sets the destination of the server's notifications and requests.
    pub fn caller(mut self, caller: Caller) -> Self {
        self.context.caller = caller;
        self
    }

    /// Sets the time at which the caller stops waiting.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.context.deadline = Some(deadline);
        self
    }

    /// Returns the request.
    pub fn build(self) -> McpRequest {
        let message: ClientRequest = CallToolRequest::new(self.params).into();
        McpRequest::from_parts(message, self.context)
    }
}
