//! What is repeated, and what is not.

use std::{io, sync::Arc, sync::atomic::AtomicUsize, sync::atomic::Ordering, time::Duration};

use rmcp::model::{
    CancelTaskParams, CancelTaskRequest, ClientRequest, CustomRequest, ErrorCode, ErrorData,
    LoggingLevel, SetLevelRequest, SetLevelRequestParams,
};
use rmcp_layers::{
    Error, Lifecycle, McpRequest, McpResponse, Outcome, Principal, Refusal, Repeat, TransportError,
    Upstream, code,
    retry::{Jitter, Retry, RetryLayer, RetryLayerBuilder, RetryPolicy, Strategy},
};
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::{
    common::said,
    server::{Server, Step, fails},
};

pub fn quick() -> RetryPolicy {
    RetryPolicy::new().base_delay(Duration::from_millis(10))
}

pub fn layer() -> RetryLayerBuilder {
    RetryLayer::builder().policy(quick())
}

pub fn over(server: &Server, builder: RetryLayerBuilder) -> Retry<Upstream> {
    builder.build().unwrap().layer(server.upstream())
}

pub async fn call(stack: &Retry<Upstream>, request: McpRequest) -> Result<McpResponse, Error> {
    stack.clone().oneshot(request).await
}

pub fn tool(name: &str) -> McpRequest {
    McpRequest::call_tool(name).build()
}

fn list(annotations: Value) -> Step {
    Step::Result(json!({
        "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
        "tools": [{ "name": "act", "inputSchema": { "type": "object" }, "annotations": annotations }],
    }))
}

/// A stack that fails the first calls with this error, and counts all.
fn failing(
    error: Error,
    times: usize,
) -> (
    impl Service<McpRequest, Response = McpResponse, Error = Error, Future: Send> + Clone + Send,
    Arc<AtomicUsize>,
) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let stack = service_fn(move |_: McpRequest| {
        let fails = counted.fetch_add(1, Ordering::SeqCst) < times;
        let answer = if fails {
            Err(error.clone())
        } else {
            Ok(McpResponse::new(rmcp::model::EmptyResult {}))
        };
        async move { answer }
    });
    (stack, count)
}

