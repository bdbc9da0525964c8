//! An rmcp client that exists already, with layers around it.

use std::sync::{Arc, OnceLock};

use rmcp::{
    ClientHandler, ErrorData, RoleClient, ServiceExt as _,
    service::{NotificationContext, RequestContext, RunningService, serve_client_with_lifecycle},
};
use rmcp_layers::{McpClient, retry::RetryLayer};
use tokio::process::Command;
use tower::ServiceBuilder;

use super::*;
use crate::wire::{questions, wired_end};

/// A client handler that passes on what it hears and what it is asked.
#[derive(Clone, Default)]
struct Forwarding(Arc<OnceLock<Upstream>>);

impl ClientHandler for Forwarding {
    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder()
            .enable_roots()
            .enable_sampling()
            .build();
        ClientConfig::new(capabilities, Implementation::new("existing", "0"))
    }

    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        if let Some(upstream) = self.0.get() {
            upstream.forward_notification(ProgressNotification::new(params));
        }
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        if let Some(upstream) = self.0.get() {
            upstream.forward_notification(ToolListChangedNotification::default());
        }
    }

    async fn create_message(
        &self,
        params: CreateMessageRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let upstream = self.0.get().unwrap();
        let asked = upstream.forward_request(CreateMessageRequest::new(params));
        match asked.await? {
            ClientResult::CreateMessageResult(result) => Ok(*result),
            other => panic!("not an answer: {other:?}"),
        }
    }
}

type Existing = RunningService<RoleClient, Forwarding>;

fn lifecycles() -> [ClientLifecycleMode; 2] {
    let preferred_versions = vec![ProtocolVersion::LATEST];
    [
        ClientLifecycleMode::Initialize,
        ClientLifecycleMode::Discover { preferred_versions },
    ]
}

async fn over_pipe(demo: &Demo, lifecycle: ClientLifecycleMode) -> Existing {
    let pipe = common::pipe_to(demo.clone());
    let connected = serve_client_with_lifecycle(Forwarding::default(), pipe, lifecycle);
    soon("connecting", connected).await.unwrap()
}

async fn over_child(lifecycle: ClientLifecycleMode) -> (Existing, tokio::process::Child) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "serve_as_child", "--nocapture", "--quiet"])
        .env(CHILD, "1")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pipe = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    let connected = serve_client_with_lifecycle(Forwarding::default(), pipe, lifecycle);
    (soon("connecting", connected).await.unwrap(), child)
}

/// Wraps a client in both ways there are.
fn wrapped(client: Existing) -> [Upstream; 2] {
    let peer = Upstream::builder().peer(client.peer().clone());
    [peer, Upstream::builder().running(client)]
}

/// What any stack can do, this one can.
async fn works(upstream: Upstream) {
    let client = McpClient::new(upstream.clone());
    let tools = soon("a list", client.list_all_tools()).await.unwrap();
    assert!(tools.iter().any(|tool| tool.name == "add"), "{tools:?}");
    for n in 0..100 {
        let call = McpRequest::call_tool("add").argument("a", n).build();
        let answer = soon("a call", upstream.clone().oneshot(call)).await;
        assert_eq!(said(answer), n.to_string());
    }
    let error = client.call_tool("no-such-tool").await.unwrap_err();
    assert!(error.is_protocol(), "{error}");
    assert_eq!(upstream.in_flight(), 0);
}

#[tokio::test]
async fn an_existing_client_lists_and_calls_in_process() {
    for lifecycle in lifecycles() {
        for upstream in wrapped(over_pipe(&Demo::default(), lifecycle).await) {
            works(upstream).await;
        }
    }
}

#[tokio::test]
async fn an_existing_client_lists_and_calls_over_a_child_process() {
    for lifecycle in lifecycles() {
        let (client, _child) = over_child(lifecycle).await;
        for upstream in wrapped(client) {
            works(upstream).await;
        }
    }
}

#[tokio::test]
async fn under_retry_an_existing_client_runs_a_tool_once() {
    let demo = Demo::default();
    let client = over_pipe(&demo, ClientLifecycleMode::Initialize).await;
    let upstream = Upstream::builder().running(client);
    let retry = RetryLayer::builder().build().unwrap();
    let stack = ServiceBuilder::new().layer(retry).service(upstream.clone());
    for n in 0..50 {
        let call = McpRequest::call_tool("add").argument("a", n).build();
        assert_eq!(
            said(soon("a call", stack.clone().oneshot(call)).await),
            n.to_string()
        );
    }
    let call = tokio::spawn(stack.oneshot(McpRequest::call_tool("wait").build()));
    demo.until("a call", |seen| seen.waiting == 1).await;
    call.abort();
    demo.until("its cancellation", |seen| seen.waiting == 0)
        .await;
    let seen = demo.seen();
    assert_eq!((seen.started, seen.cancelled), (1, 1));
}

