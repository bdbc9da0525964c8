//! Agents and callers that misbehave.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::{BoxFuture, pending};
use rmcp::{
    ClientHandler, ErrorData, RoleClient, RoleServer, ServerHandler,
    model::*,
    service::{ClientLifecycleMode, RequestContext, serve_client_with_lifecycle},
};
use rmcp_layers::{
    McpClient, McpServer, ServiceBuilderExt, Upstream,
    delegate::{
        Agent, AgentBuilder, DelegateLayer, Mapping, Orchestrator, Plan, Retries, Status,
        StatusTool, Task as Work,
    },
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tower::ServiceBuilder;

use crate::common::{self, Events, demo::Demo, finished, pipe_to, piped, soon, text};

type Answer = Result<CallToolResponse, ErrorData>;
type Act = dyn Fn(CallToolRequestParams, RequestContext<RoleServer>) -> BoxFuture<'static, Answer>
    + Send
    + Sync;

/// An agent that does anything.
#[derive(Clone)]
struct Rogue(Arc<Act>);

impl Rogue {
    fn new<F: Future<Output = Answer> + Send + 'static>(
        act: impl Fn(CallToolRequestParams, RequestContext<RoleServer>) -> F + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move |request, context| {
            Box::pin(act(request, context))
        }))
    }

    fn agent(&self, name: &str) -> AgentBuilder {
        Agent::builder(name, piped(Upstream::builder(), self))
    }
}

