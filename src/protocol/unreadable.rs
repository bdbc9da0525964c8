//! Requests of the protocol's own methods whose params do not fit the method.
//!
//! Such a request has no type, so no layer can decide by its target. The top of a stack removes its
//! params and sends the rest through the stack, so that an audit layer records it. Every bottom
//! refuses it, and the top answers with the invalid member whatever the stack returns.
//!
//! In a stack without a top, such a request arrives with its params. Bottoms refuse it then too,
//! and so do layers that decide or keep a record.

use std::sync::Arc;

use rmcp::model::{ClientRequest, CustomRequest, ErrorCode, ErrorData, RequestMetaObject};
use serde_json::{Value, json};

use super::{legacy_tasks, methods::Method, notifications};
use crate::{Decision, Error, McpRequest, Refusal, caller::Era, code};

/// The maximum length of the reason, in characters.
const MAX_WHY: usize = 256;
const NO_OBJECT: &str = "expected an object";

/// The reason why a request cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct Unreadable {
    method: String,
    error: ErrorData,
    target: Option<String>,
    reason: String,
    /// The request has no params beside `_meta`.
    is_bare: bool,
}

impl Unreadable {
    pub(crate) fn new(method: &str, target: Option<String>, path: &str, why: &str) -> Self {
        let why: String = why.chars().take(MAX_WHY).collect();
        let message = format!("`{method}` cannot be read: {path}: {why}");
        let data = json!({ "method": method, "path": path });
        Self {
            method: method.to_owned(),
            error: ErrorData::invalid_params(message, Some(data)),
            target,
            reason: format!("the request cannot be read: {path} does not fit its method"),
            is_bare: false,
        }
    }

    pub(crate) fn of_params(method: Method, params: Option<&Value>) -> Self {
        let mut unreadable = Self::of_misfit(method, params);
        unreadable.is_bare = is_bare(params);
        unreadable
    }

    fn of_misfit(method: Method, params: Option<&Value>) -> Self {
        let none = Value::Object(serde_json::Map::new());
        let params = params.unwrap_or(&none);
        let target = method.target_in(params).map(str::to_owned);
        let name = method.name();
        if !params.is_object() {
            return Self::new(name, target, "params", NO_OBJECT);
        }
        // One that is an object stands in the request's context.
        let meta = params.get("_meta");
        if meta.is_some_and(|meta| !meta.is_null() && !meta.is_object()) {
            return Self::new(name, target, "params._meta", NO_OBJECT);
        }
        match method.read_request(params) {
            Err(misfit) => Self::new(name, target, &misfit.path, &misfit.why),
            Ok(_) => {
                let why =
                    "a member is given twice, or the request was not made as the method's own type";
                Self::new(name, target, "params", why)
            }
        }
    }

    fn of_removed(method: &str) -> Self {
        let message = format!("`{method}` is not a method of revision 2026-07-28");
        Self {
            method: method.to_owned(),
            error: ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None),
            target: None,
            reason: "the caller's revision does not have the method".to_owned(),
            is_bare: false,
        }
    }

    fn of_notification(method: &str) -> Self {
        let message = format!("`{method}` is a notification: send it without an id");
        Self {
            method: method.to_owned(),
            error: ErrorData::new(ErrorCode::INVALID_REQUEST, message, None),
            target: None,
            reason: "the request has a notification's name".to_owned(),
            is_bare: false,
        }
    }

    /// Returns `true` if the request has no params beside `_meta`.
    pub(crate) fn is_bare(&self) -> bool {
        self.is_bare
    }

    /// Returns the target of the request, as far as it can be read.
    pub(crate) fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// Returns the reason for the record. It quotes nothing of the params.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// Returns the refusal. It is the crate's own, so it says nothing about an upstream's health.
    pub(crate) fn refusal(&self) -> Error {
        let mut refusal =
            Refusal::new("protocol", self.error.message.clone()).with_code(self.error.code);
        if let Some(data) = &self.error.data {
            refusal = refusal.with_data(data.clone());
        }
        refusal.into()
    }

    /// Returns the error for the caller, whatever the stack has answered. An unauthenticated caller
    /// receives only that error.
    pub(crate) fn answer<T>(&self, of_stack: Result<T, Error>) -> Error {
        match of_stack {
            Err(Error::Refused(refusal)) if refusal.code() == code::UNAUTHENTICATED => {
                Error::Refused(refusal)
            }
            _ => Error::protocol(self.error.clone()),
        }
    }
}