#[tokio::test(start_paused = true)]
async fn what_proves_that_nothing_ran_is_repeated_whatever_the_method() {
    let server = Server::default();
    let refused = Arc::new(AtomicUsize::new(0));
    let (count, there) = (refused.clone(), server.clone());
    let absent = Upstream::builder()
        .lifecycle(Lifecycle::Discover)
        .reconnect_backoff(Duration::from_millis(1), Duration::from_millis(1))
        .transport(move || {
            let refuses = count.fetch_add(1, Ordering::SeqCst) < 3;
            let pipe = there.pipe();
            async move {
                if refuses {
                    Err(io::Error::from(io::ErrorKind::ConnectionRefused))
                } else {
                    Ok(pipe)
                }
            }
        });
    let stack = layer().build().unwrap().layer(absent);
    let response = stack.oneshot(tool("pay")).await.unwrap();
    assert!(response.report.attempts > 1);
    assert_eq!(said(Ok::<_, Error>(response)), "done");
    assert_eq!(server.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_non_idempotent_tool_whose_connection_drops_mid_call_runs_once() {
    let server = Server::new([Step::Hangup]);
    let stack = over(&server, layer());
    let error = call(&stack, tool("pay")).await.unwrap_err();
    assert!(error.is_transport() && !error.is_not_delivered(), "{error}");
    assert_eq!(server.count(), 1);
    // Nor does anything of the failure stay behind.
    let response = call(&stack, tool("pay")).await.unwrap();
    assert_eq!(response.report.attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_read_whose_connection_drops_or_that_times_out_is_repeated() {
    let contents = Step::Result(json!({
        "resultType": "complete", "contents": [{ "uri": "file:///a", "text": "here" }],
    }));
    let server = Server::new([
        Step::Hangup,
        Step::Silence,
        Step::Error(-32603, Value::Null),
        contents,
    ]);
    let upstream = Upstream::builder().request_timeout(Duration::from_secs(5));
    let stack = layer().build().unwrap().layer(server.upstream_of(upstream));
    let response = stack
        .oneshot(McpRequest::read_resource("file:///a"))
        .await
        .unwrap();
    assert_eq!(response.report.attempts, 4);
    // The server is also told that the silent one is cancelled, which is no request.
    assert_eq!(server.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn minus_32602_is_not_retried() {
    for code in [-32602, -32601, -32600, -32002, -32050] {
        let server = Server::new([Step::Error(code, json!({ "why": 1 }))]);
        // Not even for a tool that the operator calls safe.
        let stack = over(&server, layer().policy(quick().safe_to_repeat(true)));
        let error = call(&stack, tool("read")).await.unwrap_err();
        assert_eq!(error.as_protocol().unwrap().code.0, code);
        assert_eq!(error.as_protocol().unwrap().data, Some(json!({ "why": 1 })));
        assert_eq!(server.count(), 1, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_repeated_only_where_it_may_be_different_later() {
    let refused = |code| Error::from(Refusal::new("layer", "no").with_code(code));
    for (error, attempts) in [
        (refused(code::UNAVAILABLE), 2),
        (refused(code::TOO_MANY), 2),
        (refused(code::FORBIDDEN), 1),
        (refused(code::UNAUTHENTICATED), 1),
        (Error::cancelled("enough"), 1),
        (TransportError::not_delivered("gone").into(), 2),
        (TransportError::new("gone").into(), 1),
        (
            TransportError::not_delivered("no").with_status(401).into(),
            1,
        ),
        (
            TransportError::not_delivered("no").with_status(403).into(),
            1,
        ),
        (
            TransportError::not_delivered("no").with_status(429).into(),
            2,
        ),
        (
            TransportError::not_delivered("session gone")
                .with_status(404)
                .into(),
            2,
        ),
        // A proxy may say so after it has passed the request on.
        (TransportError::new("no").with_status(503).into(), 1),
        (Error::timeout(Duration::from_secs(1)), 1),
    ] {
        let (stack, count) = failing(error.clone(), 1);
        let stack = layer().build().unwrap().layer(stack);
        let answer = stack.oneshot(tool("pay")).await;
        assert_eq!(answer.is_ok(), attempts == 2, "{error}");
        assert_eq!(count.load(Ordering::SeqCst), attempts, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn methods_that_neither_read_nor_call_tools_are_repeated_if_they_set_the_same_again() {
    let level = SetLevelRequest::new(SetLevelRequestParams::new(LoggingLevel::Info));
    for (message, attempts) in [
        (ClientRequest::from(level), 2),
        (
            CancelTaskRequest::new(CancelTaskParams::new("task")).into(),
            1,
        ),
        (CustomRequest::new("acme/do", None).into(), 1),
    ] {
        let (stack, count) = failing(TransportError::new("gone").into(), 1);
        let stack = layer().build().unwrap().layer(stack);
        let _ = stack.oneshot(McpRequest::new(message)).await;
        assert_eq!(count.load(Ordering::SeqCst), attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_tool_says_of_itself_counts_only_from_a_trusted_server() {
    let says_safe = [
        json!({ "readOnlyHint": true }),
        json!({ "idempotentHint": true }),
    ];
    let others = [
        json!({}),
        json!({ "destructiveHint": true }),
        json!({ "readOnlyHint": false }),
    ];
    for (annotations, trusted, attempts) in says_safe
        .iter()
        .flat_map(|safe| [(safe, true, 2), (safe, false, 1)])
        .chain(others.iter().map(|other| (other, true, 1)))
    {
        let server = Server::new([list(annotations.clone()), Step::Hangup]);
        let stack = over(&server, layer().trust_annotations(trusted));
        call(&stack, McpRequest::list_tools()).await.unwrap();
        let answer = call(&stack, tool("act")).await;
        assert_eq!(answer.is_ok(), attempts == 2, "{annotations}");
        assert_eq!(server.count(), 1 + attempts, "{annotations}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_caller_was_told_of_a_tool_makes_it_safe_for_no_other() {
    let server = Server::new([
        list(json!({ "readOnlyHint": true })),
        Step::Hangup,
        Step::Hangup,
    ]);
    let stack = over(&server, layer().trust_annotations(true));
    let by = |name: &str, mut request: McpRequest| {
        request.context.set_principal(Principal::new(name));
        request
    };
    call(&stack, by("alice", McpRequest::list_tools()))
        .await
        .unwrap();
    call(&stack, by("bob", tool("act"))).await.unwrap_err();
    assert_eq!(server.count(), 2);
    call(&stack, by("alice", tool("act"))).await.unwrap();
    assert_eq!(server.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_one_server_says_of_a_tool_makes_no_other_servers_tool_safe() {
    let safe = Server::new([list(json!({ "idempotentHint": true }))]);
    let other = Server::new([list(json!({})), Step::Hangup]);
    let layer = layer().trust_annotations(true).build().unwrap();
    let over = |server: &Server| layer.layer(server.upstream());
    let (safe, stack) = (over(&safe), over(&other));
    call(&stack, McpRequest::list_tools()).await.unwrap();
    call(&safe, McpRequest::list_tools()).await.unwrap();
    call(&stack, tool("act")).await.unwrap_err();
    assert_eq!(other.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_a_request_has_the_bounds_of_the_layers() {
    let forever = || {
        quick()
            .base_delay(Duration::MAX)
            .max_delay(Duration::MAX)
            .max_retries(u32::MAX)
    };
    for (policy, asks_for, attempts) in [
        (forever(), u64::MAX, 1),
        (forever().jitter(Jitter::None), u64::MAX, 1),
        (forever().jitter(Jitter::Decorrelated), 60_000, 101),
        (forever().strategy(Strategy::Immediate), 60_000, 101),
    ] {
        let asks_for = Duration::from_millis(asks_for);
        let busy = Refusal::new("limit", "busy").with_retry_after(asks_for);
        let (stack, count) = failing(busy.into(), usize::MAX);
        let mut request = tool("act");
        request.context.extensions.insert(policy);
        let stack = layer().budget(None).build().unwrap().layer(stack);
        stack.oneshot(request).await.unwrap_err();
        assert_eq!(count.load(Ordering::SeqCst), attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn the_operators_rule_for_a_tool_goes_before_what_it_says_of_itself() {
    let server = Server::new([
        list(json!({ "readOnlyHint": true })),
        Step::Hangup,
        Step::Hangup,
    ]);
    let policies = layer()
        .trust_annotations(true)
        .tool("act", quick().safe_to_repeat(false))
        .tool("read_*", quick().safe_to_repeat(true));
    let stack = over(&server, policies);
    call(&stack, McpRequest::list_tools()).await.unwrap();
    call(&stack, tool("act")).await.unwrap_err();
    call(&stack, tool("read_file")).await.unwrap();
    assert_eq!(server.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_request_may_have_a_policy_of_its_own_and_its_caller_may_only_ask_for_less() {
    let refuses = || TransportError::not_delivered("gone").into();
    let attempts = |request: McpRequest| async {
        let (stack, count) = failing(refuses(), 100);
        let stack = layer()
            .tool("rare", quick().max_retries(1))
            .build()
            .unwrap()
            .layer(stack);
        stack.oneshot(request).await.unwrap_err();
        count.load(Ordering::SeqCst)
    };
    let asking = |wish: Value| {
        McpRequest::call_tool("pay")
            .meta("rmcp-layers/retry", wish)
            .build()
    };
    assert_eq!(attempts(tool("pay")).await, 4);
    assert_eq!(attempts(tool("rare")).await, 2);
    assert_eq!(attempts(asking(json!({ "maxRetries": 0 }))).await, 1);
    assert_eq!(attempts(asking(json!({ "maxRetries": 1 }))).await, 2);
    for more in [
        json!({ "maxRetries": 50 }),
        json!({ "maxRetries": -1 }),
        json!("all"),
        json!({}),
    ] {
        assert_eq!(attempts(asking(more)).await, 4);
    }
    let mut own = tool("pay");
    own.context.extensions.insert(quick().max_retries(6));
    assert_eq!(attempts(own).await, 7);
    let mut never = tool("pay");
    never.context.extensions.insert(RetryPolicy::never());
    assert_eq!(attempts(never).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_tools_own_failure_is_repeated_only_by_the_operators_rule() {
    let limited = || fails("429 Too Many Requests", Value::Null);
    let broken = || fails("no such file", Value::Null);
    let always = |policy: RetryPolicy| policy.retry_tool_errors(|_| Repeat::Always);
    for (step, policy, count) in [
        (limited(), quick().safe_to_repeat(true), 1),
        (
            limited(),
            quick().safe_to_repeat(true).retry_rate_limits(),
            2,
        ),
        // It may have done half of its work.
        (limited(), quick().retry_rate_limits(), 1),
        (
            broken(),
            quick().safe_to_repeat(true).retry_rate_limits(),
            1,
        ),
        (broken(), always(quick()), 2),
    ] {
        let server = Server::new([step]);
        let stack = over(&server, layer().policy(policy));
        let response = call(&stack, tool("act")).await.unwrap();
        assert_eq!(server.count(), count);
        assert_eq!(response.report.attempts as usize, count);
        let outcome = Outcome::of(&Ok(response));
        assert_eq!(outcome == Outcome::ToolError, count == 1);
    }
}

#[tokio::test(start_paused = true)]
async fn rounds_and_tasks_are_successes() {
    let round = json!({
        "resultType": "input_required", "requestState": "one",
        "inputRequests": { "name": { "method": "elicitation/create", "params": {
            "mode": "form", "message": "Who?", "requestedSchema": { "type": "object", "properties": {} },
        } } },
    });
    let task = json!({
        "resultType": "task", "taskId": "1", "status": "working", "ttlMs": null,
        "createdAt": "now", "lastUpdatedAt": "now",
    });
    for (result, outcome) in [(round, Outcome::InputRequired), (task, Outcome::Task)] {
        let server = Server::new([Step::Result(result)]);
        let stack = over(&server, layer().policy(quick().safe_to_repeat(true)));
        let answer = call(&stack, tool("act")).await;
        assert_eq!(Outcome::of(&answer), outcome, "{answer:?}");
        assert_eq!(server.count(), 1);
    }
    // A later round is as safe as its tool.
    for (safe, count) in [(true, 2), (false, 1)] {
        let server = Server::new([Step::Hangup]);
        let stack = over(&server, layer().policy(quick().safe_to_repeat(safe)));
        let mut later = tool("act");
        later.as_tool_call_mut().unwrap().request_state = Some("one".to_owned());
        let _ = call(&stack, later).await;
        assert_eq!(server.count(), count);
    }
}

#[tokio::test(start_paused = true)]
async fn another_stacks_word_that_nothing_ran_is_not_taken_for_proof() {
    for code in [-31502, -31503, -31504, -31429] {
        for (safe, count) in [(true, 2), (false, 1)] {
            let server = Server::new([Step::Error(code, json!({ "delivered": "no" }))]);
            let stack = over(&server, layer().policy(quick().safe_to_repeat(safe)));
            let _ = call(&stack, tool("act")).await;
            assert_eq!(server.count(), count, "{code}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn notifications_are_passed_on_once() {
    let (stack, count) = failing(TransportError::not_delivered("gone").into(), 9);
    let stack = layer().build().unwrap().layer(stack);
    let notice = rmcp::model::RootsListChangedNotification::default();
    let context = tool("x").into_parts().1;
    stack
        .oneshot(McpRequest::notification(notice, context))
        .await
        .unwrap_err();
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn impossible_settings_are_said_when_the_layer_is_built() {
    let option = |builder: RetryLayerBuilder| {
        builder
            .build()
            .map(|_| ())
            .map_err(|error| error.option().to_owned())
    };
    let policy = |policy| option(RetryLayer::builder().policy(policy));
    let new = RetryPolicy::new;
    assert_eq!(
        policy(new().max_retries(101)),
        Err("max_retries".to_owned())
    );
    assert_eq!(
        policy(new().base_delay(Duration::ZERO)),
        Err("base_delay".to_owned())
    );
    assert_eq!(
        policy(new().max_delay(Duration::from_millis(1))),
        Err("base_delay".to_owned())
    );
    assert_eq!(
        policy(new().max_delay(Duration::MAX)),
        Err("max_delay".to_owned())
    );
    let rule = RetryLayer::builder().tool("x", new().max_retries(101));
    assert_eq!(option(rule), Err("tool[x]".to_owned()));
    for budget in [
        rmcp_layers::retry::RetryBudget::new().ratio(-1.0),
        rmcp_layers::retry::RetryBudget::new().ratio(f32::NAN),
        rmcp_layers::retry::RetryBudget::new().keep(Duration::ZERO),
        rmcp_layers::retry::RetryBudget::new()
            .min_per_second(0)
            .ratio(0.0),
    ] {
        assert_eq!(
            option(RetryLayer::builder().budget(budget)),
            Err("budget".to_owned())
        );
    }
}

#[tokio::test(start_paused = true)]
async fn errors_of_a_handler_are_read_like_those_of_a_server() {
    let internal = || ErrorData::new(ErrorCode::INTERNAL_ERROR, "oh", None);
    for (safe, attempts) in [(true, 2), (false, 1)] {
        let (stack, count) = failing(internal().into(), 1);
        let policy = quick().safe_to_repeat(safe);
        let stack = ServiceBuilder::new()
            .layer(layer().policy(policy).build().unwrap())
            .service(stack);
        let _ = stack.oneshot(tool("act")).await;
        assert_eq!(count.load(Ordering::SeqCst), attempts);
    }
}
