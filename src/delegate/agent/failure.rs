use std::{sync::Arc, time::Duration};

use rmcp::model::ErrorCode;

use super::call::AgentCall;
use crate::{Error, Outcome, Repeat, util::text::boundary};

/// Maximum length of the reason of a failure in bytes.
const MAX_REASON: usize = 4_096;

/// The failure of an attempt.
#[derive(Clone, Debug)]
pub(in crate::delegate) struct AttemptFailure {
    /// The reason, for the caller's model.
    pub(in crate::delegate) error: Arc<str>,
    /// `true` if the agent may have done the task, or may still be doing it.
    pub(in crate::delegate) ambiguous: bool,
    /// `true` if another attempt may succeed: [`Outcome::repeat`] is not `Never`, or the agent has
    /// reported a failure of its work.
    pub(in crate::delegate) may_retry: bool,
    /// The time after which another attempt is useful.
    pub(in crate::delegate) retry_after: Option<Duration>,
}

impl AgentCall {
    /// Returns the failure of a request. `Outcome` says whether it may have run.
    pub(super) fn failure(&self, error: &Error) -> AttemptFailure {
        let outcome = Outcome::of_error(error);
        let repeat = outcome.repeat();
        let ambiguous = match outcome {
            // The agent tells of a task that has failed in this way. Of other servers it is also the
            // answer to a panic, which may come after the work.
            Outcome::Protocol { code } if code == ErrorCode::INTERNAL_ERROR.0 => {
                !self.agent().mapping.fails_by_internal_error()
            }
            Outcome::Cancelled => false,
            Outcome::Unreadable => true,
            Outcome::Refused { not_delivered, .. } => !not_delivered,
            _ => repeat == Repeat::IfSafe,
        };
        AttemptFailure {
            error: reason(&self.agent().name, &error.to_string()),
            ambiguous,
            may_retry: repeat != Repeat::Never,
            retry_after: error.retry_after(),
        }
    }

    /// Returns the failure that the status of the agent's own task names.
    pub(super) fn reported(&self, error: &Error) -> AttemptFailure {
        let failure = self.failure(error);
        AttemptFailure {
            ambiguous: failure.ambiguous && !matches!(error, Error::Protocol(_)),
            ..failure
        }
    }

    /// Returns a failure after which the task is certain not to be done.
    pub(super) fn definite(&self, text: &str) -> AttemptFailure {
        AttemptFailure {
            error: reason(&self.agent().name, text),
            ambiguous: false,
            may_retry: false,
            retry_after: None,
        }
    }

    /// Returns a failure after which the task may be done, or may still be being done.
    pub(super) fn ambiguous(&self, text: &str) -> AttemptFailure {
        AttemptFailure {
            ambiguous: true,
            may_retry: true,
            ..self.definite(text)
        }
    }
}

fn reason(agent: &str, text: &str) -> Arc<str> {
    format!("agent `{agent}`: {}", said(text)).into()
}

/// Returns the start of a reason that an agent gives.
pub(super) fn said(text: &str) -> String {
    let text = match text.trim() {
        "" => "it gave no reason",
        text => text,
    };
    let cut = boundary(text, MAX_REASON);
    let more = if cut < text.len() { "…" } else { "" };
    format!("{}{more}", &text[..cut])
}
