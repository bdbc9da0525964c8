/// The mapping from a task to a call of one of an agent's tools, and from its result to the task's
/// output.
#[derive(Clone, Debug)]
pub struct Mapping {
    pub(super) tool: String,
}

impl Mapping {
    /// Returns the mapping to the tool `execute_task`.
    pub fn execute_task() -> Self {
        Self {
            tool: "execute_task".to_owned(),
        }
    }
}

impl Default for Mapping {
    fn default() -> Self {
        Self::execute_task()
    }
}
