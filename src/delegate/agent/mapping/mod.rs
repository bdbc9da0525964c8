//! The mapping from a task to a call of a tool, and from its result to the output of the task.

mod argument;
mod known;
mod result;
mod status_tool;

use rmcp::model::JsonObject;
use serde_json::Value;

use self::argument::Argument;
pub use self::status_tool::StatusTool;
use crate::util::text::boundary;

/// Maximum length of a title in bytes.
const MAX_TITLE: usize = 60;
pub(super) use self::{
    result::{Answered, TaskText},
    status_tool::State,
};

/// The mapping from a task to a call of one of an agent's tools, and from the tool's result to the
/// [`TaskOutput`](crate::delegate::TaskOutput).
///
/// | agent | mapping |
/// |---|---|
/// | with a tool `execute_task` | [`execute_task`](Self::execute_task), the default |
/// | `codex mcp-server` | [`codex`](Self::codex) |
/// | `claude mcp serve` | [`claude_code`](Self::claude_code) |
/// | `as_mcp_server` of agent-framework | [`agent_framework`](Self::agent_framework) |
/// | a workflow of mcp-agent | [`mcp_agent`](Self::mcp_agent) |
/// | behind a [`DelegateLayer`](crate::delegate::DelegateLayer) | [`delegate_task`](Self::delegate_task) |
/// | any other | [`tool`](Self::tool) |
///
/// An argument is given by its name, or by a JSON pointer (RFC 6901) that begins with `/` if it is
/// inside another one: `/run_parameters/input`. A place in a result is a JSON pointer into its
/// `structuredContent`, else into the JSON of its text.
///
/// ```
/// use rmcp_layers::delegate::{Mapping, StatusTool};
///
/// let codex = Mapping::codex().fixed("cwd", "/srv/app").fixed("sandbox", "workspace-write");
/// let jobs = Mapping::tool("job_start").description("prompt").started(
///     StatusTool::new("job_status").handle("/job_id", "job_id").cancelled_by("job_cancel"),
/// );
/// # let _ = (codex, jobs);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a mapping does nothing until an agent has it"]
pub struct Mapping {
    tool: String,
    description: Argument,
    context: Option<Argument>,
    task_id: Option<Argument>,
    title: Option<Argument>,
    fixed: Vec<(Argument, Value)>,
    answer: Vec<String>,
    thread: Option<String>,
    follow_up: Option<FollowUp>,
    rejected: Option<(String, Value)>,
    tokens: Option<String>,
    cost: Option<String>,
    started: Option<StatusTool>,
    fails_by_internal_error: bool,
}

/// The tool that goes on in a thread.
#[derive(Clone, Debug)]
struct FollowUp {
    tool: String,
    thread: Argument,
    /// `true` if it takes the fixed arguments too.
    takes_fixed: bool,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ToCall {
    pub(super) tool: String,
    pub(super) arguments: JsonObject,
}

/// The parts of a task that are mapped to arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskParts<'a> {
    pub(super) id: &'a str,
    pub(super) description: &'a str,
    pub(super) context: Option<&'a str>,
    pub(super) thread: Option<&'a str>,
}

impl Mapping {
    /// Returns the mapping to a tool, with the description of the task in the argument
    /// `description`, and the context after it.
    pub fn tool(name: impl Into<String>) -> Self {
        Self {
            tool: name.into(),
            description: Argument::new("description"),
            context: None,
            task_id: None,
            title: None,
            fixed: Vec::new(),
            answer: Vec::new(),
            thread: None,
            follow_up: None,
            rejected: Some(("/status".to_owned(), "rejected".into())),
            tokens: None,
            cost: None,
            started: None,
            fails_by_internal_error: false,
        }
    }

    /// Sets the argument for the description of the task. Default: `description`.
    pub fn description(mut self, argument: impl Into<String>) -> Self {
        self.description = Argument::new(argument);
        self
    }

    /// Sets the argument for the context of the task, which has the results of the tasks that it
    /// depends on. Default: the context follows the description.
    pub fn context(mut self, argument: impl Into<String>) -> Self {
        self.context = Some(Argument::new(argument));
        self
    }

    /// Sets the argument for the id of the task. Default: none.
    pub fn task_id(mut self, argument: impl Into<String>) -> Self {
        self.task_id = Some(Argument::new(argument));
        self
    }

    /// Sets the argument for a short title of the task: the start of its description. Default: none.
    pub fn title(mut self, argument: impl Into<String>) -> Self {
        self.title = Some(Argument::new(argument));
        self
    }

    /// Adds an argument that is the same for all tasks.
    pub fn fixed(mut self, argument: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fixed.push((Argument::new(argument), value.into()));
        self
    }

