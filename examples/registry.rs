//! Adds a tool to those of a server, and takes it out of the list when it fails.
//!
//! Arguments that do not fit a tool's schema never reach it.
//!
//! Output of `cargo run --example registry`:
//!
//! ```text
//! tools: add
//! tools: lookup, add
//! lookup tower: a tower is high
//! lookup 7: the tool failed: Invalid arguments for lookup:
//! lookup crash: the tool failed: the index is gone
//! lookup crash: the tool failed: the index is gone
//! tools: add
//! lookup tower: refused with -32602
//! ```

use rmcp::{handler::server::wrapper::Parameters, schemars, tool, tool_router};
use rmcp_layers::{
    Error, McpClient, ServiceBuilderExt, Stack, Upstream,
    registry::{HealthPolicy, Passive, RegisteredTool, RegistryLayer},
};
use serde::Deserialize;
use serde_json::Value;
use tower::ServiceBuilder;

struct Calculator;

#[derive(Deserialize, schemars::JsonSchema)]
struct Operands {
    a: i64,
    b: i64,
}

#[tool_router(server_handler)]
impl Calculator {
    #[tool(description = "Adds two integers")]
    fn add(&self, Parameters(Operands { a, b }): Parameters<Operands>) -> String {
        a.saturating_add(b).to_string()
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
struct Term {
    term: String,
}

async fn lookup(Term { term }: Term) -> Result<String, &'static str> {
    match &*term {
        "crash" => Err("the index is gone"),
        _ => Ok(format!("a {term} is high")),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Two failures in a row, and the tool leaves the list for 30 s.
    let health = HealthPolicy::new()
        .fail_after(2)
        .passive(Passive::ToolErrors);
    let registry = RegistryLayer::builder().health(health).build()?;
    let tools = registry.handle();
    let stack = ServiceBuilder::new()
        .registry(registry)
        .service(Upstream::in_process(Calculator));
    let client = McpClient::new(stack);

    list(&client).await?;
    let lookup = RegisteredTool::builder("lookup")
        .description("Explains a term")
        .handler(|term: Term, _context| lookup(term))
        .build()?;
    tools.register(lookup)?;
    list(&client).await?;

    call(&client, "tower".into()).await?;
    call(&client, 7.into()).await?;
    call(&client, "crash".into()).await?;
    call(&client, "crash".into()).await?;
    list(&client).await?;
    call(&client, "tower".into()).await?;
    Ok(())
}

async fn list(client: &McpClient<impl Stack>) -> Result<(), Error> {
    let tools = client.list_all_tools().await?;
    let names: Vec<_> = tools.iter().map(|tool| &*tool.name).collect();
    println!("tools: {}", names.join(", "));
    Ok(())
}

async fn call(client: &McpClient<impl Stack>, term: Value) -> Result<(), Error> {
    print!("lookup {}: ", term.to_string().trim_matches('"'));
    let result = match client.call_tool("lookup").argument("term", term).await {
        Err(Error::Protocol(error)) => {
            println!("refused with {}", error.code.0);
            return Ok(());
        }
        answer => answer?,
    };
    let text = result.content.first().and_then(|block| block.as_text());
    let line = text.and_then(|text| text.text.lines().next());
    let failed = if result.is_error == Some(true) {
        "the tool failed: "
    } else {
        ""
    };
    println!("{failed}{}", line.unwrap_or_default());
    Ok(())
}
