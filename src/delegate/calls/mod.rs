//! Calls of the layer's own tools.

mod elsewhere;

use std::{sync::Arc, time::Duration};

use rmcp::model::{
    CallToolRequestParams, CallToolResult, DEFAULT_MRTR_MAX_ROUNDS, InputRequiredResult,
    ServerResult,
};

use crate::{
    CallContext, Error, McpRequest, McpResponse,
    caller::Era,
    delegate::{
        Plan, PlanHandle, PlanSnapshot, PlanState,
        counters::add,
        layer::Shared,
        questions, tasks_extension,
        tools::{
            self, AnswerArguments, CancelArguments, DelegateArguments, NoArguments, OwnTool,
            PlanArguments, StatusArguments, Until,
        },
        waiting::{Wait, Waited},
    },
    response::CallResult,
    util::metrics::count,
};

/// The end of a tool's call: a result, or the reason why the call is refused.
type Answered = Result<ServerResult, NotAnswered>;

/// The reason why a tool gives no result.
enum NotAnswered {
    /// The arguments are wrong. The model that made the call reads it as the result of the tool.
    Misread(String),
    Error(Error),
}

impl From<String> for NotAnswered {
    fn from(reason: String) -> Self {
        Self::Misread(reason)
    }
}

/// Runs a call of one of the layer's tools.
pub(in crate::delegate) async fn run(
    shared: Arc<Shared>,
    tool: OwnTool,
    request: McpRequest,
) -> CallResult {
    add(&shared.counters.calls);
    let Some(params) = request.as_tool_call() else {
        return Err(Error::cancelled("the message is not a call of a tool"));
    };
    let call = Call {
        shared: &shared,
        context: &request.context,
        params,
    };
    let answered = match tool {
        OwnTool::DelegateTask | OwnTool::RunPlan => call.start(tool).await,
        OwnTool::TaskStatus => call.status().await,
        OwnTool::CancelTask => call.cancel().await,
        OwnTool::AnswerTask => call.answer().await,
        OwnTool::ListAgents => call.agents(),
    };
    let result = match answered {
        Ok(result) => result,
        Err(NotAnswered::Error(error)) => {
            add(&shared.counters.refused);
            return Err(error);
        }
        Err(NotAnswered::Misread(reason)) => {
            add(&shared.counters.refused);
            let text = format!("{}: {reason}", tool.name());
            tools::tool_error(text).into()
        }
    };
    let mut response = McpResponse::new(result);
    // Plans are those of their caller.
    response.mark_session_private();
    Ok(response)
}

struct Call<'a> {
    shared: &'a Arc<Shared>,
    context: &'a CallContext,
    params: &'a CallToolRequestParams,
}

