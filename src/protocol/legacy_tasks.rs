//! The tasks of revision 2025-11-25, for which rmcp has no types. Its `tasks/get` and
//! `tasks/cancel` are requests of the table of methods, with other results.

use rmcp::model::{ClientRequest, CustomRequest, JsonObject, ServerNotification, ServerResult};
use serde_json::Value;

/// The requests that revision 2026-07-28 does not have.
const RESULT: &str = "tasks/result";
pub(crate) const LIST: &str = "tasks/list";
/// The notification of a task's status.
const STATUS: &str = "notifications/tasks/status";
/// The entry of `_meta` with the task that a message belongs to.
pub(crate) const RELATED: &str = "io.modelcontextprotocol/related-task";

pub(crate) const TASK_ID: &str = "taskId";

/// The places of tasks in a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `task`, of a request that has begun a task.
    Begun,
    /// The result itself.
    Whole,
    /// The elements of `tasks`.
    List,
}

/// Returns `true` if revision 2025-11-25 has this method beside those of 2026-07-28.
pub(crate) fn is_method(name: &str) -> bool {
    matches!(name, RESULT | LIST)
}

/// Returns `true` if this is a request of a method that 2026-07-28 does not have, with params that
/// fit it.
pub(crate) fn is_readable(request: &ClientRequest) -> bool {
    matches!(request, ClientRequest::CustomRequest(custom)
        if is_method(&custom.method) && misfit(custom).is_none())
}

/// Returns `true` if the request is for a list of tasks.
pub(crate) fn is_list(request: &CustomRequest) -> bool {
    request.method == LIST
}

/// Returns the place of the tasks in the result of a request of this method.
pub(crate) fn place_in_result(method: &str) -> Option<Place> {
    match method {
        "tools/call" => Some(Place::Begun),
        "tasks/get" | "tasks/cancel" => Some(Place::Whole),
        LIST => Some(Place::List),
        _ => None,
    }
}

/// Returns the task that a custom request is about.
pub(super) fn target(request: &CustomRequest) -> Option<&str> {
    let params = request.params.as_ref().filter(|_| request.method == RESULT);
    params?.get(TASK_ID)?.as_str()
}

/// Sets the task that a custom request is about.
pub(super) fn set_target(request: &mut CustomRequest, task: String) {
    let params = request.params.as_mut().filter(|_| request.method == RESULT);
    if let Some(id) = params.and_then(|params| params.get_mut(TASK_ID)) {
        *id = task.into();
    }
}

/// Returns the member of params that does not fit a custom request of this revision, and what is
/// expected there.
pub(super) fn misfit(request: &CustomRequest) -> Option<(&'static str, &'static str)> {
    let member = |name| request.params.as_ref().and_then(|params| params.get(name));
    match request.method.as_str() {
        RESULT if !member(TASK_ID).is_some_and(Value::is_string) => {
            Some(("params.taskId", "expected a string"))
        }
        LIST if !member("cursor").is_none_or(Value::is_string) => {
            Some(("params.cursor", "expected a string"))
        }
        _ => None,
    }
}

/// Returns the id of the task that a result says to have begun.
pub(crate) fn begun(result: &ServerResult) -> Option<&str> {
    match result {
        ServerResult::CustomResult(result) => result.0.get("task")?.get(TASK_ID)?.as_str(),
        _ => None,
    }
}

/// Returns the ids of the tasks in a result.
pub(crate) fn ids_in(result: &mut Value, place: Place) -> Vec<&mut String> {
    let tasks = match place {
        Place::Begun => result.get_mut("task").into_iter().collect(),
        Place::Whole => vec![result],
        Place::List => match result.get_mut("tasks") {
            Some(Value::Array(tasks)) => tasks.iter_mut().collect(),
            _ => Vec::new(),
        },
    };
    let ids = tasks.into_iter().filter_map(|task| task.get_mut(TASK_ID));
    ids.filter_map(string).collect()
}

/// Returns the id of the task that a notification is about.
pub(crate) fn status(notification: &ServerNotification) -> Option<&str> {
    match notification {
        ServerNotification::CustomNotification(custom) if custom.method == STATUS => {
            custom.params.as_ref()?.get(TASK_ID)?.as_str()
        }
        _ => None,
    }
}

pub(crate) fn status_mut(notification: &mut ServerNotification) -> Option<&mut String> {
    match notification {
        ServerNotification::CustomNotification(custom) if custom.method == STATUS => {
            string(custom.params.as_mut()?.get_mut(TASK_ID)?)
        }
        _ => None,
    }
}

/// Returns the id of the task that the message of a `_meta` belongs to.
pub(crate) fn related(meta: &mut JsonObject) -> Option<&mut String> {
    string(meta.get_mut(RELATED)?.get_mut(TASK_ID)?)
}

fn string(value: &mut Value) -> Option<&mut String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}
