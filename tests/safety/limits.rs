//! Calls and handshakes end in time.

use std::time::Duration;

use futures::future::BoxFuture;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceError, model::*, service::RequestContext};
use rmcp_layers::{Caller, CallerSink, Error, ErrorKind, Handler, Lifecycle, McpRequest, Upstream};
use serde_json::json;
use tokio::time::Instant;
use tower::ServiceExt;

use crate::common::{
    Client, Events, demo::Demo, piped, progress, recorder, said, soon, token, tool,
};

#[tokio::test(start_paused = true)]
async fn a_limit_beyond_the_clock_is_none() {
    let builder = Upstream::builder().request_timeout(Duration::MAX);
    let upstream = piped(builder, &Demo::default());
    let (caller, mut received) = recorder();
    let call = McpRequest::call_tool("progress")
        .argument("count", 3)
        .progress_token(token("mine"))
        .caller(caller)
        .build();
    let answer = soon("an answer", upstream.oneshot(call)).await;
    assert_eq!(said(answer), "reported");
    assert_eq!(progress(&mut received).len(), 3);
}

/// Wants nothing but to be asked again.
#[derive(Clone, Default)]
struct Busy(Events);

impl ServerHandler for Busy {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        _request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.0.note("round");
        Ok(InputRequiredResult::new(None, Some("later".into())).into())
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_callers_empty_rounds_are_paced() {
    let server = Busy::default();
    let events = server.0.clone();
    let builder = Upstream::builder().lifecycle(Lifecycle::Discover);
    let client = Client::legacy("ann", builder.in_process(server)).await;
    let started = Instant::now();
    let call = client.peer.call_tool_once(tool("any", json!({})));
    let Err(ServiceError::McpError(error)) = soon("an answer", call).await else {
        panic!("a call without end");
    };
    let reserved = -32768..=-32000;
    assert!(!reserved.contains(&error.code.0), "{error:?}");
    assert_eq!(events.count("round"), DEFAULT_MRTR_MAX_ROUNDS + 1);
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
}

/// A caller that never takes what it is sent.
struct Stuck(Events);

impl CallerSink for Stuck {
    fn notify(&self, _notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        self.0.note("told");
        Box::pin(std::future::pending())
    }

    fn request(&self, _request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_takes_nothing_does_not_hold_its_call_past_the_limit() {
    let limit = Duration::from_secs(5);
    let builder = Upstream::builder().request_timeout(limit);
    let upstream = piped(builder, &Demo::default());
    let events = Events::default();
    let call = McpRequest::call_tool("progress")
        .argument("count", 3)
        .progress_token(token("mine"))
        .caller(Caller::new(Stuck(events.clone())))
        .build();
    let started = Instant::now();
    let answer = soon("an answer", upstream.oneshot(call)).await;
    assert_eq!(said(answer), "reported");
    assert_eq!(events.count("told"), 1);
    let took = started.elapsed();
    assert!(took < 2 * limit, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_takes_nothing_does_not_hold_its_call_past_the_connection() {
    // No limit ends this call.
    let builder = Upstream::builder().request_timeout(Duration::MAX);
    let upstream = piped(builder, &Demo::default());
    let events = Events::default();
    let call = McpRequest::call_tool("slow")
        .argument("count", 1)
        .argument("rest", 3_600_000)
        .progress_token(token("mine"))
        .caller(Caller::new(Stuck(events.clone())))
        .build();
    let call = tokio::spawn(upstream.clone().oneshot(call));
    events.until("told").await;
    soon("closing", upstream.close()).await;
    let ended = soon("the call's end", call).await.unwrap();
    let kind = ended.unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::Transport), "{kind:?}");
}

/// A server that announces no changes.
struct Plain;

impl ServerHandler for Plain {}

#[tokio::test(start_paused = true)]
async fn a_handshake_waits_for_no_listen_where_there_is_none() {
    let begun = tokio::time::Instant::now();
    let client = Client::legacy("Ann", Handler::new(Plain)).await;
    assert!(client.peer.peer_info().is_some());
    assert!(begun.elapsed() < Duration::from_millis(100));
}
