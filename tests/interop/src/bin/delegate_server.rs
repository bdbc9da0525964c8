//! Delegation for foreign agents and clients:
//!
//! - `delegate_server register MAPPING COMMAND [ARGUMENT...]` starts an agent, registers it, and
//!   says `registered`, or why not.
//! - `delegate_server [--stdio]` serves the tools of delegation over agents whose tasks take as
//!   long as their descriptions say, in milliseconds.

use std::{net::SocketAddr, time::Duration};

use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
use rmcp_layers::{
    ChildProcess, McpServer, ServiceBuilderExt, Stack, Upstream,
    delegate::{Agent, DelegateLayer, Mapping, Orchestrator},
};
use rmcp_layers_interop::serve::{self, Result};
use serde_json::json;
use tower::ServiceBuilder;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [register, mapping, program, arguments @ ..] if register == "register" => {
            let mapping = mapping_named(mapping)?;
            let command = ChildProcess::new(program)
                .args(arguments)
                .inherit_env(["CODEX_HOME"]);
            serve::run(register_agent(mapping, command))
        }
        [] => serve::run(serve(false)),
        [stdio] if stdio == "--stdio" => serve::run(serve(true)),
        other => Err(format!("unknown arguments {other:?}").into()),
    }
}

fn mapping_named(name: &str) -> Result<Mapping> {
    Ok(match name {
        "codex" => Mapping::codex().fixed("sandbox", "read-only"),
        "codex-misfit" => Mapping::codex().fixed("sandbox", "none"),
        "claude-code" => Mapping::claude_code(),
        "claude-code-misfit" => Mapping::claude_code().fixed("task", "unknown"),
        "execute-task" => Mapping::execute_task(),
        other => return Err(format!("unknown mapping {other:?}").into()),
    })
}

async fn register_agent(mapping: Mapping, command: ChildProcess) -> Result<()> {
    let orchestrator = Orchestrator::builder().build()?;
    let upstream = Upstream::child_process(command);
    let agent = Agent::builder("agent", upstream.clone())
        .mapping(mapping)
        .build()?;
    match orchestrator.register(agent).await {
        Ok(()) => println!("registered"),
        Err(error) => println!("{error}"),
    }
    upstream.close().await;
    Ok(())
}

async fn serve(stdio: bool) -> Result<()> {
    let stack = stack().await?;
    let session = move || McpServer::new(stack.clone());
    match stdio {
        true => serve::stdio(session()).await,
        false => serve::http(SocketAddr::from(([127, 0, 0, 1], 0)), session).await,
    }
}

async fn stack() -> Result<impl Stack> {
    let orchestrator = Orchestrator::builder().build()?;
    for name in ["first", "second"] {
        let agent = Agent::builder(name, Upstream::in_process(Sleeper)).capability("sleep");
        orchestrator.register(agent.build()?).await?;
    }
    let layer = DelegateLayer::new(orchestrator);
    Ok(ServiceBuilder::new()
        .delegate(layer)
        .service(Upstream::in_process(Sleeper)))
}

/// An agent that sleeps.
struct Sleeper;

impl ServerHandler for Sleeper {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = json!({ "type": "object" })
            .as_object()
            .cloned()
            .unwrap_or_default();
        let tool = Tool::new("execute_task", "Sleeps", schema);
        Ok(ListToolsResult::with_all_items(vec![tool]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let description = arguments.get("description").and_then(|text| text.as_str());
        let millis = description.and_then(|text| text.parse().ok());
        let millis = millis.ok_or_else(|| ErrorData::invalid_params("not a number", None))?;
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(CallToolResult::success(vec![ContentBlock::text(format!("slept {millis} ms"))]).into())
    }
}
