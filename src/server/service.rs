//! The rmcp interface of [`McpServer`]: each typed method goes down the stack as a request.

use std::{
    borrow::Cow,
    future::Future,
    sync::{LazyLock, atomic::Ordering},
    time::Duration,
};

use rmcp::{
    RoleServer, ServerHandler,
    model::*,
    service::{NotificationContext, RequestContext, SubscriptionContext},
};

use super::{MAX_HEADER_TOOLS, McpServer, lock, subscriptions};
use crate::{
    CallContext, Caller, McpRequest, Stack, context, listen, protocol,
    wire::{as_sent::AsSent, description, received::Received},
};

/// The time that a notification may run on after its session: it may have been the session's last
/// message.
const NOTIFICATION_GRACE: Duration = Duration::from_secs(1);

/// Methods whose params are a struct, or that have no optional params.
macro_rules! pass_on {
    ($($method:ident($Params:ty) -> $Result:ty = $Request:ident;)*) => {$(
        fn $method(
            &self,
            request: $Params,
            context: RequestContext<RoleServer>,
        ) -> impl Future<Output = Result<$Result, ErrorData>> + Send + '_ {
            let answer = self.call($Request::new(request), context);
            answer
        }
    )*};
}

/// List methods: their params are optional.
macro_rules! pass_on_list {
    ($($method:ident -> $Result:ty = $Request:ident;)*) => {$(
        fn $method(
            &self,
            request: Option<PaginatedRequestParams>,
            context: RequestContext<RoleServer>,
        ) -> impl Future<Output = Result<$Result, ErrorData>> + Send + '_ {
            let answer = self.call(list::<_, $Request>(request), context);
            answer
        }
    )*};
}

/// Returns a list request with these params.
fn list<M: Default, R: From<RequestOptionalParam<M, PaginatedRequestParams>>>(
    params: Option<PaginatedRequestParams>,
) -> R {
    let request = RequestOptionalParam::<M, PaginatedRequestParams> {
        params,
        ..Default::default()
    };
    request.into()
}

impl<S: Stack> ServerHandler for McpServer<S> {
    pass_on! {
        complete(CompleteRequestParams) -> CompleteResult = CompleteRequest;
        get_prompt(GetPromptRequestParams) -> GetPromptResponse = GetPromptRequest;
        read_resource(ReadResourceRequestParams) -> ReadResourceResponse = ReadResourceRequest;
        call_tool(CallToolRequestParams) -> CallToolResponse = CallToolRequest;
        get_task(GetTaskParams) -> GetTaskResult = GetTaskRequest;
        get_skill(GetSkillRequestParams) -> GetSkillResult = GetSkillRequest;
        read_resource_directory(ReadResourceDirectoryRequestParams) -> ReadResourceDirectoryResult
            = ReadResourceDirectoryRequest;
    }

    pass_on_list! {
        list_prompts -> ListPromptsResult = ListPromptsRequest;
        list_resources -> ListResourcesResult = ListResourcesRequest;
        list_resource_templates -> ListResourceTemplatesResult = ListResourceTemplatesRequest;
        list_skills -> ListSkillsResult = ListSkillsRequest;
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let request: ListToolsRequest = list(request);
        let listed: ListToolsResult = self.call(request, context).await?;
        self.remember_header_tools(&listed.tools);
        Ok(listed)
    }

