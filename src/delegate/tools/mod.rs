//! The tools of the layer: their definitions, their arguments and their results.

mod answers;
mod arguments;
mod definitions;
mod report;

pub(super) use self::{
    answers::{AnswerArguments, responses},
    arguments::{
        CancelArguments, DelegateArguments, NoArguments, PlanArguments, StatusArguments, Until,
        read, refusal, seconds,
    },
    definitions::definitions,
    report::{agents, plan_result, progress_text, task_result, tool_error, with_next},
};

pub(super) const DELEGATE_TASK: &str = "delegate_task";
pub(super) const RUN_PLAN: &str = "run_plan";
pub(super) const TASK_STATUS: &str = "task_status";
pub(super) const CANCEL_TASK: &str = "cancel_task";
pub(super) const ANSWER_TASK: &str = "answer_task";
pub(super) const LIST_AGENTS: &str = "list_agents";

/// The tools of the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnTool {
    DelegateTask,
    RunPlan,
    TaskStatus,
    CancelTask,
    AnswerTask,
    ListAgents,
}

impl OwnTool {
    const ALL: [Self; 6] = [
        Self::DelegateTask,
        Self::RunPlan,
        Self::TaskStatus,
        Self::CancelTask,
        Self::AnswerTask,
        Self::ListAgents,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DelegateTask => DELEGATE_TASK,
            Self::RunPlan => RUN_PLAN,
            Self::TaskStatus => TASK_STATUS,
            Self::CancelTask => CANCEL_TASK,
            Self::AnswerTask => ANSWER_TASK,
            Self::ListAgents => LIST_AGENTS,
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }
}