impl Call<'_> {
    fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, NotAnswered> {
        let read = tools::read(self.params.arguments.as_ref());
        read.map_err(|reason| NotAnswered::Misread(format!("invalid arguments: {reason}")))
    }

    /// Starts a plan, and waits for its end.
    async fn start(&self, tool: OwnTool) -> Answered {
        let (plan, wait_s) = match tool {
            OwnTool::DelegateTask => {
                let arguments: DelegateArguments = self.read()?;
                let wait_s = arguments.wait_s;
                (arguments.into_plan()?, wait_s)
            }
            _ => {
                let arguments: PlanArguments = self.read()?;
                let wait_s = arguments.wait_s;
                (arguments.into_plan()?, wait_s)
            }
        };
        let wait = self.wait(wait_s)?;
        let handle = match &self.params.request_state {
            // A later round: the plan runs already.
            Some(plan) => match self.plan_here(plan) {
                Some(handle) => handle,
                None => return self.go_on_elsewhere(tool, plan, wait).await,
            },
            None => self.begin(plan)?,
        };
        let mut guard = CancelOnDrop(Some(handle.clone()));
        // Its next call may reach another process.
        handle.known().await;
        if tasks_extension::is_declared(self.context) && self.params.request_state.is_none() {
            guard.0 = None;
            return Ok(tasks_extension::created(&handle, tool));
        }
        let result = self.follow(tool, &handle, wait, Until::End, None).await;
        guard.0 = None;
        Ok(result)
    }

    fn begin(&self, plan: Plan) -> Result<PlanHandle, NotAnswered> {
        let begun = self.shared.orchestrator.run_plan_for(plan, self.context);
        let handle = begun.map_err(|error| match error.is_protocol() {
            true => NotAnswered::Error(error),
            false => NotAnswered::Misread(tools::refusal(&error)),
        })?;
        add(&self.shared.counters.plans);
        count!(delegate.plans, 1_u64);
        Ok(handle)
    }

    /// Waits for a plan, and has its agents' questions answered by the caller if it can.
    async fn follow(
        &self,
        tool: OwnTool,
        handle: &PlanHandle,
        limit: Duration,
        until: Until,
        only: Option<&str>,
    ) -> ServerResult {
        if let Some(answers) = self.params.input_responses.clone() {
            questions::answer(handle, answers);
        }
        let wait = Wait::new(handle, self.context, limit);
        let mut asked = 0;
        loop {
            let waited = wait.run(until, only).await;
            let plan = waited.snapshot();
            if let Waited::Asked(plan) = &waited
                && asked < DEFAULT_MRTR_MAX_ROUNDS
            {
                asked += 1;
                let open = questions::open(plan);
                if questions::can_answer(self.context, &open) {
                    add(&self.shared.counters.passed_up);
                    if self.context.era() == Era::Modern {
                        let state = plan.id.to_string();
                        return InputRequiredResult::new(Some(open), Some(state)).into();
                    }
                    let asked = questions::ask(self.context, open.clone());
                    let answers = tokio::select! {
                        biased;
                        answers = asked => Some(answers),
                        () = questions::closed(handle, &open) => continue,
                        // The question is kept for `answer_task`.
                        () = wait.elapsed() => None,
                    };
                    match answers {
                        Some(Ok(answers)) => {
                            questions::answer(handle, answers);
                            continue;
                        }
                        Some(Err(error)) => {
                            tracing::debug!(%error, "the caller does not answer a question");
                        }
                        None => {}
                    }
                }
            }
            return self.result(tool, plan, only).into();
        }
    }

    /// Returns the state of a plan, as the tool that has waited for it does.
    fn result(&self, tool: OwnTool, plan: &PlanSnapshot, only: Option<&str>) -> CallToolResult {
        if !plan.state.is_over() {
            add(&self.shared.counters.handed_back);
            count!(delegate.handed_back, 1_u64);
        }
        match tool {
            OwnTool::DelegateTask => tools::task_result(plan),
            _ => tools::plan_result(plan, only),
        }
    }

    async fn status(&self) -> Answered {
        let arguments: StatusArguments = self.read()?;
        let wait = self.wait(arguments.wait_s)?;
        let only = arguments.task.as_deref();
        let until = arguments.until.unwrap_or_default();
        let plan = match self.plan_here(&arguments.plan) {
            Some(handle) => {
                check_task(&handle.snapshot(), only)?;
                let tool = OwnTool::TaskStatus;
                return Ok(self.follow(tool, &handle, wait, until, only).await);
            }
            None => self.stored(&arguments.plan).await?,
        };
        check_task(&plan, only)?;
        let plan = self.follow_stored(plan, wait, until, only).await?;
        Ok(tools::plan_result(&plan, only).into())
    }

    async fn cancel(&self) -> Answered {
        let arguments: CancelArguments = self.read()?;
        let Some(handle) = self.plan_here(&arguments.plan) else {
            let plan = self.stored(&arguments.plan).await?;
            return self.cancel_elsewhere(plan, arguments.task.as_deref()).await;
        };
        check_task(&handle.snapshot(), arguments.task.as_deref())?;
        match &arguments.task {
            Some(task) => {
                handle.cancel_task(task);
            }
            None => handle.cancel(),
        }
        let wait = Wait::new(&handle, self.context, CANCEL_WAIT).past_questions();
        let waited = wait.run(Until::End, arguments.task.as_deref()).await;
        if matches!(waited.snapshot().state, PlanState::Released(_)) {
            // Another process may go on with it.
            let plan = self.stored(&arguments.plan).await?;
            return self.cancel_elsewhere(plan, arguments.task.as_deref()).await;
        }
        Ok(tools::plan_result(waited.snapshot(), None).into())
    }

    async fn answer(&self) -> Answered {
        let arguments: AnswerArguments = self.read()?;
        let Some(handle) = self.plan_here(&arguments.plan) else {
            let plan = self.stored(&arguments.plan).await?;
            return self.answer_elsewhere(plan, arguments).await;
        };
        check_task(&handle.snapshot(), Some(&arguments.task))?;
        let task = arguments.task.clone();
        let questions = handle.task(&task).and_then(|task| task.questions);
        let questions = questions.ok_or_else(|| asks_nothing(&task))?;
        let responses = tools::responses(&questions, arguments)?;
        let answered = handle.answer(&task, responses);
        answered.map_err(|error| error.to_string())?;
        Ok(tools::plan_result(&handle.snapshot(), None).into())
    }

    fn agents(&self) -> Answered {
        let _: NoArguments = self.read()?;
        Ok(tools::agents(&self.shared.orchestrator.agents()).into())
    }

    /// Returns the plan of this caller with this id, unless another process may run it.
    fn plan_here(&self, id: &str) -> Option<PlanHandle> {
        self.shared.orchestrator.plan_here(self.context, id)
    }

    /// Returns the time to wait.
    fn wait(&self, wait_s: Option<f64>) -> Result<Duration, NotAnswered> {
        let max = self.shared.max_wait;
        let wait = tools::seconds("wait_s", wait_s)?;
        match wait {
            Some(wait) if wait > max => {
                Err(format!("`wait_s`: give at most {}", max.as_secs_f64()).into())
            }
            wait => Ok(wait.unwrap_or(self.shared.wait)),
        }
    }
}

/// Returns an error if a plan does not have this task.
fn check_task(plan: &PlanSnapshot, task: Option<&str>) -> Result<(), NotAnswered> {
    match task {
        Some(task) if plan.task(task).is_none() => {
            Err(format!("the plan has no task `{task}`; see task_status for its tasks").into())
        }
        _ => Ok(()),
    }
}

fn asks_nothing(task: &str) -> String {
    format!("task `{task}` asks nothing; see task_status")
}

/// The time that `cancel_task` waits for the end of what it cancels.
const CANCEL_WAIT: Duration = Duration::from_secs(5);

/// Cancels a plan whose caller has gone before it knew of the plan.
struct CancelOnDrop(Option<PlanHandle>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.cancel();
        }
    }
}