    fn initialize(
        &self,
        request: InitializeRequestParams,
        mut context: RequestContext<RoleServer>,
    ) -> impl Future<Output = Result<InitializeResult, ErrorData>> + Send + '_ {
        Box::pin(async move {
            let peer = context.peer.clone();
            let mut handshake = request.clone();
            if !handshake.protocol_version.has_initialize() {
                // A caller that begins with a handshake is answered with a revision that has one.
                handshake.protocol_version = ProtocolVersion::LATEST_WITH_INITIALIZE;
            }
            peer.set_peer_info(handshake.clone());
            let received = Received::take(&mut context.extensions);
            let mut context = self.connection.context(context);
            context.id = context::next_id();
            let extensions = context.extensions.clone();
            let (_, text) = self.discover_stack(context).await?;
            let result = self.negotiate_initialize(&request)?;
            let text = text.and_then(|text| description::initialized(&text, &result));
            if let (Some(received), Some(text)) = (received, text) {
                received.set_answer(text);
            }
            handshake.protocol_version = result.protocol_version.clone();
            peer.set_peer_info(handshake);
            self.connection.begin_session();
            self.open_session_listen(peer, extensions).await;
            Ok(result)
        })
    }

    fn discover(
        &self,
        mut context: RequestContext<RoleServer>,
    ) -> impl Future<Output = Result<DiscoverResult, ErrorData>> + Send + '_ {
        Box::pin(async move {
            let received = Received::take(&mut context.extensions);
            let mut context = self.connection.context(context);
            let unreadable = received.as_ref().and_then(Received::unreadable);
            context.unreadable = unreadable.cloned();
            let (described, text) = self.discover_stack(context).await?;
            if let (Some(received), Some(text)) = (received, text) {
                received.set_answer(text);
            }
            Ok(described)
        })
    }

    async fn ping(&self, mut context: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        let received = Received::take(&mut context.extensions);
        match received.as_ref().and_then(Received::unreadable) {
            Some(unreadable) => Err(unreadable.answer(Ok(())).into()),
            None => Ok(()),
        }
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let level = request.level;
        let _: CustomResult = self.call(SetLevelRequest::new(request), context).await?;
        self.connection.session.set_log_level(level);
        Ok(())
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let _: CustomResult = self.call(UpdateTaskRequest::new(request), context).await?;
        Ok(())
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let _: CustomResult = self.call(CancelTaskRequest::new(request), context).await?;
        Ok(())
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        self.call(request, context).await
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        if self.listen_unsupported.load(Ordering::Relaxed) {
            return None;
        }
        self.subscriptions.open_window(&self.connection.shared);
        Some(requested.clone())
    }

    fn listen(
        &self,
        context: SubscriptionContext,
    ) -> impl Future<Output = Result<(), ErrorData>> + Send + '_ {
        Box::pin(async move {
            let filter = context.accepted().clone();
            let request = context.request_context().clone();
            let mut call = self.connection.context(request);
            let window = self.subscriptions.take_window(&self.connection.shared);
            call.caller = subscriptions::acknowledged(call.caller, window);
            match self
                .connection
                .dispatch(listen::request(filter, call))
                .await
            {
                Ok(_) => Ok(()),
                // The server ends the listen, which is not a failure.
                Err(_) if self.connection.session.closed().is_cancelled() => Ok(()),
                Err(error) => {
                    if error.code == ErrorCode::METHOD_NOT_FOUND {
                        self.listen_unsupported.store(true, Ordering::Relaxed);
                    }
                    Err(error)
                }
            }
        })
    }

    fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> impl Future<Output = Result<(), ErrorData>> + Send + '_ {
        Box::pin(async move {
            let uri = request.uri.clone();
            let answered = match is_refused(&context) {
                true => None,
                false => self.subscribe_session(uri, &context).await,
            };
            match answered {
                Some(answer) => answer,
                None => {
                    let _: CustomResult =
                        self.call(SubscribeRequest::new(request), context).await?;
                    Ok(())
                }
            }
        })
    }

    fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> impl Future<Output = Result<(), ErrorData>> + Send + '_ {
        Box::pin(async move {
            let uri = request.uri.clone();
            let answered = match is_refused(&context) {
                true => None,
                false => self.unsubscribe_session(uri, &context).await,
            };
            match answered {
                Some(answer) => answer,
                None => {
                    let _: CustomResult =
                        self.call(UnsubscribeRequest::new(request), context).await?;
                    Ok(())
                }
            }
        })
    }

    async fn on_cancelled(
        &self,
        params: CancelledNotificationParam,
        context: NotificationContext<RoleServer>,
    ) {
        self.notify(CancelledNotification::new(params), context);
    }

    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        context: NotificationContext<RoleServer>,
    ) {
        self.notify(ProgressNotification::new(params), context);
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        self.session_initialized();
        self.connection
            .open_to_transport(&context.extensions, &context.peer);
        self.notify(InitializedNotification::default(), context);
    }

    async fn on_roots_list_changed(&self, context: NotificationContext<RoleServer>) {
        self.notify(RootsListChangedNotification::default(), context);
    }

    async fn on_custom_notification(
        &self,
        notification: CustomNotification,
        context: NotificationContext<RoleServer>,
    ) {
        if let Some(notification) = protocol::from_client(notification.into()) {
            self.notify(notification, context);
        }
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        lock(&self.connection.shared.header_tools)
            .get(name)
            .cloned()
            .flatten()
    }

    fn get_info(&self) -> ServerConfig {
        // Unless this session was told a description, every request goes to the stack.
        if let Some(config) = &lock(&self.description).config {
            return config.clone();
        }
        let everything = ServerConfig::new(EVERYTHING.clone());
        match lock(&self.connection.shared.server_info).clone() {
            Some(info) => everything.with_server_info(info),
            None => everything,
        }
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        match &lock(&self.description).versions {
            Some(versions) => Cow::Owned(versions.clone()),
            None => Cow::Borrowed(ProtocolVersion::KNOWN_VERSIONS),
        }
    }
}

