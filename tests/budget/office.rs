//! A server with results of any size, and the budget in front of it.

use std::sync::Arc;

use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
use rmcp_layers::{
    BudgetReport, Error, McpRequest, McpResponse, Principal, Upstream,
    budget::{
        BUDGET_META_KEY, Budget, BudgetHandle, BudgetLayer, BudgetLayerBuilder, ContextBudget,
    },
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::{Layer, ServiceExt};

use super::common::{Events, soon};

/// A server whose tools answer with so much as they are asked for.
#[derive(Clone)]
pub struct Office(Arc<Desk>);

pub struct Desk {
    pub events: Events,
    /// `gated` waits until it is open.
    pub gate: watch::Sender<bool>,
}

impl Default for Office {
    fn default() -> Self {
        Self(Arc::new(Desk {
            events: Events::default(),
            gate: watch::Sender::new(false),
        }))
    }
}

impl std::ops::Deref for Office {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        &self.0
    }
}

/// A text of so many lines.
pub fn lines(count: u64) -> String {
    let lines = (0..count).map(|line| format!("line {line}: the quick brown fox — über ß 日本\n"));
    lines.collect()
}

pub fn items(count: u64) -> Value {
    let items = (0..count).map(|id| json!({ "id": id, "name": format!("item number {id}") }));
    json!({ "items": items.collect::<Vec<_>>(), "total": count })
}

fn items_schema() -> Arc<JsonObject> {
    let schema = json!({
        "type": "object",
        "properties": {
            "items": { "type": "array", "items": { "type": "object" } },
            "total": { "type": "integer" },
        },
        "required": ["items", "total"],
    });
    Arc::new(serde_json::from_value(schema).unwrap())
}

/// So many bytes as base64.
pub fn data_encoding(count: u64) -> String {
    use base64::Engine;
    let bytes: Vec<u8> = (0..count).map(|byte| byte as u8).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A schema that no shorter array fits.
fn exact_schema(count: u64) -> Arc<JsonObject> {
    let schema = json!({
        "type": "object",
        "properties": {
            "items": { "type": "array", "minItems": count, "items": {
                "type": "object",
                "properties": { "name": { "type": "string", "minLength": 5, "pattern": "^item" } },
                "required": ["id", "name"],
            } },
        },
        "required": ["items", "total"],
    });
    Arc::new(serde_json::from_value(schema).unwrap())
}

/// The number of items of the tool `exact`.
pub const EXACT: u64 = 3_000;

impl ServerHandler for Office {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_prompts()
            .enable_resources()
            .build();
        ServerConfig::new(capabilities)
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        self.events.note("tools/list");
        let mut tools: Vec<_> = ["lines", "fail", "gated", "json", "task"]
            .map(|name| Tool::new(name, "A tool", JsonObject::new()))
            .into();
        let mut items = Tool::new("items", "x".repeat(20_000), JsonObject::new());
        items.output_schema = Some(items_schema());
        let mut exact = Tool::new("exact", "A tool", JsonObject::new());
        exact.output_schema = Some(exact_schema(EXACT));
        let mut own = Tool::new("own", "A tool", JsonObject::new());
        let size = json!({ "anthropic/maxResultSizeChars": 1_234 });
        own.meta = serde_json::from_value(size).unwrap();
        tools.extend([items, exact, own]);
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.events.note(request.name.to_string());
        let arguments = request.arguments.unwrap_or_default();
        let count = arguments.get("count").and_then(Value::as_u64).unwrap_or(1);
        let text =
            |text: String| Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into());
        let structured = |value: Value| Ok(CallToolResult::structured(value).into());
        match &*request.name {
            "fail" => Ok(CallToolResult::error(vec![ContentBlock::text(lines(count))]).into()),
            "gated" => {
                let _ended = Ended(self.events.clone());
                let mut gate = self.gate.subscribe();
                tokio::select! {
                    _ = gate.wait_for(|open| *open) => {}
                    () = context.ct.cancelled() => {}
                }
                text(lines(count))
            }
            "broken" => Err(ErrorData::internal_error("out of order", None)),
            "picture" => {
                let data = data_encoding(count);
                let content = vec![
                    ContentBlock::text(lines(5_000)),
                    ContentBlock::image(data.clone(), "image/png"),
                    ContentBlock::resource(ResourceContents::blob(data, "file:///blob")),
                ];
                Ok(CallToolResult::success(content).into())
            }
            "json" => text(serde_json::to_string_pretty(&items(count)).unwrap()),
            "items" => structured(items(count)),
            "exact" => structured(items(EXACT)),
            "input" => {
                let asked = InputRequiredResult::from_request_state("s".repeat(100_000));
                Ok(CallToolResponse::InputRequired(asked))
            }
            _ => text(lines(count)),
        }
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let prompt = Prompt::new("story", Some("Tells a story"), None);
        Ok(ListPromptsResult::with_all_items(vec![prompt]))
    }

    async fn get_prompt(
        &self,
        _request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        self.events.note("prompt");
        let said = PromptMessage::new_text(Role::User, lines(5_000));
        Ok(GetPromptResult::new(vec![said]).into())
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        self.events.note(&*request.uri);
        let contents = vec![ResourceContents::text(lines(5_000), request.uri.clone())];
        Ok(ReadResourceResult::new(contents).into())
    }
}

