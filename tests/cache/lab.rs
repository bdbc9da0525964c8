//! A server that counts, and whose answers say which call they come from.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::*,
    service::{RequestContext, SubscriptionContext, SubscriptionSink},
};
use rmcp_layers::{
    CacheStatus, Error, McpRequest, McpResponse, Principal, Upstream,
    cache::{Cache, CacheHandle, CacheLayer, CacheLayerBuilder},
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::{Layer, ServiceExt};

/// The server. Clones are the same server.
#[derive(Clone, Default)]
pub struct Lab(Arc<Inner>);

#[derive(Default)]
struct Inner {
    calls: Mutex<HashMap<String, usize>>,
    running: watch::Sender<usize>,
    gate: watch::Sender<bool>,
    failing: std::sync::atomic::AtomicBool,
    safe: std::sync::atomic::AtomicBool,
    listens: Mutex<Vec<SubscriptionSink>>,
    listening: watch::Sender<usize>,
    cancelled: AtomicUsize,
}

impl Lab {
    /// How often this was called.
    pub fn calls(&self, name: &str) -> usize {
        self.0.calls.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    fn call(&self, name: &str) -> usize {
        let mut calls = self.0.calls.lock().unwrap();
        let count = calls.entry(name.to_owned()).or_default();
        *count += 1;
        *count
    }

    /// Lets calls of `gated` end, until it is shut again.
    pub fn open(&self) {
        self.0.gate.send_replace(true);
    }

    pub fn shut(&self) {
        self.0.gate.send_replace(false);
    }

    /// Has `flaky` fail, or work again.
    pub fn fail(&self, failing: bool) {
        self.0.failing.store(failing, Ordering::Relaxed);
    }

    /// Has `moody` say that it is read-only, or not.
    pub fn moody_is_safe(&self, safe: bool) {
        self.0.safe.store(safe, Ordering::Relaxed);
    }

    /// Waits until so many calls of `gated` run.
    pub async fn running(&self, count: usize) {
        let mut running = self.0.running.subscribe();
        let wanted = running.wait_for(|running| *running == count);
        super::common::soon("running", wanted).await.unwrap();
    }

    /// Waits until so many listens are open.
    pub async fn listening(&self, count: usize) {
        let mut listening = self.0.listening.subscribe();
        let wanted = listening.wait_for(|open| *open == count);
        super::common::soon("listening", wanted).await.unwrap();
    }

    /// Tells of a change.
    pub async fn change(&self, change: impl Into<ServerNotification>) {
        let change = change.into();
        let listens = self.0.listens.lock().unwrap().clone();
        for listen in listens {
            let _ = listen.send(change.clone()).await;
        }
    }
}

struct Running(Lab);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.send_modify(|running| *running -= 1);
    }
}

struct Listening(Lab);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.0.listening.send_modify(|open| *open -= 1);
    }
}

fn read_only(name: &'static str) -> Tool {
    let annotations = ToolAnnotations::new().read_only(true).destructive(false);
    Tool::new(name, name, JsonObject::new()).annotate(annotations)
}

/// The number in `ttl-NUMBER`, and whether `public` is in the text.
fn hints(text: &str) -> (Option<u64>, Option<CacheScope>) {
    let ttl = text
        .split(['/', '?'])
        .find_map(|part| part.strip_prefix("ttl-"));
    let scope = if text.contains("public") {
        Some(CacheScope::Public)
    } else {
        text.contains("private").then_some(CacheScope::Private)
    };
    (ttl.and_then(|ttl| ttl.parse().ok()), scope)
}