#[tokio::test]
async fn dropping_a_call_of_an_existing_client_cancels_it_at_the_server() {
    for lifecycle in lifecycles() {
        let demo = Demo::default();
        for upstream in wrapped(over_pipe(&demo, lifecycle).await) {
            let before = demo.seen().cancelled;
            let call = upstream
                .clone()
                .oneshot(McpRequest::call_tool("wait").build());
            let call = tokio::spawn(call);
            demo.until("a call", |seen| seen.waiting == 1).await;
            call.abort();
            demo.until("its cancellation", |seen| seen.cancelled == before + 1)
                .await;
            demo.until("its end", |seen| seen.waiting == 0).await;
            assert_eq!(upstream.in_flight(), 0);
        }
    }
}

#[tokio::test]
async fn an_existing_clients_calls_fail_at_once_when_its_child_dies() {
    for lifecycle in lifecycles() {
        let (client, mut child) = over_child(lifecycle).await;
        let [upstream, _running] = wrapped(client);
        let call = upstream
            .clone()
            .oneshot(McpRequest::call_tool("wait").build());
        let call = tokio::spawn(call);
        while upstream.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
        child.kill().await.unwrap();
        let error = soon("a failure", call).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transport, "{error}");
        let again = upstream.oneshot(McpRequest::call_tool("add").build());
        let error = soon("a failure", again).await.unwrap_err();
        assert!(error.is_not_delivered(), "{error}");
    }
}

