//! The processes of a plan that survives the death of its orchestrator:
//!
//! - `delegate_processes agent FILE`: an agent over HTTP, which notes each piece of work that it has
//!   done in a file.
//! - `delegate_processes submit REDIS AGENT` and `delegate_processes resume REDIS AGENT`: an
//!   orchestrator that submits the plan, and one that takes it over. They print each change of a
//!   task, and the statuses at the end. `submit-small` submits a plan with a question.
//! - `delegate_processes cancel REDIS PLAN TASK` and `delegate_processes answer REDIS PLAN TASK`: an
//!   orchestrator that runs no plan, and cancels or answers a task of another process. They print
//!   the way that the request takes.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::Write,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::StreamExt;
use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
use rmcp_layers::{
    CallContext, HttpEndpoint, Upstream,
    delegate::{Agent, Mapping, Orchestrator, Plan, Retries, StatusTool, Task},
    store::RedisStore,
};
use rmcp_layers_interop::serve::{self, Result};
use serde_json::{Value, json};

/// The time that a job takes.
const JOB: Duration = Duration::from_millis(400);
const LEASE: Duration = Duration::from_secs(2);
/// Number of tasks of each of the levels of the plan.
const WIDTH: usize = 4;
const LEVELS: usize = 4;

#[derive(Clone)]
struct Worker {
    file: Arc<str>,
    /// The jobs, by the id of their task, with the times of their ends.
    jobs: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Worker {
    fn note(&self, task: &str) {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&*self.file);
        let (_, name) = task.rsplit_once('/').expect("the id of a plan before it");
        // One write, so that lines do not mix.
        file.expect("the file")
            .write_all(format!("{name}\n").as_bytes())
            .expect("a line");
    }

    /// Starts a job, unless its task has one.
    fn start(&self, task: &str) {
        let mut jobs = self.jobs.lock().expect("the jobs");
        if jobs.contains_key(task) {
            return;
        }
        jobs.insert(task.to_owned(), Instant::now() + JOB);
        let (worker, task) = (self.clone(), task.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(JOB).await;
            worker.note(&task);
        });
    }

    fn status(&self, task: &str) -> Value {
        let jobs = self.jobs.lock().expect("the jobs");
        let is_done = jobs.get(task).is_some_and(|end| *end <= Instant::now());
        match is_done {
            true => json!({ "status": "completed", "result": format!("done: {task}") }),
            false => json!({ "status": "running" }),
        }
    }
}

