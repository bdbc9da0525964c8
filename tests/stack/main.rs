//! What a stack promises to callers and servers: nothing is lost on the way through.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

#[path = "../common/mod.rs"]
mod common;

mod box_stack;
mod callers;
mod cancellation;
mod connections;
mod errors;
mod from_fn;
mod messages;
mod order;
mod outcomes;
mod progress;
mod revisions;
mod shutdown;
mod subscriptions;
mod tower_layers;
mod unanswered;

use std::sync::{Arc, Mutex};

use common::{demo::Demo, piped, piped_legacy, text};
use rmcp::model::*;
use rmcp_layers::{Error, Handler, McpRequest, McpResponse, McpServer, Outcome, Upstream};
use serde_json::Value;
use tower::{ServiceExt, service_fn, util::BoxCloneService};

type Boxed = BoxCloneService<McpRequest, McpResponse, Error>;

/// Every way to reach a server without a network.
fn bottoms(demo: &Demo) -> Vec<(&'static str, Boxed)> {
    vec![
        ("handler", BoxCloneService::new(Handler::new(demo.clone()))),
        (
            "in-process",
            BoxCloneService::new(Upstream::in_process(demo.clone())),
        ),
        (
            "pipe",
            BoxCloneService::new(piped(Upstream::builder(), demo)),
        ),
        ("legacy pipe", BoxCloneService::new(piped_legacy(demo))),
    ]
}

/// Serves a stack over a pipe, and reaches it through that.
fn served(stack: impl common::Stack) -> Upstream {
    piped(Upstream::builder().name("outer"), &McpServer::new(stack))
}

fn echoed(result: &CallToolResult) -> Value {
    serde_json::from_str(text(result)).unwrap()
}

/// Lets everything but tool calls through.
fn failing_calls(inner: impl common::Stack, error: Error) -> Boxed {
    BoxCloneService::new(service_fn(move |request: McpRequest| {
        let (inner, error) = (inner.clone(), error.clone());
        async move {
            if request.as_tool_call().is_some() {
                return Err(error);
            }
            inner.oneshot(request).await.map_err(Into::into)
        }
    }))
}

fn small(request: McpRequest) -> Result<McpRequest, tower::BoxError> {
    match request.target() {
        Some("big") => Err("too big for this filter".into()),
        _ => Ok(request),
    }
}

/// Outcomes of the calls that go through a stack, as an observing layer sees them.
#[derive(Clone, Default)]
struct Outcomes(Arc<Mutex<Vec<Outcome>>>);

impl Outcomes {
    fn over(&self, inner: impl common::Stack) -> Boxed {
        let outcomes = self.0.clone();
        BoxCloneService::new(service_fn(move |request: McpRequest| {
            let (inner, outcomes) = (inner.clone(), outcomes.clone());
            async move {
                let is_call = request.as_tool_call().is_some();
                let result = inner.oneshot(request).await.map_err(Into::into);
                if is_call {
                    outcomes.lock().unwrap().push(Outcome::of(&result));
                }
                result
            }
        }))
    }

    fn last(&self) -> Outcome {
        self.0.lock().unwrap().pop().expect("an outcome")
    }
}

/// A stack that acts otherwise than `inner` where `act` answers.
fn except<F>(inner: impl common::Stack, act: F) -> Boxed
where
    F: Fn(&McpRequest) -> Option<Result<McpResponse, Error>> + Clone + Send + Sync + 'static,
{
    BoxCloneService::new(service_fn(move |request: McpRequest| {
        let (inner, act) = (inner.clone(), act.clone());
        async move {
            match act(&request) {
                Some(answer) => answer,
                None => inner.oneshot(request).await.map_err(Into::into),
            }
        }
    }))
}
