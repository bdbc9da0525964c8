//! Three agents in processes of their own, and a plan of a dozen tasks: a diamond, a branch that
//! fails, and an agent that is killed (`kill -9`) while it works on a task.
//!
//! The agents are this program itself. The scout and the smith have a tool `execute_task`; the
//! forge has a tool that starts a job, one that is asked for its status, and one that cancels it.
//! The live tree of the plan goes to standard error.
//!
//! Output of `cargo run --example swarm`:
//!
//! ```text
//! agents: scout (research), smith (code), forge (build)
//! the smith was killed while it worked on parser
//! scope: complete (scout)
//! api: complete (scout)
//! ui: complete (scout)
//! design: complete (scout)
//! parser: complete (smith), attempt 2
//! printer: complete (smith)
//! compile: complete (forge)
//! test: complete (forge)
//! benchmark: failed (forge): agent `forge`: the disk is full
//! tune: failed: task `benchmark`, which it depends on, is not complete
//! docs: complete (scout)
//! release: complete (scout)
//! 10 of 12 complete; the release knows of: test, docs
//! ```

use std::{path::PathBuf, process::Command, time::Duration};

use rmcp::{
    ErrorData, ServiceExt,
    handler::server::wrapper::Parameters,
    model::{CallToolResult, ContentBlock},
    schemars, tool, tool_router,
    transport::stdio,
};
use rmcp_layers::{
    ChildProcess, McpClient, Upstream,
    delegate::{
        Agent, Mapping, Orchestrator, Plan, PlanSnapshot, Retries, Status, StatusTool, Task,
        TaskSnapshot,
    },
};
use serde_json::{Value, json};

/// The plan of the example.
fn plan() -> Plan {
    let task = |id: &str, capability: &str, after: &[&str]| {
        Task::new(id, format!("Do the {id}"))
            .capability(capability)
            .after(after.iter().copied())
            .retries(Retries::at_most(1).base_delay(Duration::from_millis(100)))
    };
    Plan::new([
        task("scope", "research", &[]),
        // The diamond: both parts at the same time, then the whole.
        task("api", "research", &["scope"]),
        task("ui", "research", &["scope"]),
        task("design", "research", &["api", "ui"]),
        // It may be done twice, so it is done again after the death of its agent.
        task("parser", "code", &["design"])
            .priority(1)
            .idempotent(true),
        task("printer", "code", &["design"]),
        task("compile", "build", &["parser", "printer"]),
        task("test", "build", &["compile"]),
        // The branch that fails.
        task("benchmark", "build", &["compile"]).retries(Retries::never()),
        task("tune", "code", &["benchmark"]),
        task("docs", "research", &["design"]),
        task("release", "research", &["docs", "test"]),
    ])
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("forge") => Ok(Forge.serve(stdio()).await?.waiting().await.map(drop)?),
        Some(name) => {
            let dir = std::env::var("SWARM_DIR")?.into();
            let worker = Worker {
                name: name.to_owned(),
                dir,
            };
            Ok(worker.serve(stdio()).await?.waiting().await.map(drop)?)
        }
        None => orchestrate().await,
    }
}

