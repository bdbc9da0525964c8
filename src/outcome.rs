use rmcp::model::{ErrorCode, ServerResult};

use crate::{Error, McpResponse};

/// How a request ended: the one reading of it, for every layer.
///
/// Retry, breaker, cache, metrics and audit ask [`Outcome::of`] and none decides for itself:
///
/// | outcome | success? | may be sent again? | counts against a breaker? | may be cached? |
/// |---|---|---|---|---|
/// | `Complete` | yes | no need | no | yes |
/// | `ToolError` (`isError: true`) | no | only by the operator's rule | only by the operator's choice | no |
/// | `InputRequired` (an MRTR round) | yes | no | no | no |
/// | `Task` (a task was created) | yes | no | no | no |
/// | `Protocol`, -32603 internal error | no | if the tool is safe to repeat | yes | no |
/// | `Protocol`, any other code | no | no: it would fail again | no | no |
/// | `Transport`, not delivered | no | yes, any method | yes | no |
/// | `Transport`, delivery unknown | no | if the tool is safe to repeat | yes | no |
/// | `Timeout` | no | if the tool is safe to repeat | yes | no |
/// | `Cancelled` | no | no | no | no |
/// | `Refused` (by a layer), not delivered | no | yes, any method, after the time it names if it names one | no | no |
/// | `Refused`, delivery unknown | no | no | no | no |
///
/// [`is_success`](Self::is_success), [`repeat`](Self::repeat), [`counts_against`](Self::counts_against)
/// and [`is_cacheable`](Self::is_cacheable) are the four columns.
///
/// Input-required results are MRTR rounds (MCP 2026-07-28, SEP-2322); a task is a `CreateTaskResult` of
/// the Tasks extension (SEP-2663): both are the server doing its work, not failing at it.
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
    /// The request was answered.
    Complete,
    /// The tool ran and reported failure: `isError: true`.
    ToolError,
    /// The server wants input before it goes on.
    InputRequired,
    /// The server made a task of it.
    Task,
    /// The peer answered with a JSON-RPC error.
    Protocol {
        /// Its code.
        code: i32,
    },
    /// The connection failed.
    Transport {
        /// Whether the request provably never reached the server.
        not_delivered: bool,
    },
    /// No answer came in time.
    Timeout,
    /// The request was cancelled.
    Cancelled,
    /// A layer refused it.
    Refused {
        /// Which layer.
        layer: &'static str,
        /// Whether it did so before the request reached the server.
        not_delivered: bool,
    },
}

/// Whether a request that ended so may be sent again; see the table on [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Repeat {
    /// Never: it succeeded, or would fail the same way again.
    Never,
    /// Only if running it twice does no harm: the first run may have happened.
    IfSafe,
    /// Always: it provably did not run.
    Always,
    /// Only if the operator says what this error means.
    IfClassified,
}

impl Outcome {
    /// Reads how a request ended.
    pub fn of(result: &Result<McpResponse, Error>) -> Self {
        match result {
            Ok(response) => Self::of_result(&response.result),
            Err(error) => Self::of_error(error),
        }
    }

    /// Reads how a request ended that was answered with a result.
    pub fn of_result(result: &ServerResult) -> Self {
        match result {
            ServerResult::CallToolResult(tool) if tool.is_error == Some(true) => Self::ToolError,
            ServerResult::InputRequiredResult(_) => Self::InputRequired,
            ServerResult::CreateTaskResult(_) => Self::Task,
            _ => Self::Complete,
        }
    }

    /// Reads how a request ended that failed.
    pub fn of_error(error: &Error) -> Self {
        match error {
            Error::Protocol(error) => Self::Protocol { code: error.code.0 },
            Error::Transport(_) => Self::Transport {
                not_delivered: error.is_not_delivered(),
            },
            Error::Timeout(_) => Self::Timeout,
            Error::Cancelled { .. } => Self::Cancelled,
            Error::Refused(refusal) => Self::Refused {
                layer: refusal.layer(),
                not_delivered: error.is_not_delivered(),
            },
        }
    }

    /// Whether the server did what it was asked, or is on its way to.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Complete | Self::InputRequired | Self::Task)
    }

    /// Whether the request may be sent again.
    pub fn repeat(self) -> Repeat {
        match self {
            Self::Complete | Self::InputRequired | Self::Task | Self::Cancelled => Repeat::Never,
            Self::ToolError => Repeat::IfClassified,
            Self::Protocol { code } if code == ErrorCode::INTERNAL_ERROR.0 => Repeat::IfSafe,
            Self::Protocol { .. } => Repeat::Never,
            Self::Transport {
                not_delivered: true,
            }
            | Self::Refused {
                not_delivered: true,
                ..
            } => Repeat::Always,
            Self::Transport { .. } | Self::Timeout => Repeat::IfSafe,
            Self::Refused { .. } => Repeat::Never,
        }
    }

    /// Whether the outcome speaks against the upstream's health. `ToolError` does not by itself.
    pub fn counts_against(self) -> bool {
        match self {
            Self::Protocol { code } => code == ErrorCode::INTERNAL_ERROR.0,
            Self::Transport { .. } | Self::Timeout => true,
            _ => false,
        }
    }

    /// Whether the answer may be kept for later callers, as far as the outcome is concerned.
    pub fn is_cacheable(self) -> bool {
        self == Self::Complete
    }

    /// The outcome's name in logs, metrics and audit records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ToolError => "tool_error",
            Self::InputRequired => "input_required",
            Self::Task => "task",
            Self::Protocol { .. } => "protocol_error",
            Self::Transport { .. } => "transport_failure",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Refused { .. } => "refused",
        }
    }
}
