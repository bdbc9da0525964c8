//! Two agents, a plan whose second task needs the answer of the first one, and the tools by which a
//! model makes such plans.
//!
//! Output of `cargo run --example delegate`:
//!
//! ```text
//! fetch (researcher): rmcp 3.11 is out
//! write (writer): A note on: rmcp 3.11 is out
//! delegate_task: A note on: the weather
//! ```

use rmcp::{handler::server::wrapper::Parameters, schemars, tool, tool_router};
use rmcp_layers::{
    McpClient, ServiceBuilderExt, Upstream,
    delegate::{Agent, DelegateLayer, Orchestrator, Plan, Task},
};
use tower::ServiceBuilder;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Work {
    description: String,
    /// The answers of the tasks before, each below a line that names its task.
    context: Option<String>,
}

#[derive(Clone)]
struct Worker(fn(&Work) -> String);

#[tool_router(server_handler)]
impl Worker {
    #[tool(description = "Does a task")]
    fn execute_task(&self, Parameters(work): Parameters<Work>) -> String {
        (self.0)(&work)
    }
}

fn note(work: &Work) -> String {
    let found = work.context.as_deref().and_then(|all| all.lines().last());
    format!("A note on: {}", found.unwrap_or(&work.description))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let orchestrator = Orchestrator::builder().build()?;
    let researcher = Upstream::in_process(Worker(|_| "rmcp 3.11 is out".to_owned()));
    let writer = Upstream::in_process(Worker(note));
    let researcher = Agent::builder("researcher", researcher).capability("research");
    // An agent that cannot be reached, or lacks its tool, is refused here.
    orchestrator.register(researcher.build()?).await?;
    let agent = Agent::builder("writer", writer.clone()).capability("prose");
    orchestrator.register(agent.build()?).await?;

    let fetch = Task::new("fetch", "Which version of rmcp is out?").capability("research");
    let write = Task::new("write", "Write a note").capability("prose");
    let plan = Plan::new([fetch, write.after(["fetch"])]);
    for task in orchestrator.run_plan(plan)?.wait().await.tasks {
        let agent = task.agent.as_deref().unwrap_or("no agent");
        let answer = task.output.as_ref().map_or("", |output| &output.answer);
        println!("{} ({agent}): {answer}", task.id);
    }

    // The same for a model: tools that any host can call.
    let layer = DelegateLayer::new(orchestrator);
    let client = McpClient::new(ServiceBuilder::new().delegate(layer).service(writer));
    let call = client
        .call_tool("delegate_task")
        .argument("capability", "prose");
    let result = call.argument("description", "the weather").await?;
    let text = result.content.first().and_then(|block| block.as_text());
    println!("delegate_task: {}", text.map_or("", |text| &text.text));
    Ok(())
}
