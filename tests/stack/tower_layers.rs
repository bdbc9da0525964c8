//! tower's own layers, and a third party's, between those of this crate.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rmcp::{
    model::*,
    service::{ClientLifecycleMode, ServiceError},
};
use rmcp_layers::{
    Error, ExceptListensLayer, Handler, McpRequest, McpResponse, McpServer, Outcome, Upstream, code,
};
use serde_json::json;
use tower::{Service, ServiceBuilder, ServiceExt, util::BoxCloneService};

use crate::{
    Boxed, Outcomes, bottoms,
    common::{self, Client, Heard, demo::Demo, piped_legacy, soon, tool},
    echoed, small,
};

/// Passes everything on, as a layer of this crate would.
#[derive(Clone)]
struct Through<S>(S);

impl<S: Service<McpRequest, Response = McpResponse>> Service<McpRequest> for Through<S> {
    type Response = McpResponse;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: McpRequest) -> S::Future {
        self.0.call(request)
    }
}

fn through<S>() -> impl tower::Layer<S, Service = Through<S>> + Clone {
    tower::layer::layer_fn(Through)
}

/// Memory as a test likes it.
#[derive(Clone)]
struct Memory(Arc<AtomicUsize>);

impl tower_memlim::memory::AvailableMemory for Memory {
    fn available_memory(&self) -> Result<usize, tower::BoxError> {
        match self.0.load(Ordering::Relaxed) {
            0 => Err("nobody knows".into()),
            bytes => Ok(bytes),
        }
    }
}

fn enough(memory: &Memory) -> tower_memlim::layer::MemoryLimitLayer<Memory> {
    let least = tower_memlim::memory::Threshold::MinAvailableBytes(1_000);
    tower_memlim::layer::MemoryLimitLayer::new(least, memory.clone())
}

fn marked(mut request: McpRequest) -> McpRequest {
    let meta = &mut request.context.meta;
    meta.insert("com.example/mark".into(), json!("marked"));
    request
}

/// A stack of tower's layers, a third party's and ours, in any order, without adapters.
fn mixed(bottom: impl common::Stack<Error: Into<tower::BoxError>>, memory: &Memory) -> Boxed {
    let stack = ServiceBuilder::new()
        .layer(through())
        .timeout(Duration::from_secs(20))
        .layer(through())
        .load_shed()
        .layer(through())
        .concurrency_limit(8)
        .layer(through())
        .buffer(16)
        .layer(through())
        .filter(small)
        .layer(through())
        .layer(enough(memory))
        .layer(through())
        .map_request(marked)
        .layer(through())
        .service(bottom);
    BoxCloneService::new(stack.map_err(Error::from))
}

#[tokio::test]
async fn towers_layers_stack_between_ours() {
    let memory = Memory(Arc::new(AtomicUsize::new(1_000_000)));
    let demo = Demo::default();
    let stacks = [
        mixed(Handler::new(demo.clone()), &memory),
        mixed(Upstream::in_process(demo.clone()), &memory),
        mixed(piped_legacy(&demo), &memory),
    ];
    for stack in stacks {
        memory.0.store(1_000_000, Ordering::Relaxed);
        let client = Client::legacy("Ann", stack).await;
        let call = async |call: CallToolRequestParams| {
            soon("a call", client.peer.call_tool_once(call)).await
        };
        let echoed = echoed(&client.call(tool("echo", json!({}))).await);
        assert_eq!(echoed["meta"]["com.example/mark"], "marked");

        // A server's error passes all of them as it is.
        let Err(ServiceError::McpError(error)) = call(tool("reject", json!({}))).await else {
            panic!("an error was lost");
        };
        assert_eq!(error.code.0, -32050);
        assert_eq!(error.message, "not on a Sunday");

        let Err(ServiceError::McpError(error)) = call(tool("big", json!({}))).await else {
            panic!("the filter let it through");
        };
        assert_eq!(error.code, rmcp_layers::code::FORBIDDEN);
        assert!(error.message.contains("too big for this filter"), "{error}");
        assert_eq!(error.data.unwrap()["kind"], "refused");

        // The third party's own failure, through a buffer, which fails for good with what is inside it.
        memory.0.store(0, Ordering::Relaxed);
        let Err(ServiceError::McpError(error)) = call(tool("add", json!({}))).await else {
            panic!("nothing failed");
        };
        assert!(error.message.contains("available memory"), "{error}");
        assert_eq!(error.data.unwrap()["kind"], "refused");
    }
}

