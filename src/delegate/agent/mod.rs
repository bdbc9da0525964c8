//! Agents, and attempts of tasks on them.

mod attempt;
mod builder;
mod call;
mod failure;
mod mapping;
mod output;
mod probe;
mod run;

use std::{fmt, sync::Arc};

#[allow(unused_imports, reason = "the orchestrator is to come")]
pub(super) use self::attempt::{
    AgentProgress, Attempt, AttemptEnd, AttemptReports, Question, QuestionOrigin, RemoteTask,
    Resume,
};
pub(super) use self::call::introduced;
pub(super) use self::failure::AttemptFailure;
pub use self::{
    builder::AgentBuilder,
    mapping::{Mapping, StatusTool},
    output::TaskOutput,
};
use crate::{BoxStack, Stack, caller::Session};

/// An agent: a stack, usually an [`Upstream`](crate::Upstream), whose tools do tasks.
///
/// Clones are the same agent.
#[derive(Clone)]
pub struct Agent {
    shared: Arc<Shared>,
}

struct Shared {
    name: Arc<str>,
    capabilities: Vec<Arc<str>>,
    max_concurrent: usize,
    cost: f64,
    priority: i32,
    mapping: Mapping,
    stack: BoxStack,
    /// The session of work whose caller has none.
    session: Arc<Session>,
}

impl Agent {
    /// Returns a builder of an agent with this name, behind this stack.
    pub fn builder(name: impl Into<String>, stack: impl Stack) -> AgentBuilder {
        AgentBuilder::new(name.into(), BoxStack::new(stack))
    }

    /// Returns the name, which is unique to an orchestrator.
    pub fn name(&self) -> &Arc<str> {
        &self.shared.name
    }

    /// Returns the capabilities, in the order in which they were given.
    pub fn capabilities(&self) -> &[Arc<str>] {
        &self.shared.capabilities
    }

    /// Returns the maximum number of tasks that the agent does at the same time.
    pub fn max_concurrent(&self) -> usize {
        self.shared.max_concurrent
    }

    /// Returns the cost hint of a task, in a unit of the operator's choice.
    pub fn cost(&self) -> f64 {
        self.shared.cost
    }

    /// Returns the priority hint.
    pub fn priority(&self) -> i32 {
        self.shared.priority
    }

    /// Returns the mapping.
    pub fn mapping(&self) -> &Mapping {
        &self.shared.mapping
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("name", &self.shared.name)
            .field("capabilities", &self.shared.capabilities)
            .field("max_concurrent", &self.shared.max_concurrent)
            .field("mapping", &self.shared.mapping)
            .finish_non_exhaustive()
    }
}
