//! Calls to a real server: a handler, an upstream in this process, and one over HTTP.

use std::{collections::BTreeMap, sync::Arc};

use futures::StreamExt;
use rmcp::{
    RoleServer, ServerHandler,
    model::*,
    service::{RequestContext, SubscriptionContext},
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use rmcp_layers::{Handler, Lifecycle, McpClient, McpServer, Upstream};
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{Person, changes, inputs, said};

/// A server with one of everything.
#[derive(Clone, Default)]
struct Everything {
    started: Arc<Notify>,
    cancelled: Arc<Notify>,
}

struct NotifyOnDrop(Arc<Notify>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl ServerHandler for Everything {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_prompts()
            .enable_resources()
            .enable_completions()
            .enable_logging()
            .build();
        ServerConfig::new(capabilities).with_server_info(Implementation::new("everything", "0.1.0"))
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let page: usize = request
            .and_then(|page| page.cursor)
            .map_or(0, |cursor| cursor.parse().unwrap());
        let tool = Tool::new(format!("tool{page}"), "", JsonObject::new());
        let mut listed = ListToolsResult::with_all_items(vec![tool]);
        listed.next_cursor = (page < 2).then(|| (page + 1).to_string());
        Ok(listed)
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(vec![Prompt::new(
            "greet",
            None::<String>,
            None,
        )]))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        if request.input_responses.is_none() {
            let wants =
                InputRequiredResult::new(Some(inputs(&["who"])), Some("greeting".to_owned()));
            return Ok(wants.into());
        }
        Ok(GetPromptResult::new(vec![])
            .with_description("Hello Ada")
            .into())
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        Ok(ReadResourceResult::new(vec![ResourceContents::text("body", request.uri)]).into())
    }

    async fn complete(
        &self,
        _request: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        Ok(CompleteResult::new(
            CompletionInfo::new(vec!["paris".to_owned()]).unwrap(),
        ))
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        for _ in 0..3 {
            let change = ToolListChangedNotification::default();
            context.sink().send(change.into()).await.unwrap();
        }
        context.cancelled().await;
        self.cancelled.notify_one();
        Ok(())
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        Ok(CustomResult::new(json!({ "echo": request.params })))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        match &*request.name {
            "count" => {
                let token = context.meta.get_progress_token().unwrap();
                for step in 1..=1_000 {
                    let params = ProgressNotificationParam::new(token.clone(), f64::from(step));
                    context.peer.notify_progress(params).await.unwrap();
                }
            }
            "wait" => {
                // A handler's future is dropped or its token fires, whichever is first.
                let _tell = NotifyOnDrop(self.cancelled.clone());
                self.started.notify_one();
                context.ct.cancelled().await;
            }
            "roots" => {
                let roots = context
                    .peer
                    .list_roots()
                    .await
                    .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
                let uri = roots.roots[0].uri.clone();
                return Ok(CallToolResult::success(vec![ContentBlock::text(uri)]).into());
            }
            "fail" => return Err(ErrorData::invalid_params("no such number", Some(json!(7)))),
            _ => {}
        }
        Ok(CallToolResult::success(vec![ContentBlock::text("done")]).into())
    }
}