#[tokio::test]
async fn progress_that_the_handler_passes_on_reaches_the_caller() {
    for lifecycle in lifecycles() {
        let client = over_pipe(&Demo::default(), lifecycle).await;
        let forwarding = client.service().clone();
        let upstream = Upstream::builder().running(client);
        forwarding.0.set(upstream.clone()).unwrap_or_default();
        let (caller, mut heard) = recorder();
        let call = McpRequest::call_tool("progress")
            .argument("count", 5)
            .progress_token(token("mine"))
            .caller(caller)
            .build();
        soon("a call", upstream.oneshot(call)).await.unwrap();
        // rmcp hands each notification to a task of its own: some come after the answer.
        let steps = progress(&mut heard);
        assert!(
            steps.iter().all(|(of, _)| *of == token("mine")),
            "{steps:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn progress_starts_an_existing_clients_patience_anew() {
    let (near, mut wire) = wired_end(json!({ "tools": {} }));
    let connected = Forwarding::default().serve(near);
    let (client, ()) = tokio::join!(connected, wire.shake_hands());
    let client = client.unwrap();
    let forwarding = client.service().clone();
    let builder = Upstream::builder().request_timeout(Duration::from_secs(10));
    let upstream = builder.running(client);
    forwarding.0.set(upstream.clone()).unwrap_or_default();
    let (caller, mut heard) = recorder();
    let call = McpRequest::call_tool("x").caller(caller);
    let call = call.progress_token(token("mine")).build();
    let call = tokio::spawn(upstream.clone().oneshot(call));
    let sent = wire.read(|message| message["method"] == "tools/call").await;
    for step in 1..=3 {
        tokio::time::sleep(Duration::from_secs(7)).await;
        let token = &sent["params"]["_meta"]["progressToken"];
        let params = json!({ "progressToken": token, "progress": step });
        wire.notify("notifications/progress", params).await;
    }
    tokio::time::sleep(Duration::from_secs(7)).await;
    wire.finish(&sent["id"]).await;
    soon("an answer", call).await.unwrap().unwrap();
    let steps: Vec<_> = progress(&mut heard)
        .into_iter()
        .map(|(_, step)| step)
        .collect();
    assert_eq!(steps, [1.0, 2.0, 3.0]);

    let call = upstream.oneshot(McpRequest::call_tool("x").build());
    let error = soon("a timeout", call).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    wire.read(|message| message["method"] == "notifications/cancelled")
        .await;
}

#[tokio::test(start_paused = true)]
async fn questions_and_changes_that_the_handler_passes_on_reach_the_only_caller() {
    let (near, mut wire) = wired_end(json!({ "tools": { "listChanged": true } }));
    let connected = Forwarding::default().serve(near);
    let (client, ()) = tokio::join!(connected, wire.shake_hands());
    let client = client.unwrap();
    let forwarding = client.service().clone();
    let upstream = Upstream::builder().running(client);
    forwarding.0.set(upstream.clone()).unwrap_or_default();
    let served = McpServer::new(upstream);
    let mut ann = Client::of(&served, "Ann", ClientLifecycleMode::Initialize).await;
    let (method, params) = questions()[0].clone();
    let answered = wire.request(method, "idle", params.clone()).await;
    assert_eq!(answered["result"]["content"]["text"], "I am Ann");
    assert_eq!(ann.hear("the question").await, Heard::Asked("sampling"));
    wire.notify("notifications/tools/list_changed", json!({}))
        .await;
    assert_eq!(ann.hear("the change").await, Heard::Tools);

    let bob = Client::of(&served, "Bob", ClientLifecycleMode::Initialize).await;
    let refused = wire.request(method, "whose?", params).await;
    assert!(refused["error"].is_object(), "{refused}");
    drop((ann, bob));
}

#[tokio::test]
async fn a_drain_cuts_off_the_calls_of_an_existing_client_and_leaves_the_client() {
    for lifecycle in lifecycles() {
        let demo = Demo::default();
        let client = over_pipe(&demo, lifecycle).await;
        let peer = client.peer().clone();
        for upstream in wrapped(client) {
            let call = McpRequest::call_tool("wait").build();
            let call = tokio::spawn(upstream.clone().oneshot(call));
            demo.until("a call", |seen| seen.waiting == 1).await;
            let drained = upstream.drain(Duration::from_millis(20));
            assert_eq!(soon("the drain", drained).await, 1);
            let error = soon("a failure", call).await.unwrap().unwrap_err();
            assert!(error.is_transport(), "{error}");
            demo.until("its cancellation", |seen| seen.waiting == 0)
                .await;
            soon("a list", peer.list_tools(None)).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn closing_ends_the_listens_of_an_existing_client_and_unsubscribes() {
    let (near, mut wire) = wired_end(json!({ "resources": { "subscribe": true } }));
    let connected = Forwarding::default().serve(near);
    let (client, ()) = tokio::join!(connected, wire.shake_hands());
    let upstream = Upstream::builder().running(client.unwrap());
    let (caller, mut received) = recorder();
    let filter = SubscriptionFilter::builder()
        .resource_subscriptions(vec!["file:///a".to_owned()])
        .build();
    let params = SubscriptionsListenRequestParams::new(filter);
    let mut listen = McpRequest::new(SubscriptionsListenRequest::new(params));
    listen.context.caller = caller;
    let listen = tokio::spawn(upstream.clone().oneshot(listen));
    let subscribe = wire.read(|message| message["id"].is_number()).await;
    assert_eq!(subscribe["method"], "resources/subscribe");
    wire.answer(&subscribe["id"], json!({})).await;
    soon("the acknowledgment", received.recv()).await.unwrap();
    upstream.close().await;
    let error = soon("the end", listen).await.unwrap().unwrap_err();
    assert!(error.is_transport(), "{error}");
    let unsubscribe = wire.read(|_| true).await;
    assert_eq!(unsubscribe["method"], "resources/unsubscribe");
    wire.answer(&unsubscribe["id"], json!({})).await;
    // Nothing else is said: the unsubscription is not cancelled.
    let more = tokio::time::timeout(Duration::from_secs(5), wire.read(|_| true));
    assert!(more.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn short_results_of_an_existing_client_are_read_as_their_methods() {
    let (near, mut wire) = wired_end(json!({ "tools": {} }));
    let connected = Forwarding::default().serve(near);
    let (client, ()) = tokio::join!(connected, wire.shake_hands());
    let upstream = Upstream::builder().running(client.unwrap());
    for result in [
        json!({}),
        json!({ "content": [], "structuredContent": null }),
    ] {
        let call = McpRequest::call_tool("x").build();
        let call = tokio::spawn(upstream.clone().oneshot(call));
        let id = wire.called().await;
        wire.answer(&id, result.clone()).await;
        let answer = soon("an answer", call).await.unwrap().unwrap();
        let read = answer.as_tool_result().expect("a tool's result");
        assert!(read.content.is_empty(), "{result}: {read:?}");
        assert_eq!(read.structured_content, None, "{result}");
    }
}
