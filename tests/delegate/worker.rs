//! An agent whose tools do what the description of a task says.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
use serde_json::{Value, json};

use crate::common::{Events, finished};

/// The agent. Clones are the same one.
#[derive(Clone, Default)]
pub struct Worker {
    pub events: Events,
    /// The arguments of all calls, in their order.
    pub calls: Arc<Mutex<Vec<(String, Value)>>>,
    /// The delegations in `_meta` of all calls.
    pub delegations: Arc<Mutex<Vec<Value>>>,
    polls: Arc<AtomicUsize>,
    /// The answer to the question of the task, once it has come.
    answered: Arc<Mutex<Option<Value>>>,
}

const DELEGATION: &str = "rmcp-layers/delegation";

fn schema(properties: &[&str], required: &[&str]) -> JsonObject {
    let properties = properties
        .iter()
        .map(|name| ((*name).to_owned(), json!({ "type": "string" })));
    let properties: JsonObject = properties.collect();
    let schema = json!({
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": false,
    });
    schema.as_object().unwrap().clone()
}

fn question() -> InputRequests {
    let request = json!({
        "method": "elicitation/create",
        "params": {
            "mode": "form", "message": "Which colour?",
            "requestedSchema": {
                "type": "object", "properties": { "name": { "type": "string" } },
                "required": ["name"],
            },
        },
    });
    BTreeMap::from([(
        "colour".to_owned(),
        serde_json::from_value(request).unwrap(),
    )])
}

fn structured(value: Value) -> Result<CallToolResponse, ErrorData> {
    Ok(CallToolResult::structured(value).into())
}

impl Worker {
    pub fn arguments(&self, tool: &str) -> Vec<Value> {
        let calls = self.calls.lock().unwrap();
        let calls = calls.iter().filter(|(name, _)| name == tool);
        calls.map(|(_, arguments)| arguments.clone()).collect()
    }

    async fn execute(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.clone().unwrap_or_default();
        let text = |name: &str| {
            arguments
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        match text("description") {
            "fail" => {
                Ok(CallToolResult::error(vec![ContentBlock::text("the disk is full")]).into())
            }
            "crash" => Err(ErrorData::internal_error("out of memory", None)),
            "decline" => structured(json!({ "status": "rejected", "reason": "not my trade" })),
            "thread" => structured(json!({ "result": "begun", "thread_id": "t1" })),
            "hang" => {
                self.events.note("hanging");
                context.ct.cancelled().await;
                self.events.note("cancelled");
                Err(ErrorData::internal_error("cancelled", None))
            }
            "report" => {
                let token = context.meta.get_progress_token().unwrap();
                for step in 1..=2 {
                    let progress = ProgressNotificationParam::new(token.clone(), f64::from(step))
                        .with_total(4.0)
                        .with_message("halfway");
                    context.peer.notify_progress(progress).await.unwrap();
                }
                self.events.note("reported");
                let mut events = self.events.0.subscribe();
                let goes_on = |events: &Vec<String>| events.iter().any(|event| event == "go on");
                events.wait_for(goes_on).await.unwrap();
                finished("reported")
            }
            "ask" => self.ask(request, context).await,
            "ask twice" => {
                let first = self.ask(request.clone(), context.clone());
                let (first, second) = tokio::join!(first, self.ask(request, context));
                second?;
                first
            }
            "task" => Ok(CreateTaskResult::new(task()).into()),
            _ => finished(&format!("did {}: {}", text("task_id"), text("description"))),
        }
    }

    /// Asks in the way that the caller's revision has.
    async fn ask(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if context.peer.peer_info().is_none() || context.meta.protocol_version().is_some() {
            if let Some(responses) = request.input_responses {
                assert_eq!(request.request_state.as_deref(), Some("at the colour"));
                return finished(&format!(
                    "painted it {}",
                    responses["colour"]["content"]["name"]
                ));
            }
            let state = Some("at the colour".to_owned());
            return Ok(InputRequiredResult::new(Some(question()), state).into());
        }
        let InputRequest::Elicitation(elicitation) = question().remove("colour").unwrap() else {
            unreachable!("it is a form");
        };
        let answer = context
            .peer
            .create_elicitation(elicitation.params)
            .await
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        let colour = answer.content.unwrap_or_default()["name"].clone();
        finished(&format!("painted it {colour}"))
    }

    fn status(&self) -> Result<CallToolResponse, ErrorData> {
        match self.polls.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => {
                self.events.note("polled");
                structured(json!({ "status": "running" }))
            }
            _ => structured(json!({ "status": "Completed", "result": "job done" })),
        }
    }
}

fn task() -> Task {
    Task::new(
        "remote-1",
        TaskStatus::Working,
        "2026-07-28T00:00:00Z",
        "2026-07-28T00:00:00Z",
    )
    .with_poll_interval_ms(2_000)
}

impl ServerHandler for Worker {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(
            ServerCapabilities::builder()
                .enable_tools()
                .enable_tasks()
                .build(),
        )
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let execute = ["task_id", "description", "context", "thread_id"];
        Ok(ListToolsResult::with_all_items(vec![
            Tool::new(
                "execute_task",
                "Does a task",
                schema(&execute, &["task_id", "description"]),
            ),
            Tool::new(
                "job_start",
                "Starts a job",
                schema(&["prompt"], &["prompt"]),
            ),
            Tool::new("job_status", "Its status", schema(&["job"], &["job"])),
            Tool::new("job_cancel", "Cancels it", schema(&["job"], &["job"])),
        ]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.clone().unwrap_or_default();
        let call = (request.name.to_string(), Value::Object(arguments));
        self.calls.lock().unwrap().push(call);
        let delegation = context.meta.get(DELEGATION).cloned();
        self.delegations.lock().unwrap().extend(delegation);
        match &*request.name {
            "execute_task" => self.execute(request, context).await,
            "job_start" => structured(json!({ "id": { "job": "j1" } })),
            "job_status" => self.status(),
            "job_cancel" => {
                self.events.note("job cancelled");
                finished("cancelled")
            }
            other => Err(ErrorData::invalid_params(format!("no tool {other}"), None)),
        }
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        assert_eq!(request.task_id, "remote-1");
        self.events.note("task polled");
        let payload = match self.answered.lock().unwrap().as_ref() {
            None => TaskPayload::InputRequired {
                input_requests: question(),
            },
            Some(answer) => {
                let text = format!("made it {}", answer["content"]["name"]);
                let result = json!({ "content": [{ "type": "text", "text": text }] });
                TaskPayload::Completed {
                    result: result.as_object().unwrap().clone(),
                }
            }
        };
        Ok(GetTaskResult::new(DetailedTask::new(task(), payload)))
    }

    async fn update_task(
        &self,
        mut request: UpdateTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        *self.answered.lock().unwrap() = request.input_responses.remove("colour");
        Ok(())
    }

    async fn cancel_task(
        &self,
        _request: CancelTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.events.note("task cancelled");
        Ok(())
    }
}

/// The interval of the agent's own polls.
pub const INTERVAL: Duration = Duration::from_secs(2);
