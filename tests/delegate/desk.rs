//! An agent over pipes that does what the description of a task says.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Deref,
    sync::{Arc, Mutex},
    time::Duration,
};

use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
use rmcp_layers::{
    Upstream,
    delegate::{Agent, AgentBuilder, Mapping, Orchestrator, PlanHandle, PlanSnapshot, Task},
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};

use crate::common::{Events, piped, soon};

/// An agent. Its description of work is a list of steps, separated by `;`:
///
/// | step | effect |
/// |---|---|
/// | `say TEXT` | the answer; the default is the context |
/// | `wait MS` | takes time |
/// | `gated` | waits until the gate is open |
/// | `ask` | asks a question in another round, and answers with the answer |
/// | `ask twice` | asks for a size too, when it has the answer |
/// | `ask again` | asks the same question again, when it has the answer |
/// | `fail`, `crash`, `decline` | an error of the tool, of the protocol, a refusal |
/// | `once` | does the next step at the first attempt only |
/// | `use TOKENS` | reports tokens |
/// | `meta` | answers with the delegation in `_meta` |
#[derive(Clone)]
pub struct Desk(Arc<State>);

pub struct State {
    name: String,
    pub events: Events,
    pub gate: watch::Sender<bool>,
    running: watch::Sender<(usize, usize)>,
    attempts: Mutex<HashMap<String, usize>>,
}

impl Deref for Desk {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl Desk {
    pub fn new(name: &str) -> Self {
        Self(Arc::new(State {
            name: name.to_owned(),
            events: Events::default(),
            gate: watch::Sender::new(false),
            running: watch::Sender::new((0, 0)),
            attempts: Mutex::default(),
        }))
    }

    /// The agent behind a connection of its own.
    pub fn agent(&self) -> AgentBuilder {
        let stack = piped(Upstream::builder(), self);
        Agent::builder(&*self.name, stack).mapping(Mapping::execute_task().tokens("/tokens"))
    }

    /// The most tasks that it has done at the same time.
    pub fn most(&self) -> usize {
        self.running.borrow().1
    }

    /// The number of times that work on a task has begun.
    pub fn attempts(&self, task: &str) -> usize {
        self.attempts
            .lock()
            .unwrap()
            .get(task)
            .copied()
            .unwrap_or(0)
    }

