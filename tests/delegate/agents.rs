//! Agents of each kind, over pipes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, ListToolsResult, PaginatedRequestParams,
        ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
};
use rmcp_layers::{
    McpServer, Upstream,
    delegate::{Agent, Mapping, Orchestrator, Plan, PlanHandle, Retries, Status, StatusTool, Task},
};
use serde_json::json;
use tokio::io::DuplexStream;
use tokio_util::sync::CancellationToken;

use crate::{
    common::{finished, piped, piped_legacy, soon},
    worker::Worker,
};

fn job() -> Mapping {
    let status = StatusTool::new("job_status").handle("/id/job", "job");
    Mapping::tool("job_start")
        .description("prompt")
        .answer("/result")
        .started(status.cancelled_by("job_cancel"))
}

async fn with(upstream: Upstream, mapping: Mapping) -> Orchestrator {
    let orchestrator = Orchestrator::builder().build().unwrap();
    let agent = Agent::builder("worker", upstream).mapping(mapping);
    orchestrator.register(agent.build().unwrap()).await.unwrap();
    orchestrator
}

async fn modern(worker: &Worker, mapping: Mapping) -> Orchestrator {
    with(piped(Upstream::builder(), worker), mapping).await
}

fn one(description: &str) -> Plan {
    Plan::new([Task::new("t", description).retries(Retries::never())])
}

async fn ended(handle: &PlanHandle) -> (Status, String) {
    let plan = soon("the end of a plan", handle.wait()).await;
    let task = plan.task("t").unwrap();
    let answer = task.output.as_ref().map(|output| output.answer.clone());
    let error = task.error.as_ref().map(ToString::to_string);
    (task.status, answer.or(error).unwrap_or_default())
}

#[tokio::test]
async fn a_task_is_a_call_of_the_mapped_tool_and_its_text_is_the_answer() {
    let worker = Worker::default();
    let orchestrator = modern(&worker, Mapping::execute_task()).await;
    let plan = Plan::new([Task::new("t", "dig").context("It is dark.")]);
    let handle = orchestrator.run_plan(plan).unwrap();
    let (status, answer) = ended(&handle).await;
    assert_eq!(status, Status::Complete);
    assert!(answer.ends_with(": dig"), "{answer}");
    let arguments = &worker.arguments("execute_task")[0];
    assert_eq!(arguments["context"], "It is dark.");
    let delegation = &worker.delegations.lock().unwrap()[0];
    assert_eq!(delegation["depth"], 1);
    assert_eq!(delegation["visited"], json!(["worker"]));
}

#[tokio::test]
async fn a_failure_of_the_work_and_an_error_of_the_agent_fail_the_task_with_their_reason() {
    let worker = Worker::default();
    let orchestrator = modern(&worker, Mapping::execute_task()).await;
    for (description, says) in [("fail", "the disk is full"), ("crash", "out of memory")] {
        let handle = orchestrator.run_plan(one(description)).unwrap();
        let (status, reason) = ended(&handle).await;
        assert_eq!(status, Status::Failed);
        assert!(
            reason.contains(says) && reason.contains("`worker`"),
            "{reason}"
        );
    }
    let handle = orchestrator.run_plan(one("decline")).unwrap();
    let (status, reason) = ended(&handle).await;
    assert_eq!(status, Status::Rejected);
    assert!(reason.contains("not my trade"), "{reason}");
}

/// A server whose first call fails after its work.
#[derive(Clone)]
struct Fragile {
    done: Arc<AtomicUsize>,
    panics: bool,
}

