use std::time::Duration;

use rmcp::model::JsonObject;
use serde_json::Value;

use super::{ToCall, argument};

/// The default of [`StatusTool::interval`].
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// The bounds of the interval.
const INTERVALS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(60)];
/// The default of [`StatusTool::time_limit`].
const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(6 * 60 * 60);

/// States of work that has ended, as they are named in the field.
const DONE: [&str; 6] = [
    "completed",
    "complete",
    "done",
    "success",
    "succeeded",
    "finished",
];
const FAILED: [&str; 6] = [
    "failed",
    "failure",
    "error",
    "errored",
    "timed_out",
    "timeout",
];
const CANCELLED: [&str; 4] = ["cancelled", "canceled", "terminated", "aborted"];
const REJECTED: [&str; 2] = ["rejected", "declined"];

/// The tool that is asked for the status of started work, and the tool that cancels it; see
/// [`Mapping::started`](super::Mapping::started).
///
/// The work has ended at one of these states, in any case of letters. At any other state it goes on.
///
/// | state | values |
/// |---|---|
/// | complete | `completed`, `complete`, `done`, `success`, `succeeded`, `finished` |
/// | failed | `failed`, `failure`, `error`, `errored`, `timed_out`, `timeout` |
/// | cancelled | `cancelled`, `canceled`, `terminated`, `aborted` |
/// | declined | `rejected`, `declined` |
///
/// The answer, the thread and the usage are read from the result of the status tool.
#[derive(Clone, Debug)]
#[must_use = "a status tool does nothing until a mapping has it"]
pub struct StatusTool {
    tool: String,
    cancel: Option<String>,
    /// Places in the result of the start tool, and the arguments that they are.
    handle: Vec<(String, String)>,
    state: String,
    error: Vec<String>,
    interval: Duration,
    time_limit: Duration,
}

/// The state of started work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::delegate::agent) enum State {
    Running,
    Done,
    Failed,
    Cancelled,
    Rejected,
}

impl StatusTool {
    /// Creates the description of a status tool. It needs at least one [`handle`](Self::handle).
    pub fn new(tool: impl Into<String>) -> Self {
        Self {
            tool: tool.into(),
            cancel: None,
            handle: Vec::new(),
            state: "/status".to_owned(),
            error: vec!["/error".to_owned(), "/message".to_owned()],
            interval: DEFAULT_INTERVAL,
            time_limit: DEFAULT_TIME_LIMIT,
        }
    }

    /// Adds a part of the handle: its place in the result of the start tool, and the argument of
    /// the status and cancel tools that it is.
    pub fn handle(mut self, pointer: impl Into<String>, argument: impl Into<String>) -> Self {
        self.handle.push((pointer.into(), argument.into()));
        self
    }

    /// Sets the tool that cancels the work. It takes the handle. Default: none; the work of a
    /// cancelled task goes on.
    pub fn cancelled_by(mut self, tool: impl Into<String>) -> Self {
        self.cancel = Some(tool.into());
        self
    }

    /// Sets the place of the state. Default: `/status`.
    pub fn state(mut self, pointer: impl Into<String>) -> Self {
        self.state = pointer.into();
        self
    }

    /// Sets the place of the error of failed work. Default: `/error`, else `/message`.
    pub fn error(mut self, pointer: impl Into<String>) -> Self {
        self.error = vec![pointer.into()];
        self
    }

    /// Sets the interval between two questions for the status. Default: 1 s. Limit: 100 ms to 60 s.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval.clamp(INTERVALS[0], INTERVALS[1]);
        self
    }

    /// Sets the time after which the work is cancelled, and its task has failed. Default: 6 h.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    pub(in crate::delegate::agent) fn polling(&self) -> (Duration, Duration) {
        (self.interval, self.time_limit)
    }

    /// Returns the arguments of the status and cancel tools, from the result of the start tool.
    pub(in crate::delegate::agent) fn read_handle(
        &self,
        started: Option<&Value>,
    ) -> Result<JsonObject, String> {
        let mut handle = JsonObject::new();
        for (pointer, argument) in &self.handle {
            let part = started.and_then(|started| started.pointer(pointer));
            let Some(part) = part.filter(|part| !part.is_null()) else {
                return Err(format!(
                    "the result of its start tool has nothing at `{pointer}`"
                ));
            };
            handle.insert(argument.clone(), part.clone());
        }
        Ok(handle)
    }

    pub(in crate::delegate::agent) fn status_call(&self, handle: &JsonObject) -> ToCall {
        ToCall {
            tool: self.tool.clone(),
            arguments: handle.clone(),
        }
    }

    pub(in crate::delegate::agent) fn cancel_call(&self, handle: &JsonObject) -> Option<ToCall> {
        self.cancel.as_ref().map(|tool| ToCall {
            tool: tool.clone(),
            arguments: handle.clone(),
        })
    }

    /// Returns the state in the result of the status tool. Returns `None` if it has none.
    pub(in crate::delegate::agent) fn read_state(&self, status: &Value) -> Option<State> {
        let state = status.pointer(&self.state)?.as_str()?;
        let is = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(state));
        Some(match state {
            _ if is(&DONE) => State::Done,
            _ if is(&FAILED) => State::Failed,
            _ if is(&CANCELLED) => State::Cancelled,
            _ if is(&REJECTED) => State::Rejected,
            _ => State::Running,
        })
    }

    pub(in crate::delegate::agent) fn read_error(&self, status: &Value) -> Option<String> {
        let mut found = self.error.iter().filter_map(|place| status.pointer(place));
        found
            .find(|error| !error.is_null())
            .map(super::result::text_of)
    }

    pub(super) fn examples(&self) -> Vec<ToCall> {
        let parts = self.handle.iter();
        let handle = parts.map(|(_, argument)| (argument.clone(), "id-1".into()));
        let handle: JsonObject = handle.collect();
        let mut calls = vec![self.status_call(&handle)];
        calls.extend(self.cancel_call(&handle));
        calls
    }

    pub(super) fn misfit(&self) -> Option<String> {
        if self.handle.is_empty() {
            return Some(
                "the status tool has no `handle`; say which work it is asked for".to_owned(),
            );
        }
        if self.tool.is_empty() || self.cancel.as_ref().is_some_and(String::is_empty) {
            return Some("the name of a status or cancel tool is empty".to_owned());
        }
        let pointers = self.handle.iter().map(|(pointer, _)| pointer);
        let mut pointers = pointers.chain([&self.state]).chain(&self.error);
        let wrong = pointers.find(|pointer| !argument::is_pointer(pointer));
        wrong.map(|pointer| argument::not_a_pointer(pointer))
    }
}
