//! Two agents, a plan whose second task needs the answer of the first one, and the tools by which a
//! model makes such plans.
//!
//! Output of `cargo run --example delegate`:
//!
//! ```text
//! 2 of 2 complete
//! fetch (researcher): rmcp 3.11 is out
//! write (writer): A note on: rmcp 3.11 is out
//! delegate_task: A note on: the weather
//! tools: delegate_task, run_plan, task_status, cancel_task, answer_task, list_agents
//! ```

use rmcp::{handler::server::wrapper::Parameters, schemars, tool, tool_router};
use rmcp_layers::{
    McpClient, ServiceBuilderExt, Upstream,
    delegate::{Agent, DelegateLayer, Mapping, Orchestrator, Plan, Status, Task},
};
use tower::ServiceBuilder;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Work {
    task: String,
    context: Option<String>,
}

struct Researcher;

#[tool_router(server_handler)]
impl Researcher {
    #[tool(description = "Finds something out")]
    fn research(&self, _work: Parameters<Work>) -> String {
        "rmcp 3.11 is out".to_owned()
    }
}

struct Writer;

#[tool_router(server_handler)]
impl Writer {
    #[tool(description = "Writes a text")]
    fn write(&self, Parameters(Work { task, context }): Parameters<Work>) -> String {
        // The context has the answers of the tasks before, below a line that names each.
        let context = context.as_deref().and_then(|all| all.lines().last());
        format!("A note on: {}", context.unwrap_or(&task))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let orchestrator = Orchestrator::builder().build()?;
    let mapping = |tool: &str| Mapping::tool(tool).description("task").context("context");
    let researcher = Agent::builder("researcher", Upstream::in_process(Researcher))
        .capability("research")
        .mapping(mapping("research"));
    let writer = Agent::builder("writer", Upstream::in_process(Writer))
        .capability("prose")
        .mapping(mapping("write"));
    // An agent that cannot be reached, or lacks its tool, is refused here.
    orchestrator.register(researcher.build()?).await?;
    orchestrator.register(writer.build()?).await?;

    let plan = Plan::new([
        Task::new("fetch", "Which version of rmcp is out?").capability("research"),
        Task::new("write", "Write a note")
            .capability("prose")
            .after(["fetch"]),
    ]);
    let end = orchestrator.run_plan(plan)?.wait().await;
    println!(
        "{} of {} complete",
        end.count(Status::Complete),
        end.tasks.len()
    );
    for task in &end.tasks {
        let (agent, output) = (task.agent.as_deref(), task.output.as_deref());
        let (agent, answer) = (
            agent.unwrap_or("-"),
            output.map_or("-", |output| &output.answer),
        );
        println!("{} ({agent}): {answer}", task.id);
    }

    // The same for a model: tools that any host can call.
    let stack = ServiceBuilder::new()
        .delegate(DelegateLayer::new(orchestrator))
        .service(Upstream::in_process(Nothing));
    let client = McpClient::new(stack);
    let call = client
        .call_tool("delegate_task")
        .argument("capability", "prose");
    let result = call.argument("description", "the weather").await?;
    let text = result.content.first().and_then(|block| block.as_text());
    println!("delegate_task: {}", text.map_or("", |text| &text.text));
    let tools = client.list_all_tools().await?;
    let names: Vec<_> = tools.iter().map(|tool| &*tool.name).collect();
    println!("tools: {}", names.join(", "));
    Ok(())
}

/// A server without tools of its own.
struct Nothing;

impl rmcp::ServerHandler for Nothing {}