impl ServerHandler for Fragile {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = json!({ "type": "object" }).as_object().cloned().unwrap();
        let tool = Tool::new("execute_task", "Does a task", Arc::new(schema));
        Ok(ListToolsResult::with_all_items(vec![tool]))
    }

    async fn call_tool(
        &self,
        _request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let first = self.done.fetch_add(1, Ordering::SeqCst) == 0;
        assert!(!(first && self.panics), "a panic after the work");
        match first {
            true => Err(ErrorData::internal_error("the model is overloaded", None)),
            false => finished("done"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_server_fails_unexpectedly_is_only_tried_again_if_it_is_idempotent() {
    let framework = || Mapping::agent_framework("execute_task");
    for (panics, mapping, is_idempotent, expected) in [
        (true, Mapping::execute_task(), false, (Status::Failed, 1)),
        (true, Mapping::execute_task(), true, (Status::Complete, 2)),
        (false, Mapping::execute_task(), false, (Status::Failed, 1)),
        // It reports failures of its work so.
        (false, framework(), false, (Status::Complete, 2)),
    ] {
        let done = Arc::new(AtomicUsize::new(0));
        let server = Fragile {
            done: done.clone(),
            panics,
        };
        let served = McpServer::new(Upstream::in_process(server.clone()));
        for upstream in [
            Upstream::in_process(server),
            piped(Upstream::builder(), &served),
        ] {
            done.store(0, Ordering::SeqCst);
            let orchestrator = with(upstream, mapping.clone()).await;
            let task = Task::new("t", "dig").idempotent(is_idempotent);
            let handle = orchestrator.run_plan(Plan::new([task])).unwrap();
            let (status, said) = ended(&handle).await;
            assert_eq!((status, done.load(Ordering::SeqCst)), expected, "{said}");
            assert!(
                status != Status::Failed || said.contains("may have done"),
                "{said}"
            );
        }
    }
}

#[tokio::test]
async fn a_follow_up_goes_on_in_the_thread_of_its_task() {
    let worker = Worker::default();
    let orchestrator = modern(&worker, Mapping::execute_task()).await;
    let plan = Plan::new([
        Task::new("t", "thread"),
        Task::new("more", "go on").follow_up_of("t"),
    ]);
    let handle = orchestrator.run_plan(plan).unwrap();
    assert_eq!(ended(&handle).await, (Status::Complete, "begun".to_owned()));
    assert_eq!(worker.arguments("execute_task")[1]["thread_id"], "t1");
}

#[tokio::test]
async fn cancelling_a_plan_cancels_the_call_at_its_agent() {
    let worker = Worker::default();
    for upstream in [piped(Upstream::builder(), &worker), piped_legacy(&worker)] {
        let hanging = worker.events.count("hanging");
        let orchestrator = with(upstream, Mapping::execute_task()).await;
        let handle = orchestrator.run_plan(one("hang")).unwrap();
        worker.events.until_times("hanging", hanging + 1).await;
        handle.cancel();
        worker.events.until_times("cancelled", hanging + 1).await;
        assert_eq!(ended(&handle).await.0, Status::Cancelled);
    }
}

#[tokio::test]
async fn progress_of_an_agent_is_that_of_its_task() {
    let worker = Worker::default();
    let orchestrator = modern(&worker, Mapping::execute_task()).await;
    let handle = orchestrator.run_plan(one("report")).unwrap();
    worker.events.until("reported").await;
    loop {
        let plan = handle.snapshot();
        let progress = plan.task("t").unwrap().progress.clone();
        if let Some(progress) = progress.filter(|progress| progress.done == 2.0) {
            assert_eq!(progress.total, Some(4.0));
            assert_eq!(progress.message.as_deref(), Some("halfway"));
            break;
        }
        assert!(!plan.state.is_over(), "{plan}");
        soon("progress", handle.changed(plan.version)).await;
    }
    worker.events.note("go on");
    assert_eq!(ended(&handle).await.0, Status::Complete);
}

/// Waits until the task asks, and answers.
async fn answer(handle: &PlanHandle) {
    loop {
        let plan = handle.snapshot();
        let task = plan.task("t").unwrap();
        if let Some(questions) = &task.questions {
            assert_eq!(task.status, Status::InputRequired);
            let key = questions.keys().next().unwrap().clone();
            let response = json!({ "action": "accept", "content": { "name": "red" } });
            let responses = [(key, response)].into_iter().collect();
            handle.answer("t", responses).unwrap();
            return;
        }
        assert!(!plan.state.is_over(), "{plan}");
        soon("a question", handle.changed(plan.version)).await;
    }
}

#[tokio::test]
async fn a_question_in_a_result_is_kept_until_its_answer_goes_into_the_next_round() {
    let worker = Worker::default();
    let orchestrator = modern(&worker, Mapping::execute_task()).await;
    let handle = orchestrator.run_plan(one("ask")).unwrap();
    answer(&handle).await;
    let expected = (Status::Complete, "painted it \"red\"".to_owned());
    assert_eq!(ended(&handle).await, expected);
}

#[tokio::test]
async fn a_question_of_an_older_agent_is_kept_until_its_answer_comes() {
    let worker = Worker::default();
    let orchestrator = with(piped_legacy(&worker), Mapping::execute_task()).await;
    let handle = orchestrator.run_plan(one("ask")).unwrap();
    answer(&handle).await;
    let expected = (Status::Complete, "painted it \"red\"".to_owned());
    assert_eq!(ended(&handle).await, expected);
}

#[tokio::test]
async fn questions_of_an_agent_that_come_together_are_asked_one_after_the_other() {
    let worker = Worker::default();
    let orchestrator = with(piped_legacy(&worker), Mapping::execute_task()).await;
    let handle = orchestrator.run_plan(one("ask twice")).unwrap();
    answer(&handle).await;
    answer(&handle).await;
    let expected = (Status::Complete, "painted it \"red\"".to_owned());
    assert_eq!(ended(&handle).await, expected);
}

async fn served(worker: Worker, pipe: DuplexStream) {
    let running = worker.serve(pipe).await.unwrap();
    running.waiting().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn work_with_a_handle_is_polled_on_after_its_agent_was_away_for_a_while() {
    let worker = Worker::default();
    let (dials, killed) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let upstream = {
        let (worker, dials, killed) = (worker.clone(), dials.clone(), killed.clone());
        Upstream::builder().transport(move || {
            let number = dials.fetch_add(1, Ordering::SeqCst);
            let (worker, killed) = (worker.clone(), killed.clone());
            async move {
                if (1..4).contains(&number) {
                    return Err(std::io::Error::other("it starts again"));
                }
                let (near, far) = tokio::io::duplex(64 * 1024);
                let lives = match number {
                    0 => killed,
                    _ => CancellationToken::new(),
                };
                tokio::spawn(lives.run_until_cancelled_owned(served(worker, far)));
                Ok(near)
            }
        })
    };
    let orchestrator = with(upstream, job()).await;
    let handle = orchestrator.run_plan(one("dig")).unwrap();
    worker.events.until("polled").await;
    killed.cancel();
    let end = ended(&handle).await;
    assert_eq!(end, (Status::Complete, "job done".to_owned()));
    assert_eq!(worker.arguments("job_start").len(), 1);
    assert!(dials.load(Ordering::SeqCst) >= 4);
}

#[tokio::test(start_paused = true)]
async fn a_task_of_the_agent_is_polled_at_its_interval_and_its_question_answered() {
    let worker = Worker::default();
    let orchestrator = modern(&worker, Mapping::execute_task()).await;
    let handle = orchestrator.run_plan(one("task")).unwrap();
    let begun = tokio::time::Instant::now();
    answer(&handle).await;
    let expected = (Status::Complete, "made it \"red\"".to_owned());
    assert_eq!(ended(&handle).await, expected);
    assert_eq!(worker.events.count("task polled"), 2);
    assert!(begun.elapsed() >= 2 * crate::worker::INTERVAL);
    assert_eq!(worker.events.count("task cancelled"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_is_cancelled_at_the_agent_that_has_made_it_a_task() {
    let worker = Worker::default();
    let orchestrator = modern(&worker, Mapping::execute_task()).await;
    let handle = orchestrator.run_plan(one("task")).unwrap();
    worker.events.until("task polled").await;
    handle.cancel();
    worker.events.until("task cancelled").await;
    assert_eq!(ended(&handle).await.0, Status::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn started_work_is_asked_for_its_status_to_its_end() {
    let worker = Worker::default();
    let orchestrator = modern(&worker, job()).await;
    let handle = orchestrator.run_plan(one("dig")).unwrap();
    assert_eq!(
        ended(&handle).await,
        (Status::Complete, "job done".to_owned())
    );
    assert_eq!(worker.arguments("job_status").len(), 3);
    assert_eq!(worker.arguments("job_status")[0], json!({ "job": "j1" }));
    assert!(worker.arguments("job_cancel").is_empty());
}

#[tokio::test(start_paused = true)]
async fn started_work_of_a_cancelled_task_is_cancelled_by_its_tool() {
    let worker = Worker::default();
    let orchestrator = modern(&worker, job()).await;
    let handle = orchestrator.run_plan(one("dig")).unwrap();
    worker.events.until("polled").await;
    handle.cancel();
    worker.events.until("job cancelled").await;
    assert_eq!(worker.arguments("job_cancel"), [json!({ "job": "j1" })]);
    assert_eq!(ended(&handle).await.0, Status::Cancelled);
}

#[tokio::test]
async fn registration_says_why_an_agent_cannot_do_tasks() {
    let worker = Worker::default();
    let gone = Upstream::builder().transport(|| async {
        Err::<tokio::io::DuplexStream, _>(std::io::Error::other("no such machine"))
    });
    let reached = || piped(Upstream::builder(), &worker);
    for (upstream, mapping, says) in [
        (gone, Mapping::execute_task(), "cannot be reached"),
        (reached(), Mapping::codex(), "no tool `codex`"),
        (
            reached(),
            Mapping::codex(),
            "it has `execute_task`, `job_cancel`",
        ),
        (
            reached(),
            Mapping::tool("job_start"),
            "\"prompt\" is a required",
        ),
        (reached(), job().fixed("speed", 3), "'speed'"),
    ] {
        let orchestrator = Orchestrator::builder().build().unwrap();
        let agent = Agent::builder("worker", upstream)
            .mapping(mapping)
            .build()
            .unwrap();
        let registered =
            tokio::time::timeout(Duration::from_secs(20), orchestrator.register(agent));
        let error = registered.await.unwrap().unwrap_err().to_string();
        assert!(
            error.contains(says) && error.contains("`worker`"),
            "{error}"
        );
    }
}
