//! A panic of a handler or a layer is answered at once, and its text stays here.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rmcp::{
    ClientHandler, ErrorData, RoleClient, RoleServer, ServerHandler, model::*,
    service::RequestContext,
};
use rmcp_layers::{
    Error, Handler, HttpEndpoint, Lifecycle, McpClient, McpRequest, McpResponse, McpServer,
    Upstream, gateway::Gateway,
};
use serde_json::json;
use tower::{ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService};

use super::raw::Raw;
use crate::common::{Http, Stack, demo::Demo, soon};

/// What a panic says and no caller may hear.
const SECRET: &str = "hunter2";

/// Panics whatever it is asked, at once or after it has waited.
#[derive(Clone)]
struct Panics;

impl ServerHandler for Panics {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_prompts()
            .build();
        ServerConfig::new(capabilities)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if request.name == "works" {
            return Ok(CallToolResult::success(Vec::new()).into());
        }
        if request.name == "later" {
            tokio::task::yield_now().await;
        }
        panic!("{SECRET}")
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        std::panic::panic_any(7)
    }

    async fn read_resource(
        &self,
        _request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        panic!("{SECRET}")
    }

    async fn on_custom_request(
        &self,
        _request: CustomRequest,
        _context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        panic!("{SECRET}")
    }
}

fn requests() -> Vec<(&'static str, serde_json::Value)> {
    vec![
        ("tools/call", json!({ "name": "now" })),
        ("tools/call", json!({ "name": "later" })),
        ("tools/list", json!({})),
        ("resources/read", json!({ "uri": "a:b" })),
        ("acme/custom", json!({})),
    ]
}

fn is_internal(case: &str, error: &ErrorData) {
    assert_eq!(error.code, ErrorCode::INTERNAL_ERROR, "{case}: {error}");
    assert!(!format!("{error:?}").contains(SECRET), "{case}: {error:?}");
}

async fn answers_each(case: &str, stack: impl Stack) {
    let mut client = Raw::legacy(stack).await;
    for (method, params) in requests() {
        let answer = client.ask(method, params).await;
        let error = serde_json::from_value(answer["error"].clone()).expect("an error");
        is_internal(case, &error);
    }
    let works = client.ask("tools/call", json!({ "name": "works" })).await;
    assert!(works.get("result").is_some(), "{case}: {works}");
}

#[tokio::test]
async fn a_handlers_panic_is_answered_at_once() {
    answers_each("handler", Handler::new(Panics)).await;
    answers_each("in process", Upstream::in_process(Panics)).await;
    for lifecycle in [Lifecycle::Initialize, Lifecycle::Discover] {
        let upstream = Upstream::builder().lifecycle(lifecycle).in_process(Panics);
        answers_each("in process", upstream).await;
    }
    let http = Http::serve(McpServer::new(Handler::new(Panics))).await;
    for lifecycle in [Lifecycle::Initialize, Lifecycle::Discover] {
        let builder = Upstream::builder().lifecycle(lifecycle);
        let upstream = builder.http(HttpEndpoint::new(&http.url)).unwrap();
        answers_each("http", upstream).await;
    }
}

#[tokio::test]
async fn a_layers_panic_is_answered_at_once() {
    let panics = |request: McpRequest| -> Result<McpRequest, Error> {
        let asked = request.as_tool_call().map(|call| call.name.to_string());
        match asked.as_deref() {
            Some("works") => Ok(request),
            None if request.method() == "server/discover" => Ok(request),
            _ => panic!("{SECRET}"),
        }
    };
    let layered = ServiceBuilder::new()
        .filter(panics)
        .service(Handler::new(Panics));
    answers_each("layer", layered).await;

    let bottom = service_fn(|request: McpRequest| async move {
        match request.target() {
            Some("works") => Ok::<_, Error>(McpResponse::new(CallToolResult::success(Vec::new()))),
            None if request.method() == "server/discover" => Err(Error::cancelled("unknown")),
            _ => panic!("{SECRET}"),
        }
    });
    let client = McpClient::new(BoxCloneService::new(bottom));
    let error = soon("an answer", client.call_tool("now"))
        .await
        .unwrap_err();
    is_internal("client", &error.into());
    let read = soon("an answer", client.read_resource("a:b")).await;
    is_internal("client", &read.unwrap_err().into());
    let sent = client.send(McpRequest::call_tool("later").build());
    is_internal("client", &soon("an answer", sent).await.unwrap_err().into());
    let mut filter = SubscriptionFilter::new();
    filter.tools_list_changed = Some(true);
    let listen = soon("an answer", client.listen(filter)).await;
    is_internal("client", &listen.unwrap_err().into());
    soon("an answer", client.call_tool("works")).await.unwrap();
}

