//! What `McpClient` promises, over stub stacks and over real handlers and upstreams.

#![expect(
    deprecated,
    reason = "callers and servers of older revisions are served too"
)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, future::pending};
use rmcp::{
    ClientHandler, RoleClient, RoleServer, ServerHandler,
    model::*,
    service::{NotificationContext, RequestContext, SubscriptionContext},
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use rmcp_layers::{
    CallContext, Error, Handler, Lifecycle, McpClient, McpRequest, McpResponse, McpServer, Upstream,
};
use serde_json::json;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tower::util::BoxCloneService;

type Answer = Result<McpResponse, Error>;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn text(text: impl Into<String>) -> McpResponse {
    McpResponse::new(CallToolResult::success(vec![ContentBlock::text(text)]))
}

fn said(result: &CallToolResult) -> &str {
    &result.content[0].as_text().unwrap().text
}

async fn report(context: &CallContext, progress: u32) {
    let token = context.progress_token().unwrap();
    let params = ProgressNotificationParam::new(token, f64::from(progress));
    context
        .caller
        .notify(ProgressNotification::new(params).into())
        .await
        .unwrap();
}

fn log(data: &str) -> ServerNotification {
    let params = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!(data));
    LoggingMessageNotification::new(params).into()
}

fn ask_name() -> InputRequest {
    let schema = ElicitationSchema::builder()
        .required_string("name")
        .build()
        .unwrap();
    InputRequest::Elicitation(ElicitRequest::new(
        ElicitRequestParams::FormElicitationParams {
            meta: None,
            message: "Who are you?".to_owned(),
            requested_schema: schema,
        },
    ))
}

fn inputs(keys: &[&str]) -> InputRequests {
    keys.iter()
        .map(|key| ((*key).to_owned(), ask_name()))
        .collect()
}

/// Answers everything, and remembers what it heard.
#[derive(Clone, Default)]
struct Person {
    heard: Arc<Mutex<Vec<String>>>,
    slow: Option<Duration>,
    elicited: Arc<AtomicUsize>,
}

impl ClientHandler for Person {
    async fn create_elicitation(
        &self,
        _request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        self.elicited.fetch_add(1, Ordering::SeqCst);
        if let Some(slow) = self.slow {
            tokio::time::sleep(slow).await;
        }
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({ "name": "Ada" })))
    }

    async fn list_roots(
        &self,
        _context: RequestContext<RoleClient>,
    ) -> Result<ListRootsResult, ErrorData> {
        Ok(ListRootsResult::new(vec![Root::new("file:///srv")]))
    }

    async fn on_logging_message(
        &self,
        params: LoggingMessageNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        let data = params.data.as_str().unwrap_or_default().to_owned();
        self.heard.lock().unwrap().push(data);
    }

    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        self.heard
            .lock()
            .unwrap()
            .push(format!("progress {}", params.progress));
    }

    async fn on_tool_list_changed(&self, context: NotificationContext<RoleClient>) {
        let tools = context.peer.list_all_tools().await.unwrap();
        self.heard
            .lock()
            .unwrap()
            .extend(tools.iter().map(|tool| tool.name.to_string()));
    }

    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder()
            .enable_elicitation()
            .enable_roots()
            .enable_tasks()
            .build();
        ClientConfig::new(capabilities, Implementation::new("person", "1.2.3"))
    }
}

// ---------------------------------------------------------------------------------------------
// A real handler
// ---------------------------------------------------------------------------------------------

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

// ---------------------------------------------------------------------------------------------
// What a request says, and who hears what comes back
// ---------------------------------------------------------------------------------------------

