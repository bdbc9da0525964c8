//! Changes, told to who listens.

use super::*;

pub(super) fn tool_changes() -> SubscriptionFilter {
    let mut filter = SubscriptionFilter::new();
    filter.tools_list_changed = Some(true);
    filter
}

#[tokio::test(start_paused = true)]
async fn many_changes_are_told_as_one_to_each_who_listens_for_them() {
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    let client = McpClient::new(layer.into_service(info()));
    let mut listening = client.listen(tool_changes()).await.unwrap();
    assert_eq!(listening.accepted(), &tool_changes());
    for n in 0..100 {
        registry.register(says(&format!("tool-{n}"), "")).unwrap();
    }
    let change = listening.next().await.unwrap().unwrap();
    assert!(matches!(
        change,
        ServerNotification::ToolListChangedNotification(_)
    ));
    let more = tokio::time::timeout(in_seconds(60), listening.next()).await;
    assert!(more.is_err(), "one change for all");
    registry.unregister("tool-1").unwrap();
    listening.next().await.unwrap().unwrap();

    let mut prompts = SubscriptionFilter::new();
    prompts.prompts_list_changed = Some(true);
    let error = client.listen(prompts).await.unwrap_err();
    assert_eq!(
        error.as_protocol().unwrap().code,
        ErrorCode::METHOD_NOT_FOUND
    );
}

#[tokio::test(start_paused = true)]
async fn a_listen_reaches_the_inner_stack_and_is_acknowledged_once_for_both() {
    let inner = Upstream::builder().lifecycle(rmcp_layers::Lifecycle::Initialize);
    let inner = inner.in_process(Inner::default());
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    let client = McpClient::new(layer.layer(inner));
    let mut asked = tool_changes();
    asked.prompts_list_changed = Some(true);
    asked.resources_list_changed = Some(true);
    let mut listening = client.listen(asked).await.unwrap();
    // The inner stack tells of prompts and of neither tools nor resources.
    let mut both = tool_changes();
    both.prompts_list_changed = Some(true);
    assert_eq!(listening.accepted(), &both);
    registry.register(add()).unwrap();
    let change = listening.next().await.unwrap().unwrap();
    assert!(matches!(
        change,
        ServerNotification::ToolListChangedNotification(_)
    ));
}

#[tokio::test]
async fn a_caller_without_a_handshake_hears_of_changes_under_its_subscription() {
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    let served = Upstream::builder().lifecycle(rmcp_layers::Lifecycle::Discover);
    let client = McpClient::new(served.in_process(McpServer::new(layer.into_service(info()))));
    let mut listening = client.listen(tool_changes()).await.unwrap();
    assert_eq!(listening.accepted(), &tool_changes());
    registry.register(add()).unwrap();
    let change = listening.next().await.unwrap().unwrap();
    assert!(matches!(
        change,
        ServerNotification::ToolListChangedNotification(_)
    ));
}

/// Tells the first session that it had of something, outside of any call.
#[derive(Clone, Default)]
struct Late(Arc<std::sync::Mutex<Option<Peer<RoleServer>>>>);

impl ServerHandler for Late {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_logging()
            .enable_tools()
            .enable_tool_list_changed()
            .build();
        ServerConfig::new(capabilities)
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        *self.0.lock().unwrap() = Some(context.peer);
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = json!({ "type": "object" });
        let tool = Tool::new("echo", "Says it again", schema.as_object().unwrap().clone());
        Ok(ListToolsResult::with_all_items(vec![tool]))
    }
}

/// Notes what it hears in the log.
#[derive(Clone, Default)]
struct Log(Arc<Notify>);

impl ClientHandler for Log {
    async fn on_logging_message(
        &self,
        _params: LoggingMessageNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn a_listen_of_a_cache_over_a_registry_keeps_nothing_from_the_only_caller() {
    let server = Late::default();
    let inner = Upstream::builder().lifecycle(rmcp_layers::Lifecycle::Initialize);
    let inner = inner.in_process(server.clone());
    let cache = rmcp_layers::cache::CacheLayer::builder()
        .cache_method("tools/list", in_seconds(60))
        .build()
        .unwrap();
    let stack = cache.layer(RegistryLayer::new().layer(inner.clone()));
    let (client_io, server_io) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        let running = McpServer::new(stack).serve(server_io).await.unwrap();
        let _ = running.waiting().await;
    });
    let log = Log::default();
    let client = log.clone().serve(client_io).await.unwrap();
    client.list_all_tools().await.unwrap();
    let listening = async {
        // The session's own listen is the other one.
        while inner.in_flight() < 2 {
            tokio::task::yield_now().await;
        }
    };
    soon("the cache's listen", listening).await;
    let peer = server.0.lock().unwrap().clone().unwrap();
    let line = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!("late"));
    peer.notify_logging_message(line).await.unwrap();
    soon("the line", log.0.notified()).await;
}

#[tokio::test]
async fn a_background_listen_of_a_foreign_layer_keeps_nothing_from_the_only_caller() {
    let server = Late::default();
    let inner = Upstream::builder().lifecycle(rmcp_layers::Lifecycle::Initialize);
    let inner = inner.in_process(server.clone());
    let (client_io, server_io) = tokio::io::duplex(1 << 16);
    let stack = inner.clone();
    tokio::spawn(async move {
        let running = McpServer::new(stack).serve(server_io).await.unwrap();
        let _ = running.waiting().await;
    });
    let log = Log::default();
    let client = log.clone().serve(client_io).await.unwrap();
    client.list_all_tools().await.unwrap();

    let began = Arc::new(Notify::new());
    let begins = began.clone();
    let mut context = CallContext::background();
    context.caller = context.caller.take_acknowledgment(move |_| {
        begins.notify_one();
        Box::pin(std::future::ready(Ok(())))
    });
    let params = SubscriptionsListenRequestParams::new(tool_changes());
    let listen: ClientRequest = SubscriptionsListenRequest::new(params).into();
    tokio::spawn(tower::ServiceExt::oneshot(
        inner,
        McpRequest::from_parts(listen, context),
    ));
    soon("the background listen", began.notified()).await;
    let peer = server.0.lock().unwrap().clone().unwrap();
    let line = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!("late"));
    peer.notify_logging_message(line).await.unwrap();
    soon("the line", log.0.notified()).await;
}
