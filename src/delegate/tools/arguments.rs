//! The arguments of the tools.

use std::time::Duration;

use rmcp::model::JsonObject;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Error,
    delegate::{OnFailure, Plan, PlanError, Retries, Task},
};

/// Reads the arguments of a tool. An error names the place of the argument and the remedy.
pub(in crate::delegate) fn read<T: DeserializeOwned>(
    arguments: Option<&JsonObject>,
) -> Result<T, String> {
    let arguments = Value::Object(arguments.cloned().unwrap_or_default());
    serde_path_to_error::deserialize(arguments).map_err(|error| {
        let place = error.path().to_string();
        let error = error.into_inner();
        match &*place {
            "." => error.to_string(),
            place => format!("`{place}`: {error}"),
        }
    })
}

/// The arguments of `delegate_task`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::delegate) struct DelegateArguments {
    description: String,
    id: Option<String>,
    capability: Option<String>,
    agent: Option<String>,
    context: Option<String>,
    thread: Option<String>,
    priority: Option<i32>,
    deadline_s: Option<f64>,
    retries: Option<u32>,
    idempotent: Option<bool>,
    max_tokens: Option<u64>,
    max_cost: Option<f64>,
    pub(in crate::delegate) wait_s: Option<f64>,
}

/// The arguments of `run_plan`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::delegate) struct PlanArguments {
    tasks: Vec<TaskArguments>,
    max_time_s: Option<f64>,
    max_tokens: Option<u64>,
    max_cost: Option<f64>,
    pub(in crate::delegate) wait_s: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskArguments {
    id: String,
    description: String,
    capability: Option<String>,
    agent: Option<String>,
    after: Option<Vec<String>>,
    context: Option<String>,
    thread: Option<String>,
    follow_up_of: Option<String>,
    priority: Option<i32>,
    deadline_s: Option<f64>,
    retries: Option<u32>,
    on_failure: Option<OnFailure>,
    budget_share: Option<f64>,
    idempotent: Option<bool>,
}

/// The arguments of `task_status`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::delegate) struct StatusArguments {
    pub(in crate::delegate) plan: String,
    pub(in crate::delegate) task: Option<String>,
    pub(in crate::delegate) until: Option<Until>,
    pub(in crate::delegate) wait_s: Option<f64>,
}

/// The event that `task_status` waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::delegate) enum Until {
    /// The status of a task changes.
    #[default]
    Change,
    /// The plan, or the task, ends.
    End,
}

/// The arguments of `cancel_task`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::delegate) struct CancelArguments {
    pub(in crate::delegate) plan: String,
    pub(in crate::delegate) task: Option<String>,
}

/// The arguments of `list_agents`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::delegate) struct NoArguments {}

impl DelegateArguments {
    /// Returns the plan of the task.
    pub(in crate::delegate) fn into_plan(self) -> Result<Plan, String> {
        let arguments = TaskArguments {
            id: self.id.unwrap_or_else(|| "task".to_owned()),
            description: self.description,
            capability: self.capability,
            agent: self.agent,
            after: None,
            context: self.context,
            thread: self.thread,
            follow_up_of: None,
            priority: self.priority,
            deadline_s: self.deadline_s,
            retries: self.retries,
            on_failure: None,
            budget_share: None,
            idempotent: self.idempotent,
        };
        Ok(limited(
            Plan::new([arguments.into_task("")?]),
            self.max_tokens,
            self.max_cost,
        ))
    }
}

impl PlanArguments {
    pub(in crate::delegate) fn into_plan(self) -> Result<Plan, String> {
        let tasks = self.tasks.into_iter().enumerate();
        let tasks = tasks.map(|(index, task)| task.into_task(&format!("tasks[{index}].")));
        let tasks: Vec<Task> = tasks.collect::<Result<_, _>>()?;
        let mut plan = Plan::new(tasks);
        if let Some(time) = seconds("max_time_s", self.max_time_s)? {
            plan = plan.max_time(time);
        }
        Ok(limited(plan, self.max_tokens, self.max_cost))
    }
}

fn limited(mut plan: Plan, tokens: Option<u64>, cost: Option<f64>) -> Plan {
    if let Some(tokens) = tokens {
        plan = plan.max_tokens(tokens);
    }
    if let Some(cost) = cost {
        plan = plan.max_cost(cost);
    }
    plan
}

impl TaskArguments {
    fn into_task(self, place: &str) -> Result<Task, String> {
        let mut task = Task::new(self.id, self.description)
            .after(self.after.unwrap_or_default())
            .priority(self.priority.unwrap_or_default())
            .on_failure(self.on_failure.unwrap_or_default())
            .idempotent(self.idempotent.unwrap_or_default());
        if let Some(capability) = self.capability {
            task = task.capability(capability);
        }
        if let Some(agent) = self.agent {
            task = task.assigned_to(agent);
        }
        if let Some(context) = self.context {
            task = task.context(context);
        }
        if let Some(thread) = self.thread {
            task = task.thread(thread);
        }
        if let Some(other) = self.follow_up_of {
            task = task.follow_up_of(other);
        }
        if let Some(deadline) = seconds(&format!("{place}deadline_s"), self.deadline_s)? {
            task = task.deadline(deadline);
        }
        if let Some(retries) = self.retries {
            task = task.retries(Retries::at_most(retries));
        }
        if let Some(share) = self.budget_share {
            task = task.budget_share(share);
        }
        Ok(task)
    }
}

/// Returns the reason why a plan is refused, with the names of the arguments in place of those of the
/// methods.
pub(in crate::delegate) fn refusal(error: &Error) -> String {
    let argument = |option| match option {
        "assigned_to" => "agent",
        "deadline" => "deadline_s",
        "max_time" => "max_time_s",
        other => other,
    };
    let mut sources =
        std::iter::successors(std::error::Error::source(error), |error| error.source());
    match sources.find_map(|source| source.downcast_ref()) {
        Some(PlanError::InvalidOption {
            task,
            option,
            reason,
        }) => {
            let reason = reason.replace("`assigned_to`", "`agent`");
            format!("task `{task}`: `{}` {reason}", argument(option))
        }
        Some(PlanError::InvalidLimit { option, reason }) => {
            format!("the plan's `{}` {reason}", argument(option))
        }
        Some(other) => other.to_string(),
        None => error.to_string(),
    }
}

/// Reads a duration.
pub(in crate::delegate) fn seconds(
    place: &str,
    seconds: Option<f64>,
) -> Result<Option<Duration>, String> {
    let Some(seconds) = seconds else {
        return Ok(None);
    };
    let duration = Duration::try_from_secs_f64(seconds);
    let duration =
        duration.map_err(|_| format!("`{place}`: give a number of seconds from 0 on"))?;
    Ok(Some(duration))
}
