use std::fmt;

use rmcp::model::{ErrorCode, ServerResult};
use serde::{Serialize, Serializer};

use crate::{Delivered, Error, McpResponse, code, protocol::legacy_tasks};

/// The outcome of a request, interpreted in one place for all layers.
///
/// Retry, breaker, cache, metrics and audit use [`Outcome::of`], so that they agree:
///
/// | outcome | success? | may be sent again? | counts against a breaker? | may be cached? |
/// |---|---|---|---|---|
/// | `Complete` | yes | no need | no | yes |
/// | `ToolError` (`isError: true`) | no | only by the operator's rule | only by the operator's choice | no |
/// | `InputRequired` (an MRTR round) | yes | no | no | no |
/// | `Task` (a task was created) | yes | no | no | no |
/// | `Protocol`, -32603 internal error | no | if the tool is safe to repeat | yes | no |
/// | `Protocol`, -31502 or -31504: another stack's [`TRANSPORT`](code::TRANSPORT) or [`TIMEOUT`](code::TIMEOUT) | no | if the tool is safe to repeat | yes | no |
/// | `Protocol`, -31503 or -31429: another stack's [`UNAVAILABLE`](code::UNAVAILABLE) or [`TOO_MANY`](code::TOO_MANY) | no | if the tool is safe to repeat | no | no |
/// | `Protocol`, any other code | no | no: it would fail again | no | no |
/// | `Transport`, HTTP 4xx that speaks of the request or its sender (not 404, 405, 406, 410) | no | no: it would fail again; 408 and 425 if the tool is safe to repeat, 429 always | no | no |
/// | `Transport`, not delivered | no | yes, any method | yes | no |
/// | `Transport`, delivery unknown | no | if the tool is safe to repeat | yes | no |
/// | `Unreadable`: an answer that cannot be read | no | no: it would fail again | no | no |
/// | `Timeout` | no | if the tool is safe to repeat | yes | no |
/// | `Cancelled` | no | no | no | no |
/// | `Refused` (by a layer), not delivered, as [`UNAVAILABLE`](code::UNAVAILABLE) or [`TOO_MANY`](code::TOO_MANY) | no | yes, any method, after the time it names if it names one | no | no |
/// | `Refused` otherwise | no | no | no | no |
///
/// Only HTTP status 429 proves that the request was not run: a proxy may answer 503 for a request
/// that it has passed on. A peer's statement about delivery is not proof either.
///
/// The four columns are [`is_success`](Self::is_success), [`repeat`](Self::repeat),
/// [`counts_against`](Self::counts_against) and [`is_cacheable`](Self::is_cacheable).
///
/// Input-required results are MRTR rounds (MCP 2026-07-28, SEP-2322). A task is a
/// `CreateTaskResult` of the Tasks extension (SEP-2663). With both, the server is still working and
/// has not failed.
///
/// ```
/// use rmcp::model::{CallToolResult, ContentBlock};
/// use rmcp_layers::{Error, McpResponse, Outcome};
///
/// let failed: Result<_, Error> =
///     Ok(McpResponse::new(CallToolResult::error(vec![ContentBlock::text("disk full")])));
/// assert_eq!(Outcome::of(&failed), Outcome::ToolError);
/// assert!(!Outcome::of(&failed).is_cacheable());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The request has its final result.
    Complete,
    /// The tool ran and reported a failure: `isError: true`.
    ToolError,
    /// The server needs input before it continues.
    InputRequired,
    /// The server created a task for the request.
    Task,
    /// The peer returned a JSON-RPC error.
    Protocol {
        /// The error's code.
        code: i32,
    },
    /// The connection failed.
    Transport {
        /// `true` if the request provably never reached the server.
        not_delivered: bool,
        /// The HTTP status, if there was one.
        status: Option<u16>,
    },
    /// The server has answered, but the answer cannot be read.
    Unreadable,
    /// No response came in time.
    Timeout,
    /// The request was cancelled.
    Cancelled,
    /// A layer refused the request.
    Refused {
        /// The layer that refused.
        layer: &'static str,
        /// The refusal's JSON-RPC code.
        code: i32,
        /// `true` if the request had not reached the server before.
        not_delivered: bool,
    },
}

/// The condition for repeating a request; see the table on [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Repeat {
    /// Never: it succeeded, or would fail the same way again.
    Never,
    /// Only if the request can safely run twice, because the first attempt may have run.
    IfSafe,
    /// Always: it provably did not run.
    Always,
    /// Only if the operator has classified this error as repeatable.
    IfClassified,
}

impl Outcome {
    /// Returns the outcome of a request.
    pub fn of(result: &Result<McpResponse, Error>) -> Self {
        match result {
            Ok(response) => Self::of_result(&response.result),
            Err(error) => Self::of_error(error),
        }
    }

