//! Layers made from a function.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rmcp::{
    model::*,
    service::{ClientLifecycleMode, ServiceError},
};
use rmcp_layers::{
    Error, ErrorKind, Handler, McpClient, McpRequest, McpResponse, McpServer, Next, Outcome,
    Refusal, ServiceBuilderExt, Stack, Upstream, code, from_fn,
};
use serde_json::json;
use tower::{Layer, ServiceBuilder, ServiceExt};

use crate::{
    bottoms,
    common::{
        Client, Heard, demo::Demo, piped, piped_legacy, progress, recorder, said, soon, text,
        token, tool,
    },
    served,
};

type Steps = Arc<Mutex<Vec<String>>>;

/// A layer that notes each request and its outcome.
fn noting<S: Stack>(
    steps: &Steps,
) -> impl Layer<S, Service: Stack> + Clone + Send + Sync + 'static {
    let steps = steps.clone();
    from_fn(move |request, next| {
        let steps = steps.clone();
        async move {
            let method = request.method().to_owned();
            steps.lock().unwrap().push(format!("> {method}"));
            let answer = next.run(request).await;
            let outcome = Outcome::of(&answer);
            steps
                .lock()
                .unwrap()
                .push(format!("< {method} {outcome:?}"));
            answer
        }
    })
}

async fn without_deletions(request: McpRequest, next: Next) -> Result<McpResponse, Error> {
    if request.target() == Some("delete") {
        let refusal = Refusal::new("policy", "deletions are turned off")
            .with_code(code::FORBIDDEN)
            .with_data(json!({ "rule": 7 }))
            .with_retry_after(Duration::from_secs(2));
        return Err(refusal.into());
    }
    next.run(request).await
}

#[tokio::test]
async fn a_function_acts_before_and_after_each_request_of_a_server_and_of_a_client() {
    for (bottom, stack) in bottoms(&Demo::default()) {
        let steps = Steps::default();
        let client = Client::modern("caller", noting(&steps).layer(stack.clone())).await;
        steps.lock().unwrap().clear();
        let sum = client.call(tool("add", json!({ "a": 1, "b": 2 }))).await;
        assert_eq!(text(&sum), "3", "{bottom}");
        client.call(tool("fail", json!({}))).await;
        let rejected = client.peer.call_tool_once(tool("reject", json!({}))).await;
        let Err(ServiceError::McpError(error)) = rejected else {
            panic!("{bottom}: {rejected:?}");
        };
        assert_eq!(error.code, ErrorCode(-32050), "{bottom}");
        assert_eq!(error.data.unwrap()["day"], "Sunday", "{bottom}");
        let expected = [
            "> tools/call",
            "< tools/call Complete",
            "> tools/call",
            "< tools/call ToolError",
            "> tools/call",
            "< tools/call Protocol { code: -32050 }",
        ];
        assert_eq!(*steps.lock().unwrap(), expected, "{bottom}");

        steps.lock().unwrap().clear();
        let client = McpClient::new(noting(&steps).layer(stack));
        let sum = client.call_tool("add").argument("a", 1).await.unwrap();
        assert_eq!(text(&sum), "1", "{bottom}");
        assert_eq!(*steps.lock().unwrap(), expected[..2], "{bottom}");
    }
}

