use std::sync::Arc;

use crate::{Refusal, code};

/// The reason why a plan is not run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// There is no task.
    #[error("the plan has no tasks; give at least one")]
    Empty,
    /// There are too many tasks.
    #[error("the plan has {given} tasks; give at most {max}, or divide it into several plans")]
    TooManyTasks {
        /// Number of tasks.
        given: usize,
        /// Maximum number of tasks.
        max: usize,
    },
    /// A chain of dependencies is too long.
    #[error("a chain of dependencies has {depth} tasks; give at most {max}")]
    ChainTooLong {
        /// Number of tasks in the longest chain.
        depth: usize,
        /// Maximum number of tasks in a chain.
        max: usize,
    },
    /// Two tasks have one id.
    #[error("two tasks have the id `{id}`; give each task an id of its own")]
    DuplicateId {
        /// The id.
        id: Arc<str>,
    },
    /// A task depends on one that the plan does not have.
    #[error(
        "task `{task}` depends on `{dependency}`, which is not a task of the plan; add it, or \
         remove the dependency"
    )]
    UnknownDependency {
        /// The task.
        task: Arc<str>,
        /// The id that no task has.
        dependency: Arc<str>,
    },
    /// Tasks depend on each other in a cycle.
    #[error("tasks depend on each other: {}; remove one of these dependencies", names(.tasks))]
    Cycle {
        /// The tasks of the cycle, in the order of the plan.
        tasks: Vec<Arc<str>>,
    },
    /// A task has an option with a value that cannot work.
    #[error("task `{task}`: `{option}` {reason}")]
    InvalidOption {
        /// The task.
        task: Arc<str>,
        /// The option, by the name of the method of [`Task`](super::Task).
        option: &'static str,
        /// The reason, with the remedy.
        reason: &'static str,
    },
    /// A limit of the plan has a value that cannot work.
    #[error("the plan's `{option}` {reason}")]
    InvalidLimit {
        /// The limit.
        option: &'static str,
        /// The reason, with the remedy.
        reason: &'static str,
    },
    /// The plan was made by an agent at the end of a chain of delegations that is too long.
    #[error(
        "the plan comes from {depth} delegations in a row, and {max} are allowed; do the task \
         without another agent"
    )]
    TooManyHops {
        /// Number of delegations that led to the plan.
        depth: u32,
        /// Maximum number of them.
        max: u32,
    },
    /// The orchestrator runs as many plans as it may.
    #[error("{max} plans are running already; try again when one of them has ended")]
    TooManyPlans {
        /// Maximum number of running plans.
        max: usize,
    },
    /// The caller has as many running plans as it may.
    #[error(
        "{max} plans of this caller are running already; wait until one of them has ended, or \
         cancel one"
    )]
    TooManyPlansOfCaller {
        /// Maximum number of running plans of a caller.
        max: usize,
    },
    /// There is no tokio runtime to run the plan.
    #[error("there is no tokio runtime here; call this within one")]
    NoRuntime,
}

fn names(tasks: &[Arc<str>]) -> String {
    /// Maximum number of names in a message.
    const MOST: usize = 20;
    let quoted = tasks.iter().take(MOST).map(|task| format!("`{task}`"));
    let mut names = quoted.collect::<Vec<_>>().join(", ");
    if tasks.len() > MOST {
        names.push_str(&format!(" and {} more", tasks.len() - MOST));
    }
    names
}

impl From<PlanError> for crate::Error {
    fn from(error: PlanError) -> Self {
        let code = match error {
            PlanError::TooManyPlans { .. } => code::UNAVAILABLE,
            PlanError::TooManyPlansOfCaller { .. } => code::TOO_MANY,
            _ => code::FORBIDDEN,
        };
        let message = error.to_string();
        Refusal::new("delegate", message)
            .with_code(code)
            .with_source(error)
            .into()
    }
}