#[tokio::test]
async fn every_request_of_the_protocol_has_its_typed_answer() {
    let client = McpClient::builder(Handler::new(Everything::default()))
        .handler(Person::default())
        .build();

    let discovered = client.discover().await.unwrap();
    assert_eq!(discovered.server_info().unwrap().name, "everything");
    let tools = client.list_all_tools().await.unwrap();
    assert_eq!(
        tools.iter().map(|tool| &*tool.name).collect::<Vec<_>>(),
        ["tool0", "tool1", "tool2"]
    );
    let page = client.list_tools(Some("2".to_owned())).await.unwrap();
    assert_eq!((&*page.tools[0].name, page.next_cursor), ("tool2", None));
    assert_eq!(client.list_all_prompts().await.unwrap()[0].name, "greet");
    assert!(client.list_all_resources().await.unwrap().is_empty());
    assert!(
        client
            .list_all_resource_templates()
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(said(&client.call_tool("any").await.unwrap()), "done");
    let prompt = client.get_prompt("greet", JsonObject::new()).await.unwrap();
    assert_eq!(prompt.description.as_deref(), Some("Hello Ada"));
    let once = client
        .get_prompt_once(GetPromptRequestParams::new("greet"))
        .await
        .unwrap();
    assert!(matches!(once, GetPromptResponse::InputRequired(_)));
    let read = client.read_resource("file:///a").await.unwrap();
    assert_eq!(read.contents.len(), 1);
    let argument = ArgumentInfo::new("city", "pa");
    let params = CompleteRequestParams::new(Reference::for_prompt("greet"), argument);
    assert_eq!(
        client.complete(params).await.unwrap().completion.values,
        ["paris"]
    );
    let custom = CustomRequest::new("acme/echo", Some(json!({ "a": 1 })));
    assert_eq!(
        client.custom_request(custom).await.unwrap().0["echo"]["a"],
        1
    );
    client
        .notify(RootsListChangedNotification::default())
        .await
        .unwrap();

    let error = client.call_tool("fail").await.unwrap_err();
    let wire = error.as_protocol().unwrap();
    assert_eq!(
        (wire.code, wire.data.clone()),
        (ErrorCode::INVALID_PARAMS, Some(json!(7)))
    );
    client.ping().await.unwrap();
    client.set_level(LoggingLevel::Error).await.unwrap();
    // What 2026-07-28 took away, its servers do not know.
    for gone in [
        client.subscribe("file:///a").await,
        client.unsubscribe("file:///a").await,
        client.get_task("t").await.map(|_| ()),
        client.update_task("t", BTreeMap::new()).await,
        client.cancel_task("t").await,
        client.list_all_skills().await.map(|_| ()),
        client.get_skill("skill://a/SKILL.md").await.map(|_| ()),
        client
            .read_resource_directory("file:///", None)
            .await
            .map(|_| ()),
    ] {
        let code = gone.unwrap_err().as_protocol().unwrap().code;
        assert_eq!(code, ErrorCode::METHOD_NOT_FOUND);
    }
}

#[tokio::test]
async fn a_thousand_progress_notifications_arrive_in_order_beside_the_result() {
    let client = McpClient::new(Handler::new(Everything::default()));
    let mut call = client.call_tool("count").with_progress();
    let mut steps = Vec::new();
    while let Some(progress) = call.next().await {
        steps.push(progress.progress);
    }
    let expected: Vec<f64> = (1..=1_000).map(f64::from).collect();
    assert_eq!(steps, expected);
    assert_eq!(said(&call.await.unwrap()), "done");
}

#[tokio::test]
async fn progress_that_nobody_reads_does_not_hold_up_the_result() {
    let client = McpClient::new(Handler::new(Everything::default()));
    let unread = client.call_tool("count").with_progress();
    assert_eq!(said(&unread.await.unwrap()), "done");

    let mut half_read = client.call_tool("count").with_progress();
    assert_eq!(half_read.next().await.unwrap().progress, 1.0);
    assert_eq!(said(&half_read.await.unwrap()), "done");
}

#[tokio::test]
async fn dropping_the_call_cancels_it_upstream() {
    let server = Everything::default();
    let client = McpClient::new(Upstream::builder().in_process(server.clone()));
    tokio::select! {
        _ = client.call_tool("wait").into_future() => unreachable!("it waits to be cancelled"),
        () = server.started.notified() => {}
    }
    server.cancelled.notified().await;

    let token = CancellationToken::new();
    let call = client.call_tool("wait").cancelled_by(token.clone());
    let call = tokio::spawn(call.into_future());
    server.started.notified().await;
    token.cancel();
    assert!(call.await.unwrap().unwrap_err().is_cancelled());
    server.cancelled.notified().await;

    assert_eq!(said(&client.call_tool("any").await.unwrap()), "done");
}

#[tokio::test]
async fn an_older_servers_own_request_is_answered_by_the_handler() {
    let stack = || {
        Upstream::builder()
            .lifecycle(Lifecycle::Initialize)
            .in_process(Everything::default())
    };
    let client = McpClient::builder(stack())
        .handler(Person::default())
        .build();
    assert_eq!(
        said(&client.call_tool("roots").await.unwrap()),
        "file:///srv"
    );
    client.ping().await.unwrap();

    let nobody = McpClient::new(stack());
    assert!(nobody.call_tool("roots").await.unwrap_err().is_protocol());
}

#[tokio::test]
async fn a_servers_changes_arrive_and_it_hears_when_nobody_listens_any_more() {
    let server = Everything::default();
    let client = McpClient::new(Handler::new(server.clone()));
    let asked = SubscriptionFilter::builder()
        .tools_list_changed()
        .prompts_list_changed()
        .build();
    let mut changed = client.listen(asked).await.unwrap();
    // The server has not announced changes of its prompts.
    assert_eq!(*changed.accepted(), changes());
    for _ in 0..3 {
        let change = changed.next().await.unwrap().unwrap();
        assert!(matches!(
            change,
            ServerNotification::ToolListChangedNotification(_)
        ));
    }
    drop(changed);
    server.cancelled.notified().await;
}

#[tokio::test]
async fn a_client_of_an_older_revision_is_one_all_the_way_down() {
    let client = McpClient::builder(Handler::new(Everything::default()))
        .handler(Person::default())
        .protocol_version(ProtocolVersion::V_2025_11_25)
        .build();
    assert_eq!(
        said(&client.call_tool("roots").await.unwrap()),
        "file:///srv"
    );
    assert_eq!(client.list_all_tools().await.unwrap().len(), 3);
    assert_eq!(
        client.discover().await.unwrap().server_info().unwrap().name,
        "everything"
    );
}

#[tokio::test]
async fn a_call_over_http_has_its_progress_its_input_and_its_cancellation() {
    let server = Everything::default();
    let config = StreamableHttpServerConfig::default();
    let stop = config.cancellation_token.clone();
    let session = server.clone();
    let service = StreamableHttpService::new(
        move || Ok(McpServer::new(Handler::new(session.clone()))),
        Arc::new(LocalSessionManager::default()),
        config,
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = axum::Router::new().route_service("/mcp", service);
    let serving = tokio::spawn(axum::serve(listener, router).into_future());

    for lifecycle in [Lifecycle::Discover, Lifecycle::Initialize] {
        let upstream = Upstream::builder()
            .lifecycle(lifecycle)
            .http(&*url)
            .unwrap();
        let client = McpClient::builder(upstream)
            .handler(Person::default())
            .build();
        let mut call = client.call_tool("count").with_progress();
        let mut last = 0.0;
        let mut steps = 0;
        while let Some(progress) = call.next().await {
            assert!(progress.progress > last);
            (last, steps) = (progress.progress, steps + 1);
        }
        assert_eq!(steps, 1_000);
        assert_eq!(said(&call.await.unwrap()), "done");

        tokio::select! {
            _ = client.call_tool("wait").into_future() => unreachable!("it waits to be cancelled"),
            () = server.started.notified() => {}
        }
        server.cancelled.notified().await;

        let asked_back = match lifecycle {
            Lifecycle::Initialize => {
                said(&client.call_tool("roots").await.unwrap()) == "file:///srv"
            }
            _ => client.get_prompt("greet", JsonObject::new()).await.is_ok(),
        };
        assert!(asked_back);
    }
    stop.cancel();
    serving.abort();
}