impl ServerHandler for Rogue {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = json!({ "type": "object" }).as_object().cloned();
        let schema = Arc::new(schema.unwrap());
        let names = ["execute_task", "job_start", "job_status", "job_cancel"];
        let tools = names.map(|name| Tool::new(name, "Works", schema.clone()));
        Ok(ListToolsResult::with_all_items(tools.to_vec()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Answer {
        (self.0)(request, context).await
    }
}

fn argument(request: &CallToolRequestParams, name: &str) -> String {
    let arguments = request.arguments.as_ref();
    let found = arguments.and_then(|all| all.get(name)?.as_str());
    found.unwrap_or_default().to_owned()
}

fn asks(keys: &[&str]) -> Answer {
    let request = json!({
        "method": "elicitation/create",
        "params": { "mode": "form", "message": "Which?", "requestedSchema": {
            "type": "object", "properties": { "name": { "type": "string" } },
        } },
    });
    let requests = keys.iter().map(|key| {
        let request: InputRequest = serde_json::from_value(request.clone()).unwrap();
        ((*key).to_owned(), request)
    });
    let requests: BTreeMap<_, _> = requests.collect();
    Ok(InputRequiredResult::new(Some(requests), None).into())
}

fn accepted(name: &str) -> Value {
    json!({ "action": "accept", "content": { "name": name } })
}

async fn of(agents: impl IntoIterator<Item = AgentBuilder>) -> Orchestrator {
    let orchestrator = Orchestrator::builder().build().unwrap();
    for agent in agents {
        orchestrator.register(agent.build().unwrap()).await.unwrap();
    }
    orchestrator
}

fn stack(orchestrator: &Orchestrator) -> impl common::Stack {
    let layer = DelegateLayer::new(orchestrator.clone());
    let inner = piped(Upstream::builder(), &Demo::default());
    ServiceBuilder::new().delegate(layer).service(inner)
}

/// A caller with the Tasks extension.
fn with_tasks(orchestrator: &Orchestrator) -> McpClient<impl common::Stack> {
    let able = ClientCapabilities::builder().enable_tasks().build();
    McpClient::builder(stack(orchestrator))
        .capabilities(able)
        .build()
}

fn task_of(response: CallToolResponse) -> String {
    match response {
        CallToolResponse::Task(created) => created.task.task_id,
        other => panic!("not a task: {other:?}"),
    }
}

async fn questions(
    client: &McpClient<impl common::Stack>,
    task: &str,
    count: usize,
) -> InputRequests {
    soon("the questions", async {
        loop {
            let got = client.get_task(task).await.unwrap();
            if let TaskPayload::InputRequired { input_requests } = got.task.payload
                && input_requests.len() >= count
            {
                break input_requests;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await
}

async fn result_of(client: &McpClient<impl common::Stack>, task: &str) -> TaskPayload {
    soon("the end of the task", async {
        loop {
            let got = client.get_task(task).await.unwrap();
            if got.task.status().is_terminal() {
                break got.task.payload;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await
}

/// An agent that asks under a key that is the end of its task's description.
fn inquirer() -> Rogue {
    Rogue::new(|request, _| async move {
        let description = argument(&request, "description");
        let keys: Vec<_> = description.split(' ').collect();
        match request.input_responses {
            None => asks(&keys),
            Some(answers) => {
                let names = keys.iter().map(|key| &answers[*key]["content"]["name"]);
                let names: Vec<_> = names.map(Value::to_string).collect();
                finished(&names.join(" "))
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn an_agent_cannot_ask_under_the_key_of_another_task() {
    let orchestrator = of([inquirer().agent("a")]).await;
    let client = with_tasks(&orchestrator);
    let tasks = json!([
        { "id": "a", "description": "b/q" }, { "id": "a/b", "description": "q" },
    ]);
    let call = client.call_tool("run_plan").argument("tasks", tasks);
    let task = task_of(call.once().await.unwrap());
    let asked = questions(&client, &task, 2).await;
    let answers = asked.keys().map(|key| (key.clone(), accepted(key)));
    client.update_task(&task, answers.collect()).await.unwrap();
    let TaskPayload::Completed { result } = result_of(&client, &task).await else {
        panic!("not completed");
    };
    let tasks = &result["structuredContent"]["tasks"];
    assert_ne!(tasks[0]["answer"], tasks[1]["answer"], "{tasks}");
}

#[tokio::test(start_paused = true)]
async fn the_questions_of_a_task_may_be_answered_one_by_one() {
    let orchestrator = of([inquirer().agent("a")]).await;
    let client = with_tasks(&orchestrator);
    let call = client
        .call_tool("delegate_task")
        .argument("description", "p q");
    let task = task_of(call.once().await.unwrap());
    let asked = questions(&client, &task, 2).await;
    for (key, name) in asked.keys().zip(["one", "two"]) {
        let answer = InputResponses::from([(key.clone(), accepted(name))]);
        client.update_task(&task, answer).await.unwrap();
    }
    let TaskPayload::Completed { result } = result_of(&client, &task).await else {
        panic!("not completed");
    };
    assert_eq!(result["content"][0]["text"], "\"one\" \"two\"");
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_stops_at_its_limit_gives_its_results_to_a_caller_with_tasks() {
    let agent = Rogue::new(|request, _| async move {
        match &*argument(&request, "description") {
            "hang" => pending().await,
            other => finished(other),
        }
    });
    let orchestrator = of([agent.agent("a")]).await;
    let client = with_tasks(&orchestrator);
    let tasks = json!([{ "id": "a", "description": "one" }, { "id": "b", "description": "hang" }]);
    let call = client.call_tool("run_plan").argument("tasks", tasks);
    let task = task_of(call.argument("max_time_s", 5).once().await.unwrap());
    let TaskPayload::Completed { result } = result_of(&client, &task).await else {
        panic!("not completed");
    };
    let facts = &result["structuredContent"];
    assert_eq!(facts["tasks"][0]["answer"], "one");
    assert_eq!(facts["state"], "incomplete");
    assert!(
        facts["reason"].as_str().unwrap().contains("time"),
        "{facts}"
    );
}

#[tokio::test]
async fn errors_of_the_tools_name_the_arguments_of_the_tools() {
    let orchestrator = of([inquirer().agent("a")]).await;
    let client = McpClient::new(stack(&orchestrator));
    let in_plan = |field: &str, value: Value| {
        let mut task = json!({ "id": "t", "description": "d" });
        task[field] = value;
        json!({ "tasks": [task] })
    };
    for (name, arguments, says) in [
        (
            "delegate_task",
            json!({ "description": "d", "thread": "t" }),
            "name it by `agent`",
        ),
        (
            "delegate_task",
            json!({ "description": "d", "deadline_s": 0 }),
            "`deadline_s` is zero",
        ),
        (
            "delegate_task",
            json!({ "description": "d", "deadline_s": 1e300 }),
            "`deadline_s`",
        ),
        (
            "delegate_task",
            json!({ "description": "d", "agent": "" }),
            "`agent` must",
        ),
        (
            "delegate_task",
            json!({ "description": "d", "max_tokens": 0 }),
            "`max_tokens` is zero",
        ),
        (
            "delegate_task",
            json!({ "description": "d", "max_cost": -1 }),
            "`max_cost`",
        ),
        (
            "delegate_task",
            json!({ "description": " ", }),
            "`description` is empty",
        ),
        (
            "delegate_task",
            json!({ "description": "d", "id": "" }),
            "`id` must",
        ),
        (
            "delegate_task",
            json!({ "description": "d", "retries": -1 }),
            "`retries`",
        ),
        (
            "delegate_task",
            json!({ "description": "d", "wait_s": "45" }),
            "`wait_s`",
        ),
        (
            "run_plan",
            json!({ "tasks": [{ "id": "a", "description": "d" }], "max_time_s": 0 }),
            "`max_time_s` is zero",
        ),
        (
            "run_plan",
            in_plan("after", json!(["t"])),
            "each other: `t`",
        ),
        (
            "run_plan",
            in_plan("after", json!(["T"])),
            "`T`, which is not",
        ),
        ("run_plan", in_plan("after", json!("t")), "`tasks[0].after`"),
        (
            "run_plan",
            in_plan("follow_up_of", json!("t")),
            "each other: `t`",
        ),
        (
            "run_plan",
            in_plan("priority", json!(1e12)),
            "`tasks[0].priority`",
        ),
        (
            "run_plan",
            in_plan("on_failure", json!("x")),
            "`tasks[0].on_failure`",
        ),
        (
            "run_plan",
            in_plan("budget_share", json!(-1)),
            "`budget_share`",
        ),
        (
            "run_plan",
            in_plan("deadline_s", json!(-1)),
            "`tasks[0].deadline_s`",
        ),
        (
            "run_plan",
            json!({ "tasks": (0..10_001).map(|n| json!({
            "id": n.to_string(), "description": "d" })).collect::<Vec<_>>() }),
            "at most 10000",
        ),
        (
            "run_plan",
            json!({ "tasks": (0..1_001).map(|n| json!({
            "id": n.to_string(), "description": "d", "after": if n == 0 { vec![] } else { vec![(n - 1).to_string()] }
        })).collect::<Vec<_>>() }),
            "1001 tasks; give at most 1000",
        ),
        (
            "task_status",
            json!({ "plan": "x", "until": "dawn" }),
            "`until`",
        ),
        ("answer_task", json!({ "plan": "x" }), "`task`"),
    ] {
        let call = client.call_tool(name);
        let result = call
            .arguments(arguments.as_object().unwrap().clone())
            .await
            .unwrap();
        assert_eq!(result.is_error, Some(true), "{name} {says}");
        assert!(
            text(&result).contains(says),
            "{name} {says}: {}",
            text(&result)
        );
    }
    for hops in [
        json!({ "depth": -1 }),
        json!({ "depth": 1e20 }),
        json!({ "visited": "a" }),
        json!({ "visited": vec!["a"; 1_000_000] }),
        json!({ "remainingMs": -5 }),
        json!({ "remainingTokens": "many" }),
        json!([]),
    ] {
        let call = client
            .call_tool("delegate_task")
            .argument("description", "d");
        let error = call.meta("rmcp-layers/delegation", hops).await.unwrap_err();
        assert!(error.to_string().contains("leave it out"), "{error}");
    }
    assert!(
        orchestrator
            .plans(&rmcp_layers::CallContext::background())
            .is_empty()
    );
}

fn job() -> Mapping {
    let status = StatusTool::new("job_status").handle("/job", "job");
    let status = status.time_limit(Duration::from_secs(300));
    Mapping::tool("job_start").started(status.cancelled_by("job_cancel"))
}

fn structured(value: Value) -> Answer {
    Ok(CallToolResult::structured(value).into())
}

fn one(description: &str) -> Plan {
    Plan::new([Work::new("t", description).retries(Retries::never())])
}

#[tokio::test(start_paused = true)]
async fn a_status_tool_cannot_put_off_the_next_question_for_ever() {
    let polls = Arc::new(AtomicUsize::new(0));
    let agent = Rogue::new(move |request, _| {
        let polls = polls.clone();
        async move {
            if request.name == "job_start" {
                return structured(json!({ "job": 1 }));
            }
            match polls.fetch_add(1, Ordering::SeqCst) {
                0 => {
                    let mut failed = CallToolResult::error(vec![ContentBlock::text("busy")]);
                    let meta = json!({ "retryAfter": 1e9 });
                    failed.meta = serde_json::from_value(meta).unwrap();
                    Ok(failed.into())
                }
                _ => structured(json!({ "status": "done" })),
            }
        }
    });
    let orchestrator = of([agent.agent("a").mapping(job())]).await;
    let handle = orchestrator.run_plan(one("d")).unwrap();
    let end = timeout(Duration::from_secs(120), handle.wait())
        .await
        .unwrap();
    assert!(end.is_complete(), "{end}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_marked_as_an_error_is_one() {
    let decliner = Rogue::new(|_, _| async {
        let declined = json!({ "status": "rejected", "reason": "not my trade" });
        Ok(CallToolResult::structured_error(declined).into())
    });
    let orchestrator = of([decliner.agent("a").priority(1)]).await;
    let end = orchestrator.run_plan(one("d")).unwrap().wait().await;
    assert_eq!(end.tasks[0].status, Status::Rejected, "{end}");
    let reason = end.tasks[0].error.clone().unwrap();
    assert!(reason.ends_with("declined it: not my trade"), "{reason}");
    let other = Rogue::new(|_, _| async { finished("done") });
    orchestrator
        .register(other.agent("b").build().unwrap())
        .await
        .unwrap();
    let end = orchestrator.run_plan(one("d")).unwrap().wait().await;
    assert!(end.is_complete(), "{end}");
    assert_eq!(end.tasks[0].agent.as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn the_reason_of_an_error_without_text_is_its_structured_content() {
    let agent = Rogue::new(|_, _| async {
        let full = json!({ "code": "disk full" });
        let mut failed = CallToolResult::structured_error(full);
        failed.content.clear();
        Ok(failed.into())
    });
    let orchestrator = of([agent.agent("a")]).await;
    let end = orchestrator.run_plan(one("d")).unwrap().wait().await;
    let error = end.tasks[0].error.clone().unwrap();
    assert!(error.contains("disk full"), "{error}");
}

/// A caller of an older revision whose user does not answer.
struct Silent(Events);

impl ClientHandler for Silent {
    fn get_info(&self) -> ClientConfig {
        let able = ClientCapabilities::builder().enable_elicitation().build();
        ClientConfig::new(able, Implementation::new("silent", "0"))
    }

    async fn create_elicitation(
        &self,
        _request: ElicitRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        self.0.note("asked");
        context.ct.cancelled().await;
        self.0.note("asked no more");
        pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_who_does_not_answer_does_not_prolong_the_wait_of_a_call() {
    let orchestrator = of([inquirer().agent("a")]).await;
    let server = McpServer::new(stack(&orchestrator));
    let events = Events::default();
    let client = serve_client_with_lifecycle(
        Silent(events.clone()),
        pipe_to(server),
        ClientLifecycleMode::Initialize,
    );
    let client = client.await.unwrap();
    let call = common::tool("delegate_task", json!({ "description": "q", "wait_s": 20 }));
    let begun = Instant::now();
    let result = timeout(Duration::from_secs(60), client.call_tool(call)).await;
    let result = result.expect("the call returns").unwrap();
    assert_eq!(begun.elapsed().as_secs(), 20);
    let facts = result.structured_content.unwrap();
    assert_eq!(facts["status"], "input_required", "{facts}");
    assert!(facts["next"].as_str().unwrap().contains("answer_task"));
    events.until("asked no more").await;
}

#[tokio::test]
async fn costs_beyond_all_bounds_leave_the_result_readable() {
    let agent = Rogue::new(|_, _| async { structured(json!({ "cost": 1.7e308 })) });
    let mapping = Mapping::execute_task().cost("/cost");
    let orchestrator = of([agent.agent("a").mapping(mapping)]).await;
    let client = McpClient::new(stack(&orchestrator));
    let tasks = json!([{ "id": "a", "description": "d" }, { "id": "b", "description": "d" }]);
    let result = client
        .call_tool("run_plan")
        .argument("tasks", tasks)
        .await
        .unwrap();
    let facts = result.structured_content.unwrap();
    assert!(facts["cost"].is_number(), "{facts}");
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_answered_elsewhere_is_asked_no_more() {
    let orchestrator = of([inquirer().agent("a")]).await;
    let server = McpServer::new(stack(&orchestrator));
    let events = Events::default();
    let client = serve_client_with_lifecycle(
        Silent(events.clone()),
        pipe_to(server),
        ClientLifecycleMode::Initialize,
    );
    let client = client.await.unwrap();
    let begun = Instant::now();
    let call = common::tool("delegate_task", json!({ "description": "q", "wait_s": 20 }));
    let call = client.call_tool(call);
    let answer = async {
        events.until("asked").await;
        let mut plans = orchestrator.plans(&rmcp_layers::CallContext::background());
        let plan = plans.pop().unwrap();
        let answers = InputResponses::from([("q".to_owned(), accepted("red"))]);
        plan.answer("task", answers).unwrap();
    };
    let (result, ()) = futures::future::join(call, answer).await;
    assert_eq!(text(&result.unwrap()), "\"red\"");
    assert!(begun.elapsed() < Duration::from_secs(5));
    events.until("asked no more").await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_answer_is_not_registered() {
    let stack = tower::service_fn(|_: rmcp_layers::McpRequest| {
        pending::<Result<rmcp_layers::McpResponse, rmcp_layers::Error>>()
    });
    let orchestrator = Orchestrator::builder().build().unwrap();
    let agent = Agent::builder("a", stack).build().unwrap();
    let registered = timeout(Duration::from_secs(120), orchestrator.register(agent));
    let error = registered.await.expect("it ends").unwrap_err().to_string();
    assert!(error.contains("agent `a` cannot be reached"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_single_task_may_have_a_priority_too() {
    let orchestrator = of([inquirer().agent("a")]).await;
    let client = McpClient::new(stack(&orchestrator));
    let call = client
        .call_tool("delegate_task")
        .argument("description", "d");
    let result = call.argument("priority", 3).await.unwrap();
    assert_ne!(result.is_error, Some(true), "{}", text(&result));
}

#[tokio::test(start_paused = true)]
async fn the_tree_of_a_plan_has_no_control_characters_of_an_agent() {
    let agent = Rogue::new(|_, _| async {
        let text = ContentBlock::text("\u{1b}[2Jall is well\u{7}");
        Ok(CallToolResult::error(vec![text]).into())
    });
    let orchestrator = of([agent.agent("a")]).await;
    let end = orchestrator.run_plan(one("d")).unwrap().wait().await;
    let tree = end.to_string();
    assert!(tree.contains("all is well"), "{tree}");
    assert!(!tree.contains(['\u{1b}', '\u{7}']), "{tree:?}");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_another_layer_hands_back_is_followed_to_its_end() {
    for upstream in [
        Upstream::builder(),
        Upstream::builder().lifecycle(rmcp_layers::Lifecycle::Initialize),
    ] {
        let events = Events::default();
        let noted = events.clone();
        let agent = Rogue::new(move |request, context| {
            let noted = noted.clone();
            async move {
                if argument(&request, "description") == "long" {
                    tokio::time::sleep(Duration::from_secs(100)).await;
                    return finished("at last");
                }
                noted.note("hanging");
                context.ct.cancelled().await;
                noted.note("cancelled");
                pending().await
            }
        });
        let inner = McpServer::new(stack(&of([agent.agent("a")]).await));
        let middle = Agent::builder("middle", piped(upstream, &inner));
        let outer = of([middle.mapping(Mapping::delegate_task())]).await;
        let plan = outer.run_plan(one("long")).unwrap();
        let end = timeout(Duration::from_secs(200), plan.wait())
            .await
            .unwrap();
        assert!(end.is_complete(), "{end}");
        assert_eq!(end.tasks[0].output.as_ref().unwrap().answer, "at last");

        let plan = outer.run_plan(one("hang")).unwrap();
        events.until("hanging").await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        plan.cancel();
        events.until("cancelled").await;
    }
}