impl ServerHandler for Worker {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema: JsonObject = [("type".to_owned(), json!("object"))].into_iter().collect();
        let schema = Arc::new(schema);
        let tools = ["job_start", "job_status", "hold", "ask"];
        let tools = tools.map(|name| Tool::new(name, "A tool of a worker", schema.clone()));
        Ok(ListToolsResult::with_all_items(tools.into()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let task = arguments["task"].as_str().unwrap_or_default();
        let result = match &*request.name {
            "job_start" => {
                self.start(task);
                json!({ "task": task })
            }
            "job_status" => self.status(task),
            "ask" => match request.input_responses {
                None => return Ok(question().into()),
                Some(_) => {
                    self.note(task);
                    json!({ "result": "answered" })
                }
            },
            "hold" => {
                self.note(task);
                std::future::pending().await
            }
            other => return Err(ErrorData::invalid_params(format!("no tool {other}"), None)),
        };
        Ok(CallToolResult::structured(result).into())
    }
}

fn question() -> InputRequiredResult {
    let request = json!({
        "method": "elicitation/create",
        "params": {
            "message": "Which color?",
            "requestedSchema": { "type": "object", "properties": { "color": { "type": "string" } } },
        },
    });
    let request: InputRequest = serde_json::from_value(request).expect("a question");
    let requests = InputRequests::from([("color".to_owned(), request)]);
    InputRequiredResult::new(Some(requests), Some("at the color".to_owned()))
}

/// An orchestrator without agents.
fn without_agents(redis: &str) -> Result<Orchestrator> {
    let store = RedisStore::builder(redis).build()?;
    let builder = Orchestrator::builder().store(store).lease(LEASE);
    Ok(builder.name("interop").build()?)
}

async fn orchestrator(redis: &str, agent: &str) -> Result<Orchestrator> {
    let orchestrator = without_agents(redis)?;
    let upstream = || Upstream::builder().http(HttpEndpoint::new(agent));
    let status = StatusTool::new("job_status")
        .handle("/task", "task")
        .interval(Duration::from_millis(100));
    let jobs = Mapping::tool("job_start")
        .task_id("task")
        .answer("/result")
        .started(status);
    let jobs = Agent::builder("jobs", upstream()?)
        .capability("jobs")
        .mapping(jobs);
    orchestrator.register(jobs.build()?).await?;
    let holder = Agent::builder("holder", upstream()?)
        .capability("hold")
        .mapping(Mapping::tool("hold").task_id("task"));
    orchestrator.register(holder.build()?).await?;
    let asker = Agent::builder("asker", upstream()?)
        .capability("ask")
        .mapping(Mapping::tool("ask").task_id("task").answer("/result"));
    orchestrator.register(asker.build()?).await?;
    Ok(orchestrator)
}

/// Levels of jobs, each after two of the level before, and a call that never returns.
fn plan() -> Plan {
    let jobs = (0..LEVELS * WIDTH).map(|number| {
        let (level, place) = (number / WIDTH, number % WIDTH);
        let before = |place: usize| format!("{}-{}", level - 1, place % WIDTH);
        let task = Task::new(format!("{level}-{place}"), "Do a job")
            .capability("jobs")
            .idempotent(true);
        match level {
            0 => task,
            _ => task.after([before(place), before(place + 1)]),
        }
    });
    let held = Task::new("held", "Hold the line").capability("hold");
    let after = Task::new("after", "Do a job")
        .capability("jobs")
        .after(["held"]);
    Plan::new(jobs.chain([held.retries(Retries::never()), after]))
}

/// A task with a question, and two calls that never return.
fn small_plan() -> Plan {
    let held = |id: &str| Task::new(id, "Hold the line").capability("hold");
    Plan::new([
        Task::new("asked", "Ask for a color").capability("ask"),
        held("first").idempotent(true),
        held("second").idempotent(true),
    ])
}

/// Prints the way of a request for a task of another process.
async fn request(redis: &str, plan: &str, task: &str, answers: bool) -> Result<()> {
    let (orchestrator, context) = (without_agents(redis)?, CallContext::background());
    let delivery = match answers {
        true => {
            let answer = json!({ "action": "accept", "content": { "color": "blue" } });
            let answers = InputResponses::from([("color".to_owned(), answer)]);
            orchestrator
                .answer_task(&context, plan, task, answers)
                .await?
        }
        false => orchestrator.cancel_task(&context, plan, task).await?,
    };
    println!("{delivery:?}");
    Ok(())
}

async fn run(orchestrator: Orchestrator, submitted: Option<Plan>) -> Result<()> {
    let plan = match submitted {
        Some(plan) => orchestrator.run_plan(plan)?,
        None => loop {
            if let Some(plan) = orchestrator.resume().await?.pop() {
                break plan;
            }
            tokio::time::sleep(LEASE / 10).await;
        },
    };
    println!("plan {}", plan.id());
    let mut changes = Box::pin(plan.changes());
    while let Some(task) = changes.next().await {
        println!("{} {}", task.id, task.status);
    }
    for task in plan.snapshot().tasks {
        println!("end {} {}", task.id, task.status);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["agent", file] => {
            let worker = Worker {
                file: file.into(),
                jobs: Arc::default(),
            };
            serve::http(([127, 0, 0, 1], 0).into(), move || worker.clone()).await
        }
        ["submit", redis, agent] => run(orchestrator(redis, agent).await?, Some(plan())).await,
        ["submit-small", redis, agent] => {
            run(orchestrator(redis, agent).await?, Some(small_plan())).await
        }
        ["resume", redis, agent] => run(orchestrator(redis, agent).await?, None).await,
        ["cancel", redis, plan, task] => request(redis, plan, task, false).await,
        ["answer", redis, plan, task] => request(redis, plan, task, true).await,
        _ => Err(
            "delegate_processes agent FILE | submit REDIS AGENT | submit-small REDIS AGENT | \
                  resume REDIS AGENT | cancel REDIS PLAN TASK | answer REDIS PLAN TASK"
                .into(),
        ),
    }
}