struct Ended(Events);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.note("ended");
    }
}

/// The server behind a budget.
pub struct Setup {
    pub office: Office,
    pub stack: Budget<Upstream>,
    pub budget: BudgetHandle,
}

/// The usable tokens of [`layer`].
pub const USABLE: u64 = 20_000;

/// A window of which [`USABLE`] tokens are for results.
pub fn layer() -> BudgetLayerBuilder {
    BudgetLayer::builder(ContextBudget::new(USABLE + 6_096))
}

impl Setup {
    pub fn new(builder: BudgetLayerBuilder) -> Self {
        Self::of(Office::default(), builder)
    }

    pub fn of(office: Office, builder: BudgetLayerBuilder) -> Self {
        let layer = builder.build().expect("a possible budget");
        let upstream = Upstream::builder()
            .request_timeout(None)
            .in_process(office.clone());
        Self {
            office,
            budget: layer.handle(),
            stack: layer.layer(upstream),
        }
    }

    pub async fn ask(&self, request: McpRequest) -> Result<McpResponse, Error> {
        soon("an answer", self.stack.clone().oneshot(request)).await
    }

    /// The available tokens of a request's conversation.
    pub async fn available(&self, request: &McpRequest) -> u64 {
        let conversation = self.budget.conversation_of(request).unwrap();
        self.budget.budget(&conversation).await.unwrap().available()
    }
}

pub fn call(tool: &str, count: u64) -> McpRequest {
    McpRequest::call_tool(tool).argument("count", count).build()
}

pub fn read(arguments: Value) -> McpRequest {
    let arguments = serde_json::from_value(arguments).unwrap();
    McpRequest::call_tool("read_result")
        .arguments(arguments)
        .build()
}

pub fn by(name: &str, mut request: McpRequest) -> McpRequest {
    request.context.set_principal(Principal::new(name));
    request
}

pub fn report(response: &McpResponse) -> BudgetReport {
    response.report.budget.expect("a charged response")
}

/// What the `_meta` of a result says of its tokens.
pub fn meta(response: &McpResponse) -> Value {
    let result = serde_json::to_value(&*response.result).unwrap();
    result["_meta"][BUDGET_META_KEY].clone()
}

/// The id in the `_meta` of a cut result.
pub fn kept_id(response: &McpResponse) -> String {
    let meta = meta(response);
    let id = meta["cut"]["id"].as_str();
    id.unwrap_or_else(|| panic!("a kept result: {meta}"))
        .to_owned()
}

pub fn is_error(response: &McpResponse) -> bool {
    response.as_tool_result().unwrap().is_error == Some(true)
}

/// All text of a tool result.
pub fn text(response: &McpResponse) -> String {
    let blocks = &response.as_tool_result().unwrap().content;
    let texts = blocks.iter().filter_map(|block| block.as_text());
    texts.map(|text| &*text.text).collect()
}

/// The first text of a tool result.
pub fn first(response: &McpResponse) -> String {
    super::common::text(response.as_tool_result().unwrap()).to_owned()
}