impl<S: Stack> McpServer<S> {
    /// Sends a client's notification down the stack without waiting for the result.
    fn notify(
        &self,
        notification: impl Into<ClientNotification>,
        context: NotificationContext<RoleServer>,
    ) {
        let mut notification = notification.into();
        // rmcp leaves `_meta` among the extensions.
        if let Some(meta) = context.extensions.get::<NotificationMetaObject>() {
            *notification.get_meta_mut() = meta.clone();
        }
        if let Some(kept) = AsSent::of(&context.extensions) {
            notification.extensions_mut().insert(kept);
        }
        let mut call = CallContext {
            extensions: context.extensions.clone(),
            meta: RequestMetaObject(context.meta.0.clone()),
            caller: Caller::from_peer(context.peer.clone())
                .in_form_of(&context.extensions)
                .in_session(self.connection.session.clone()),
            ..CallContext::default()
        };
        // A bottom that serves a handler passes this context on, because rmcp has no public
        // constructor for one.
        call.extensions.insert(context);
        let request = McpRequest::notification(notification, call);
        let method = request.method().to_owned();
        let Ok(room) = self.notifications.clone().try_acquire_owned() else {
            tracing::debug!(method, "dropped: too many notifications are on their way");
            return;
        };
        let passing = self.connection.dispatch(request);
        let closed = self.connection.session.closed().clone();
        // rmcp holds this server as long as the notification is served. Inside rmcp's future, the
        // session would live as long as its notification.
        tokio::spawn(async move {
            let _room = room;
            let over = async {
                closed.cancelled().await;
                tokio::time::sleep(NOTIFICATION_GRACE).await;
            };
            tokio::select! {
                biased;
                passed = passing => if let Err(error) = passed {
                    tracing::debug!(method, %error, "a client's notification was not passed on");
                },
                () = over => tracing::debug!(method, "dropped: the session has ended"),
            }
        });
    }

    /// Remembers the tools whose arguments are mirrored in HTTP headers (SEP-2243).
    fn remember_header_tools(&self, tools: &[Tool]) {
        let mut known = lock(&self.connection.shared.header_tools);
        for tool in tools {
            if let Some(before) = known.get_mut(&*tool.name) {
                if before
                    .as_ref()
                    .is_some_and(|before| before.input_schema != tool.input_schema)
                {
                    *before = None;
                }
            } else if known.len() < MAX_HEADER_TOOLS && mirrors_headers(tool) {
                known.insert(tool.name.to_string(), Some(tool.clone()));
            }
        }
    }
}

/// Returns `true` if a request is refused at the top of the stack.
fn is_refused(context: &RequestContext<RoleServer>) -> bool {
    Received::is_unreadable(&context.extensions) || protocol::has_odd_progress_token(&context.meta)
}

/// Returns `true` if a tool's schema marks an argument with `x-mcp-header`.
fn mirrors_headers(tool: &Tool) -> bool {
    fn marked(value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::Object(map) => {
                map.contains_key("x-mcp-header") || map.values().any(marked)
            }
            serde_json::Value::Array(items) => items.iter().any(marked),
            _ => false,
        }
    }
    tool.input_schema.values().any(marked)
}

/// The capabilities of a server that can do everything, so that rmcp's own checks let every request
/// pass to the stack. Without sessions, rmcp reads them for each request.
static EVERYTHING: LazyLock<ServerCapabilities> = LazyLock::new(everything);

fn everything() -> ServerCapabilities {
    let mut capabilities = ServerCapabilities::builder()
        .enable_completions()
        .enable_logging()
        .enable_prompts()
        .enable_prompts_list_changed()
        .enable_resources()
        .enable_resources_list_changed()
        .enable_resources_subscribe()
        .enable_tools()
        .enable_tool_list_changed()
        .enable_tasks()
        .build();
    let extensions = capabilities.extensions.get_or_insert_default();
    let skills = SkillsCapability::new().with_directory_read();
    if let Ok(serde_json::Value::Object(settings)) = serde_json::to_value(skills) {
        extensions.insert(SKILLS_EXTENSION_ID.to_owned(), settings);
    }
    capabilities
}