    /// Returns the outcome of a request with a result.
    pub fn of_result(result: &ServerResult) -> Self {
        match result {
            ServerResult::CallToolResult(tool) if tool.is_error == Some(true) => Self::ToolError,
            ServerResult::InputRequiredResult(_) => Self::InputRequired,
            ServerResult::CreateTaskResult(_) => Self::Task,
            result if legacy_tasks::begun(result).is_some() => Self::Task,
            _ => Self::Complete,
        }
    }

    /// Returns the outcome of a failed request.
    pub fn of_error(error: &Error) -> Self {
        match error {
            Error::Protocol(error) => Self::Protocol { code: error.code.0 },
            Error::Transport(transport) if transport.delivered() == Delivered::Yes => {
                Self::Unreadable
            }
            Error::Transport(transport) => Self::Transport {
                not_delivered: error.is_not_delivered(),
                status: transport.status(),
            },
            Error::Timeout(_) => Self::Timeout,
            Error::Cancelled { .. } => Self::Cancelled,
            Error::Refused(refusal) => Self::Refused {
                layer: refusal.layer(),
                code: refusal.code().0,
                not_delivered: error.is_not_delivered(),
            },
        }
    }

    /// Returns `true` if the server has done its work, or is still doing it.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Complete | Self::InputRequired | Self::Task)
    }

    /// Returns the condition for repeating the request.
    pub fn repeat(self) -> Repeat {
        match self {
            Self::Complete | Self::InputRequired | Self::Task | Self::Cancelled => Repeat::Never,
            Self::ToolError => Repeat::IfClassified,
            Self::Protocol { code } if is_own_failure(code) || is_for_now(code) => Repeat::IfSafe,
            Self::Transport {
                status: Some(status),
                ..
            } if speaks_of_request(status) => match status {
                429 => Repeat::Always,
                408 | 425 => Repeat::IfSafe,
                _ => Repeat::Never,
            },
            Self::Transport { not_delivered, .. } if not_delivered => Repeat::Always,
            Self::Refused {
                not_delivered: true,
                code,
                ..
            } if is_for_now(code) => Repeat::Always,
            Self::Transport { .. } | Self::Timeout => Repeat::IfSafe,
            Self::Protocol { .. } | Self::Unreadable | Self::Refused { .. } => Repeat::Never,
        }
    }

    /// Returns `true` if the outcome indicates an unhealthy upstream. `ToolError` alone does not.
    pub fn counts_against(self) -> bool {
        match self {
            Self::Protocol { code } => is_own_failure(code),
            Self::Transport { status, .. } => !status.is_some_and(speaks_of_request),
            Self::Timeout => true,
            _ => false,
        }
    }

    /// Returns `true` if the outcome shows that the upstream is reachable and responds, even if it
    /// rejects the request. This is any response that does not
    /// [count against](Self::counts_against) it.
    pub fn is_answer(self) -> bool {
        match self {
            Self::Complete
            | Self::ToolError
            | Self::InputRequired
            | Self::Task
            | Self::Unreadable => true,
            // Another stack that refuses has not called its own upstream.
            Self::Protocol { code } => !is_own_failure(code) && !is_for_now(code),
            Self::Transport { status, .. } => status.is_some_and(speaks_of_request),
            Self::Timeout | Self::Cancelled | Self::Refused { .. } => false,
        }
    }

    /// Returns `true` if the outcome allows a cache to keep the response.
    pub fn is_cacheable(self) -> bool {
        self == Self::Complete
    }

    /// Returns the outcome's name in logs, metrics and audit records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ToolError => "tool_error",
            Self::InputRequired => "input_required",
            Self::Task => "task",
            Self::Protocol { .. } => "protocol_error",
            Self::Transport { .. } => "transport_failure",
            Self::Unreadable => "unreadable_answer",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Refused { .. } => "refused",
        }
    }
}

/// The end of a call in a record: its outcome, or a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ended {
    /// The call ended with this [`Outcome`]. A call that was dropped before it ended counts as
    /// [cancelled](Outcome::Cancelled).
    With(Outcome),
    /// The call panicked.
    Panicked,
}

impl Ended {
    /// Returns the name as written in a record: the name of the outcome, or `panicked`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::With(outcome) => outcome.as_str(),
            Self::Panicked => "panicked",
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Ended {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Returns `true` for the codes of a server's own failure.
fn is_own_failure(code: i32) -> bool {
    [ErrorCode::INTERNAL_ERROR, code::TRANSPORT, code::TIMEOUT].contains(&ErrorCode(code))
}

/// Returns `true` for the codes of refusals that may end soon.
fn is_for_now(code: i32) -> bool {
    [code::UNAVAILABLE, code::TOO_MANY].contains(&ErrorCode(code))
}

/// Returns `true` for HTTP statuses by which a working server rejects this request or its sender
/// (RFC 9110, section 15.5). Statuses for a missing resource may also come from a server that is
/// gone.
fn speaks_of_request(status: u16) -> bool {
    (400..500).contains(&status) && ![404, 405, 406, 410].contains(&status)
}