#[tokio::test(start_paused = true)]
async fn towers_timeout_and_load_shed_keep_their_meaning() {
    let demo = Demo::default();
    let bottoms = || bottoms(&demo).into_iter();
    for (bottom, stack) in bottoms() {
        let outcomes = Outcomes::default();
        let stack = ServiceBuilder::new()
            .timeout(Duration::from_secs(5))
            .service(Through(stack));
        let client = Client::legacy("Ann", outcomes.over(stack)).await;
        let failed = client.peer.call_tool_once(tool("wait", json!({}))).await;
        assert_eq!(outcomes.last(), Outcome::Timeout, "{bottom}");
        let Err(ServiceError::McpError(error)) = failed else {
            panic!("{bottom}: {failed:?}");
        };
        assert_eq!(error.code, rmcp_layers::code::TIMEOUT, "{bottom}");
        demo.until(bottom, |seen| seen.waiting == 0).await;
    }
    for (bottom, stack) in bottoms() {
        let outcomes = Outcomes::default();
        let stack = ServiceBuilder::new()
            .load_shed()
            .concurrency_limit(1)
            .service(Through(stack));
        let client = Client::modern("Ann", outcomes.over(stack)).await;
        let peer = client.peer.peer().clone();
        let first = tokio::spawn(async move { peer.call_tool_once(tool("wait", json!({}))).await });
        demo.until(bottom, |seen| seen.waiting == 1).await;
        let failed = client.peer.call_tool_once(tool("add", json!({}))).await;
        assert_eq!(
            outcomes.last(),
            Outcome::Refused {
                layer: "load_shed",
                code: code::UNAVAILABLE.0,
                not_delivered: true
            },
            "{bottom}"
        );
        let Err(ServiceError::McpError(error)) = failed else {
            panic!("{bottom}: {failed:?}");
        };
        assert_eq!(error.code, rmcp_layers::code::UNAVAILABLE, "{bottom}");
        assert_eq!(error.data.unwrap()["layer"], "load_shed", "{bottom}");
        // A permit comes back with the call it was given to.
        first.abort();
        demo.until(bottom, |seen| seen.waiting == 0).await;
        soon("the permit's return", async {
            while client
                .peer
                .call_tool_once(tool("add", json!({})))
                .await
                .is_err()
            {}
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn bounds_on_calls_are_none_on_sessions() {
    let demo = Demo::default();
    for (bottom, stack) in bottoms(&demo) {
        let bounds = ServiceBuilder::new()
            .load_shed()
            .concurrency_limit(1)
            .timeout(Duration::from_secs(5));
        let stack = ServiceBuilder::new()
            .layer(ExceptListensLayer::new(bounds))
            .service(Through(stack));
        let server = McpServer::new(stack);
        let mut clients = Vec::new();
        for name in ["Ann", "Bob", "Cid"] {
            let client = Client::of(&server, name, ClientLifecycleMode::Initialize).await;
            client.call(tool("add", json!({}))).await;
            clients.push(client);
        }
        // Longer than a call may take.
        tokio::time::advance(Duration::from_secs(60)).await;
        demo.change(ToolListChangedNotification::default()).await;
        for client in &mut clients {
            assert_eq!(client.hear(bottom).await, Heard::Tools, "{bottom}");
        }
        let [ann, bob, _] = &clients[..] else {
            panic!("three clients");
        };
        let peer = ann.peer.peer().clone();
        let first = tokio::spawn(async move { peer.call_tool_once(tool("wait", json!({}))).await });
        demo.until(bottom, |seen| seen.waiting == 1).await;
        let shed = bob.peer.call_tool_once(tool("add", json!({}))).await;
        let Err(ServiceError::McpError(error)) = shed else {
            panic!("{bottom}: {shed:?}");
        };
        assert_eq!(error.code, code::UNAVAILABLE, "{bottom}");
        let late = soon(bottom, first).await.unwrap();
        let Err(ServiceError::McpError(error)) = late else {
            panic!("{bottom}: {late:?}");
        };
        assert_eq!(error.code, code::TIMEOUT, "{bottom}");
        demo.until(bottom, |seen| seen.waiting == 0).await;
    }
}