impl ServerHandler for Lab {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_prompts()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .build();
        ServerConfig::new(capabilities)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        self.call("tools/list");
        let cursor = request.and_then(|params| params.cursor).unwrap_or_default();
        let mut tools = Vec::from(["read", "gated", "flaky", "ask", "big", "slow"].map(read_only));
        tools.push(Tool::new("pay", "pays", JsonObject::new()));
        let wipes = ToolAnnotations::new().read_only(true).destructive(true);
        tools.push(Tool::new("wipe", "wipes", JsonObject::new()).annotate(wipes));
        tools.push(read_only("deploy"));
        let safe = self.0.safe.load(Ordering::Relaxed);
        let moody = ToolAnnotations::new().read_only(safe);
        tools.push(Tool::new("moody", "may be safe", JsonObject::new()).annotate(moody));
        let mut listed = ListToolsResult::with_all_items(tools);
        (listed.ttl_ms, listed.cache_scope) = hints(&cursor);
        if cursor == "gated" {
            self.0.running.send_modify(|running| *running += 1);
            let _running = Running(self.clone());
            let _ = self.0.gate.subscribe().wait_for(|open| *open).await;
        }
        Ok(listed)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = request.name.to_string();
        let count = self.call(&name);
        let arguments = request.arguments.unwrap_or_default();
        let text = format!("{name} {} #{count}", Value::Object(arguments.clone()));
        let said = || Ok(CallToolResult::success(vec![ContentBlock::text(text.clone())]).into());
        match &*name {
            "gated" | "slow" => {
                self.0.running.send_modify(|running| *running += 1);
                let _running = Running(self.clone());
                let mut gate = self.0.gate.subscribe();
                tokio::select! {
                    _ = gate.wait_for(|open| *open) => {}
                    () = context.ct.cancelled() => {
                        self.0.cancelled.fetch_add(1, Ordering::Relaxed);
                    }
                }
                said()
            }
            "flaky" if self.0.failing.load(Ordering::Relaxed) => {
                Err(ErrorData::internal_error("out of order", None))
            }
            "wrong" => Ok(CallToolResult::error(vec![ContentBlock::text(text)]).into()),
            "ask" => {
                let params = CreateMessageRequestParams::new(
                    vec![SamplingMessage::user_text("who are you?")],
                    10,
                );
                let answer = context.peer.create_message(params).await;
                let answer = answer.map_or_else(|error| error.to_string(), |a| format!("{a:?}"));
                Ok(
                    CallToolResult::success(vec![ContentBlock::text(format!("{answer} #{count}"))])
                        .into(),
                )
            }
            "big" => {
                let bytes = arguments.get("bytes").and_then(Value::as_u64).unwrap_or(0);
                let text = "x".repeat(bytes.try_into().unwrap());
                Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
            }
            "input" => {
                let asked = InputRequiredResult::from_request_state("where was I");
                Ok(CallToolResponse::InputRequired(asked))
            }
            _ => said(),
        }
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let count = self.call(&request.uri);
        let text = format!("#{count}");
        let contents = vec![ResourceContents::text(text, request.uri.clone())];
        let mut read = ReadResourceResult::new(contents);
        (read.ttl_ms, read.cache_scope) = hints(&request.uri);
        Ok(read.into())
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let count = self.call(&request.name);
        let said = PromptMessage::new_text(Role::User, format!("#{count}"));
        Ok(GetPromptResult::new(vec![said]).into())
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        self.call("resources/list");
        Ok(ListResourcesResult::default().with_ttl_ms(60_000))
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        self.0.listens.lock().unwrap().push(context.sink().clone());
        self.0.listening.send_modify(|open| *open += 1);
        let _listening = Listening(self.clone());
        context.cancelled().await;
        Ok(())
    }
}

/// The server behind a cache.
pub struct Setup {
    pub lab: Lab,
    pub stack: Cache<Upstream>,
    pub cache: CacheHandle,
    /// Keeps the connection when the stack is dropped: rmcp waits 5 s for what runs as a connection ends.
    pub upstream: Upstream,
}

/// What tests of other things than listening begin with.
pub fn quiet() -> CacheLayerBuilder {
    CacheLayer::builder().watch_changes(false)
}

impl Setup {
    pub fn new(builder: CacheLayerBuilder) -> Self {
        let lab = Lab::default();
        let layer = builder.build().expect("a possible cache");
        let upstream = Upstream::builder()
            .request_timeout(None)
            .in_process(lab.clone());
        Self {
            lab,
            cache: layer.handle(),
            stack: layer.layer(upstream.clone()),
            upstream,
        }
    }

    /// With the hints of the tools known, and believed.
    pub async fn listed(builder: CacheLayerBuilder) -> Self {
        let setup = Self::new(builder.trust_annotations(true));
        setup.ask(McpRequest::list_tools()).await.unwrap();
        setup
    }

    pub async fn ask(&self, request: McpRequest) -> Result<McpResponse, Error> {
        let answer = self.stack.clone().oneshot(request);
        super::common::soon("an answer", answer).await
    }

    /// The text of an answer, and how it came about.
    pub async fn said(&self, request: McpRequest) -> (String, Option<CacheStatus>) {
        let response = self.ask(request).await.expect("an answer");
        (text(&response), status(&response))
    }
}

pub fn status(response: &McpResponse) -> Option<CacheStatus> {
    response.report.cache_status
}

pub fn is_hit(status: Option<CacheStatus>) -> bool {
    matches!(status, Some(CacheStatus::Hit { .. }))
}

/// The first text in an answer.
pub fn text(response: &McpResponse) -> String {
    match &*response.result {
        ServerResult::CallToolResult(result) => super::common::text(result).to_owned(),
        ServerResult::ReadResourceResult(result) => match &result.contents[..] {
            [ResourceContents::TextResourceContents { text, .. }] => text.clone(),
            other => panic!("not a text: {other:?}"),
        },
        ServerResult::GetPromptResult(result) => match &result.messages[0].content {
            ContentBlock::Text(text) => text.text.clone(),
            other => panic!("not a text: {other:?}"),
        },
        other => panic!("nothing with a text: {other:?}"),
    }
}

pub fn call(tool: &str, arguments: Value) -> McpRequest {
    let arguments = serde_json::from_value(arguments).unwrap();
    McpRequest::call_tool(tool).arguments(arguments).build()
}

/// A page of the tools' list.
pub fn page(cursor: &str) -> McpRequest {
    let params = PaginatedRequestParams::default().with_cursor(Some(cursor.to_owned()));
    McpRequest::new(ListToolsRequest {
        params: Some(params),
        ..ListToolsRequest::default()
    })
}

pub fn plain(tool: &str) -> McpRequest {
    call(tool, json!({}))
}

pub fn by(name: &str, mut request: McpRequest) -> McpRequest {
    request.context.set_principal(Principal::new(name));
    request
}

pub fn with_meta(key: &str, value: Value, mut request: McpRequest) -> McpRequest {
    request.context.meta.insert(key.to_owned(), value);
    request
}