    /// Adds a place of the answer. The first one that the result has is used. Default: the text of
    /// the result, else its `structuredContent`.
    pub fn answer(mut self, pointer: impl Into<String>) -> Self {
        self.answer.push(pointer.into());
        self
    }

    /// Sets the place of the id of the agent's thread, for follow-ups. Default: none.
    pub fn thread(mut self, pointer: impl Into<String>) -> Self {
        self.thread = Some(pointer.into());
        self
    }

    /// Sets the tool that goes on in a thread, and its argument for the thread. It takes the
    /// description, the context and the id as the other tool does. If it is the same tool, it takes
    /// the fixed arguments too. Default: none; a follow-up is refused.
    pub fn follow_up(mut self, tool: impl Into<String>, thread: impl Into<String>) -> Self {
        let tool = tool.into();
        self.follow_up = Some(FollowUp {
            takes_fixed: tool == self.tool,
            tool,
            thread: Argument::new(thread),
        });
        self
    }

    /// Sets the place and the value in a result's `structuredContent` by which the agent declines a
    /// task. The text beside it at `reason`, `message` or `error` is the reason. Default: `/status`,
    /// `"rejected"`.
    pub fn rejected(mut self, pointer: impl Into<String>, value: impl Into<Value>) -> Self {
        self.rejected = Some((pointer.into(), value.into()));
        self
    }

    /// Sets the place of the number of tokens that the agent has used. Default: none.
    pub fn tokens(mut self, pointer: impl Into<String>) -> Self {
        self.tokens = Some(pointer.into());
        self
    }

    /// Sets the place of the cost of the task. Default: none; the cost is that of the
    /// [agent](crate::delegate::AgentBuilder::cost).
    pub fn cost(mut self, pointer: impl Into<String>) -> Self {
        self.cost = Some(pointer.into());
        self
    }

    /// Sets that the tool only starts the work, and that another one is asked for its status.
    /// Default: the tool returns when the work is done.
    pub fn started(mut self, status: StatusTool) -> Self {
        self.started = Some(status);
        self
    }

    /// Sets that an internal error (-32603) is the agent's report of a failed task, which may be
    /// tried again. Default: the agent may have done the task, because it is also the answer to a
    /// panic; only an [idempotent](crate::delegate::Task::idempotent) task is tried again.
    pub fn internal_error_is_failure(mut self) -> Self {
        self.fails_by_internal_error = true;
        self
    }

    pub(super) fn fails_by_internal_error(&self) -> bool {
        self.fails_by_internal_error
    }

    /// Returns the tool that is asked for the status of started work.
    pub(super) fn status_tool(&self) -> Option<&StatusTool> {
        self.started.as_ref()
    }

    /// Returns the call that begins a task. Returns an error if the task is a follow-up, and the
    /// mapping has none.
    pub(super) fn call(&self, task: TaskParts<'_>) -> Result<ToCall, String> {
        let mut arguments = JsonObject::new();
        let follow_up = match (task.thread, &self.follow_up) {
            (Some(thread), Some(tool)) => Some((thread, tool)),
            (Some(_), None) => {
                return Err("it has no follow-ups: its mapping has no `follow_up`".to_owned());
            }
            (None, _) => None,
        };
        if follow_up.is_none_or(|(_, tool)| tool.takes_fixed) {
            for (argument, value) in &self.fixed {
                argument.set(&mut arguments, value.clone());
            }
        }
        if let Some(argument) = &self.task_id {
            argument.set(&mut arguments, task.id.into());
        }
        if let Some(argument) = &self.title {
            argument.set(&mut arguments, title(task.description).into());
        }
        let description = match (task.context, &self.context) {
            (Some(context), None) => format!("{}\n\nContext:\n{context}", task.description),
            (context, argument) => {
                if let (Some(context), Some(argument)) = (context, argument) {
                    argument.set(&mut arguments, context.into());
                }
                task.description.to_owned()
            }
        };
        self.description.set(&mut arguments, description.into());
        if let Some((thread, tool)) = follow_up {
            tool.thread.set(&mut arguments, thread.into());
        }
        let tool = follow_up.map_or(&self.tool, |(_, tool)| &tool.tool);
        Ok(ToCall {
            tool: tool.clone(),
            arguments,
        })
    }

    /// Returns an example of each call that the mapping makes, to be checked against the schemas of
    /// the tools.
    pub(super) fn examples(&self) -> Vec<ToCall> {
        let task = TaskParts {
            id: "task-1",
            description: "Say which day it is.",
            context: Some("It is Monday."),
            thread: None,
        };
        let thread = self.follow_up.as_ref().map(|_| TaskParts {
            thread: Some("thread-1"),
            ..task
        });
        let mut calls: Vec<_> = [Some(task), thread]
            .into_iter()
            .flatten()
            .filter_map(|task| self.call(task).ok())
            .collect();
        calls.extend(self.started.iter().flat_map(StatusTool::examples));
        calls
    }

