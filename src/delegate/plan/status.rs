use std::fmt;

use serde::{Deserialize, Serialize};

/// The status of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    /// It waits for its dependencies.
    Pending,
    /// It waits for an agent with room, or for the delay before a retry.
    Ready,
    /// An agent works on it.
    Running,
    /// Its agent waits for the answer to a question.
    InputRequired,
    /// Its agent has completed it.
    Complete,
    /// It has failed, or a dependency has.
    Failed,
    /// It was cancelled, or its plan was.
    Cancelled,
    /// It was skipped because a dependency was not completed.
    Skipped,
    /// All agents that could do it have declined it.
    Rejected,
}

impl Status {
    /// All statuses.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Ready,
        Self::Running,
        Self::InputRequired,
        Self::Complete,
        Self::Failed,
        Self::Cancelled,
        Self::Skipped,
        Self::Rejected,
    ];

    /// Returns `true` if the status never changes again.
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Complete | Self::Failed | Self::Cancelled | Self::Skipped | Self::Rejected
        )
    }

    /// Returns the name of the status, such as `input_required`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::InputRequired => "input_required",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::Rejected => "rejected",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