    async fn work(
        &self,
        task: &str,
        request: &CallToolRequestParams,
    ) -> Result<CallToolResponse, ErrorData> {
        let argument = |name| {
            let arguments = request.arguments.as_ref();
            arguments
                .and_then(|all| all.get(name)?.as_str())
                .unwrap_or_default()
        };
        let attempt = {
            let mut attempts = self.attempts.lock().unwrap();
            let attempts = attempts.entry(task.to_owned()).or_default();
            *attempts += 1;
            *attempts
        };
        let mut answer = argument("context").to_owned();
        let mut tokens = None;
        let mut steps = argument("description").split(';').map(str::trim);
        while let Some(step) = steps.next() {
            let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
            match verb {
                "say" => answer = rest.to_owned(),
                "wait" => sleep(Duration::from_millis(rest.parse().unwrap())).await,
                "gated" => drop(self.gate.subscribe().wait_for(|is_open| *is_open).await),
                "once" if attempt > 1 => drop(steps.next()),
                "once" => {}
                "use" => tokens = rest.parse::<u64>().ok(),
                "thread" => answer = argument("thread_id").to_owned(),
                "fail" => {
                    let text = ContentBlock::text("the disk is full");
                    return Ok(CallToolResult::error(vec![text]).into());
                }
                "crash" => return Err(ErrorData::internal_error("out of memory", None)),
                "decline" => {
                    let status = json!({ "status": "rejected", "reason": "not my trade" });
                    return Ok(CallToolResult::structured(status).into());
                }
                "ask" => match request.input_responses.clone() {
                    None => return Ok(question("color").into()),
                    Some(answers) if rest == "twice" && answers.contains_key("color") => {
                        return Ok(question("size").into());
                    }
                    Some(_)
                        if rest == "again"
                            && request.request_state.as_deref() == Some("round 1") =>
                    {
                        let mut again = question("color");
                        again.request_state = Some("round 2".to_owned());
                        return Ok(again.into());
                    }
                    Some(answers) if rest == "twice" => answer = answers["size"].to_string(),
                    Some(answers) => answer = answers["color"]["content"]["color"].to_string(),
                },
                other => panic!("no such step: {other}"),
            }
        }
        let mut result = json!({ "result": answer, "thread_id": format!("thread of {task}") });
        if let Some(tokens) = tokens {
            result["tokens"] = tokens.into();
        }
        Ok(CallToolResult::structured(result).into())
    }
}

fn question(key: &str) -> InputRequiredResult {
    let schema = json!({ "type": "object", "properties": { key: { "type": "string" } } });
    let request = json!({
        "method": "elicitation/create",
        "params": { "message": format!("Which {key}?"), "requestedSchema": schema },
    });
    let request: InputRequest = serde_json::from_value(request).unwrap();
    InputRequiredResult::new(
        Some(BTreeMap::from([(key.to_owned(), request)])),
        Some("round 1".to_owned()),
    )
}

/// The answer to the question.
pub fn blue() -> InputResponses {
    let answer = json!({ "action": "accept", "content": { "color": "blue" } });
    BTreeMap::from([("color".to_owned(), answer)])
}

impl ServerHandler for Desk {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = json!({
            "type": "object",
            "properties": { "description": { "type": "string" } },
            "required": ["description"],
        });
        let schema = schema.as_object().cloned().unwrap();
        let tool = Tool::new("execute_task", "Does a task", Arc::new(schema));
        Ok(ListToolsResult::with_all_items(vec![tool]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let id = request
            .arguments
            .as_ref()
            .and_then(|all| all.get("task_id")?.as_str());
        let (_, task) = id.and_then(|id| id.rsplit_once('/')).unwrap();
        let task = task.to_owned();
        if context.meta.get("rmcp-layers/delegation").is_some()
            && request
                .arguments
                .as_ref()
                .is_some_and(|all| all["description"] == "meta")
        {
            let meta: Value = context.meta["rmcp-layers/delegation"].clone();
            return Ok(CallToolResult::structured(json!({ "result": meta.to_string() })).into());
        }
        self.events.note(format!("begun {task}"));
        self.running.send_modify(|(now, most)| {
            *now += 1;
            *most = (*now).max(*most);
        });
        let ended = tokio::select! {
            ended = self.work(&task, &request) => {
                self.events.note(format!("ended {task}"));
                ended
            }
            () = context.ct.cancelled() => {
                self.events.note(format!("cancelled {task}"));
                Err(ErrorData::internal_error("cancelled", None))
            }
        };
        self.running.send_modify(|(now, _)| *now -= 1);
        ended
    }
}

/// An orchestrator with one agent.
pub async fn one(desk: &Desk) -> Orchestrator {
    let orchestrator = Orchestrator::builder().build().unwrap();
    let agent = desk.agent().build().unwrap();
    orchestrator.register(agent).await.unwrap();
    orchestrator
}

pub async fn ended(plan: &PlanHandle) -> PlanSnapshot {
    soon("the end of the plan", plan.wait()).await
}

/// A task without retries.
pub fn task(id: &str, description: &str) -> Task {
    Task::new(id, description).retries(rmcp_layers::delegate::Retries::never())
}

/// The statuses of the tasks of a plan, as `a complete, b failed`.
pub fn statuses(plan: &PlanSnapshot) -> String {
    let tasks = plan
        .tasks
        .iter()
        .map(|task| format!("{} {}", task.id, task.status));
    tasks.collect::<Vec<_>>().join(", ")
}