#[tokio::test]
async fn a_client_calls_a_panicking_handler_and_goes_on() {
    let client = McpClient::new(Handler::new(Panics));
    for name in ["now", "later"] {
        let error = soon("an answer", client.call_tool(name)).await.unwrap_err();
        is_internal(name, &error.into());
    }
    soon("an answer", client.call_tool("works")).await.unwrap();
    let direct = Upstream::in_process(Panics).oneshot(McpRequest::call_tool("now").build());
    let error = soon("an answer", direct).await.unwrap_err();
    is_internal("upstream", &error.into());
}

/// Asks its client, and says what came of it.
#[derive(Clone)]
struct Asks;

impl ServerHandler for Asks {
    async fn call_tool(
        &self,
        _request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let message = SamplingMessage::user_text("Who are you?");
        let asked = CreateMessageRequestParams::new(vec![message], 10);
        let answer = context.peer.create_message(asked).await.unwrap_err();
        Ok(CallToolResult::success(vec![ContentBlock::text(answer.to_string())]).into())
    }
}

struct PanicsToo;

impl ClientHandler for PanicsToo {
    async fn create_message(
        &self,
        _params: CreateMessageRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        panic!("{SECRET}")
    }
}

#[tokio::test]
async fn a_clients_handler_that_panics_answers_the_servers_question() {
    let upstream = Upstream::builder()
        .lifecycle(Lifecycle::Initialize)
        .in_process(Asks);
    let client = McpClient::builder(upstream).handler(PanicsToo).build();
    let result = soon("an answer", client.call_tool("ask")).await.unwrap();
    let said = &result.content[0].as_text().unwrap().text;
    assert!(said.contains("-32603"), "{said}");
    assert!(!said.contains(SECRET), "{said}");
}

/// A stack whose lists panic until they are mended.
fn breaks(mended: Arc<AtomicBool>) -> impl Stack + Sync {
    service_fn(move |request: McpRequest| {
        let breaks = request.method().ends_with("/list") && !mended.load(Ordering::Relaxed);
        async move {
            if breaks {
                panic!("{SECRET}");
            }
            Handler::new(Demo::default()).oneshot(request).await
        }
    })
}

#[tokio::test]
async fn a_panic_while_a_gateway_lists_is_answered_and_passes() {
    for several in [false, true] {
        let mended = Arc::new(AtomicBool::new(false));
        let mut gateway = Gateway::builder().member("broken", breaks(mended.clone()));
        if several {
            gateway = gateway.member("works", Handler::new(Demo::default()));
        }
        let mut client = Raw::legacy(gateway.build().unwrap()).await;
        let answer = client.ask("tools/list", json!({})).await;
        if several {
            let tools = answer["result"]["tools"].to_string();
            assert!(tools.contains("works__add"), "{answer}");
            assert!(!tools.contains("broken__add"), "{answer}");
        } else {
            let error = serde_json::from_value(answer["error"].clone()).expect("an error");
            is_internal("list", &error);
        }
        mended.store(true, Ordering::Relaxed);
        let listed = async {
            loop {
                let answer = client.ask("tools/list", json!({})).await;
                let tools = answer["result"]["tools"].to_string();
                if tools.contains(if several { "broken__add" } else { "add" }) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        soon("the member's tools", listed).await;
    }
}