#[tokio::test]
async fn a_function_can_refuse_a_request_before_the_server_sees_it() {
    let demo = Demo::default();
    for bottom in [
        piped(Upstream::builder(), &demo),
        piped_legacy(&demo),
        Upstream::in_process(demo.clone()),
    ] {
        let stack = ServiceBuilder::new()
            .layer(from_fn(without_deletions))
            .service(bottom);
        let client = Client::modern("caller", stack).await;
        let refused = client.peer.call_tool_once(tool("delete", json!({}))).await;
        let Err(ServiceError::McpError(error)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(error.code, code::FORBIDDEN);
        let data = error.data.unwrap();
        assert_eq!(data["kind"], "refused");
        assert_eq!(data["layer"], "policy");
        assert_eq!(data["rule"], 7);
        assert_eq!(data["retryAfterMs"], 2000);
        client.call(tool("add", json!({}))).await;
    }
}

#[tokio::test]
async fn a_function_can_change_the_request_and_replace_the_answer() {
    let stack = ServiceBuilder::new()
        .wrap_fn(|mut request, next| async move {
            if let Some(call) = request.as_tool_call_mut() {
                let arguments = call.arguments.get_or_insert_default();
                arguments.insert("b".to_owned(), json!(40));
            }
            match next.run(request).await {
                Err(error) if error.is_protocol() => {
                    let text = ContentBlock::text("replaced");
                    Ok(McpResponse::new(CallToolResult::error(vec![text])))
                }
                answer => answer,
            }
        })
        .service(piped(Upstream::builder(), &Demo::default()));
    let outer = served(stack);
    let sum = McpRequest::call_tool("add").argument("a", 2).build();
    assert_eq!(said(outer.clone().oneshot(sum).await), "42");
    let rejected = McpRequest::call_tool("reject").build();
    assert_eq!(said(outer.oneshot(rejected).await), "replaced");
}

#[tokio::test]
async fn progress_logs_and_changes_pass_a_function() {
    let demo = Demo::default();
    let mut clients = Vec::new();
    for (bottom, stack) in bottoms(&demo) {
        let stack = noting(&Steps::default()).layer(stack);
        let (caller, mut received) = recorder();
        let call = McpRequest::call_tool("progress")
            .argument("count", 100)
            .progress_token(token("mine"))
            .caller(caller);
        assert_eq!(
            said(served(stack.clone()).oneshot(call.build()).await),
            "reported"
        );
        let heard = progress(&mut received);
        let expected: Vec<_> = (1..=100)
            .map(|step| (token("mine"), f64::from(step)))
            .collect();
        assert_eq!(heard, expected, "{bottom}");

        let server = McpServer::new(stack);
        let mut client = Client::of(&server, "caller", ClientLifecycleMode::Initialize).await;
        client.call(tool("add", json!({}))).await;
        demo.change(ToolListChangedNotification::default()).await;
        assert_eq!(client.hear(bottom).await, Heard::Tools, "{bottom}");
        // A session that has ended holds up the server's changes while rmcp drains it.
        clients.push(client);
    }
}

#[tokio::test]
async fn a_clients_notification_passes_a_function() {
    let demo = Demo::default();
    let steps = Steps::default();
    let stack = noting(&steps).layer(piped_legacy(&demo));
    let client = Client::legacy("caller", stack).await;
    client.call(tool("add", json!({}))).await;
    client.peer.notify_roots_list_changed().await.unwrap();
    demo.until("the notification", |seen| {
        let changed = "notifications/roots/list_changed";
        seen.notices.iter().any(|method| method == changed)
    })
    .await;
    let seen = "> notifications/roots/list_changed".to_owned();
    assert!(steps.lock().unwrap().contains(&seen));
}

#[tokio::test]
async fn a_call_dropped_inside_a_function_is_cancelled_at_the_server() {
    let demo = Demo::default();
    for (bottom, stack) in bottoms(&demo) {
        let before = demo.seen().cancelled;
        let outer = served(noting(&Steps::default()).layer(stack));
        let call = outer.clone().oneshot(McpRequest::call_tool("wait").build());
        let call = tokio::spawn(call);
        demo.until(bottom, |seen| seen.waiting == 1).await;
        call.abort();
        demo.until(bottom, |seen| seen.waiting == 0 && seen.cancelled > before)
            .await;
        assert_eq!(outer.in_flight(), 0, "{bottom}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_holds_no_room_of_the_inner_stack_until_it_runs_it() {
    let demo = Demo::default();
    let slow_check = from_fn(|request, next| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        next.run(request).await
    });
    let stack = ServiceBuilder::new()
        .layer(from_fn(without_deletions))
        .concurrency_limit(1)
        .service(piped(Upstream::builder(), &demo));
    // While the only place is taken, what does not need one is answered.
    let first = tokio::spawn(stack.clone().oneshot(McpRequest::call_tool("wait").build()));
    demo.until("the first call", |seen| seen.waiting == 1).await;
    let refused = stack.oneshot(McpRequest::call_tool("delete").build()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);
    first.abort();

    let inner = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(Handler::new(demo));
    let checked = slow_check.layer(inner.clone());
    let mut call = std::pin::pin!(checked.oneshot(McpRequest::list_tools()));
    assert!(futures::poll!(&mut call).is_pending());
    // The check has begun, and the only place is free.
    assert!(inner.oneshot(McpRequest::list_tools()).await.is_ok());
    assert!(call.await.is_ok());
}

#[tokio::test]
async fn a_clone_of_next_runs_the_inner_stack_once_more() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let stack = ServiceBuilder::new()
        .wrap_fn(|request, next| async move {
            let _ = next.clone().run(request.clone()).await?;
            next.run(request).await
        })
        .concurrency_limit(1)
        .map_request(move |request: McpRequest| {
            counted.fetch_add(1, Ordering::Relaxed);
            request
        })
        .service(piped(Upstream::builder(), &Demo::default()));
    let twice = stack.oneshot(McpRequest::list_tools());
    assert!(soon("both runs", twice).await.is_ok());
    assert_eq!(runs.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn errors_of_towers_layers_reach_a_function_as_errors_of_the_crate() {
    let seen = Arc::new(Mutex::new(None));
    let stack = ServiceBuilder::new()
        .wrap_fn({
            let seen = seen.clone();
            move |request, next| {
                let seen = seen.clone();
                async move {
                    let answer = next.run(request).await;
                    *seen.lock().unwrap() = answer.as_ref().err().map(Error::kind);
                    answer
                }
            }
        })
        .timeout(Duration::from_millis(10))
        .service(piped(Upstream::builder(), &Demo::default()));
    let late = served(stack).oneshot(McpRequest::call_tool("wait").build());
    let error = late.await.unwrap_err();
    assert_eq!(error.as_protocol().unwrap().code, code::TIMEOUT);
    assert_eq!(*seen.lock().unwrap(), Some(ErrorKind::Timeout));
}
