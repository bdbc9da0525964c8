//! Calls an MCP server from Rust: a typed client over a stack of layers.
//!
//! The server runs in this process. `Upstream::child_process` and `Upstream::http` reach others.
//!
//! Output of `cargo run --example client`:
//!
//! ```text
//! tools: add, divide
//! 1 + 2 = 3
//! 1 / 0: the tool failed: division by zero
//! subtract: the server answered -32602
//! ```

use rmcp::{handler::server::wrapper::Parameters, schemars, tool, tool_router};
use rmcp_layers::{Error, McpClient, Upstream};
use serde::Deserialize;
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

    #[tool(description = "Divides two integers")]
    fn divide(
        &self,
        Parameters(Operands { a, b }): Parameters<Operands>,
    ) -> Result<String, String> {
        let quotient = a.checked_div(b).ok_or("division by zero")?;
        Ok(quotient.to_string())
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    // At most eight calls at a time reach the server.
    let stack = ServiceBuilder::new()
        .concurrency_limit(8)
        .service(Upstream::in_process(Calculator));
    let client = McpClient::new(stack);

    let mut tools = client.list_all_tools().await?;
    tools.sort_by(|one, other| one.name.cmp(&other.name));
    let names: Vec<_> = tools.iter().map(|tool| &*tool.name).collect();
    println!("tools: {}", names.join(", "));

    let sum = client
        .call_tool("add")
        .argument("a", 1)
        .argument("b", 2)
        .await?;
    println!("1 + 2 = {}", text(&sum));

    // A tool that fails is a result. The model is to read it.
    let failed = client
        .call_tool("divide")
        .argument("a", 1)
        .argument("b", 0)
        .await?;
    assert_eq!(failed.is_error, Some(true));
    println!("1 / 0: the tool failed: {}", text(&failed));

    // Everything else is a typed error: a JSON-RPC error, a lost connection, a timeout, a refusal.
    let error = client.call_tool("subtract").await.unwrap_err();
    if let Some(error) = error.as_protocol() {
        println!("subtract: the server answered {}", error.code.0);
    }
    Ok(())
}

fn text(result: &rmcp::model::CallToolResult) -> &str {
    let text = result.content.first().and_then(|block| block.as_text());
    text.map_or("", |text| &text.text)
}
