use rmcp::model::{ErrorCode, ServerResult};

use crate::{Error, McpResponse, code};

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
/// | `Protocol`, -31502 or -31504: another stack's [`TRANSPORT`](code::TRANSPORT) or [`TIMEOUT`](code::TIMEOUT) | no | if the tool is safe to repeat | yes | no |
/// | `Protocol`, -31503 or -31429: another stack's [`UNAVAILABLE`](code::UNAVAILABLE) or [`TOO_MANY`](code::TOO_MANY) | no | if the tool is safe to repeat | no | no |
/// | `Protocol`, any other code | no | no: it would fail again | no | no |
/// | `Transport`, HTTP 4xx that speaks of the request or its sender (not 404, 405, 406, 410) | no | no: it would fail again; 408 and 425 if the tool is safe to repeat, 429 always | no | no |
/// | `Transport`, not delivered | no | yes, any method | yes | no |
/// | `Transport`, delivery unknown | no | if the tool is safe to repeat | yes | no |
/// | `Timeout` | no | if the tool is safe to repeat | yes | no |
/// | `Cancelled` | no | no | no | no |
/// | `Refused` (by a layer), not delivered, as [`UNAVAILABLE`](code::UNAVAILABLE) or [`TOO_MANY`](code::TOO_MANY) | no | yes, any method, after the time it names if it names one | no | no |
/// | `Refused` otherwise | no | no | no | no |
///
/// Of the HTTP statuses only 429 says that nothing has been done: a proxy may answer 503 for a request that it
/// has passed on. What another stack says of delivery is the word of a peer, and proves nothing here.
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
        /// The HTTP status, where there was one.
        status: Option<u16>,
    },
    /// No answer came in time.
    Timeout,
    /// The request was cancelled.
    Cancelled,
    /// A layer refused it.
    Refused {
        /// Which layer.
        layer: &'static str,
        /// Its JSON-RPC code.
        code: i32,
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

    /// Whether the server did what it was asked, or is on its way to.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Complete | Self::InputRequired | Self::Task)
    }

    /// Whether the request may be sent again.
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
            Self::Protocol { .. } | Self::Refused { .. } => Repeat::Never,
        }
    }

    /// Whether the outcome speaks against the upstream's health. `ToolError` does not by itself.
    pub fn counts_against(self) -> bool {
        match self {
            Self::Protocol { code } => is_own_failure(code),
            Self::Transport { status, .. } => !status.is_some_and(speaks_of_request),
            Self::Timeout => true,
            _ => false,
        }
    }

    /// Whether the outcome shows that the upstream is there and answers, be it that it does not like the request:
    /// any answer that does not [count against](Self::counts_against) it.
    pub fn is_answer(self) -> bool {
        match self {
            Self::Complete | Self::ToolError | Self::InputRequired | Self::Task => true,
            // Another stack that refuses has not asked its own upstream.
            Self::Protocol { code } => !is_own_failure(code) && !is_for_now(code),
            Self::Transport { status, .. } => status.is_some_and(speaks_of_request),
            Self::Timeout | Self::Cancelled | Self::Refused { .. } => false,
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

/// Codes by which a server says that it failed by itself.
fn is_own_failure(code: i32) -> bool {
    [ErrorCode::INTERNAL_ERROR, code::TRANSPORT, code::TIMEOUT].contains(&ErrorCode(code))
}

/// Codes of refusals that may be different a little later.
fn is_for_now(code: i32) -> bool {
    [code::UNAVAILABLE, code::TOO_MANY].contains(&ErrorCode(code))
}

/// HTTP statuses by which a server that works does not take this request, or not from this sender (RFC 9110,
/// section 15.5). Those by which it has nothing at all there may as well come of a server that is gone.
fn speaks_of_request(status: u16) -> bool {
    (400..500).contains(&status) && ![404, 405, 406, 410].contains(&status)
}
