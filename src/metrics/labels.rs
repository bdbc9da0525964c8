use std::{borrow::Cow, sync::Arc};

use ::metrics::Label;
use rmcp::model::{ErrorData, ServerResult};

use super::{Side, convention::OTHER};
use crate::{Ended, Error, Outcome};

/// The labels of a request in histograms and in the summary.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Labels {
    /// A method of the protocol, or `_OTHER`.
    pub(super) method: &'static str,
    pub(super) tool: Option<Arc<str>>,
    pub(super) prompt: Option<Arc<str>>,
    pub(super) upstream: Option<Arc<str>>,
    pub(super) end: End,
}

impl Labels {
    /// Returns the labels of all requests for which there is no room.
    pub(super) fn folded(&self) -> Self {
        Self {
            method: OTHER,
            tool: None,
            prompt: None,
            upstream: None,
            end: match self.end.is_error() {
                true => End::OTHER,
                false => End::COMPLETE,
            },
        }
    }

    /// Returns the labels by the names of OpenTelemetry's convention.
    pub(super) fn for_facade(&self) -> Vec<Label> {
        let mut labels = vec![Label::from_static_parts("mcp.method.name", self.method)];
        let mut add = |name, value: &Option<Arc<str>>| {
            if let Some(value) = value {
                labels.push(Label::new(name, value.clone()));
            }
        };
        add("gen_ai.tool.name", &self.tool);
        add("gen_ai.prompt.name", &self.prompt);
        add("rmcp_layers.upstream", &self.upstream);
        if self.method == TOOLS_CALL {
            labels.push(Label::from_static_parts(
                "gen_ai.operation.name",
                EXECUTE_TOOL,
            ));
        }
        if let Some(error) = self.end.error_type() {
            labels.push(Label::new("error.type", error.into_owned()));
        }
        if let Some(code) = self.end.code {
            labels.push(Label::new("rpc.response.status_code", code.to_string()));
        }
        labels
    }
}

pub(super) const TOOLS_CALL: &str = "tools/call";
/// The value of `gen_ai.operation.name` for a call of a tool.
pub(super) const EXECUTE_TOOL: &str = "execute_tool";

/// The end of a request, with few values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct End {
    /// The outcome's name, or `panicked`.
    pub(super) outcome: &'static str,
    /// The JSON-RPC code of the answer, if it is an error.
    pub(super) code: Option<i32>,
}

impl End {
    const OTHER: Self = Self {
        outcome: OTHER,
        code: None,
    };

    const COMPLETE: Self = Self {
        outcome: "complete",
        code: None,
    };

    /// Returns the end of a request without an answer.
    pub(super) fn without_answer(ended: Ended) -> Self {
        Self {
            outcome: ended.as_str(),
            code: None,
        }
    }

    /// Returns the end of a request with a result.
    pub(super) fn of_result(result: &ServerResult) -> Self {
        Self {
            outcome: Outcome::of_result(result).as_str(),
            code: None,
        }
    }

    /// Returns the end of a request that failed.
    ///
    /// A server answers every failure with a JSON-RPC error. A client has got one only from its
    /// server.
    pub(super) fn of_error(error: &Error, side: Side) -> Self {
        let code = match (error, side) {
            (Error::Protocol(error), _) => Some(error.code.0),
            (_, Side::Client) => None,
            (error, Side::Server) => Some(ErrorData::from(error.clone()).code.0),
        };
        Self {
            outcome: Outcome::of_error(error).as_str(),
            code,
        }
    }

    /// Returns the value of `error.type`: `tool_error`, the JSON-RPC code of a peer's error, or the
    /// outcome. Returns `None` for a success.
    pub(super) fn error_type(self) -> Option<Cow<'static, str>> {
        match (self.outcome, self.code) {
            ("complete" | "input_required" | "task", _) => None,
            ("protocol_error", Some(code)) => Some(code.to_string().into()),
            (outcome, _) => Some(outcome.into()),
        }
    }

    /// Returns `true` if the request failed.
    pub(super) fn is_error(self) -> bool {
        !matches!(self.outcome, "complete" | "input_required" | "task")
    }

    /// Returns the end as a label: a code that neither JSON-RPC, MCP nor this crate has is
    /// `_OTHER`.
    pub(super) fn as_label(self) -> Self {
        match self.code {
            Some(code) if !is_known(code) => Self::OTHER,
            _ => self,
        }
    }
}

/// Returns `true` for codes of JSON-RPC 2.0, MCP and this crate.
fn is_known(code: i32) -> bool {
    const SPECIFIED: [i32; 5] = [-32700, -32600, -32601, -32602, -32603];
    SPECIFIED.contains(&code)
        || (-32_099..=-32_000).contains(&code)
        || (-31_599..=-31_400).contains(&code)
}