/// Returns why a request cannot be read, if it is a custom request of a method that the protocol
/// has.
pub(crate) fn unreadable(request: &McpRequest) -> Option<Arc<Unreadable>> {
    let ClientRequest::CustomRequest(custom) = &*request.message else {
        return None;
    };
    if let Some(known) = &request.context.unreadable
        && known.method == custom.method
    {
        let method = Method::named(&known.method).filter(|_| known.is_bare);
        if let Some(method) = method.filter(|method| is_removed_for(*method, request)) {
            return Some(Arc::new(Unreadable::of_removed(method.name())));
        }
        return Some(known.clone());
    }
    if let Some(method) = Method::named(&custom.method) {
        let params = custom.params.as_ref();
        let unreadable = if is_removed_for(method, request) && is_bare(params) {
            Unreadable::of_removed(method.name())
        } else {
            Unreadable::of_params(method, params)
        };
        return Some(Arc::new(unreadable));
    }
    if request.context.era() == Era::Legacy
        && request.as_notification().is_none()
        && let Some((path, why)) = legacy_tasks::misfit(custom)
    {
        return Some(Arc::new(Unreadable::new(&custom.method, None, path, why)));
    }
    let is_notification = notifications::is_of_client(&custom.method);
    (is_notification && request.as_notification().is_none())
        .then(|| Arc::new(Unreadable::of_notification(&custom.method)))
}

/// Returns `true` if the caller's revision has removed a method. A caller that asks for such a method
/// by name alone asks whether there is one.
fn is_removed_for(method: Method, request: &McpRequest) -> bool {
    request.context.era() == Era::Modern && method.row().is_removed && method.requires_params()
}

/// Returns `true` if params have no member beside `_meta`.
fn is_bare(params: Option<&Value>) -> bool {
    params.is_none_or(|params| {
        let members = params.as_object();
        members.is_some_and(|members| members.keys().all(|name| name == "_meta"))
    })
}

/// Returns the refusal of a request that cannot be read, and states the decision.
pub(crate) fn refuse(request: &McpRequest) -> Option<Error> {
    let unreadable = unreadable(request)?;
    let reason = unreadable.reason();
    request
        .context
        .state_decision(Decision::Denied, None, reason);
    Some(unreadable.refusal())
}

/// Removes the params of a request that cannot be read, so that no inner layer can act on it.
pub(crate) fn set_aside(request: &mut McpRequest) -> Option<Arc<Unreadable>> {
    let unreadable = unreadable(request).or_else(|| odd_progress_token(request))?;
    let method = unreadable.method.clone();
    request.message = ClientRequest::from(CustomRequest::new(method, None)).into();
    request.context.unreadable = Some(unreadable.clone());
    Some(unreadable)
}

/// Returns `true` if a progress token is not a string or an integer (MCP 2026-07-28,
/// basic/utilities/progress). rmcp reads any other value as a missing token.
pub(crate) fn has_odd_progress_token(meta: &RequestMetaObject) -> bool {
    meta.get(PROGRESS_TOKEN).is_some_and(|token| {
        !(token.is_string() || token.is_i64() || token.is_u64() || token.is_null())
    })
}

fn odd_progress_token(request: &mut McpRequest) -> Option<Arc<Unreadable>> {
    let is_odd = has_odd_progress_token(&request.context.meta);
    if !is_odd || request.as_notification().is_some() {
        return None;
    }
    let target = request.target().map(str::to_owned);
    let unreadable = Unreadable::new(
        request.method(),
        target,
        "params._meta.progressToken",
        "expected a string or an integer",
    );
    request.context.meta.shift_remove(PROGRESS_TOKEN);
    Some(Arc::new(unreadable))
}

const PROGRESS_TOKEN: &str = "progressToken";
