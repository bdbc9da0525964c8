//! Mappings to known agents.

use super::{Mapping, StatusTool};

impl Mapping {
    /// Returns the mapping to the tool `execute_task`, with `task_id`, `description` and `context`.
    /// The answer is at `/result` or `/answer`, else the text. The thread is at `/thread_id`, and
    /// goes on by the argument `thread_id`.
    pub fn execute_task() -> Self {
        Self::tool("execute_task")
            .task_id("task_id")
            .context("context")
            .answer("/result")
            .answer("/answer")
            .thread("/thread_id")
            .follow_up("execute_task", "thread_id")
    }

    /// Returns the mapping to `codex mcp-server`: the tool `codex`, and `codex-reply` for
    /// follow-ups. Its settings, such as `cwd`, `model` and `sandbox`, are
    /// [fixed](Self::fixed) arguments.
    ///
    /// Codex asks for approvals by requests that name no call. Give the agent a connection of its
    /// own, and `max_concurrent(1)` where tasks have to be approved.
    pub fn codex() -> Self {
        Self::tool("codex")
            .description("prompt")
            .answer("/content")
            .thread("/threadId")
            .follow_up("codex-reply", "threadId")
    }

    /// Returns the mapping to the tool `Agent` of `claude mcp serve`, which also takes a
    /// [title](Self::title).
    pub fn claude_code() -> Self {
        Self::tool("Agent")
            .description("prompt")
            .title("description")
    }

    /// Returns the mapping to an agent of agent-framework that is served by `as_mcp_server`: a tool
    /// that is named after the agent. It reports failures as internal errors.
    pub fn agent_framework(agent: impl Into<String>) -> Self {
        Self::tool(agent)
            .description("task")
            .internal_error_is_failure()
    }

    /// Returns the mapping to the tool `delegate_task` of a
    /// [`DelegateLayer`](crate::delegate::DelegateLayer), whose own agents do the task. A task that
    /// takes longer than the call waits is followed by `task_status`.
    pub fn delegate_task() -> Self {
        Self::tool("delegate_task")
            .context("context")
            .answer("/tasks/0/answer")
            .answer("/answer")
            .started(
                StatusTool::new("task_status")
                    .handle("/plan", "plan")
                    .state("/tasks/0/status")
                    .error("/tasks/0/error")
                    .cancelled_by("cancel_task"),
            )
    }

    /// Returns the mapping to a workflow of an mcp-agent server: the tools
    /// `workflows-{workflow}-run`, `workflows-get_status` and `workflows-cancel`. The description
    /// is the run parameter `input`; another one is set by
    /// [`description("/run_parameters/NAME")`](Self::description).
    pub fn mcp_agent(workflow: impl AsRef<str>) -> Self {
        Self::tool(format!("workflows-{}-run", workflow.as_ref()))
            .description("/run_parameters/input")
            .answer("/result/value")
            .answer("/result")
            .started(
                StatusTool::new("workflows-get_status")
                    .handle("/run_id", "run_id")
                    .handle("/workflow_id", "workflow_id")
                    .cancelled_by("workflows-cancel"),
            )
    }
}