#[tokio::test]
async fn every_request_says_who_the_client_is() {
    let stack = tower::service_fn(|request: McpRequest| async move {
        let context = &request.context;
        assert_eq!(
            context.protocol_version(),
            Some(ProtocolVersion::V_2026_07_28)
        );
        assert_eq!(context.client_info().unwrap().name, "person");
        assert!(context.client_capabilities().unwrap().supports_tasks());
        assert!(context.caller.session_id().is_some());
        assert!(context.deadline.is_some());
        let level = context.meta.log_level();
        Answer::Ok(text(format!(
            "{} {level:?}",
            context.meta.get("traceparent").unwrap_or(&json!(null))
        )))
    });
    let client = McpClient::builder(stack)
        .handler(Person::default())
        .total_timeout(seconds(5))
        .build();
    let call = || client.call_tool("any").meta("traceparent", "00-1");
    assert_eq!(said(&call().await.unwrap()), r#""00-1" None"#);
    client.set_level(LoggingLevel::Error).await.unwrap();
    assert_eq!(said(&call().await.unwrap()), r#""00-1" Some(Error)"#);

    let raw = McpRequest::call_tool("any")
        .meta("traceparent", "00-2")
        .build();
    let response = client.send(raw).await.unwrap();
    assert_eq!(
        said(response.as_tool_result().unwrap()),
        r#""00-2" Some(Error)"#
    );
}

#[tokio::test]
async fn notifications_reach_the_handler_in_order_and_its_peer_leads_down_the_stack() {
    let stack = tower::service_fn(|request: McpRequest| async move {
        if request.method() == "tools/list" {
            let tool = Tool::new("found", "", JsonObject::new());
            return Answer::Ok(McpResponse::new(ListToolsResult::with_all_items(vec![
                tool,
            ])));
        }
        for n in 0..100 {
            request.context.caller.notify(log(&n.to_string())).await?;
        }
        report(&request.context, 7).await;
        request
            .context
            .caller
            .notify(ToolListChangedNotification::default().into())
            .await?;
        Ok(text("done"))
    });
    let person = Person::default();
    let client = McpClient::builder(stack).handler(person.clone()).build();
    client.call_tool("any").await.unwrap();
    let mut expected: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    expected.extend(["progress 7".to_owned(), "found".to_owned()]);
    assert_eq!(*person.heard.lock().unwrap(), expected);
}

#[tokio::test]
async fn without_a_handler_a_servers_request_is_method_not_found() {
    let stack = tower::service_fn(|request: McpRequest| async move {
        request.context.caller.notify(log("dropped")).await?;
        request
            .context
            .caller
            .request(ServerRequest::PingRequest(Default::default()))
            .await?;
        let roots = ServerRequest::ListRootsRequest(Default::default());
        request.context.caller.request(roots).await?;
        Answer::Ok(text("unreachable"))
    });
    let error = McpClient::new(stack).call_tool("any").await.unwrap_err();
    assert_eq!(
        error.as_protocol().unwrap().code,
        ErrorCode::METHOD_NOT_FOUND
    );
}

#[tokio::test]
async fn one_client_serves_many_tasks_at_once_over_a_stack_that_is_not_sync() {
    let meet = Arc::new(tokio::sync::Barrier::new(32));
    let stack = BoxCloneService::new(tower::service_fn(move |request: McpRequest| {
        let meet = meet.clone();
        async move {
            meet.wait().await;
            Answer::Ok(text(request.target().unwrap()))
        }
    }));
    let client = Arc::new(McpClient::new(stack));
    let calls = (0..32).map(|n| {
        let client = client.clone();
        tokio::spawn(async move { client.call_tool(format!("t{n}")).await.unwrap() })
    });
    for (n, call) in futures::future::join_all(calls)
        .await
        .into_iter()
        .enumerate()
    {
        assert_eq!(said(&call.unwrap()), format!("t{n}"));
    }
}

// ---------------------------------------------------------------------------------------------
// Time
// ---------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_silent_server_times_out_and_the_stacks_future_is_dropped() {
    let token = Arc::new(Mutex::new(None));
    let stack = tower::service_fn({
        let token = token.clone();
        move |request: McpRequest| {
            *token.lock().unwrap() = Some(request.context.cancellation.clone());
            pending::<Answer>()
        }
    });
    let started = Instant::now();
    let error = McpClient::new(stack).call_tool("any").await.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(started.elapsed(), seconds(60));
    assert!(token.lock().unwrap().as_ref().unwrap().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn progress_resets_the_idle_timeout_but_not_the_total_one() {
    let stack = tower::service_fn(|request: McpRequest| async move {
        for step in 1..=10 {
            tokio::time::sleep(seconds(9)).await;
            report(&request.context, step).await;
        }
        Answer::Ok(text("done"))
    });
    let client = McpClient::builder(stack).idle_timeout(seconds(10)).build();
    let started = Instant::now();
    assert_eq!(said(&client.call_tool("any").await.unwrap()), "done");
    assert_eq!(started.elapsed(), seconds(90));

    let started = Instant::now();
    let error = client
        .call_tool("any")
        .total_timeout(seconds(25))
        .await
        .unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(started.elapsed(), seconds(25));

    let started = Instant::now();
    let error = client
        .call_tool("any")
        .idle_timeout(seconds(8))
        .await
        .unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(started.elapsed(), seconds(8));

    let patient = client
        .call_tool("any")
        .idle_timeout(None)
        .total_timeout(Duration::MAX);
    assert_eq!(said(&patient.await.unwrap()), "done");
}

#[tokio::test(start_paused = true)]
async fn the_idle_timeout_stands_still_while_the_handler_is_at_work() {
    let stack = tower::service_fn(|request: McpRequest| async move {
        let InputRequest::Elicitation(ask) = ask_name() else {
            unreachable!()
        };
        request
            .context
            .caller
            .request(ServerRequest::ElicitRequest(ask))
            .await?;
        tokio::time::sleep(seconds(9)).await;
        Answer::Ok(text("done"))
    });
    let person = Person {
        slow: Some(seconds(300)),
        ..Person::default()
    };
    let client = McpClient::builder(stack)
        .handler(person)
        .idle_timeout(seconds(10))
        .build();
    let started = Instant::now();
    assert_eq!(said(&client.call_tool("any").await.unwrap()), "done");
    assert_eq!(started.elapsed(), seconds(309));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_progress_loses_none_of_it_and_is_not_timed_out() {
    let stack = tower::service_fn(|request: McpRequest| async move {
        for step in 1..=100 {
            report(&request.context, step).await;
        }
        Answer::Ok(text("done"))
    });
    let client = McpClient::builder(stack).idle_timeout(seconds(10)).build();
    let mut call = client.call_tool("any").with_progress();
    let mut steps = 0;
    while let Some(_progress) = call.next().await {
        tokio::time::sleep(seconds(20)).await;
        steps += 1;
    }
    assert_eq!(steps, 100);
    call.await.unwrap();
}

// ---------------------------------------------------------------------------------------------
// Pages
// ---------------------------------------------------------------------------------------------

fn pages(
    next: fn(usize) -> String,
) -> (
    impl Fn() -> McpClient<BoxCloneService<McpRequest, McpResponse, Error>>,
    Arc<AtomicUsize>,
) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let client = move || {
        let count = count.clone();
        McpClient::new(BoxCloneService::new(tower::service_fn(
            move |_request: McpRequest| {
                let n = count.fetch_add(1, Ordering::SeqCst);
                let tool = Tool::new(format!("tool{n}"), "", JsonObject::new());
                let mut page = ListToolsResult::with_all_items(vec![tool]);
                page.next_cursor = Some(next(n));
                std::future::ready(Answer::Ok(McpResponse::new(page)))
            },
        )))
    };
    (client, asked)
}

#[tokio::test]
async fn a_list_ends_where_a_cursor_is_repeated() {
    let (client, asked) = pages(|n| (n % 3).to_string());
    assert_eq!(client().list_all_tools().await.unwrap().len(), 4);
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_list_without_an_end_ends_after_1000_pages() {
    let (client, asked) = pages(|n| n.to_string());
    assert_eq!(client().list_all_tools().await.unwrap().len(), 1_000);
    assert_eq!(asked.load(Ordering::SeqCst), 1_000);
}

// ---------------------------------------------------------------------------------------------
// Input
// ---------------------------------------------------------------------------------------------

/// Wants input for as many rounds, and checks that its state comes back as it was.
fn curious(
    rounds: usize,
) -> impl tower::Service<
    McpRequest,
    Response = McpResponse,
    Error = Error,
    Future = impl Future<Output = Answer> + Send,
> + Clone
+ Send
+ 'static {
    let asked = Arc::new(AtomicUsize::new(0));
    tower::service_fn(move |request: McpRequest| {
        let call = request.as_tool_call().unwrap();
        let n = asked.fetch_add(1, Ordering::SeqCst);
        let state = (n > 0).then(|| format!("state {n}\u{0}é"));
        assert_eq!(call.request_state, state);
        assert_eq!(call.input_responses.is_some(), n > 0);
        for answer in call.input_responses.iter().flatten() {
            assert_eq!(
                *answer.1,
                json!({ "action": "accept", "content": { "name": "Ada" } })
            );
        }
        assert_eq!(call.arguments.as_ref().unwrap()["a"], 1);
        let wants = InputRequiredResult::new(
            Some(inputs(&["x", "y"])),
            Some(format!("state {}\u{0}é", n + 1)),
        );
        let result: CallToolResponse = if n < rounds {
            wants.into()
        } else {
            CallToolResult::success(vec![ContentBlock::text(n.to_string())]).into()
        };
        std::future::ready(Answer::Ok(McpResponse::new(ServerResult::from(result))))
    })
}

#[tokio::test]
async fn an_input_request_is_answered_by_the_handler_and_the_call_goes_on() {
    let person = Person::default();
    let client = McpClient::builder(curious(3))
        .handler(person.clone())
        .build();
    let result = client.call_tool("any").argument("a", 1).await.unwrap();
    assert_eq!(said(&result), "3");
    assert_eq!(person.elicited.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn a_server_that_goes_on_asking_is_given_up_after_the_rounds_allowed() {
    let person = Person::default();
    let client = McpClient::builder(curious(99))
        .handler(person.clone())
        .mrtr_max_rounds(4)
        .build();
    let error = client.call_tool("any").argument("a", 1).await.unwrap_err();
    assert!(error.is_refused());
    assert!(error.to_string().contains("after 4 rounds"), "{error}");
    assert!(!error.is_not_delivered());
    assert_eq!(person.elicited.load(Ordering::SeqCst), 8);
}

#[tokio::test]
async fn without_a_handler_input_is_an_error_that_says_what_to_do_and_once_gives_it_back() {
    let error = McpClient::new(curious(1))
        .call_tool("any")
        .argument("a", 1)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("handler"), "{error}");

    let client = McpClient::new(curious(1));
    let call = || client.call_tool("any").argument("a", 1);
    let CallToolResponse::InputRequired(wants) = call().once().await.unwrap() else {
        panic!("input was to be wanted");
    };
    let answer = json!({ "action": "accept", "content": { "name": "Ada" } });
    let answers = BTreeMap::from([("x".to_owned(), answer)]);
    assert_eq!(
        said(
            &call()
                .input(Some(answers), wants.request_state)
                .await
                .unwrap()
        ),
        "1"
    );
}

#[tokio::test(start_paused = true)]
async fn a_round_without_questions_is_waited_for_and_needs_no_handler() {
    let asked = Arc::new(AtomicUsize::new(0));
    let stack = tower::service_fn(move |_request: McpRequest| {
        let n = asked.fetch_add(1, Ordering::SeqCst);
        let result: CallToolResponse = if n < 2 {
            InputRequiredResult::from_request_state("s").into()
        } else {
            CallToolResult::success(vec![ContentBlock::text("done")]).into()
        };
        std::future::ready(Answer::Ok(McpResponse::new(ServerResult::from(result))))
    });
    let started = Instant::now();
    assert_eq!(
        said(&McpClient::new(stack).call_tool("any").await.unwrap()),
        "done"
    );
    // Twice, each between half and the whole of 50 and 100 ms.
    let waited = started.elapsed();
    assert!((75..=152).contains(&waited.as_millis()), "{waited:?}");
}

// ---------------------------------------------------------------------------------------------
// Tasks
// ---------------------------------------------------------------------------------------------

fn task(status: TaskStatus) -> Task {
    Task::new("t1", status, "2026-07-28T00:00:00Z", "2026-07-28T00:00:00Z")
        .with_poll_interval_ms(2_000)
}

/// Makes a task of each call, and answers the polls by `payload`, which may fail.
#[derive(Clone)]
struct Tasks {
    payload: fn(usize) -> Result<TaskPayload, Error>,
    polls: Arc<AtomicUsize>,
    updates: Arc<Mutex<Vec<InputResponses>>>,
    cancelled: Arc<AtomicBool>,
}

impl Tasks {
    fn new(payload: fn(usize) -> Result<TaskPayload, Error>) -> Self {
        Self {
            payload,
            polls: Arc::default(),
            updates: Arc::default(),
            cancelled: Arc::default(),
        }
    }

    fn answer(&self, request: &McpRequest) -> Answer {
        let result: ServerResult = match &request.message {
            ClientRequest::CallToolRequest(_) => {
                ServerResult::CreateTaskResult(CreateTaskResult::new(task(TaskStatus::Working)))
            }
            ClientRequest::GetTaskRequest(request) => {
                assert_eq!(request.params.task_id, "t1");
                let payload = (self.payload)(self.polls.fetch_add(1, Ordering::SeqCst))?;
                let task = DetailedTask::new(task(TaskStatus::Working), payload);
                ServerResult::GetTaskResult(GetTaskResult::new(task))
            }
            ClientRequest::UpdateTaskRequest(request) => {
                self.updates
                    .lock()
                    .unwrap()
                    .push(request.params.input_responses.clone());
                ServerResult::task_ack(())
            }
            ClientRequest::CancelTaskRequest(_) => {
                self.cancelled.store(true, Ordering::SeqCst);
                ServerResult::task_ack(())
            }
            other => panic!("unexpected {}", other.method()),
        };
        Ok(McpResponse::new(result))
    }

    fn stack(
        &self,
    ) -> impl tower::Service<
        McpRequest,
        Response = McpResponse,
        Error = Error,
        Future = std::future::Ready<Answer>,
    > + Clone
    + Send
    + 'static {
        let tasks = self.clone();
        tower::service_fn(move |request: McpRequest| std::future::ready(tasks.answer(&request)))
    }
}

fn completed() -> TaskPayload {
    let result = json!({ "content": [{ "type": "text", "text": "at last" }], "isError": false });
    TaskPayload::Completed {
        result: result.as_object().unwrap().clone(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_is_polled_to_its_end() {
    let tasks = Tasks::new(|n| {
        Ok(if n < 3 {
            TaskPayload::Working
        } else {
            completed()
        })
    });
    let client = McpClient::builder(tasks.stack())
        .handler(Person::default())
        .build();
    let started = Instant::now();
    assert_eq!(said(&client.call_tool("any").await.unwrap()), "at last");
    assert_eq!(started.elapsed(), seconds(8));
    tokio::time::sleep(seconds(1)).await;
    assert!(!tasks.cancelled.load(Ordering::SeqCst));

    let once = client.call_tool("any").once().await.unwrap();
    assert!(matches!(once, CallToolResponse::Task(created) if created.task.task_id == "t1"));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_wants_input_gets_it_once_for_each_question() {
    let tasks = Tasks::new(|n| {
        Ok(match n {
            0..2 => TaskPayload::InputRequired {
                input_requests: inputs(&["x"]),
            },
            2 => TaskPayload::InputRequired {
                input_requests: inputs(&["x", "y"]),
            },
            _ => completed(),
        })
    });
    let person = Person::default();
    let client = McpClient::builder(tasks.stack())
        .handler(person.clone())
        .build();
    assert_eq!(said(&client.call_tool("any").await.unwrap()), "at last");
    assert_eq!(person.elicited.load(Ordering::SeqCst), 2);
    let updates = tasks.updates.lock().unwrap();
    let keys: Vec<_> = updates
        .iter()
        .map(|update| update.keys().cloned().collect::<Vec<_>>())
        .collect();
    assert_eq!(keys, [["x"], ["y"]]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_is_its_json_rpc_error_and_a_cancelled_one_a_cancellation() {
    let failed = Tasks::new(|_| {
        let error = json!({ "code": -32001, "message": "disk full", "data": { "free": 0 } });
        Ok(TaskPayload::Failed {
            error: error.as_object().unwrap().clone(),
        })
    });
    let client = McpClient::builder(failed.stack())
        .handler(Person::default())
        .build();
    let error = client.call_tool("any").await.unwrap_err();
    let wire = error.as_protocol().unwrap();
    assert_eq!((wire.code.0, &*wire.message), (-32001, "disk full"));

    let cancelled = Tasks::new(|_| Ok(TaskPayload::Cancelled));
    let client = McpClient::builder(cancelled.stack())
        .handler(Person::default())
        .build();
    assert!(client.call_tool("any").await.unwrap_err().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_cancels_its_task() {
    let tasks = Tasks::new(|_| Ok(TaskPayload::Working));
    let client = McpClient::builder(tasks.stack())
        .handler(Person::default())
        .build();
    let error = client
        .call_tool("any")
        .total_timeout(seconds(59))
        .await
        .unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(tasks.polls.load(Ordering::SeqCst), 29);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(tasks.cancelled.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_fails_is_repeated_but_not_for_ever() {
    let tasks = Tasks::new(|n| match n {
        0 | 1 => Err(rmcp_layers::TransportError::new("connection reset").into()),
        _ => Ok(completed()),
    });
    let client = McpClient::builder(tasks.stack())
        .handler(Person::default())
        .build();
    assert_eq!(said(&client.call_tool("any").await.unwrap()), "at last");

    let tasks = Tasks::new(|_| Err(rmcp_layers::TransportError::new("connection reset").into()));
    let client = McpClient::builder(tasks.stack())
        .handler(Person::default())
        .build();
    assert!(client.call_tool("any").await.unwrap_err().is_transport());
    assert_eq!(tasks.polls.load(Ordering::SeqCst), 3);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(tasks.cancelled.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_task_for_a_client_that_knows_none_is_an_error_and_is_cancelled() {
    let tasks = Tasks::new(|_| Ok(TaskPayload::Working));
    let error = McpClient::new(tasks.stack())
        .call_tool("any")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Tasks extension"), "{error}");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(tasks.cancelled.load(Ordering::SeqCst));
}

// ---------------------------------------------------------------------------------------------
// Subscriptions
// ---------------------------------------------------------------------------------------------

async fn acknowledge(request: &McpRequest) -> Result<(), Error> {
    let ClientRequest::SubscriptionsListenRequest(listen) = &request.message else {
        return Err(ErrorData::method_not_found::<SubscriptionsListenRequestMethod>().into());
    };
    let params =
        SubscriptionsAcknowledgedNotificationParams::new(listen.params.notifications.clone());
    let notice = SubscriptionsAcknowledgedNotification::new(params);
    request.context.caller.notify(notice.into()).await
}

fn changes() -> SubscriptionFilter {
    SubscriptionFilter::builder().tools_list_changed().build()
}

#[tokio::test(start_paused = true)]
async fn a_listen_yields_changes_for_as_long_as_it_is_held() {
    let open = Arc::new(AtomicBool::new(false));
    struct Open(Arc<AtomicBool>);
    impl Drop for Open {
        fn drop(&mut self) {
            self.0.store(false, Ordering::SeqCst);
        }
    }
    let stack = tower::service_fn({
        let open = open.clone();
        move |request: McpRequest| {
            let open = open.clone();
            async move {
                open.store(true, Ordering::SeqCst);
                let _open = Open(open);
                acknowledge(&request).await?;
                for _ in 0..200 {
                    tokio::time::sleep(seconds(120)).await;
                    let change = ToolListChangedNotification::default();
                    request.context.caller.notify(change.into()).await?;
                }
                pending::<Answer>().await
            }
        }
    });
    let client = McpClient::new(stack);
    let mut changed = client.listen(changes()).await.unwrap();
    assert_eq!(changed.accepted().tools_list_changed, Some(true));
    for _ in 0..200 {
        let change = changed.next().await.unwrap().unwrap();
        assert!(matches!(
            change,
            ServerNotification::ToolListChangedNotification(_)
        ));
    }
    assert!(open.load(Ordering::SeqCst));
    drop(changed);
    assert!(!open.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_listen_tells_how_it_ended_after_all_that_came_before() {
    let fails = tower::service_fn(|request: McpRequest| async move {
        acknowledge(&request).await?;
        for _ in 0..2 {
            let change = ToolListChangedNotification::default();
            request.context.caller.notify(change.into()).await?;
        }
        Answer::Err(rmcp_layers::TransportError::new("connection reset").into())
    });
    let mut changed = McpClient::new(fails).listen(changes()).await.unwrap();
    assert!(changed.next().await.unwrap().is_ok());
    assert!(changed.next().await.unwrap().is_ok());
    assert!(changed.next().await.unwrap().unwrap_err().is_transport());
    assert!(changed.next().await.is_none());

    let unknown = tower::service_fn(|_request: McpRequest| async move {
        Answer::Err(ErrorData::method_not_found::<SubscriptionsListenRequestMethod>().into())
    });
    assert!(
        McpClient::new(unknown)
            .listen(changes())
            .await
            .unwrap_err()
            .is_protocol()
    );

    let silent = tower::service_fn(|_request: McpRequest| pending::<Answer>());
    assert!(
        McpClient::new(silent)
            .listen(changes())
            .await
            .unwrap_err()
            .is_timeout()
    );
}