async fn orchestrate() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("swarm-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let start = |name: &str| {
        let this = std::env::current_exe()?;
        let child = ChildProcess::new(this).arg(name).env("SWARM_DIR", &dir);
        Ok::<_, std::io::Error>(Upstream::child_process(child))
    };
    let (scout, smith, forge) = (start("scout")?, start("smith")?, start("forge")?);
    let job = StatusTool::new("job_status")
        .handle("/job", "job")
        .cancelled_by("job_cancel")
        .interval(Duration::from_millis(100));
    let agents = [
        Agent::builder("scout", scout).capability("research"),
        Agent::builder("smith", smith.clone())
            .capability("code")
            .max_concurrent(1),
        Agent::builder("forge", forge)
            .capability("build")
            .mapping(Mapping::tool("job_start").answer("/result").started(job)),
    ];
    let orchestrator = Orchestrator::builder().build()?;
    let mut names = Vec::new();
    for agent in agents {
        let agent = agent.build()?;
        names.push(format!(
            "{} ({})",
            agent.name(),
            agent.capabilities().join(", ")
        ));
        orchestrator.register(agent).await?;
    }
    println!("agents: {}", names.join(", "));

    let handle = orchestrator.run_plan(plan())?;
    let mut is_killed = false;
    let end = loop {
        let plan = handle.snapshot();
        eprintln!("\n{plan}");
        if plan.state.is_over() {
            break plan;
        }
        if !is_killed && dir.join("parser").exists() {
            kill(&smith).await?;
            println!("the smith was killed while it worked on parser");
            is_killed = true;
        }
        // The smith's mark is no change of the plan.
        let pause = tokio::time::sleep(Duration::from_millis(100));
        tokio::select! {
            () = handle.changed(plan.version) => {}
            () = pause, if !is_killed => {}
        }
    };
    for task in &end.tasks {
        println!("{}", line(task));
    }
    let (complete, all) = (end.count(Status::Complete), end.tasks.len());
    println!(
        "{complete} of {all} complete; the release {}",
        answer(&end, "release")
    );
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// Kills the process of an agent.
async fn kill(agent: &Upstream) -> Result<(), Box<dyn std::error::Error>> {
    let result = McpClient::new(agent.clone())
        .call_tool("process_id")
        .await?;
    let id = result.content.first().and_then(|block| block.as_text());
    let id = id
        .ok_or("the agent has no process id")?
        .text
        .parse::<u32>()?;
    let killed = Command::new("kill")
        .arg("-9")
        .arg(id.to_string())
        .status()?;
    killed
        .success()
        .then_some(())
        .ok_or_else(|| "it cannot be killed".into())
}

fn line(task: &TaskSnapshot) -> String {
    let mut line = format!("{}: {}", task.id, task.status);
    if let Some(agent) = &task.agent {
        line.push_str(&format!(" ({agent})"));
    }
    if task.attempts > 1 {
        line.push_str(&format!(", attempt {}", task.attempts));
    }
    if task.status != Status::Complete
        && let Some(error) = &task.error
    {
        line.push_str(&format!(": {error}"));
    }
    line
}

fn answer<'a>(plan: &'a PlanSnapshot, task: &str) -> &'a str {
    let output = plan.task(task).and_then(|task| task.output.as_ref());
    output.map_or("has no answer", |output| &output.answer)
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Work {
    description: String,
    #[serde(default)]
    context: String,
}

/// An agent whose tool returns when the task is done.
#[derive(Clone)]
struct Worker {
    name: String,
    dir: PathBuf,
}

#[tool_router(server_handler)]
impl Worker {
    #[tool(description = "Does a task")]
    async fn execute_task(&self, Parameters(work): Parameters<Work>) -> Result<String, ErrorData> {
        let mark = self.dir.join("parser");
        let is_parser = work.description.ends_with("parser");
        if self.name == "smith" && is_parser && !mark.exists() {
            std::fs::write(mark, "")
                .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let results = work
            .context
            .lines()
            .filter_map(|line| line.split('`').nth(1));
        Ok(format!(
            "knows of: {}",
            results.collect::<Vec<_>>().join(", ")
        ))
    }

    #[tool(description = "Returns the id of the process")]
    async fn process_id(&self) -> String {
        std::process::id().to_string()
    }
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Job {
    job: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct NewJob {
    description: String,
}

/// An agent whose tool starts a job.
#[derive(Clone)]
struct Forge;

#[tool_router(server_handler)]
impl Forge {
    #[tool(description = "Starts a job")]
    async fn job_start(&self, Parameters(job): Parameters<NewJob>) -> CallToolResult {
        let first = job
            .description
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
        structured(json!({ "job": first }))
    }

    #[tool(description = "Returns the status of a job")]
    async fn job_status(&self, Parameters(Job { job }): Parameters<Job>) -> CallToolResult {
        structured(match job.ends_with("benchmark") {
            true => json!({ "status": "failed", "error": "the disk is full" }),
            false => json!({ "status": "completed", "result": format!("{job}: done") }),
        })
    }

    #[tool(description = "Cancels a job")]
    async fn job_cancel(&self, Parameters(Job { job }): Parameters<Job>) -> CallToolResult {
        CallToolResult::success(vec![ContentBlock::text(format!("{job}: cancelled"))])
    }
}

fn structured(value: Value) -> CallToolResult {
    CallToolResult::structured(value)
}