    /// Returns the part of the mapping that cannot work.
    pub(super) fn misfit(&self) -> Option<String> {
        let mut tools = vec![&self.tool];
        tools.extend(self.follow_up.as_ref().map(|tool| &tool.tool));
        if tools.iter().any(|tool| tool.is_empty()) {
            return Some("the name of a tool is empty".to_owned());
        }
        let arguments = [Some(&self.description), self.context.as_ref()]
            .into_iter()
            .chain([self.task_id.as_ref(), self.title.as_ref()])
            .chain([self.follow_up.as_ref().map(|tool| &tool.thread)])
            .flatten()
            .chain(self.fixed.iter().map(|(argument, _)| argument));
        if let Some(misfit) = arguments.into_iter().find_map(Argument::misfit) {
            return Some(misfit);
        }
        let pointers = self.answer.iter();
        let pointers = pointers.chain(&self.thread).chain(&self.tokens);
        let mut pointers = pointers
            .chain(&self.cost)
            .chain(self.rejected.as_ref().map(|(pointer, _)| pointer));
        if let Some(pointer) = pointers.find(|pointer| !argument::is_pointer(pointer)) {
            return Some(argument::not_a_pointer(pointer));
        }
        self.started.as_ref().and_then(StatusTool::misfit)
    }
}

/// Returns the start of the first line of a description.
fn title(description: &str) -> &str {
    let line = description.lines().find(|line| !line.trim().is_empty());
    let line = line.unwrap_or_default().trim();
    let start = &line[..boundary(line, MAX_TITLE)];
    match start.rsplit_once(' ') {
        Some((words, _)) if start.len() < line.len() => words,
        _ => start,
    }
}

impl Default for Mapping {
    fn default() -> Self {
        Self::execute_task()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TASK: TaskParts<'_> = TaskParts {
        id: "fix",
        description: "Fix it.",
        context: Some("It is broken."),
        thread: None,
    };

    fn arguments(mapping: &Mapping, task: TaskParts<'_>) -> (String, Value) {
        let call = mapping.call(task).unwrap();
        (call.tool, Value::Object(call.arguments))
    }

    #[test]
    fn a_task_becomes_the_arguments_of_the_known_agents() {
        let after = "Fix it.\n\nContext:\nIt is broken.";
        for (mapping, tool, expected) in [
            (
                Mapping::execute_task(),
                "execute_task",
                json!({ "task_id": "fix", "context": "It is broken.", "description": "Fix it." }),
            ),
            (
                Mapping::codex().fixed("cwd", "/srv"),
                "codex",
                json!({ "cwd": "/srv", "prompt": after }),
            ),
            (
                Mapping::claude_code(),
                "Agent",
                json!({ "description": "Fix it.", "prompt": after }),
            ),
            (
                Mapping::agent_framework("writer"),
                "writer",
                json!({ "task": after }),
            ),
            (
                Mapping::mcp_agent("Fixer"),
                "workflows-Fixer-run",
                json!({ "run_parameters": { "input": after } }),
            ),
        ] {
            assert_eq!(mapping.misfit(), None);
            assert_eq!(arguments(&mapping, TASK), (tool.to_owned(), expected));
        }
    }

    #[test]
    fn a_follow_up_goes_to_its_own_tool_without_the_fixed_arguments() {
        let task = TaskParts {
            context: None,
            thread: Some("t1"),
            ..TASK
        };
        let mapping = Mapping::codex().fixed("cwd", "/srv");
        let expected = json!({ "prompt": "Fix it.", "threadId": "t1" });
        assert_eq!(
            arguments(&mapping, task),
            ("codex-reply".to_owned(), expected)
        );
        let refused = Mapping::claude_code().call(task).unwrap_err();
        assert!(refused.contains("follow_up"), "{refused}");
    }

    #[test]
    fn a_title_is_the_start_of_the_first_line_in_whole_words() {
        assert_eq!(title("\n  Fix it.\nNow."), "Fix it.");
        let long = format!("Fix {}", "that ".repeat(20));
        assert_eq!(title(&long), format!("Fix {}that", "that ".repeat(10)));
        assert_eq!(title(&"é".repeat(50)), "é".repeat(30));
    }

    #[test]
    fn a_mapping_that_cannot_work_says_why() {
        for (mapping, says) in [
            (Mapping::tool(""), "empty"),
            (Mapping::tool("a").description(""), "empty"),
            (Mapping::tool("a").context("/"), "`/`"),
            (Mapping::tool("a").answer("content"), "`content`"),
            (Mapping::tool("a").started(StatusTool::new("b")), "`handle`"),
        ] {
            let misfit = mapping.misfit().unwrap();
            assert!(misfit.contains(says), "{misfit}");
        }
    }
}
